"""``s3://``: Amazon S3 and what speaks its protocol.

Bytes come and go through obstore, except that ranges of ``http://`` endpoints are read by a client of our own, which is
faster; listings, large writes, copies, removals, and the few keys that obstore cannot spell (empty, ``.`` or ``..``
segments, control characters), through boto3 in threads.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError
from obstore.store import S3Store

from preheat.attributes import META, NONE, Attributes, lines_of
from preheat.errors import InvalidRequest, ObjectNotFound
from preheat.paths import UfsPath
from preheat.ufs._base import BucketInfo, Checksum, Download, Sink, Span
from preheat.ufs._download import byte_range, check_version, checked
from preheat.ufs._settings import UfsSettings
from preheat.ufs._upload import parts
from preheat.ufs.s3._boto import boto_buckets, boto_get, boto_stat
from preheat.ufs.s3._checksum import KeptChecksums
from preheat.ufs.s3._client import S3Connection, connect, open_bucket
from preheat.ufs.s3._errors import from_botocore, malformed_endpoint, obstore_errors
from preheat.ufs.s3._gets import GetRequests
from preheat.ufs.s3._list import S3Lister
from preheat.ufs.s3._listing import plain_etag
from preheat.ufs.s3._stream import S3Streams
from preheat.ufs.s3._wire import MAX_BYTES, S3Wire
from preheat.ufs.s3._write import copy_object, delete_object, part_size, put_in_parts, put_whole
from preheat.versions import ObjectInfo

if TYPE_CHECKING:  # obstore has these for type checkers only
    from obstore import BytesStream, GetOptions, GetResult

_HEADERS = frozenset({
    "Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Type", "Storage-Class",
})  # fmt: skip
"""What obstore calls by the names of headers; the rest is the writer's own metadata."""
_UNSPELLABLE = re.compile(r"(?:^|/)\.{0,2}(?:/|\Z)|[\x00-\x1f\x7f]")
"""In a key: a segment that is empty, ``.`` or ``..``, or a control character."""


