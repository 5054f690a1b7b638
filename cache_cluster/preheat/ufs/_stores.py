"""All under stores behind one: the path's scheme says which."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from preheat.attributes import NONE, Attributes
from preheat.paths import UfsPath
from preheat.ufs._base import (
    BucketInfo,
    Checksum,
    ChecksummedStore,
    Download,
    Sink,
    Span,
    StreamingStore,
    UnderStore,
)
from preheat.ufs._file import FileUnderStore
from preheat.ufs._settings import UfsSettings
from preheat.ufs.s3 import S3UnderStore
from preheat.versions import ObjectInfo


class UnderStores:
    """The under store of every scheme; itself an :class:`~preheat.ufs.UnderStore`.

    Credentials and endpoints come from the environment, and only when a path first needs them.

    Args:
        settings: deadlines and sizes.
    """

    def __init__(self, settings: UfsSettings | None = None) -> None:
        settings = settings or UfsSettings()
        self._s3 = S3UnderStore(settings)
        self._stores: dict[str, UnderStore] = {"s3": self._s3, "file": FileUnderStore(settings)}
        # Once, for to look at an object's methods takes longer than to read a small object.
        stores = self._stores.items()
        self._streaming = {scheme: store for scheme, store in stores if isinstance(store, StreamingStore)}
        self._checksummed = {scheme: store for scheme, store in stores if isinstance(store, ChecksummedStore)}

    async def list_buckets(self) -> Sequence[BucketInfo]:
        """Return the buckets of S3; see :class:`~preheat.ufs.BucketLister`."""
        return await self._s3.list_buckets()

    def list(self, path: UfsPath, *, after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        """Yield pages of what is at and below a path; see :class:`~preheat.ufs.UnderStore`."""
        return self._stores[path.scheme].list(path, after=after)

    async def stat(self, path: UfsPath) -> ObjectInfo:
        """Return what the store says of one object; see :class:`~preheat.ufs.UnderStore`."""
        return await self._stores[path.scheme].stat(path)

    async def get(self, path: UfsPath, *, etag: str | None = None, start: int = 0, end: int | None = None) -> Download:
        """Start to read an object; see :class:`~preheat.ufs.UnderStore`."""
        return await self._stores[path.scheme].get(path, etag=etag, start=start, end=end)

    async def pour(self, path: UfsPath, span: Span, sink: Sink) -> bool:
        """Read a large range in a thread, if the store can; see :class:`~preheat.ufs.StreamingStore`."""
        store = self._streaming.get(path.scheme)
        return store is not None and await store.pour(path, span, sink)

    async def get_whole(self, path: UfsPath, info: ObjectInfo) -> Download:
        """Start to read a small object, checked if the store can; see :class:`~preheat.ufs.ChecksummedStore`."""
        store = self._checksummed.get(path.scheme)
        if store is not None:
            return await store.get_whole(path, info)
        return await self.get(path, etag=info.etag, start=0, end=info.size or None)

    async def checksum(self, path: UfsPath, info: ObjectInfo) -> Checksum | None:
        """Return what the store keeps of an object; see :class:`~preheat.ufs.ChecksummedStore`."""
        store = self._checksummed.get(path.scheme)
        return await store.checksum(path, info) if store else None

    async def put(
        self,
        path: UfsPath,
        chunks: AsyncIterator[bytes | memoryview],
        *,
        size: int,
        attributes: Attributes = NONE,
    ) -> ObjectInfo:
        """Write an object; see :class:`~preheat.ufs.UnderStore`."""
        return await self._stores[path.scheme].put(path, chunks, size=size, attributes=attributes)

    async def copy(self, source: UfsPath, target: UfsPath, *, etag: str) -> ObjectInfo | None:
        """Let the store copy an object, if both are of one scheme; see :class:`~preheat.ufs.UnderStore`."""
        if source.scheme != target.scheme:
            return None
        return await self._stores[source.scheme].copy(source, target, etag=etag)

    async def delete(self, path: UfsPath, *, etag: str | None = None) -> bool:
        """Remove an object; see :class:`~preheat.ufs.UnderStore`."""
        return await self._stores[path.scheme].delete(path, etag=etag)

    async def close(self) -> None:
        """Close every store."""
        for store in self._stores.values():
            await store.close()
