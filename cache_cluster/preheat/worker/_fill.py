"""One object on its way into the page store: who waits for it, and whether the under store still sends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

from preheat.errors import PreheatError, Unavailable
from preheat.paths import UfsPath
from preheat.store import CachedObject
from preheat.ufs import Download
from preheat.versions import ObjectInfo
from preheat.worker._following import Arrivals
from preheat.worker._pieces import Pieces

Throttle = Callable[[int], Awaitable[None]]
"""Awaited with the bytes of each chunk before the next one is read."""


class Source(Protocol):
    """What is asked for an object before the under store; it counts what it gives."""

    async def get(self, path: UfsPath, *, etag: str | None, start: int, end: int) -> Download | None:
        """Return bytes [start, end) of an object, of the version ``etag`` if given; none if they are not there.

        All of them are at hand when this returns, and what goes wrong before is no error: the under store is asked.
        """
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
        self.etag = etag
        self.size = size
        self.pieces = pieces
        self.job_id = job_id
        """Empty if a reader began it."""
        self.throttle = throttle
        self.source = source
        """Asked before the under store."""
        self.origin_asked = False
        self.arrivals = Arrivals()
        self.task: asyncio.Task[Any] | None = None
        """What runs it: the job that asks for it, or a task of its own."""
        self._heard_at = 0.0
        self._pauses = 0
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[CachedObject] = self._loop.create_future()
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

    @asynccontextmanager
    async def turn(self, turns: asyncio.Semaphore) -> AsyncIterator[None]:
        """Wait for a turn and hold it."""
        self._pauses += 1
        try:
            await turns.acquire()
        finally:
            self._pauses -= 1
        self.hear()
        try:
            yield
        finally:
            turns.release()

    @property
    def ended(self) -> bool:
        """Whether :meth:`result` returns, or raises, at once."""
        return self._done.done()

    async def version(self) -> ObjectInfo:
        """Wait until it is known which version comes; raises what the fill failed with before."""
        while self.arrivals.info is None:
            if self.ended:
                self._done.result()
            await self.arrivals.more()
        return self.arrivals.info

    async def result(self) -> CachedObject:
        """Wait for the end; a waiter that is cancelled leaves the fill alone."""
        await asyncio.wait({self._done})
        return self._done.result()

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
        self._done.set_result(item)
        self.arrivals.end()
        return item

    def interrupt(self, error: PreheatError) -> None:
        """End it with an error."""
        self._interruption = error
        if self.task:
            self.task.cancel()

    def fail(self, error: BaseException) -> None:
        """Tell all who wait that it failed, unless it has ended."""
        if not self._done.done():
            self._done.set_exception(error)
            self._done.exception()  # nobody needs to wait for it
            self.arrivals.end()
