"""Reads of what one directory holds: they take no lock, and nothing is returned that was not verified."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from preheat.errors import CorruptPage, StoreError
from preheat.store._base import BLOCK_SIZE, CachedObject
from preheat.store._catalog import Entry, Pack
from preheat.store._extents import EXTENT_BYTES, Extent
from preheat.store._files import Files
from preheat.store._format import pieces
from preheat.store._hot import HOT_BYTES, HotBodies
from preheat.store._pages import intact, whole_blocks
from preheat.store._verified import note


class Reader:
    """Reads objects, and notes that they were read.

    Args:
        files: the directory's.
        tick: counts the reads.
    """

    def __init__(self, files: Files, tick: Callable[[], int]) -> None:
        self._files = files
        self._tick = tick
        self._hot = HotBodies()

    def read(self, entry: Entry, start: int, end: int) -> bytes:
        """Return bytes [start, end) of an object, after verifying each block that they touch.

        Raises:
            CorruptPage: a block is lost or does not match its checksum.
        """
        body = entry.body
        data = self.verify(entry, start, end) if body is None else body[start:end]
        entry.pack.note_read(entry.ordinal, self._tick())
        return data

    def verify(self, entry: Entry, start: int, end: int) -> bytes:
        """Return bytes as they are on the disk; raises as :meth:`read`."""
        first, last, checksums = whole_blocks(entry.item, start, end)
        if last - first == entry.item.size >= EXTENT_BYTES and not entry.segment_size:
            return self._verify_extent(entry)[start:end]
        data = self._unverified(entry, first, last)
        _check(entry, data, checksums, first)
        return data[start - first : end - first]

    def extent(self, entry: Entry, start: int, end: int) -> Extent | None:
        """Return where bytes are that :meth:`read` would find intact; none if that is not known."""
        pack = entry.pack
        file = self._files.opened(pack.key)
        if file is None or entry.segment_size or not file.verified.holds(entry.record):
            return None
        pack.note_read(entry.ordinal, self._tick())
        return Extent(file, entry.record + entry.record_length + start, end - start)

    def read_small(
        self, paths: Sequence[str], find: Callable[[str], Entry | None], limit: float
    ) -> list[tuple[CachedObject, bytes]]:
        """Return the objects at some paths, as ``PageStore.read_small``; ``find`` returns the one at a path."""
        found: list[tuple[CachedObject, bytes]] = []
        tick = self._tick()
        for entry in map(find, paths):
            if entry is None or ((body := entry.body) is None and (body := self._read_block(entry)) is None):
                break
            entry.pack.note_read(entry.ordinal, tick)
            found.append((entry.item, body))
            limit -= len(body)
            if limit <= 0:
                break
        return found

    def segments(self, pack: Pack, start: int, end: int, segment_size: int) -> bytes:
        """Return bytes of a large object, unverified; fewer if they are lost."""
        found = pieces(start, end, segment_size)
        return b"".join(self._files.read((pack.number, segment), offset, size) for segment, offset, size in found)

    def _verify_extent(self, entry: Entry) -> bytes:
        """Return all bytes of a packed object, and note that they are intact."""
        file = self._files.opened(entry.pack.key)
        verified = file.verified.since_written() if file else {}
        data = self._unverified(entry, 0, entry.item.size)
        _check(entry, data, entry.item.checksums, 0)
        note(verified, entry.record)
        return data

    def _read_block(self, entry: Entry) -> bytes | None:
        """Return the bytes of an object of one block; none if they cannot be read, or are not intact."""
        pack, item = entry.pack, entry.item
        if item.size > BLOCK_SIZE:
            return None
        try:
            data = self._unverified(entry, 0, item.size)
        except StoreError:
            return None
        if not intact(data, item.checksums):
            return None
        if item.size <= HOT_BYTES and pack.was_read(entry.ordinal):
            self._hot.keep(entry, data)
        return data

    def _unverified(self, entry: Entry, start: int, end: int) -> bytes:
        if entry.segment_size:
            return self.segments(entry.pack, start, end, entry.segment_size)
        return self._files.read(entry.pack.key, entry.data + start, end - start)


def _check(entry: Entry, data: bytes | memoryview, checksums: bytes, first: int) -> None:
    if not intact(data, checksums):
        last = first + len(data)
        raise CorruptPage(f"{entry.item.path} does not match its checksum in bytes {first}-{last}.")
