"""Making room in one directory: what goes, and what of it is carried forward."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from statistics import median_low

from preheat.errors import StoreFull
from preheat.store._catalog import Entry, Pack
from preheat.store._eviction import Use, Watermarks, Worth, middle
from preheat.store._holdings import Holdings
from preheat.units import human_size

_MAX_OBJECTS = 1 << 14
"""Objects in a full pack, at most: to drop so many takes some tens of milliseconds, in which nobody else can write."""
_RESERVED = 1 << 20
"""Bytes of a pack for which room is taken on the disk at once."""
_SAMPLE = 32
"""Objects by which a pack is judged."""


class Room:
    """Keeps a directory within its capacity.

    Large objects go one by one, small ones by the pack. A pack is worth what the median of its objects is worth, times
    the share of it that is alive; the least worthy goes first. What it has that is pinned, or worth more than half of
    what the directory holds, is carried forward to the pack being filled (the latter only up to half of the pack).
    So a pack that is half dead goes early, and what is alive in it stays.

    Args:
        holdings: what the directory holds.
        marks: its capacity and watermarks.
        worth: the policy's score function.
        pins: the prefixes of what must stay.
        pack_size: bytes of a full pack.
    """

    def __init__(
        self,
        holdings: Holdings,
        *,
        marks: Watermarks,
        worth: Worth,
        pins: Callable[[], tuple[str, ...]],
        pack_size: int,
    ) -> None:
        self._holdings = holdings
        self._marks = marks
        self._worth = worth
        self._pins = pins
        self._pack_size = pack_size
        self._random = random.Random(0)  # noqa: S311 - a sample of objects, not a secret
        self._victims: list[Pack] = []
        """The least worthy last."""
        self._middle = 0.0
        self._pinned: dict[int, tuple[tuple[str, ...], int, int]] = {}
        """By the number of a pack that was looked through: the pins and its objects then, and its pinned bytes."""
        self._reserved = 0
        """Up to where there is room on the disk for the pack being filled."""
        self.evicted = 0
        """Objects dropped to make room."""

    def make(self, size: int) -> None:
        """Let ``size`` more bytes fit.

        From above the high watermark down to the low one each call also drops a pack or twice the size, so that no
        single one takes long.

        Raises:
            StoreFull: they would not fit, because of objects that are pinned or being written.
            StoreError: the disk refused.
        """
        catalog, marks = self._holdings.catalog, self._marks
        if catalog.stored + size > marks.capacity:
            self._check_possible(size)
        enough = catalog.stored - max(self._pack_size, 2 * size)
        while marks.update(catalog.stored + size) and catalog.stored > enough and self._evict_next():
            pass
        while catalog.stored + size > marks.capacity:
            if not self._evict_next():
                raise self._full(size, "pinned objects and those being written")
        if not marks.update(catalog.stored + size):
            self._victims.clear()

    def pack_to_fill(self, size: int) -> Pack:
        """Return the pack that takes ``size`` more bytes; a new one if the last one is full."""
        catalog = self._holdings.catalog
        pack = catalog.filling
        full = pack and (pack.size + size > self._pack_size or pack.ordinals >= _MAX_OBJECTS)
        if pack is None or (pack.ordinals and full):
            if pack and not pack.objects:  # a crash left the last one's dead record
                self._holdings.drop_pack(pack)
            pack = catalog.filling = self._holdings.new_pack()
            self._reserved = 0
        if pack.size + size > self._reserved:
            self._reserve(pack, size)
        return pack

    def _reserve(self, pack: Pack, size: int) -> None:
        end = max(pack.size + size, min(pack.size + _RESERVED, self._pack_size))
        self._holdings.files.reserve(pack.key, pack.size, end - pack.size)
        self._reserved = end

    def _check_possible(self, size: int) -> None:
        staying = sum(pack.size for pack in self._holdings.catalog.packs.values() if pack.streaming)
        if staying + size > self._marks.capacity:
            raise self._full(size, "the objects being written")

    def _full(self, size: int, staying: str) -> StoreFull:
        needed, room = human_size(size), human_size(self._marks.capacity)
        return StoreFull(f"{needed} do not fit beside {staying}; the capacity is {room}.")

    def _evict_next(self) -> bool:
        """Drop the least worthy pack that can go; false if none can."""
        if not self._victims:
            self._rank()
        passed = []
        while self._victims:
            pack = self._victims.pop()
            if self._holdings.catalog.packs.get(pack.number) is not pack:
                continue
            if self._evict(pack, most=pack.size // 2):
                return True
            passed.append(pack)
        return any(self._evict(pack, most=pack.size * 15 // 16) for pack in passed)  # even one that is mostly pinned

    def _rank(self) -> None:
        catalog, now = self._holdings.catalog, next(self._holdings.ticks)
        worths = {
            pack: self._median(pack, now) for pack in catalog.packs.values() if pack.objects and not pack.streaming
        }
        self._middle = middle(worths.values())
        filling = catalog.filling
        self._victims = sorted(
            worths, key=lambda pack: (pack is filling, worths[pack] * pack.live / pack.size, pack.number), reverse=True
        )

    def _median(self, pack: Pack, now: int) -> float:
        sample = range(pack.ordinals)
        if len(sample) > _SAMPLE:
            return median_low(self._worth(pack.use(ordinal), now) for ordinal in self._random.sample(sample, _SAMPLE))
        return median_low(self._worth(pack.use(ordinal), now) for ordinal in sample)

    def _evict(self, pack: Pack, *, most: int) -> bool:
        """Drop a pack, after carrying at most so many bytes of it forward; false if that is not enough, or no room."""
        holdings, pins = self._holdings, self._pins()
        room = max(min(most, self._marks.capacity - holdings.catalog.stored), 0)
        if self._is_too_pinned(pack, pins, room):
            return False
        kept = self._kept(pack, pins)
        pinned = sum(_stored(entry) for entry, is_pinned in kept if is_pinned)
        self._pinned[pack.number] = (pins, pack.objects, pinned)
        room -= pinned
        if room < 0 or (pack.segments and pinned):
            return False
        carried = [entry for entry, is_pinned in kept if is_pinned]
        for entry, is_pinned in kept:
            if not is_pinned and _stored(entry) <= room:
                carried.append(entry)
                room -= _stored(entry)
        if holdings.catalog.filling is pack:
            holdings.catalog.filling = None
        holdings.move(carried, self.pack_to_fill)
        self.evicted += pack.objects
        holdings.drop_pack(pack)
        self._pinned.pop(pack.number)
        return True

    def _is_too_pinned(self, pack: Pack, pins: tuple[str, ...], room: int) -> bool:
        """Whether it is known that more of a pack is pinned than there is room for."""
        then, objects, pinned = self._pinned.get(pack.number, ((), 0, 0))
        return (then, objects) == (pins, pack.objects) and pinned > (0 if pack.segments else room)

    def _kept(self, pack: Pack, pins: tuple[str, ...]) -> list[tuple[Entry, bool]]:
        """Return the objects of a victim to be carried forward, the worthiest first, and which of them are pinned."""
        if pack.segments and not pins:
            return []
        now = next(self._holdings.ticks)
        unread = self._worth(Use(pack.admitted, 0, 0), now)
        worths = dict.fromkeys(range(pack.ordinals), unread)
        worths |= {ordinal: self._worth(pack.use(ordinal), now) for ordinal, read in enumerate(pack.last_read) if read}
        middle = math.inf if pack.segments else self._middle
        worthy = {ordinal for ordinal, worth in worths.items() if worth > middle}
        entries = self._holdings.of_pack(pack, worths if pins else worthy) if pins or worthy else []
        marked = [(entry, entry.item.path.startswith(pins)) for entry in entries]
        kept = [(entry, is_pinned) for entry, is_pinned in marked if is_pinned or entry.ordinal in worthy]
        return sorted(kept, key=lambda pair: worths[pair[0].ordinal], reverse=True)


def _stored(entry: Entry) -> int:
    return entry.record_length + entry.item.size