class S3UnderStore:
    """Buckets of one S3 endpoint, with boto3's credential chain.

    Nothing is opened before the first call, and a missing credential is that call's error.

    Args:
        settings: deadlines and sizes.
    """

    def __init__(self, settings: UfsSettings | None = None) -> None:
        self._settings = settings or UfsSettings()
        self._connection: S3Connection | None = None
        self._connecting = asyncio.Lock()
        self._wire: S3Wire | None = None
        self._streams: S3Streams | None = None
        self._checksums = KeptChecksums()
        self._lister: S3Lister | None = None
        self._buckets: dict[str, S3Store] = {}

    async def list_buckets(self) -> Sequence[BucketInfo]:
        """Return the buckets that the credentials may see; see :class:`~preheat.ufs.BucketLister`."""
        nowhere = UfsPath(scheme="s3", bucket="", key="")
        return await boto_buckets(await self._connect(nowhere), nowhere)

    async def list(self, path: UfsPath, *, after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        """Yield pages of the objects at and below a path; see :class:`~preheat.ufs.UnderStore`."""
        lister = await self._lists(path)
        async with aclosing(lister.pages(path, after)) as pages:
            async for page in pages:
                yield page

    async def stat(self, path: UfsPath) -> ObjectInfo:
        """Return what S3 says of one object; see :class:`~preheat.ufs.UnderStore`."""
        connection = await self._connect(path)
        try:
            if self._settings.forkable or not can_spell(path.key):
                return await boto_stat(connection, path)
            with obstore_errors(path, connection.endpoint):
                head = await self._bucket(connection, path).get_async(path.key, options={"head": True})
                return _info(path.key, head)
        except ObjectNotFound:
            await (await self._lists(path)).check_bucket(path)  # a HEAD says 404 for either
            raise

    async def get(self, path: UfsPath, *, etag: str | None = None, start: int = 0, end: int | None = None) -> Download:
        """Start to read an object; see :class:`~preheat.ufs.UnderStore`."""
        if end is not None and end <= start:  # HTTP has no range without bytes
            return await self._get_nothing(path, etag, start, end)
        try:
            return await self._get(path, etag, start, end)
        except InvalidRequest:
            if start or end is None:
                raise
            nothing = await self._get_nothing(path, etag, 0, 0)  # S3 refuses any range of an empty object
            if nothing.info.size:
                raise
            return nothing

    async def get_whole(self, path: UfsPath, info: ObjectInfo) -> Download:
        """Start to read a small object; see :class:`~preheat.ufs.ChecksummedStore`.

        obstore does not tell what S3 keeps, so only what comes over plain HTTP is compared.
        """
        if self._connection is None:
            await self._connect(path)
        if self._wire is not None and 0 < info.size <= MAX_BYTES and can_spell(path.key):
            download = await self._wire.get_whole(path, info.etag, info.size)
            if download is not None:
                check_version(path, download.info, info.etag)
                return download
        return await self.get(path, etag=info.etag, start=0, end=info.size or None)

    async def pour(self, path: UfsPath, span: Span, sink: Sink) -> bool:
        """Read a large range in a thread; see :class:`~preheat.ufs.StreamingStore`."""
        await self._connect(path)
        if self._streams is None or not can_spell(path.key):
            return False
        return await self._streams.pour(path, span, sink)

    async def checksum(self, path: UfsPath, info: ObjectInfo) -> Checksum | None:
        """Return what S3 keeps of an object; see :class:`~preheat.ufs.ChecksummedStore`."""
        return await self._checksums.ask(await self._connect(path), path, info)

    async def _get(self, path: UfsPath, etag: str | None, start: int, end: int | None) -> Download:
        connection = await self._connect(path)
        if self._settings.forkable or not can_spell(path.key):
            size = self._settings.chunk_bytes
            return await boto_get(connection, path, etag=etag, start=start, end=end, chunk_bytes=size)
        if self._wire is not None and end is not None and end - start <= MAX_BYTES:
            download = await self._wire.get(path, etag=etag, start=start, end=end)
            if download is not None:
                check_version(path, download.info, etag)
                return download
        asked_at = time.monotonic()
        with obstore_errors(path, connection.endpoint):
            result = await self._bucket(connection, path).get_async(path.key, options=_options(etag, start, end))
        waited = time.monotonic() - asked_at
        info = _info(path.key, result)
        check_version(path, info, etag)  # for servers that ignore If-Match
        start, end = result.range
        chunks = _chunks(path, connection.endpoint, result.stream(self._settings.chunk_bytes))
        return Download(info=info, start=start, end=end, chunks=checked(path, chunks, end - start), waited=waited)

    async def put(
        self,
        path: UfsPath,
        chunks: AsyncIterator[bytes | memoryview],
        *,
        size: int,
        attributes: Attributes = NONE,
    ) -> ObjectInfo:
        """Write an object, a large one in parts; see :class:`~preheat.ufs.UnderStore`."""
        connection = await self._connect(path)
        part_bytes = part_size(size, self._settings.part_bytes)
        pieces = parts(path, chunks, size, part_bytes)
        if size > part_bytes:
            etag = await put_in_parts(
                connection, path, pieces, in_flight=self._settings.parts_in_flight, attributes=attributes
            )
        else:
            etag = await self._put_whole(connection, path, b"".join([piece async for piece in pieces]), attributes)
        now = time.time()
        return ObjectInfo(key=path.key, size=size, etag=etag, last_modified=now, attributes=lines_of(attributes))

    async def copy(self, source: UfsPath, target: UfsPath, *, etag: str) -> ObjectInfo | None:
        """Let S3 copy an object of up to 5 GiB, metadata included; see :class:`~preheat.ufs.UnderStore`."""
        info = await self.stat(source)
        check_version(source, info, etag)  # for servers that ignore x-amz-copy-source-if-match
        return await copy_object(await self._connect(target), source, info, target)

    async def delete(self, path: UfsPath, *, etag: str | None = None) -> bool:
        """Remove an object, after a look at its version; see :class:`~preheat.ufs.UnderStore`.

        Few S3 servers know conditional deletes, and on AWS they need a right of their own.
        """
        try:
            check_version(path, await self.stat(path), etag)
        except ObjectNotFound:
            return False
        await delete_object(await self._connect(path), path)
        return True

    async def close(self) -> None:
        """Release the connections; a later call opens new ones."""
        connection, self._connection = self._connection, None
        self._buckets.clear()
        if self._wire is not None:
            self._wire.close()
            self._wire = None
        if self._streams is not None:
            self._streams.close()
            self._streams = None
        if self._lister is not None:
            self._lister.close()
            self._lister = None
        if connection is not None:
            connection.client.close()

    async def _connect(self, path: UfsPath) -> S3Connection:
        if self._connection is not None:
            return self._connection
        async with self._connecting:
            if self._connection is None:
                try:
                    self._connection = await asyncio.to_thread(connect, self._settings)
                except BotoCoreError as error:
                    raise from_botocore(error, path, "") from error
                except ValueError as error:
                    raise malformed_endpoint(path) from error
                if S3Wire.reaches(self._connection.endpoint):
                    requests, endpoint = GetRequests(self._connection), self._connection.endpoint
                    self._wire = S3Wire(requests, endpoint, self._settings)
                    self._streams = S3Streams(requests, endpoint, self._settings)
            return self._connection

    async def _lists(self, path: UfsPath) -> S3Lister:
        connection = await self._connect(path)
        if self._lister is None:
            self._lister = S3Lister(connection, self._settings)
        return self._lister

    def _bucket(self, connection: S3Connection, path: UfsPath) -> S3Store:
        store = self._buckets.get(path.bucket)
        if store is None:
            store = self._buckets[path.bucket] = open_bucket(connection, path.bucket, self._settings)
        return store

    async def _put_whole(self, connection: S3Connection, path: UfsPath, body: bytes, attributes: Attributes) -> str:
        if attributes or not can_spell(path.key):
            return await put_whole(connection, path, body, attributes)
        with obstore_errors(path, connection.endpoint, writing=True):
            bucket = self._bucket(connection, path)
            result = await bucket.put_async(path.key, body, use_multipart=False)
        return plain_etag(result["e_tag"])

    async def _get_nothing(self, path: UfsPath, etag: str | None, start: int, end: int) -> Download:
        info = await self.stat(path)
        check_version(path, info, etag)
        start, end = byte_range(path, info.size, start, end)
        return Download(info=info, start=start, end=end, chunks=_no_chunks())


def can_spell(key: str) -> bool:
    """Whether obstore asks for exactly this key, and not for one that it takes to be the same."""
    return _UNSPELLABLE.search(key) is None


def _options(etag: str | None, start: int, end: int | None) -> GetOptions:
    options: GetOptions = {}
    if etag is not None:
        options["if_match"] = f'"{etag}"'
    if end is not None:
        options["range"] = (start, end)
    elif start:
        options["range"] = {"offset": start}
    return options


def _info(key: str, result: GetResult) -> ObjectInfo:
    meta = result.meta
    attributes = {name.lower() if name in _HEADERS else META + name: value for name, value in result.attributes.items()}
    return ObjectInfo(
        key=key,
        size=meta["size"],
        etag=plain_etag(meta["e_tag"]),
        last_modified=meta["last_modified"].timestamp(),
        attributes=lines_of(attributes),
    )


async def _chunks(path: UfsPath, endpoint: str, stream: BytesStream) -> AsyncIterator[memoryview]:
    while True:
        with obstore_errors(path, endpoint):
            chunk = await anext(stream, None)
        if chunk is None:
            return
        yield memoryview(chunk)


async def _no_chunks() -> AsyncIterator[memoryview]:
    return
    yield
