"""Reads of what one directory holds: they take no lock, and nothing is returned that was not verified."""

from __future__ import annotations

from collections.abc import Callable

from preheat.errors import CorruptPage
from preheat.store._catalog import Entry, Pack
from preheat.store._files import Files
from preheat.store._format import pieces
from preheat.store._pages import intact, whole_blocks


class Reader:
    """Reads objects, and notes that they were read.

    Args:
        files: the directory's.
        tick: counts the reads.
    """

    def __init__(self, files: Files, tick: Callable[[], int]) -> None:
        self._files = files
        self._tick = tick

    def read(self, entry: Entry, start: int, end: int) -> bytes:
        """Return bytes [start, end) of an object after verifying each block that they touch.

        Raises:
            CorruptPage: a block is lost or does not match its checksum.
        """
        first, last, checksums = whole_blocks(entry.item, start, end)
        pack = entry.pack
        if entry.segment_size:
            data = self.segments(pack, first, last, entry.segment_size)
        else:
            data = self._files.read(pack.key, entry.data + first, last - first)
        _check(entry, data, checksums, first)
        pack.note_read(entry.ordinal, self._tick())
        return data[start - first : end - first]

    def read_block(self, entry: Entry) -> bytes | None:
        """Return the bytes of an object that is not larger than a block; none if they are not intact."""
        pack = entry.pack
        if entry.segment_size:
            data = self.segments(pack, 0, entry.item.size, entry.segment_size)
        else:
            data = self._files.read(pack.key, entry.record + entry.record_length, entry.item.size)
        pack.note_read(entry.ordinal, self._tick())
        return data if intact(data, entry.item.checksums) else None

    def segments(self, pack: Pack, start: int, end: int, segment_size: int) -> bytes:
        """Return bytes of a large object, unverified; fewer if they are lost."""
        found = pieces(start, end, segment_size)
        return b"".join(self._files.read((pack.number, segment), offset, size) for segment, offset, size in found)


def _check(entry: Entry, data: bytes | memoryview, checksums: bytes, first: int) -> None:
    if not intact(data, checksums):
        last = first + len(data)
        raise CorruptPage(f"{entry.item.path} does not match its checksum in bytes {first}-{last}.")
