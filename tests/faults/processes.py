"""The processes of a cluster in one loop: killed, paused and started again as real ones are."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from preheat.coordinator import Coordinator
from preheat.coordinator._cached import MemoryCachedListing
from preheat.engine import MemoryEngine
from preheat.errors import CoordinatorUnreachable, EngineUnavailable
from preheat.settings import CoordinatorSettings, SchedulerSettings, WorkerSettings
from preheat.store import MemoryStore, PageStore
from preheat.worker._actions import Actions
from preheat.worker._app import _work
from preheat.worker._copies import Copies
from preheat.worker._reads import ReadService
from tests.faults.connection import Connection, EngineFaults
from tests.faults.origin import FaultyOrigin

T = TypeVar("T")
CAPACITY = 1 << 30
COORDINATORS = ("coordinator-a", "coordinator-b")
WORKERS = ("worker-1", "worker-2", "worker-3")


class Process:
    """One life of a process: from its start to its end, however it ends."""

    def __init__(self, name: str, connection: Connection) -> None:
        self.name = name
        self.connection = connection
        self._requests: set[asyncio.Task[Any]] = set()
        self._task: asyncio.Task[None]

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run the process's own code."""
        self._task = asyncio.create_task(work, name=self.name)

    def kill(self) -> None:
        """End it as SIGKILL does: from now on nothing that it does reaches anybody."""
        self.connection.kill()
        for task in (self._task, *self._requests):
            task.cancel()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return not self._task.done()

    async def ended(self) -> BaseException | None:
        """Wait for its end, and return the error that it died of, if it was its own."""
        (error,) = await asyncio.gather(self._task, return_exceptions=True)
        return error

    async def request(self, answer: Coroutine[Any, Any, T]) -> T:
        """Let it answer a client.

        Raises:
            CoordinatorUnreachable: it died before it answered. Otherwise as ``answer``.
        """
        task = asyncio.create_task(answer)
        self._requests.add(task)
        try:
            await asyncio.wait({task})
            await self.connection.running()
        except EngineUnavailable as killed:
            raise CoordinatorUnreachable(f"{self.name} died.") from killed
        finally:
            task.cancel()
            self._requests.discard(task)
        if task.cancelled():
            raise CoordinatorUnreachable(f"{self.name} died.")
        return task.result()


class CoordinatorProcess(Process):
    """A coordinator; it keeps nothing."""

    def __init__(
        self,
        name: str,
        connection: Connection,
        origin: FaultyOrigin,
        cached: MemoryCachedListing,
        settings: SchedulerSettings,
    ) -> None:
        super().__init__(name, connection)
        self.coordinator = Coordinator(
            CoordinatorSettings(id=name, scheduler=settings), engine=connection, ufs=origin, cached=cached
        )
        self.start(self.coordinator.run())

    @property
    def serving(self) -> bool:
        """Whether it knows the state and answers."""
        views = (self.coordinator._jobs, self.coordinator._controls, self.coordinator.cluster)
        return self.running and all(view.loaded.is_set() for view in views)


class WorkerProcess(Process):
    """A worker on a store that outlives it."""

    def __init__(self, name: str, connection: Connection, origin: FaultyOrigin, store: MemoryStore) -> None:
        super().__init__(name, connection)
        self.reads = ReadService(store, origin)
        self._stopping = asyncio.Event()
        settings = WorkerSettings(id=name, data_dir=Path(), capacity=CAPACITY, concurrent_fetches=4)
        actions = Actions(name, store=store, reads=self.reads, copies=Copies(ufs=origin, store=store))
        self.start(_work(settings, connection, store, actions, self._stopping))

    def stop(self) -> None:
        """Ask it to stop, as SIGTERM does."""
        self._stopping.set()

    def kill(self) -> None:
        """End it; no fill of it writes to the store any more."""
        super().kill()
        self._closing = asyncio.create_task(self.reads.close())


class Machines:
    """What outlives processes: the engine, the origin, and the workers' disks; and the way to start a process there."""

    def __init__(self, random: Random, *, engine_faults: EngineFaults, origin: FaultyOrigin) -> None:
        self.engine = MemoryEngine()
        self.origin = origin
        self.stores: dict[str, MemoryStore] = {}
        self.caches: dict[str, PageStore] = {}
        """The stores by the URLs of the workers that run."""
        self._random = random
        self._faults = engine_faults
        self._lives = 0

    def start_coordinator(self, name: str) -> CoordinatorProcess:
        """Start a coordinator; each life has a name of its own, as each process has a pid."""
        self._lives += 1
        cached = MemoryCachedListing(self.caches)
        return CoordinatorProcess(f"{name}-{self._lives}", self._connect(), self.origin, cached, SchedulerSettings())

    def start_worker(self, name: str) -> WorkerProcess:
        """Start a worker on its disk, or on an empty one."""
        store = self.stores.setdefault(name, MemoryStore(capacity=CAPACITY))
        return WorkerProcess(name, self._connect(), self.origin, store)

    def _connect(self) -> Connection:
        return Connection(self.engine, self._faults, self._random)
