"""An under store in memory: the twin for tests, with the semantics of S3."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Sequence

from preheat.attributes import NONE, Attributes, lines_of
from preheat.errors import BucketNotFound, ObjectNotFound
from preheat.paths import UfsPath
from preheat.ufs._base import BucketInfo, Download
from preheat.ufs._download import byte_range, check_version
from preheat.ufs._selection import Selection, is_marker
from preheat.ufs._settings import UfsSettings
from preheat.ufs._upload import parts
from preheat.versions import ObjectInfo


class MemoryUnderStore:
    """Objects in a dictionary. The files of ``file://`` are in a bucket without a name, which is always there.

    Args:
        page_size: objects per page of a listing.
        chunk_bytes: bytes per chunk of a download.
    """

    def __init__(
        self, *, page_size: int = UfsSettings().page_size, chunk_bytes: int = UfsSettings().chunk_bytes
    ) -> None:
        self._page_size = page_size
        self._chunk_bytes = chunk_bytes
        self._buckets: dict[str, dict[str, tuple[ObjectInfo, bytes]]] = {"": {}}
        self._attributes: dict[str, Attributes] = {}

    def write(self, uri: str, body: bytes = b"") -> ObjectInfo:
        """Create or replace an object at once, as somebody else would; a new bucket comes into being with it."""
        path = UfsPath.parse(uri)
        self._buckets.setdefault(path.bucket, {})
        return self._set(path, body)

    def remove(self, uri: str) -> None:
        """Remove an object at once if it is there, as somebody else would; the bucket stays."""
        path = UfsPath.parse(uri)
        self._buckets.get(path.bucket, {}).pop(path.key, None)

    async def list_buckets(self) -> Sequence[BucketInfo]:
        """Return the buckets; see :class:`~preheat.ufs.BucketLister`."""
        return [BucketInfo(name=name, created_at=0.0) for name in sorted(self._buckets) if name]

    async def list(self, path: UfsPath, *, after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        """Yield pages of the objects at and below a path; see :class:`~preheat.ufs.UnderStore`."""
        selection = Selection.of(path, after)
        objects = self._bucket(path)
        found = [objects[key][0] for key in sorted(objects) if selection.selects(key)]
        found = [info for info in found if not is_marker(info.key, info.size)]
        for start in range(0, len(found), self._page_size):
            yield found[start : start + self._page_size]

    async def stat(self, path: UfsPath) -> ObjectInfo:
        """Return one object's size and etag; see :class:`~preheat.ufs.UnderStore`."""
        return self._find(path)[0]

    async def get(self, path: UfsPath, *, etag: str | None = None, start: int = 0, end: int | None = None) -> Download:
        """Start to read an object; see :class:`~preheat.ufs.UnderStore`."""
        info, body = self._find(path)
        check_version(path, info, etag)
        start, end = byte_range(path, info.size, start, end)
        return Download(info=info, start=start, end=end, chunks=self._chunks(memoryview(body)[start:end]))

    async def put(
        self,
        path: UfsPath,
        chunks: AsyncIterator[bytes | memoryview],
        *,
        size: int,
        attributes: Attributes = NONE,
    ) -> ObjectInfo:
        """Create or replace an object; see :class:`~preheat.ufs.UnderStore`."""
        self._bucket(path)
        body = b"".join([part async for part in parts(path, chunks, size, self._chunk_bytes)])
        return self._set(path, body, attributes)

    def attributes(self, uri: str) -> Attributes:
        """Return what the writer of an object said of it besides."""
        return self._attributes.get(uri, NONE)

    async def copy(self, source: UfsPath, target: UfsPath, *, etag: str) -> ObjectInfo | None:
        """Copy an object within a scheme; see :class:`~preheat.ufs.UnderStore`."""
        if source.scheme != target.scheme:
            return None
        info, body = self._find(source)
        check_version(source, info, etag)
        return self._set(target, body, self.attributes(str(source)))

    async def delete(self, path: UfsPath, *, etag: str | None = None) -> bool:
        """Remove an object; see :class:`~preheat.ufs.UnderStore`."""
        objects = self._bucket(path)
        if path.key in objects:
            check_version(path, objects[path.key][0], etag)
        return objects.pop(path.key, None) is not None

    async def close(self) -> None:
        """Nothing is open."""

    async def _chunks(self, body: memoryview) -> AsyncIterator[memoryview]:
        for start in range(0, len(body), self._chunk_bytes):
            yield body[start : start + self._chunk_bytes]

    def _set(self, path: UfsPath, body: bytes, attributes: Attributes = NONE) -> ObjectInfo:
        self._attributes[str(path)] = attributes
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        info = ObjectInfo(
            key=path.key,
            size=len(body),
            etag=etag,
            last_modified=time.time(),
            attributes=lines_of(attributes),
        )
        self._bucket(path)[path.key] = (info, body)
        return info

    def _bucket(self, path: UfsPath) -> dict[str, tuple[ObjectInfo, bytes]]:
        if path.bucket not in self._buckets:
            raise BucketNotFound(f"path='{path}': there is no bucket {path.bucket!r}.")
        return self._buckets[path.bucket]

    def _find(self, path: UfsPath) -> tuple[ObjectInfo, bytes]:
        found = self._bucket(path).get(path.key)
        if found is None:
            raise ObjectNotFound(f"path='{path}' does not exist.")
        return found
