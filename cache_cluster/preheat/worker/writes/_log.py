"""How workers learn of each other's writes: a record for each path in the engine, which every worker follows."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count

import msgspec

from preheat.engine import Bucket, Engine
from preheat.errors import EngineUnavailable
from preheat.keys import key_of
from preheat.logs import get_logger
from preheat.paths import UfsPath
from preheat.worker.writes._recent import RecentWrites
from preheat.writes import Written

log = get_logger("worker")

Ended = Callable[[UfsPath, str], None]
"""Is told a path and the id of a write that is not pending there any more."""
Superseded = Callable[[UfsPath, str], None]
"""Is told a path and the etag of what is there now, empty if no copy of it may be kept. Quick, and raises nothing."""


class WriteLog:
    """Announces this worker's writes, and follows the others'.

    Args:
        worker_id: this worker.
        recent: remembers them.
        superseded: told of each write, this worker's own too, before readers may see what came of it.
        ended: told of each pending write that others ended.
    """

    def __init__(self, worker_id: str, *, recent: RecentWrites, superseded: Superseded, ended: Ended) -> None:
        self._worker_id = worker_id
        self._superseded = superseded
        self._ended = ended
        self._engine: Engine | None = None
        self._started_at = time.time()
        self._recent = recent
        self._seen = Reached()
        self.loaded = asyncio.Event()
        """Set once the writes before are known."""

    @asynccontextmanager
    async def following(self, engine: Engine) -> AsyncIterator[None]:
        """Follow the others' writes, and announce this worker's, while the block runs."""
        self._engine = engine
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(self._follow(engine))
            try:
                yield
            finally:
                following.cancel()
                self._engine = None

    @property
    def is_followed(self) -> bool:
        """Whether the others can be told."""
        return self._engine is not None

    def note(self, path: UfsPath, etag: str) -> None:
        """Know a write of this worker; the others are told by :meth:`announce`."""
        self._recent.remember(self._written(path, etag), 0)
        self._superseded(path, etag)

    async def announce(self, path: UfsPath, etag: str, *, ends: str = "") -> int:
        """Tell the other workers, and return the revision that :meth:`reached` waits for.

        Args:
            path: what was written.
            etag: of the version that is there now; empty if there is none.
            ends: id of the pending write that is none any more.

        Raises:
            EngineUnavailable: they may not come to know.
        """
        if self._engine is None:
            raise EngineUnavailable("The other workers cannot be told of a write now.", remedy="Try again.")
        written = replace(self._written(path, etag), ends=ends)
        revision = await self._engine.put(Bucket.WRITES, key_of(written.path), msgspec.json.encode(written))
        known = self._recent.get(written.path)
        if known is None or known.revision < revision:
            self._recent.remember(written, revision)
        return revision

    async def reached(self, revision: int, seconds: float) -> bool:
        """Wait until this worker has heard of a revision; false if the time passes before."""
        return await self._seen.wait(revision, seconds)

    async def _follow(self, engine: Engine) -> None:
        async for entry in engine.watch(Bucket.WRITES):
            if entry is None:
                self.loaded.set()
                continue
            if entry.value is not None:
                self._apply(msgspec.json.decode(entry.value, type=Written), entry.revision)
            self._seen.note(entry.revision)

    def _apply(self, written: Written, revision: int) -> None:
        known = self._recent.get(written.path)
        own = written.worker == self._worker_id and written.written_at >= self._started_at
        if own or (known is not None and known.revision > revision):
            return
        path = UfsPath.parse(written.path)
        self._recent.remember(written, revision)
        self._superseded(path, written.etag)
        if written.ends:
            self._ended(path, written.ends)

    def _written(self, path: UfsPath, etag: str) -> Written:
        return Written(path=str(path), etag=etag, worker=self._worker_id, written_at=time.time())


class Reached:
    """How far something that only grows has come, and those who wait for it."""

    def __init__(self) -> None:
        self._value = 0
        self._numbers = count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    def note(self, value: int) -> None:
        """It has come as far as this."""
        self._value = max(self._value, value)
        while self._waiting and self._waiting[0][0] <= self._value:
            waiter = heapq.heappop(self._waiting)[2]
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, value: int, seconds: float) -> bool:
        """Return true as soon as it has come so far, or false after ``seconds``."""
        if value <= self._value:
            return True
        waiter = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (value, next(self._numbers), waiter))
        try:
            async with asyncio.timeout(seconds):
                await waiter
        except TimeoutError:
            return False
        return True
