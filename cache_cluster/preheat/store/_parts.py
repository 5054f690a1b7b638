"""The parts in which an object's bytes come, and the checksums of what came."""

from __future__ import annotations

import threading
from bisect import bisect_right, insort
from collections.abc import Callable

from preheat.errors import CorruptPage, InvalidRequest, VersionChanged
from preheat.store._base import BLOCK_SIZE, CachedObject
from preheat.store._pages import CHECKSUM_SIZE, PageChecksums, intact, packed

Read = Callable[[int, int], bytes]
"""Returns bytes [start, end) of an object that were written, or fewer if they are lost."""


class Parts:
    """The parts of one object, each filled by one thread; others may read what came."""

    def __init__(self, announced: CachedObject) -> None:
        self._announced = announced
        self._parts: dict[int, PageChecksums] = {}
        self._starts: list[int] = []  # in order
        self._lock = threading.Lock()

    def part(self, start: int) -> PageChecksums:
        """Return the part that begins there, or begin it."""
        return self._parts.get(start) or self._begin(start)

    def read(self, start: int, end: int, read: Read) -> bytes:
        """Return bytes [start, end) after verifying each whole block that they touch.

        Raises:
            InvalidRequest: not all of them came.
            CorruptPage: some of them are lost.
        """
        pieces = []
        while start < end:
            begin, stop = self._written(start, end)
            pieces.append(self._verified(begin, start, stop, read))
            start = stop
        return b"".join(pieces)

    def checksums(self) -> bytes:
        """Return the checksums of all blocks.

        Raises:
            VersionChanged: the parts are not the object, gapless.
        """
        if len(self._parts) == 1 and self._starts[0] == 0 and self._parts[0].size == self._announced.size:
            return packed(self._parts[0].values())
        checksums: list[int] = []
        received = 0
        for start, part in sorted(self._parts.items()):
            if start != received:
                break
            received += part.size
            checksums += part.values()
        if received != self._announced.size:
            path, size = self._announced.path, self._announced.size
            raise VersionChanged(f"{path} was announced with {size} bytes, but {received} came.")
        return packed(checksums)

    def _begin(self, start: int) -> PageChecksums:
        with self._lock:
            part = self._parts[start] = PageChecksums()
            insort(self._starts, start)
            return part

    def _written(self, start: int, end: int) -> tuple[int, int]:
        """Return where the part with the byte at ``start`` begins, and how far it has the bytes up to ``end``."""
        position = bisect_right(self._starts, start)
        begin = self._starts[position - 1] if position else 0
        part = self._parts.get(begin)
        written = min(begin + part.size, self._announced.size) if part else 0
        if not 0 <= start < written:
            raise InvalidRequest(f"range={start}-{end} of {self._announced.path} was not written yet.")
        return begin, min(end, written)

    def _verified(self, begin: int, start: int, stop: int, read: Read) -> bytes:
        """Read [start, stop) of the part at ``begin``. The block being filled has no checksum yet."""
        part = self._parts[begin]
        first, last = (start - begin) // BLOCK_SIZE, -(-(stop - begin) // BLOCK_SIZE)
        checksums = part.finished(first, last)
        whole = len(checksums) // CHECKSUM_SIZE * BLOCK_SIZE
        offset = begin + first * BLOCK_SIZE
        data = read(offset, max(offset + whole, stop))
        if len(data) < stop - offset or not intact(memoryview(data)[:whole], checksums):
            raise CorruptPage(f"{self._announced.path} does not match its checksum in bytes {start}-{stop}.")
        return data[start - offset : stop - offset]
