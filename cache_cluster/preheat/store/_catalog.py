"""The accounts of one directory, in memory: which object stands where, and what to drop to make room.

Pure bookkeeping without I/O. It is not thread-safe, except that ``entries.get`` needs no lock.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from preheat.errors import StoreFull
from preheat.store._base import CachedObject
from preheat.units import human_size


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """An object and its place."""

    item: CachedObject
    pack: int
    """Number of the pack file."""
    offset: int
    """Of its first byte in the pack."""

    @property
    def end(self) -> int:
        """Offset behind its last byte."""
        return self.offset + self.item.size


@dataclass(kw_only=True, slots=True, eq=False)
class Pack:
    """One pack file."""

    number: int
    size: int
    """Bytes in the file, dead ones included, or promised to the writer that streams into it."""
    streaming: bool = False
    """A writer still streams into it, so it must stay."""
    paths: set[str] = field(default_factory=set)
    """The objects in it that can be read."""


class Catalog:
    """The objects and the packs of one directory."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.entries: dict[str, Entry] = {}
        self.packs: dict[int, Pack] = {}
        """Oldest first."""
        self.used = 0
        """Bytes of the objects that can be read."""
        self.stored = 0
        """Bytes of the packs; this is what capacity bounds."""
        self.filling: Pack | None = None
        """The pack that small objects are appended to."""
        self._last_number = 0

    @property
    def next_number(self) -> int:
        """The number of the next pack; none is used twice."""
        return self._last_number + 1

    def add_pack(self, number: int, *, size: int = 0, streaming: bool = False) -> Pack:
        """Add a pack, newer than all others."""
        pack = Pack(number=number, size=size, streaming=streaming)
        self.packs[number] = pack
        self.stored += size
        self._last_number = number
        return pack

    def grow(self, pack: Pack, size: int) -> None:
        """Count bytes that were appended to a pack."""
        pack.size += size
        self.stored += size

    def add(self, entry: Entry) -> Entry | None:
        """Make an object visible and return the one whose place it takes."""
        replaced = self.entries.get(entry.item.path)
        if replaced is not None:
            self._leave_pack(replaced)
        self.entries[entry.item.path] = entry
        self.packs[entry.pack].paths.add(entry.item.path)
        self.used += entry.item.size
        return replaced

    def remove(self, entry: Entry) -> None:
        """Take an object out."""
        del self.entries[entry.item.path]
        self._leave_pack(entry)

    def remove_pack(self, pack: Pack) -> list[str]:
        """Take a pack and its objects out, and return their paths."""
        paths = list(pack.paths)
        for path in paths:
            self.remove(self.entries[path])
        del self.packs[pack.number]
        self.stored -= pack.size
        if self.filling is pack:
            self.filling = None
        return paths

    def victims(self, size: int) -> list[Pack]:
        """Return the packs to drop, oldest first, so that ``size`` more bytes fit.

        Raises:
            StoreFull: even then they would not, because of objects that are being written.
        """
        excess = self.stored + size - self.capacity
        chosen: list[Pack] = []
        for pack in self.packs.values():
            if excess <= 0:
                break
            if pack.size and not pack.streaming:
                chosen.append(pack)
                excess -= pack.size
        if excess > 0:
            needed, room = human_size(size), human_size(self.capacity)
            raise StoreFull(f"{needed} do not fit beside the objects being written; the capacity is {room}.")
        return chosen

    def _leave_pack(self, entry: Entry) -> None:
        self.packs[entry.pack].paths.discard(entry.item.path)
        self.used -= entry.item.size
