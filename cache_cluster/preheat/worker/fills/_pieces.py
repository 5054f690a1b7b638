"""In which pieces, and in which order, an object is fetched. Pure."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

from preheat.store import PAGE_SIZE

Piece = tuple[int, int]
"""Bytes [start, end) of an object."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pieces:
    """How an object is cut: a first piece, which tells its version and size, then the others, several at once.

    All begin at a multiple of :data:`~preheat.store.PAGE_SIZE`, and most at one of their own size: origins keep large
    objects in such chunks.
    """

    first_bytes: int
    other_bytes: int
    at_once: int
    """Pieces after the first that are fetched at the same time."""
    at_first: int
    """How many of them where the first ones come soon: more would only delay what a reader waits for."""
    start: int = 0
    """Where the first one begins."""
    stop: int = 0
    """Up to here the pieces follow the first one, before those that stand in front of it."""

    def led_by(self, start: int, end: int | None) -> Self:
        """Return the same, but beginning with the range [start, end) that somebody waits for; none is the end."""
        stop = sys.maxsize if end is None else -(-end // PAGE_SIZE) * PAGE_SIZE
        return replace(self, start=start - start % PAGE_SIZE, stop=stop)

    @property
    def first(self) -> Piece:
        """The first piece; it may go beyond the object's end."""
        return self.start, self.start + self.first_bytes

    def others(self, size: int) -> Iterator[Piece]:
        """Yield the other pieces of an object of ``size`` bytes."""
        _, after_first = self.first
        stop = min(max(self.stop, after_first), size)
        step = self.other_bytes
        for begin, end in ((after_first, stop), (0, self.start), (stop, size)):
            if begin < end:
                for start in range(begin - begin % step, end, step):
                    yield max(start, begin), min(start + step, end)


FOR_JOBS = Pieces(first_bytes=8 << 20, other_bytes=8 << 20, at_once=8, at_first=8)
"""Small enough to be held in memory; more at once gained nothing."""
FOR_READERS = Pieces(first_bytes=PAGE_SIZE, other_bytes=8 << 20, at_once=4, at_first=2)
"""The first bytes come soon, and the others in an order in which a reader can use them."""
