"""What every page store does alike: block arithmetic, checksums, and the check of the version."""

from __future__ import annotations

import struct
from collections.abc import Collection

from awscrt.checksums import crc32c

from preheat.errors import InvalidRequest, ObjectNotFound, VersionChanged
from preheat.store._base import BLOCK_SIZE, CachedObject

_CHECKSUM = struct.Struct("<I")
CHECKSUM_SIZE = _CHECKSUM.size


class PageChecksums:
    """Computes the CRC-32C of each block of an object whose bytes come in pieces."""

    def __init__(self) -> None:
        self._finished: list[int] = []
        self._crc = 0
        self._filled = 0
        self.size = 0
        """Bytes so far; other threads may read it while more are added."""

    def update(self, data: memoryview) -> None:
        """Add the next bytes."""
        while data:
            piece = data[: BLOCK_SIZE - self._filled]
            self._crc = crc32c(piece, self._crc)
            self._filled += len(piece)
            if self._filled == BLOCK_SIZE:
                self._finished.append(self._crc)
                self._crc = self._filled = 0
            data = data[len(piece) :]
        self.size = len(self._finished) * BLOCK_SIZE + self._filled

    def finished(self, first: int, last: int) -> bytes:
        """Return the checksums of the blocks [first, last) of which all bytes came; safe while more are added."""
        return packed(self._finished[first:last])

    def values(self) -> tuple[int, ...]:
        """Return one checksum per block so far; the last block may be shorter than the others."""
        return (*self._finished, self._crc) if self._filled else tuple(self._finished)


def checksums_of(data: bytes | memoryview) -> bytes:
    """Return the checksums of an object's blocks, as :class:`CachedObject` keeps them."""
    if 0 < len(data) <= BLOCK_SIZE:  # one block, as most objects have
        found: bytes = crc32c(data).to_bytes(CHECKSUM_SIZE, "little")
        return found
    pages = PageChecksums()
    pages.update(memoryview(data))
    return packed(pages.values())


def packed(checksums: Collection[int]) -> bytes:
    """Return checksums as :class:`CachedObject` keeps them."""
    return struct.pack(f"<{len(checksums)}I", *checksums)


def intact(data: bytes | memoryview, checksums: bytes) -> bool:
    """Return whether the data are exactly as many blocks as there are checksums, and each matches its own."""
    if 0 < len(data) <= BLOCK_SIZE:
        return checksums_of(data) == checksums
    view, start = memoryview(data), 0
    for (expected,) in _CHECKSUM.iter_unpack(checksums):
        if crc32c(view[start : start + BLOCK_SIZE]) != expected:
            return False
        start += BLOCK_SIZE
    return start - BLOCK_SIZE < len(view) <= start


def clip(item: CachedObject, start: int, end: int | None) -> tuple[int, int]:
    """Return the range [start, end) cut to the object; empty as (n, n).

    Raises:
        InvalidRequest: a bound is negative.
    """
    end = item.size if end is None else end
    if start < 0 or end < 0:
        raise InvalidRequest(f"range={start}-{end} of {item.path} has a negative bound.")
    end = min(end, item.size)
    return min(start, end), end


def whole_blocks(item: CachedObject, start: int, end: int) -> tuple[int, int, bytes]:
    """Return the range of the blocks that [start, end) touches, and their checksums."""
    first, last = start // BLOCK_SIZE, -(-end // BLOCK_SIZE)
    return (
        first * BLOCK_SIZE,
        min(last * BLOCK_SIZE, item.size),
        item.checksums[first * _CHECKSUM.size : last * _CHECKSUM.size],
    )


def check_version(item: CachedObject, found: CachedObject | None) -> None:
    """Compare what was asked for with what the store holds at its path.

    Raises:
        ObjectNotFound: it holds nothing.
        VersionChanged: it holds another etag or size.
    """
    if found is item:
        return
    if found is None:
        raise ObjectNotFound(f"{item.path} is not cached any more.", remedy="Preload it again.")
    if (found.etag, found.size) != (item.etag, item.size):
        raise VersionChanged(f"{item.path} is cached as version {found.etag}, not as {item.etag}.")
