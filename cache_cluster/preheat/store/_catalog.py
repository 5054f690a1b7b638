"""The accounts of one directory, in memory: its objects' places, its files, and how they were used.

Pure bookkeeping without I/O. It is not thread-safe, except for what reads note.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import msgspec

from preheat.store._base import CachedObject
from preheat.store._eviction import Use

FileKey = tuple[int, int]
"""Names a file: the number of a pack and -1, or the number of a large object and that of a segment."""
PACKED = -1
_MAX_READS = 0xFFFF


@dataclass(kw_only=True, slots=True, eq=False)
class Pack:
    """A pack file, or the segment files of one large object."""

    number: int
    size: int
    """Bytes in the files, dead ones included, or promised to the writer that streams into them."""
    segments: int = 0
    """How many files a large object has; 0 of a pack."""
    salt: bytes = b""
    admitted: int = 0
    """The tick at which the first of its objects came."""
    streaming: bool = False
    """A writer still streams into it, so it must stay."""
    objects: int = 0
    """How many of its objects can be read."""
    live: int = 0
    """Bytes of these."""
    ordinals: int = 0
    """How many objects were ever put into it: each has an ordinal, which is never used again."""
    last_read: array[int] = field(default_factory=lambda: array("Q"))
    """By ordinal; shorter than there are ordinals if none of the others was read."""
    reads: array[int] = field(default_factory=lambda: array("H"))

    @property
    def key(self) -> FileKey:
        """The pack file, or the last segment, which has the record."""
        return self.number, self.segments - 1

    def note_read(self, ordinal: int, tick: int) -> None:
        """Note that an object was read now. Two threads at once may count as one."""
        try:
            self.last_read[ordinal] = tick
            if (reads := self.reads[ordinal]) < _MAX_READS:
                self.reads[ordinal] = reads + 1
        except IndexError:
            self.set_use(ordinal, tick, 1)

    def was_read(self, ordinal: int) -> bool:
        """Whether an object was ever read."""
        return ordinal < len(self.reads) and self.reads[ordinal] > 0

    def set_use(self, ordinal: int, last_read: int, reads: int) -> None:
        """Set how an object was used."""
        if (missing := ordinal + 1 - len(self.last_read)) > 0:
            self.last_read.extend([0] * missing)
        if (missing := ordinal + 1 - len(self.reads)) > 0:
            self.reads.extend([0] * missing)
        self.last_read[ordinal] = last_read
        self.reads[ordinal] = reads

    def use(self, ordinal: int) -> Use:
        """Return how an object was used."""
        if ordinal < min(len(self.last_read), len(self.reads)):
            return Use(self.admitted, self.last_read[ordinal], self.reads[ordinal])
        return Use(self.admitted, 0, 0)


class Entry(msgspec.Struct, kw_only=True, eq=False, gc=False):
    """An object and its place."""

    item: CachedObject
    sequence: int
    pack: Pack
    ordinal: int
    record: int
    """Offset of its record in the file that ``pack.key`` names."""
    record_length: int
    segment_size: int = 0
    """Bytes of data per segment of a large object; 0 in a pack."""
    seen: int = 0
    """The tick at which it was last put into the map of entries."""
    body: bytes | None = None
    """Its bytes, if it is small and they are kept in memory."""

    @property
    def data(self) -> int:
        """Offset of its first byte in the pack."""
        return self.record + self.record_length

    @property
    def last_read(self) -> int:
        """The tick of its last read."""
        return self.pack.use(self.ordinal).last_read


class Catalog:
    """The files of one directory."""

    def __init__(self) -> None:
        self.packs: dict[int, Pack] = {}
        """Oldest first."""
        self.objects = 0
        self.used = 0
        """Bytes of the objects that can be read."""
        self.stored = 0
        """Bytes of the files; this is what capacity bounds."""
        self.filling: Pack | None = None
        """The pack that small objects are appended to."""
        self._last_number = 0

    @property
    def next_number(self) -> int:
        """The number of the next pack; none is used twice while the store is open."""
        return self._last_number + 1

    def add_pack(self, pack: Pack) -> Pack:
        """Add a pack, newer than all others, with the objects that it has."""
        self.packs[pack.number] = pack
        self.stored += pack.size
        self.objects += pack.objects
        self.used += pack.live
        self._last_number = max(self._last_number, pack.number)
        return pack

    def grow(self, pack: Pack, size: int) -> None:
        """Count bytes that were appended to a pack."""
        pack.size += size
        self.stored += size

    def add(self, pack: Pack, size: int) -> None:
        """Count an object that became visible."""
        pack.objects += 1
        pack.live += size
        self.objects += 1
        self.used += size

    def remove(self, pack: Pack, size: int) -> None:
        """Count an object out."""
        pack.objects -= 1
        pack.live -= size
        self.objects -= 1
        self.used -= size

    def remove_pack(self, pack: Pack) -> None:
        """Take a pack with its objects out."""
        del self.packs[pack.number]
        self.stored -= pack.size
        self.objects -= pack.objects
        self.used -= pack.live
        if self.filling is pack:
            self.filling = None
