"""An origin in memory that fails as object stores do, and remembers every version that it ever held."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from preheat.errors import OriginUnavailable
from preheat.paths import UfsPath
from preheat.ufs import Download, MemoryUnderStore
from preheat.versions import ObjectInfo

COPIED_BY_ITSELF = 150
"""Bytes of the largest object that the origin copies itself; what is larger passes through a worker."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One object that was written or deleted."""

    at: float
    uri: str
    body: bytes | None
    """None if it was deleted."""
    by_worker: bool
    """Else by somebody who knows nothing of the cache."""


@dataclass(kw_only=True)
class OriginFaults:
    """How often what goes wrong; probabilities per request, seconds at most."""

    refused: float = 0.0
    """500, or 429: slow down."""
    reset: float = 0.0
    """The connection breaks in the middle of a body."""
    truncated: float = 0.0
    """The body ends early, and the client library does not notice."""
    stalled: float = 0.0
    """Nothing more comes for longer than anybody waits."""
    latency: float = 1.5


class FaultyOrigin:
    """An :class:`~preheat.ufs.UnderStore`."""

    def __init__(self, faults: OriginFaults, random: Random) -> None:
        self._store = MemoryUnderStore(page_size=10, chunk_bytes=64)
        self._faults = faults
        self._random = random
        self.versions: dict[tuple[str, str], bytes] = {}
        """(URI, etag) → body, of all that ever was."""
        self.changes: list[Change] = []

    def write(self, uri: str, body: bytes) -> None:
        info = self._store.write(uri, body)
        self._note_change(uri, info.etag, body, by_worker=False)

    def remove(self, uri: str) -> None:
        self._store.remove(uri)
        self._note_change(uri, "", None, by_worker=False)

    def _note_change(self, uri: str, etag: str, body: bytes | None, *, by_worker: bool) -> None:
        self.changes.append(Change(at=time.time(), uri=uri, body=body, by_worker=by_worker))
        if body is not None:
            self.versions[uri, etag] = body

    async def now_at(self, path: str) -> list[ObjectInfo]:
        """Return what is there, without faults."""
        return [info async for page in self._store.list(UfsPath.parse(path)) for info in page]

    def body_now(self, uri: str) -> bytes:
        """Return an object's bytes, without faults."""
        return self._store._find(UfsPath.parse(uri))[1]

    async def list(self, path: UfsPath, *, after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        await self._answer(path)
        async for page in self._store.list(path, after=after):
            yield page
            await self._answer(path)

    async def stat(self, path: UfsPath) -> ObjectInfo:
        await self._answer(path)
        return await self._store.stat(path)

    async def get(self, path: UfsPath, *, etag: str | None = None, start: int = 0, end: int | None = None) -> Download:
        await self._answer(path)
        download = await self._store.get(path, etag=etag, start=start, end=end)
        return replace(download, chunks=self._chunks(path, download.chunks))

    async def put(self, path: UfsPath, chunks: AsyncIterator[bytes | memoryview], *, size: int, **how) -> ObjectInfo:
        await self._answer(path)
        return await self._changed(path, await self._store.put(path, chunks, size=size, **how))

    async def copy(self, source: UfsPath, target: UfsPath, *, etag: str) -> ObjectInfo | None:
        await self._answer(target)
        if (await self._store.stat(source)).size > COPIED_BY_ITSELF:
            return None
        info = await self._store.copy(source, target, etag=etag)
        return await self._changed(target, info) if info else None

    async def delete(self, path: UfsPath, *, etag: str | None = None) -> bool:
        await self._answer(path)
        was_there = await self._store.delete(path, etag=etag)
        if was_there:
            self._note_change(str(path), "", None, by_worker=True)
        await self._answer(path)
        return was_there

    async def _changed(self, path: UfsPath, info: ObjectInfo) -> ObjectInfo:
        """Remember a version that was written; the answer that says so may get lost."""
        download = await self._store.get(path, etag=info.etag)
        body = b"".join([bytes(chunk) async for chunk in download.chunks])
        self._note_change(str(path), info.etag, body, by_worker=True)
        await self._answer(path)
        return info

    async def close(self) -> None:
        """Nothing is open."""

    async def _chunks(self, path: UfsPath, chunks: AsyncIterator[memoryview]) -> AsyncIterator[memoryview]:
        reset, truncated = self._happens(self._faults.reset), self._happens(self._faults.truncated)
        async for chunk in chunks:
            await asyncio.sleep(self._random.uniform(0, self._faults.latency / 10))
            if self._happens(self._faults.stalled):
                await asyncio.sleep(1000)
            yield chunk
            if reset:
                raise OriginUnavailable(f"path='{path}': the connection was reset.")
            if truncated:
                return

    async def _answer(self, path: UfsPath) -> None:
        await asyncio.sleep(self._random.uniform(0, self._faults.latency))
        if self._happens(self._faults.refused):
            raise OriginUnavailable(f"path='{path}': 503 SlowDown.")

    def _happens(self, probability: float) -> bool:
        return self._random.random() < probability
