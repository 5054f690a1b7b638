"""How far a file reads ahead: not at all while it is read here and there, farther and farther while it is read on."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from fsspec.caching import BaseCache, register_cache

_FIRST_BYTES = 32 << 10
"""Read behind what is asked for when that is not where the last read ended: as cheap as nothing, and often a header."""
_GROWTH = 4


class GrowingReadAhead(BaseCache):  # type: ignore[misc]  # fsspec has no types
    """Holds one stretch of the file, the last that was fetched.

    Args:
        blocksize: bytes to read ahead at most.
        fetcher: returns bytes [start, end).
        size: bytes of the file.
    """

    name: ClassVar[str] = "growing"

    def __init__(self, blocksize: int, fetcher: Callable[[int, int], bytes], size: int) -> None:
        super().__init__(blocksize, fetcher, size)
        self._start = 0
        self._data = b""
        self._ahead = 0

    def _fetch(self, start: int | None, end: int | None) -> bytes:
        first, stop = start or 0, self.size if end is None else min(end, self.size)
        if first >= stop:
            return b""
        held = self._start + len(self._data)
        if self._start <= first and stop <= held:
            self.hit_count += 1
            return self._data[first - self._start : stop - self._start]
        self.miss_count += 1
        if self._start <= first <= held:
            self._ahead = min(max(self._ahead * _GROWTH, _FIRST_BYTES), self.blocksize)
            return self._data[first - self._start :] + self._read(held, stop)
        self._ahead = min(_FIRST_BYTES, self.blocksize)
        return self._read(first, stop)

    def _read(self, start: int, stop: int) -> bytes:
        """Fetch a stretch with what lies ahead, and return what was asked for."""
        end = min(self.size, stop + self._ahead)
        self._data, self._start = self.fetcher(start, end), start
        self.total_requested_bytes += end - start
        return self._data[: stop - start]


register_cache(GrowingReadAhead, clobber=True)
