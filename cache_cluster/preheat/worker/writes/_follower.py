"""How a worker follows a bucket of the engine that others write to."""

from __future__ import annotations

import asyncio
import heapq
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import ClassVar

from preheat.engine import Bucket, Engine, Entry
from preheat.errors import EngineUnavailable


class Follower(ABC):
    """Applies each change of a bucket, and tells who waits for one."""

    _BUCKET: ClassVar[Bucket]

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._seen = _Reached()
        self.loaded = asyncio.Event()
        """Set once what was there at the start is known."""

    @abstractmethod
    def _apply(self, entry: Entry) -> None:
        """Know an entry, which may be one that is known already. Quick, and raises nothing."""

    @property
    def is_followed(self) -> bool:
        """Whether the bucket is followed, and can be written."""
        return self._engine is not None

    @asynccontextmanager
    async def following(self, engine: Engine) -> AsyncIterator[None]:
        """Follow the bucket while the block runs."""
        self._engine = engine
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(self._follow(engine))
            try:
                yield
            finally:
                following.cancel()
                self._engine = None

    async def reached(self, revision: int, seconds: float) -> bool:
        """Wait until this worker has heard of a revision; false if the time passes before."""
        return await self._seen.wait(revision, seconds)

    def _known_engine(self) -> Engine:
        if self._engine is None:
            raise EngineUnavailable("This worker is not connected to the engine.", remedy="Try again.")
        return self._engine

    async def _follow(self, engine: Engine) -> None:
        async for entry in engine.watch(self._BUCKET):
            if entry is None:
                self.loaded.set()
                continue
            self._apply(entry)
            self._seen.note(entry.revision)


class _Reached:
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
