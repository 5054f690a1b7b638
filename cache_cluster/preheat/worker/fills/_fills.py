"""Fills: objects on their way from the under store into the page store.

An object has at most one fill under way, whoever asks for it. The fill runs to its end even if all who wait for it
leave, so that a client that gives up and comes back does not start it over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial

from preheat.errors import OriginUnavailable, PreheatError, StoreError, Unavailable
from preheat.logs import get_logger
from preheat.paths import UfsPath
from preheat.store import CachedObject, Notes, PageStore
from preheat.ufs import Download, UnderStore
from preheat.versions import ObjectInfo
from preheat.worker.fills._counters import Counters
from preheat.worker.fills._fill import Fill, Source, Throttle
from preheat.worker.fills._pieces import FOR_JOBS, FOR_READERS, Pieces
from preheat.worker.fills._transfers import Transfers, is_version

__all__ = ["Counters", "Fills", "Source", "Throttle"]
log = get_logger("worker")
_FLUSH_SECONDS = 0.05


class Fills:
    """Brings objects into a page store, each at most once at a time.

    Args:
        store: where objects are kept.
        origin: where they come from.
        notes: what was known of them before, which ends with the fill.
        stall_seconds: a read fails when the under store sends nothing for this long.
        clock: tells when fills begin.
    """

    def __init__(
        self,
        store: PageStore,
        origin: UnderStore,
        *,
        notes: Notes,
        stall_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._clock = clock
        self.on_filled: Callable[[UfsPath, CachedObject, Fill], None] | None = None
        """Is told of each fill that brought its object. Quick, and raises nothing."""
        self._notes = notes
        self._origin = origin
        self._stall_seconds = stall_seconds
        self._fills: dict[str, Fill] = {}
        self._closed = False
        self._watching: asyncio.TimerHandle | None = None
        self._flushing: asyncio.TimerHandle | None = None
        self.counters = Counters()
        self._transfers = Transfers(store, origin, self.counters)

    async def fetch(
        self,
        path: UfsPath,
        *,
        etag: str | None = None,
        size: int | None = None,
        job_id: str = "",
        throttle: Throttle | None = None,
        source: Source | None = None,
    ) -> CachedObject:
        """Join the fill under way if it brings the right version (none: any), else begin one after it.

        A call without a job lifts the throttle of the fill under way. ``throttle`` and ``source`` are for one that this
        call begins.

        Raises:
            VersionChanged: the under store has another etag or size.
            StoreFull: the object does not fit. Otherwise as ``UnderStore.get``.
        """
        while fill := self._fills.get(str(path)):
            if not job_id:
                self._transfers.hurry(fill)
            if (fill.etag, fill.size) == (etag, size):
                return await fill.result()
            with suppress(PreheatError):  # it is after another version: its failure is not this caller's
                item = await fill.result()
                if is_version(item, etag, size):
                    return item
        pieces = FOR_JOBS if job_id else FOR_READERS
        fill = self._new(path, Fill(etag, size, pieces=pieces, job_id=job_id, throttle=throttle, source=source))
        if job_id:  # it waits to the end anyway, so it needs no task of its own, which would cost a small object dear
            return await fill.run(partial(self._fill, path, fill))
        self._start(path, fill)
        return await fill.result()

    async def follow(
        self,
        path: UfsPath,
        *,
        etag: str | None = None,
        pieces: Pieces = FOR_READERS,
        source: Source | None = None,
    ) -> Fill | None:
        """Return the fill that brings the right version (none: any) as soon as that is known; raises as :meth:`fetch`.

        The fill under way is joined, without its throttle; if there is none, one is begun, with ``pieces`` of
        ``source``. None if the one under way brings another version.
        """
        while fill := self._fills.get(str(path)):
            self._transfers.hurry(fill)
            try:
                info = await fill.version()
            except PreheatError:
                if (fill.etag, fill.size) == (etag, None):
                    raise
                continue  # it was after another version: its failure is not this caller's
            return fill if etag in (None, info.etag) else None
        fill = self._new(path, Fill(etag, None, pieces=pieces, source=source))
        self._start(path, fill)
        await fill.version()
        return fill

    async def coming(self, path: UfsPath, etag: str | None) -> ObjectInfo | None:
        """Return the version that the fill under way brings if it is the right one (none: any), else none."""
        fill = self._fills.get(str(path))
        if fill is None:
            return None
        try:
            info = await fill.version()
        except PreheatError:  # whoever waits for the object is told why
            return None
        return info if etag in (None, info.etag) else None

    def begin(self, path: UfsPath, *, etag: str, pieces: Pieces, source: Source | None = None) -> None:
        """Begin a fill that nobody waits for, where none is under way."""
        self._start(path, self._new(path, Fill(etag, None, pieces=pieces, source=source)))

    def under_way(self, path: UfsPath) -> bool:
        """Whether an object is being filled."""
        return str(path) in self._fills

    def supersede(self, path: UfsPath, etag: str) -> None:
        """Let a fill under way publish no other version than this one; with an empty etag, none at all."""
        if fill := self._fills.get(str(path)):
            fill.supersede(etag)

    async def download(
        self, path: UfsPath, etag: str | None, start: int = 0, end: int | None = None, *, source: Source | None = None
    ) -> Download:
        """Start to read bytes [start, end) of an object that are not kept, and count them as they come.

        Raises:
            OriginUnavailable: no bytes come for ``stall_seconds``. Otherwise as ``UnderStore.get``.
        """
        if source is not None and end is not None:
            found = await source.get(path, etag=etag, start=start, end=end)
            if found is not None:
                return found
        self.counters.origin_reads += 1
        async with self.deadline(path):
            download = await self._origin.get(path, etag=etag, start=start, end=end)
        return replace(download, chunks=self._counted(path, download.chunks))

    async def _counted(self, path: UfsPath, chunks: AsyncIterator[memoryview]) -> AsyncIterator[memoryview]:
        while True:
            async with self.deadline(path):
                chunk = await anext(chunks, None)
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
            raise self._stalled(path) from error

    async def close(self) -> None:
        """Break off every fill; those who wait for one get Unavailable."""
        self._closed = True
        fills = tuple(self._fills.values())
        self._fills.clear()
        for fill in fills:
            fill.interrupt(Unavailable("The worker is stopping."))
        await asyncio.gather(*(fill.task for fill in fills if fill.task), return_exceptions=True)
        for fill in fills:  # one that had not begun
            fill.fail(Unavailable("The worker is stopping."))
        for timer in (self._watching, self._flushing):
            if timer:
                timer.cancel()

    def _new(self, path: UfsPath, fill: Fill) -> Fill:
        if self._closed:
            raise Unavailable("The worker is stopping.")
        fill.uri = str(path)
        self._fills[fill.uri] = fill
        fill.began_at = self._clock()
        self._watch()
        return fill

    def _start(self, path: UfsPath, fill: Fill) -> None:
        """Run a reader's fill in a task of its own: it goes on when the reader leaves."""
        fill.task = asyncio.create_task(fill.run(partial(self._fill, path, fill)))
        fill.task.add_done_callback(_mark_retrieved)

    def _watch(self) -> None:
        """Have the fills watched as long as there are any: one timer for all, where one per chunk would cost dear."""
        if self._watching is None:
            self._watching = asyncio.get_running_loop().call_later(self._stall_seconds / 4, self._interrupt_stalled)

    def _interrupt_stalled(self) -> None:
        self._watching = None
        moment = asyncio.get_running_loop().time() - self._stall_seconds
        for path, fill in self._fills.items():
            if fill.silent_since(moment):
                fill.interrupt(self._stalled(path))
        if self._fills:
            self._watch()

    def _stalled(self, path: UfsPath | str) -> OriginUnavailable:
        return OriginUnavailable(f"path='{path}': the under store sent nothing for {self._stall_seconds:g} s.")

    async def _fill(self, path: UfsPath, fill: Fill) -> CachedObject:
        try:
            item = await self._transfers.bring(path, fill)
        finally:
            self._fills.pop(fill.uri, None)
        if self.on_filled:
            self.on_filled(path, item, fill)
        self._notes.forget(fill.uri)
        if not fill.job_id:
            self._flush_soon()
        return item

    def _flush_soon(self) -> None:
        """Make what readers brought durable; jobs flush at the end of a batch."""
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self._flush)

    def _flush(self) -> None:
        self._flushing = None
        try:
            self._store.flush()
        except StoreError as error:
            log.warning("The page store could not be flushed.", action="flush_failed", error=str(error))


def _mark_retrieved(task: asyncio.Task[CachedObject]) -> None:
    """Keep asyncio from reporting the error of a fill that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
