"""The under store's twin in memory, for tests and for trying Preheat without an origin."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from xxhash import xxh3_128_hexdigest

from preheat.errors import BucketNotFound, ObjectNotFound, VersionChanged
from preheat.paths import UfsPath
from preheat.ufs._base import Download
from preheat.versions import ObjectInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class _Held:
    info: ObjectInfo
    data: bytes


class MemoryUnderStore:
    """An :class:`~preheat.ufs.UnderStore` in memory. :meth:`put` and :meth:`delete` are its back doors.

    A bucket exists from its first :meth:`put` on. A download reads the version that was there when it began.

    Args:
        page_size: objects in one page of a listing.
        chunk_size: bytes in one chunk of a download.
    """

    def __init__(self, *, page_size: int = 1000, chunk_size: int = 256 << 10) -> None:
        self._buckets: dict[tuple[str, str], dict[str, _Held]] = {}
        self._page_size = page_size
        self._chunk_size = chunk_size

    def put(self, uri: str, data: bytes) -> ObjectInfo:
        """Write an object; its etag follows from the bytes."""
        path = UfsPath.parse(uri)
        info = ObjectInfo(
            key=path.key, size=len(data), etag=xxh3_128_hexdigest(data), last_modified=float(int(time.time()))
        )
        self._buckets.setdefault((path.scheme, path.bucket), {})[path.key] = _Held(info=info, data=data)
        return info

    def delete(self, uri: str) -> None:
        """Remove an object that exists."""
        path = UfsPath.parse(uri)
        del self._buckets[path.scheme, path.bucket][path.key]

    async def list(self, path: UfsPath, *, after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        """Yield pages of the objects at and below a path, in key order."""
        below = path.key if not path.key or path.key.endswith("/") else path.key + "/"
        found = [
            held.info
            for key, held in sorted(self._bucket(path).items())
            if (key == path.key or key.startswith(below)) and key > after
            if not (held.info.size == 0 and key.endswith("/"))
        ]
        for start in range(0, len(found), self._page_size):
            yield found[start : start + self._page_size]

    async def stat(self, path: UfsPath) -> ObjectInfo:
        """Return what is known of one object."""
        return self._held(path).info

    async def get(self, path: UfsPath, *, etag: str | None = None, start: int = 0, end: int | None = None) -> Download:
        """Start to read bytes [start, end) of an object."""
        held = self._held(path)
        if etag not in (None, held.info.etag):
            raise VersionChanged(f"{path} has the etag {held.info.etag!r} now, not {etag!r}.")
        stop = held.info.size if end is None else min(end, held.info.size)
        return Download(info=held.info, start=start, end=stop, chunks=self._chunks(held.data, start, stop))

    async def close(self) -> None:
        """Nothing to release."""

    async def _chunks(self, data: bytes, start: int, end: int) -> AsyncIterator[memoryview]:
        for position in range(start, end, self._chunk_size):
            yield memoryview(data)[position : min(position + self._chunk_size, end)]

    def _bucket(self, path: UfsPath) -> dict[str, _Held]:
        bucket = self._buckets.get((path.scheme, path.bucket))
        if bucket is None:
            raise BucketNotFound(f"path='{path}': there is no bucket {path.bucket!r}.")
        return bucket

    def _held(self, path: UfsPath) -> _Held:
        held = self._bucket(path).get(path.key)
        if held is None:
            raise ObjectNotFound(f"path='{path}': there is no such object.")
        return held
