"""What every page store does alike: page arithmetic, checksums, and the check of the version."""

from __future__ import annotations

from collections.abc import Sequence

from awscrt.checksums import crc32c

from preheat.errors import InvalidRequest, ObjectNotFound, VersionChanged
from preheat.store._base import PAGE_SIZE, CachedObject


class PageChecksums:
    """Computes the CRC-32C of each page of an object whose bytes come in pieces."""

    def __init__(self) -> None:
        self._finished: list[int] = []
        self._crc = 0
        self._filled = 0

    def update(self, data: memoryview) -> None:
        """Add the next bytes."""
        while data:
            piece = data[: PAGE_SIZE - self._filled]
            self._crc = crc32c(piece, self._crc)
            self._filled += len(piece)
            if self._filled == PAGE_SIZE:
                self._finished.append(self._crc)
                self._crc = self._filled = 0
            data = data[len(piece) :]

    def values(self) -> tuple[int, ...]:
        """Return one checksum per page so far; the last page may be shorter than the others."""
        return (*self._finished, self._crc) if self._filled else tuple(self._finished)


def intact(data: bytes | memoryview, checksums: Sequence[int]) -> bool:
    """Return whether the data are exactly as many pages as there are checksums, and each matches its own."""
    if len(checksums) == 1:
        return len(data) <= PAGE_SIZE and bool(crc32c(data) == checksums[0])
    actual = PageChecksums()
    actual.update(memoryview(data))
    return actual.values() == tuple(checksums)


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


def whole_pages(item: CachedObject, start: int, end: int) -> tuple[int, int, tuple[int, ...]]:
    """Return the range of the pages that [start, end) touches, and their checksums."""
    first, last = start // PAGE_SIZE, -(-end // PAGE_SIZE)
    return first * PAGE_SIZE, min(last * PAGE_SIZE, item.size), item.checksums[first:last]


def check_version(item: CachedObject, found: CachedObject | None) -> None:
    """Compare what was asked for with what the store holds at its path.

    Raises:
        ObjectNotFound: it holds nothing.
        VersionChanged: it holds another etag or size.
    """
    if found is None:
        raise ObjectNotFound(f"{item.path} is not cached any more.", remedy="Preload it again.")
    if (found.etag, found.size) != (item.etag, item.size):
        raise VersionChanged(f"{item.path} is cached as version {found.etag}, not as {item.etag}.")
