"""Reads past the cache, from the under store itself, for filesystems that were told to when no worker answers.

It is imported by those only: the plain client has none of the libraries that reach under stores.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import BinaryIO

from preheat.batch_read import Read
from preheat.errors import InvalidRequest, PreheatError
from preheat.fs._demand import Demand
from preheat.fs._reader import Outcome, RemoteObject, RemotePage
from preheat.fs._session import ReadStats
from preheat.paths import UfsPath
from preheat.ufs import UfsSettings, UnderStore, UnderStores
from preheat.versions import ObjectInfo

_READS = 32
"""Objects that are read at once."""


class Origin:
    """The under store as a :class:`~preheat.fs._reader.Reader`; credentials and endpoint come from the environment.

    Args:
        stats: counts the reads.
        store: the under stores; none for those of this process's environment.
    """

    def __init__(self, stats: ReadStats, store: UnderStore | None = None) -> None:
        self._stats = stats
        self._store = store or UnderStores(UfsSettings(forkable=True))

    async def stat(self, path: UfsPath, _: Demand) -> RemoteObject:
        """Return one object."""
        return _remote(await self._store.stat(path))

    async def list(self, path: UfsPath, _: Demand, *, after: str = "", limit: int = 1000) -> RemotePage:
        """Return one page of the objects at and below a path."""
        found: list[RemoteObject] = []
        async with aclosing(self._store.list(path, after=after)) as pages:  # type: ignore[type-var]  # they are generators
            async for page in pages:
                found += map(_remote, page)
                if len(found) >= limit:
                    return RemotePage(objects=found[:limit], next=found[limit - 1].key)
        return RemotePage(objects=found)

    async def read(self, read: Read, _: Demand) -> bytes:
        """Return an object's bytes, or a range of them."""
        path = UfsPath.parse(read.path)
        try:
            download = await self._store.get(path, etag=read.etag, start=read.start, end=read.end)
        except InvalidRequest:
            if read.start:  # it begins behind the end
                return b""
            raise
        data = b"".join([chunk async for chunk in download.chunks])
        self._count(len(data))
        return data

    async def read_many(self, reads: Sequence[Read], demand: Demand) -> Sequence[Outcome]:
        """Return the bytes of each read, or why there are none."""
        turns = asyncio.Semaphore(_READS)

        async def outcome(read: Read) -> Outcome:
            async with turns:
                try:
                    return await self.read(read, demand)
                except PreheatError as error:
                    return error

        return await asyncio.gather(*map(outcome, reads))

    async def download(self, path: UfsPath, _: Demand, file: BinaryIO, progress: Callable[[int], None]) -> None:
        """Write an object to a seekable file from its beginning."""
        file.seek(0)
        file.truncate()
        async for chunk in (await self._store.get(path)).chunks:
            file.write(chunk)
            progress(file.tell())
        self._count(file.tell())

    async def close(self) -> None:
        """Close the connections."""
        await self._store.close()

    def _count(self, size: int) -> None:
        self._stats.fallbacks += 1
        self._stats.bytes += size


def _remote(info: ObjectInfo) -> RemoteObject:
    return RemoteObject(key=info.key, size=info.size, etag=info.etag, last_modified=info.last_modified)
