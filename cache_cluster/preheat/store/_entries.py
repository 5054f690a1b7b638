"""The entries that a directory keeps in memory: a bounded number, those that are in use."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from preheat.store._catalog import Entry, Pack

_CHANCES = 16
"""Entries in use that are passed over, at most, to find one to drop."""


class Entries:
    """A bounded map of entries by path; only ``get`` needs no lock.

    When it is full it drops the entry that came first, except that one that was read since goes to the end again.

    Args:
        limit: how many it holds.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._map: OrderedDict[str, Entry] = OrderedDict()
        self.get = self._map.get
        self.complete = True
        """Whether no entry was ever dropped for want of room: then what is not here is nowhere."""

    def add(self, entry: Entry, tick: int) -> None:
        """Add an entry, in place of any other of its path."""
        entry.seen = tick
        self._map[entry.item.path] = entry
        self._map.move_to_end(entry.item.path)
        if len(self._map) > self._limit:
            self._drop_one(tick)

    def remove(self, paths: Iterable[str]) -> None:
        """Take entries out whose objects are gone."""
        for path in paths:
            self._map.pop(path, None)

    def remove_pack(self, pack: Pack) -> None:
        """Take the entries out whose pack is gone."""
        self.remove([path for path, entry in self._map.items() if entry.pack is pack])

    def clear(self) -> None:
        """Take all out whose objects are gone, as are those that are not here."""
        self._map.clear()
        self.complete = True

    def _drop_one(self, tick: int) -> None:
        self.complete = False
        for chance in range(_CHANCES + 1):
            path, entry = self._map.popitem(last=False)
            if chance == _CHANCES or entry.last_read <= entry.seen:
                return
            entry.seen = tick
            self._map[path] = entry
