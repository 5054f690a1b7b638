"""Which objects a full store drops first: pure score functions over how objects were used.

Time is counted in ticks: every admission and every read is one. A clock that jumps changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median_low
from typing import NamedTuple

from preheat.settings import StoreSettings


class Use(NamedTuple):
    """How one object was used."""

    admitted: int
    """The tick at which it came."""
    last_read: int
    """The tick of its last read; 0 if there was none."""
    reads: int


Worth = Callable[[Use, int], float]
"""Returns what an object is worth at a tick, more than 0: the least worthy goes first."""


def fifo(use: Use, now: int) -> float:
    """Drop the object that came first."""
    return 1 / (1 + _age(use.admitted, now))


def lru(use: Use, now: int) -> float:
    """Drop the object that was not read for the longest time; to come counts as a read."""
    return 1 / (1 + _age(max(use.admitted, use.last_read), now))


def lfu(use: Use, now: int) -> float:
    """Drop the object with the fewest reads in its time here (Blankstein 2017): old fame fades, a newcomer may stay."""
    return (1 + use.reads) / (1 + _age(use.admitted, now))


def scan_resistant(use: Use, now: int) -> float:
    """Drop objects that were read at most once before those read again, each kind as :func:`lru` does."""
    return lru(use, now) + (use.reads > 1)


POLICIES: dict[str, Worth] = {"fifo": fifo, "lru": lru, "lfu": lfu, "scan-resistant": scan_resistant}
"""By the name in :class:`~preheat.settings.StoreSettings`."""


def _age(tick: int, now: int) -> int:
    return max(now - tick, 0)


def middle(worths: Iterable[float]) -> float:
    """Return the worth that half of the objects do not exceed; 0 of none."""
    return median_low(found) if (found := list(worths)) else 0.0


@dataclass(kw_only=True, slots=True)
class Watermarks:
    """When a store starts to make room ahead of need, and when it has made enough."""

    capacity: int
    high: int
    """Bytes above which it starts."""
    low: int
    """Bytes at which it stops."""
    draining: bool = False

    @classmethod
    def of(cls, capacity: int, settings: StoreSettings) -> Watermarks:
        """Return those of a store with this capacity in bytes."""
        high, low = (int(capacity * share) for share in (settings.high_watermark, settings.low_watermark))
        return cls(capacity=capacity, high=high, low=low)

    def update(self, size: int) -> bool:
        """Note how many bytes there are, or are about to be; true from above the high mark until down at the low."""
        self.draining = size > self.high or (self.draining and size > self.low)
        return self.draining
