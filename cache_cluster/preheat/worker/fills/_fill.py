"""One object on its way into the page store: who waits for it, and whether the under store still sends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from preheat.errors import PreheatError, Unavailable, VersionChanged
from preheat.paths import UfsPath
from preheat.store import CachedObject
from preheat.ufs import Download
from preheat.versions import ObjectInfo
from preheat.worker.fills._following import Arrivals
from preheat.worker.fills._pieces import Pieces

Throttle = Callable[[int], Awaitable[None]]
"""Awaited with the bytes of each chunk before the next one is read."""


class Gift(Download):
    """Bytes that a source gave, all of them at hand; it has counted them."""


class Source(Protocol):
    """What is asked for an object before the under store."""

    async def get(self, path: UfsPath, *, etag: str | None, start: int, end: int) -> Gift | None:
        """Return bytes [start, end) of an object, of the version ``etag`` if given; none if they are not there.

        What goes wrong is no error: the under store is asked then.
        """
        ...

    async def look(self, path: UfsPath, *, etag: str | None) -> ObjectInfo | None:
        """Return the version that :meth:`get` would read; none if it would not."""
        ...


class Fill:
    """One object on its way into the store."""

    def __init__(
        self,
        etag: str | None,
        size: int | None,
        *,
        pieces: Pieces,
        job_id: str = "",
        throttle: Throttle | None = None,
        source: Source | None = None,
    ) -> None:
        self.uri = ""
        """Of the object, once it is begun."""
        self.etag = etag
        self.size = size
        self.pieces = pieces
        self.job_id = job_id
        """Empty if a reader began it."""
        self.urgent = not job_id
        """Whether a reader waits for it."""
        self.throttle = throttle
        self.source = source
        """Asked before the under store."""
        self.origin_asked = False
        self.from_peers = False
        """Whether any of it came from the source, and so nothing tells how old the version is."""
        self.began_at = 0.0
        """Seconds since the epoch when it began: the under store was asked then, or later."""
        self._superseded_by: str | None = None
        self.arrivals = Arrivals()
        self.task: asyncio.Task[Any] | None = None
        """What runs it: the job that asks for it, or a task of its own."""
        self._heard_at = 0.0
        self._pauses = 0
        self._loop = asyncio.get_running_loop()
        self._item: CachedObject | None = None
        self._error: BaseException | None = None
        self._end: asyncio.Future[None] | None = None
        """Made when somebody waits for it; most objects only their job does, which runs the fill."""
        self._interruption: PreheatError | None = None
        self.hear()

    def hear(self) -> None:
        """Note that the under store sends."""
        self._heard_at = self._loop.time()

    def silent_since(self, moment: float) -> bool:
        """Whether the under store is asked and has sent nothing since then."""
        return not self._pauses and self._heard_at < moment

    async def pay(self, size: int) -> None:
        """Wait for the bandwidth of bytes that came."""
        if self.throttle:
            self._pauses += 1
            try:
                await self.throttle(size)
            finally:
                self._pauses -= 1
                self.hear()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not blame the under store for the time that passes."""
        self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1
            self.hear()

    def wanted(self, key: str) -> ObjectInfo | None:
        """Return the version that a job wants; none if a reader began it."""
        if not self.job_id or self.etag is None or self.size is None:
            return None
        return ObjectInfo(key=key, size=self.size, etag=self.etag, last_modified=0.0)

    def supersede(self, etag: str) -> None:
        """Note that another version was written: no other one than this is to be published; if empty, none at all."""
        self._superseded_by = etag

    def publish(self, commit: Callable[[], CachedObject]) -> CachedObject:
        """Commit what came, unless it was superseded meanwhile.

        Raises:
            VersionChanged: it was. Otherwise as ``commit`` does.
        """
        if self._superseded_by is not None and self.arrivals.info and self.arrivals.info.etag != self._superseded_by:
            raise VersionChanged("The object was written anew while it was fetched.", remedy="Read it again.")
        return commit()

    def hurry(self) -> None:
        """Note that a reader waits: from now on it comes first, and its bandwidth is free."""
        self.urgent = True
        self.throttle = None

    @property
    def ended(self) -> bool:
        """Whether :meth:`result` returns, or raises, at once."""
        return self._item is not None or self._error is not None

    async def version(self) -> ObjectInfo:
        """Wait until it is known which version comes; raises what the fill failed with before."""
        while self.arrivals.info is None:
            if self._error is not None:
                raise self._error
            await self.arrivals.more()
        return self.arrivals.info

    async def result(self) -> CachedObject:
        """Wait for the end; a waiter that is cancelled leaves the fill alone."""
        if not self.ended:
            self._end = self._end or self._loop.create_future()
            await asyncio.wait({self._end})
        if self._item is None:
            assert self._error is not None
            raise self._error
        return self._item

    async def run(self, bring: Callable[[], Awaitable[CachedObject]]) -> CachedObject:
        """Bring the object in the task that calls this, and tell all who wait."""
        self.task = asyncio.current_task()
        try:
            item = await bring()
        except asyncio.CancelledError:
            error = self._interruption or Unavailable("The worker is stopping.")
            self.fail(error)
            if self._interruption is None or (self.task and self.task.uncancel()):
                raise
            raise error from None
        except BaseException as error:
            self.fail(error)
            raise
        self._item = item
        self._tell()
        return item

    def interrupt(self, error: PreheatError) -> None:
        """End it with an error."""
        self._interruption = error
        if self.task:
            self.task.cancel()

    def fail(self, error: BaseException) -> None:
        """Tell all who wait that it failed, unless it has ended."""
        if not self.ended:
            self._error = error
            self._tell()

    def _tell(self) -> None:
        if self._end is not None:
            self._end.set_result(None)
        self.arrivals.end()
