"""Fills: objects on their way from the under store into the page store.

An object has at most one fill under way, whoever asks for it. The fill runs to its end even if all who wait for it
leave, so that a client that gives up and comes back does not start it over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from preheat.errors import OriginUnavailable, PreheatError, Unavailable, VersionChanged
from preheat.paths import UfsPath
from preheat.store import CachedObject, Notes, PageStore
from preheat.ufs import Download, UnderStore
from preheat.versions import ObjectInfo

Throttle = Callable[[int], Awaitable[None]]
"""Awaited with the bytes of each chunk before the next one is read."""


@dataclass(kw_only=True, slots=True)
class Counters:
    """What a worker read since it started."""

    hits: int = 0
    misses: int = 0
    hit_bytes: int = 0
    miss_bytes: int = 0
    origin_reads: int = 0
    """GETs of objects for readers and jobs alike."""
    load_reads: int = 0
    """Those of them that jobs began."""
    origin_bytes: int = 0
    origin_lists: int = 0
    origin_stats: int = 0


class _Fill:
    """One object on its way into the store."""

    def __init__(self, etag: str | None, size: int | None, throttle: Throttle | None) -> None:
        self.etag = etag
        self.size = size
        self.throttle = throttle
        self.task: asyncio.Task[CachedObject]

    async def result(self) -> CachedObject:
        """Wait for the end; a waiter that is cancelled leaves the fill alone."""
        await asyncio.wait({self.task})
        if self.task.cancelled():
            raise Unavailable("The worker is stopping.")
        return self.task.result()


class Fills:
    """Brings objects into a page store, each at most once at a time.

    Args:
        store: where objects are kept.
        origin: where they come from.
        notes: what was known of them before, which ends with the fill.
        stall_seconds: a read fails when the under store sends nothing for this long.
    """

    def __init__(self, store: PageStore, origin: UnderStore, *, notes: Notes, stall_seconds: float) -> None:
        self._store = store
        self._notes = notes
        self._origin = origin
        self._stall_seconds = stall_seconds
        self._fills: dict[str, _Fill] = {}
        self._closed = False
        self.counters = Counters()

    async def fetch(
        self,
        path: UfsPath,
        *,
        etag: str | None = None,
        size: int | None = None,
        job_id: str = "",
        throttle: Throttle | None = None,
    ) -> CachedObject:
        """Join the fill under way if it brings the right version (none: any), else begin one after it.

        A call without a job lifts the throttle of the fill under way. ``throttle`` is for one that this call begins.

        Raises:
            VersionChanged: the under store has another etag or size.
            StoreFull: the object does not fit. Otherwise as ``UnderStore.get``.
        """
        while fill := self._fills.get(str(path)):
            if not job_id:
                fill.throttle = None
            if (fill.etag, fill.size) == (etag, size):
                return await fill.result()
            with suppress(PreheatError):  # it is after another version: its failure is not this caller's
                item = await fill.result()
                if _is_version(item, etag, size):
                    return item
        if self._closed:
            raise Unavailable("The worker is stopping.")
        fill = self._fills[str(path)] = _Fill(etag, size, throttle)
        fill.task = asyncio.create_task(self._fill(path, fill, job_id))
        fill.task.add_done_callback(_mark_retrieved)
        return await fill.result()

    async def download(self, path: UfsPath, etag: str | None, start: int = 0, end: int | None = None) -> Download:
        """Start to read bytes [start, end) of an object, and count the GET."""
        self.counters.origin_reads += 1
        async with self.deadline(path):
            return await self._origin.get(path, etag=etag, start=start, end=end)

    async def chunks(self, path: UfsPath, download: Download) -> AsyncIterator[memoryview]:
        """Yield a download's bytes, counted; raises OriginUnavailable when they stop coming."""
        while True:
            async with self.deadline(path):
                chunk = await anext(download.chunks, None)
            if chunk is None:
                return
            self.counters.origin_bytes += len(chunk)
            yield chunk

    @asynccontextmanager
    async def deadline(self, path: UfsPath) -> AsyncIterator[None]:
        """Raise OriginUnavailable if the body takes longer than ``stall_seconds``."""
        try:
            async with asyncio.timeout(self._stall_seconds):
                yield
        except TimeoutError as error:
            raise OriginUnavailable(
                f"path='{path}': the under store sent nothing for {self._stall_seconds:g} s."
            ) from error

    async def close(self) -> None:
        """Break off every fill; those who wait for one get Unavailable."""
        self._closed = True
        tasks = [fill.task for fill in self._fills.values()]
        self._fills.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fill(self, path: UfsPath, fill: _Fill, job_id: str) -> CachedObject:
        self.counters.load_reads += bool(job_id)
        try:
            download = await self.download(path, fill.etag)
            if not _is_version(download.info, fill.etag, fill.size):
                found = download.info
                raise VersionChanged(
                    f"path='{path}' has the etag {found.etag!r} and {found.size} bytes now, "
                    f"not {fill.etag!r} and {fill.size}."
                )
            return await self._keep(path, download, fill, job_id)
        finally:
            self._fills.pop(str(path), None)

    async def _keep(self, path: UfsPath, download: Download, fill: _Fill, job_id: str) -> CachedObject:
        info = download.info
        with self._store.writer(
            str(path), etag=info.etag, size=info.size, last_modified=info.last_modified, job_id=job_id
        ) as writer:
            async for chunk in self.chunks(path, download):
                writer.append(chunk)
                if fill.throttle:
                    await fill.throttle(len(chunk))
            item = writer.commit()
        self._notes.forget(str(path))
        return item


def _is_version(version: ObjectInfo | CachedObject, etag: str | None, size: int | None) -> bool:
    return etag in (None, version.etag) and size in (None, version.size)


def _mark_retrieved(task: asyncio.Task[CachedObject]) -> None:
    """Keep asyncio from reporting the error of a fill that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
