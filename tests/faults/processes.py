"""The processes of a cluster in one loop: killed, paused and started again as real ones are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from preheat.coordinator import Coordinator
from preheat.coordinator._cached import CachedPage
from preheat.engine import MemoryEngine
from preheat.errors import CoordinatorUnreachable, EngineUnavailable, Unavailable
from preheat.jobs import Action, Batch
from preheat.paths import UfsPath
from preheat.settings import CoordinatorSettings, SchedulerSettings, WorkerSettings
from preheat.store import CachedObject, MemoryStore
from preheat.versions import ObjectInfo
from preheat.worker._actions import Actions, Outcome
from preheat.worker._app import _work
from preheat.worker._copies import Copies
from preheat.worker._reads import ReadService
from preheat.worker.fills._fills import Throttle
from tests.faults.connection import Connection, EngineFaults
from tests.faults.history import Disks, Drop
from tests.faults.origin import FaultyOrigin

T = TypeVar("T")
CAPACITY = 1 << 30
ANSWER_SECONDS = 10.0
"""How long a coordinator waits for a worker to say what it holds."""
COORDINATORS = ("coordinator-a", "coordinator-b")
WORKERS = ("worker-1", "worker-2", "worker-3")


class Process:
    """One life of a process: from its start to its end, however it ends."""

    def __init__(self, name: str, connection: Connection) -> None:
        self.name = name
        self.connection = connection
        self._requests: dict[asyncio.Task[Any], None] = {}
        """In their order: that of a set would make a seed's history another one each time."""
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
        self._requests[task] = None
        try:
            await asyncio.wait({task})
            await self.connection.running()
        except EngineUnavailable as killed:
            raise CoordinatorUnreachable(f"{self.name} died.") from killed
        finally:
            task.cancel()
            del self._requests[task]
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
        workers: Mapping[str, WorkerProcess],
        settings: SchedulerSettings,
    ) -> None:
        super().__init__(name, connection)
        self.coordinator = Coordinator(
            CoordinatorSettings(id=name, scheduler=settings),
            engine=connection,
            ufs=origin,
            cached=CachedRequests(connection, workers),
        )
        self.start(self.coordinator.run())

    @property
    def serving(self) -> bool:
        """Whether it knows the state and answers."""
        views = (self.coordinator._jobs, self.coordinator._controls, self.coordinator.cluster)
        return self.running and all(view.loaded.is_set() for view in views)


class CachedRequests:
    """Asks workers what they hold; the answer takes time, and never comes from a process that is gone or paused."""

    def __init__(self, asking: Connection, workers: Mapping[str, WorkerProcess]) -> None:
        self._asking = asking
        self._workers = workers

    async def list(self, worker_url: str, path: UfsPath, *, after: str, limit: int) -> CachedPage:
        worker = self._workers.get(worker_url)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._asking.pass_time()
                if worker is None or not worker.running:
                    raise Unavailable(f"No worker answers at {worker_url}.")
                await worker.connection.pass_time()
        except TimeoutError as error:
            raise Unavailable(f"{worker_url} does not answer.") from error
        found = worker.reads.list_cached(path, after=after, limit=limit)
        return CachedPage(objects=found, next=found[-1].key if len(found) == limit else None)

    async def close(self) -> None:
        """Nothing is open."""


class WitnessedActions(Actions):
    """Notes each copy that is dropped though a worker that is to keep one has none."""

    def __init__(self, worker_id: str, machines: Machines, *, store: MemoryStore, reads: ReadService) -> None:
        super().__init__(worker_id, store=store, reads=reads, copies=Copies(ufs=machines.origin, store=store))
        self._name = worker_id
        self._machines = machines

    async def do(self, batch: Batch, entry: ObjectInfo, throttle: Throttle) -> Outcome:
        outcome = await super().do(batch, entry, throttle)
        drops = batch.action is Action.TRIM or (batch.action is Action.REBALANCE and self._name not in batch.keepers)
        if drops and batch.keepers and outcome is Outcome.DONE:
            self._note_drop(batch, batch.root + entry.key)
        return outcome

    def _note_drop(self, batch: Batch, uri: str) -> None:
        disks = self._machines.disks(uri)
        left = [worker for worker, held in disks.items() if uri in held]
        if batch.action is Action.REBALANCE and len(left) >= len(batch.keepers):
            return  # with others: the batch was planned again, and this worker was paused meanwhile
        if without := tuple(keeper for keeper in batch.keepers if uri not in disks.get(keeper, ())):
            drop = Drop(at=time.time(), job_id=batch.job_id, worker=self._name, uri=uri, without=without)
            self._machines.drops.append(drop)


class WorkerProcess(Process):
    """A worker on a store that outlives it."""

    def __init__(self, name: str, connection: Connection, machines: Machines, store: MemoryStore) -> None:
        super().__init__(name, connection)
        self.reads = ReadService(store, machines.origin)
        self.url = f"http://{name}"
        self._stopping = asyncio.Event()
        settings = WorkerSettings(
            id=name, public_url=self.url, data_dir=Path(), capacity=CAPACITY, concurrent_fetches=4
        )
        actions = WitnessedActions(name, machines, store=store, reads=self.reads)
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

    def __init__(
        self,
        random: Random,
        *,
        engine_faults: EngineFaults,
        origin: FaultyOrigin,
        settings: SchedulerSettings,
    ) -> None:
        self.engine = MemoryEngine()
        self.origin = origin
        self.stores: dict[str, MemoryStore] = {}
        self.drops: list[Drop] = []
        self._workers: dict[str, WorkerProcess] = {}
        """By URL."""
        self._random = random
        self._faults = engine_faults
        self._settings = settings
        self._lives = 0

    def start_coordinator(self, name: str) -> CoordinatorProcess:
        """Start a coordinator; each life has a name of its own, as each process has a pid."""
        self._lives += 1
        life = f"{name}-{self._lives}"
        return CoordinatorProcess(life, self._connect(), self.origin, self._workers, self._settings)

    def start_worker(self, name: str) -> WorkerProcess:
        """Start a worker on its disk, or on an empty one."""
        store = self.stores.setdefault(name, MemoryStore(capacity=CAPACITY))
        worker = WorkerProcess(name, self._connect(), self, store)
        self._workers[worker.url] = worker
        return worker

    def disks(self, prefix: str) -> Disks:
        """Return what is on the disks now, whether or not their workers run."""
        return {name: _below(store, prefix) for name, store in self.stores.items()}

    def _connect(self) -> Connection:
        return Connection(self.engine, self._faults, self._random)


def _below(store: MemoryStore, prefix: str) -> dict[str, CachedObject]:
    return {item.path: item for item in store.scan(prefix)}
