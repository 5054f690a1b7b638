"""A whole cluster in one loop: real coordinator and executors on the in-memory twins, for tests."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from preheat.coordinator import Coordinator
from preheat.coordinator._cached import MemoryCachedListing
from preheat.engine import Bucket, MemoryEngine
from preheat.jobs import JobControl, JobOptions, JobSpec, JobState
from preheat.paths import UfsPath
from preheat.registry import WorkerControl
from preheat.settings import COORDINATOR_PORT, CoordinatorSettings, SchedulerSettings, WorkerSettings
from preheat.store import MemoryStore, PageStore
from preheat.ufs import MemoryUnderStore
from preheat.views import BucketView
from preheat.worker._actions import Actions
from preheat.worker._copies import Copies
from preheat.worker._executor import BatchExecutor
from preheat.worker._heart import Heart
from preheat.worker._reads import ReadService
from preheat.worker.fills import Peers

SETTINGS = SchedulerSettings(
    job_lease_seconds=1, worker_timeout_seconds=3, no_worker_seconds=4, cancel_grace_seconds=0.5
)


class Worker:
    """A worker without a process: a store, an executor and a heartbeat that can stop."""

    def __init__(
        self,
        number: int,
        engine: MemoryEngine,
        origin: MemoryUnderStore,
        *,
        peers: Peers | None = None,
        store: PageStore | None = None,
    ) -> None:
        self.settings = WorkerSettings(
            id=f"worker-{number}",
            data_dir=Path(),
            public_url=f"http://worker-{number}",
            heartbeat_seconds=0.3,
            batch_lease_seconds=1,
            fetch_attempts=1,
        )
        self.engine = engine
        self.store = store or MemoryStore(capacity=1 << 30)
        self.reads = ReadService(self.store, origin, peers=peers)
        self.controls = BucketView(engine, Bucket.CONTROLS, JobControl)
        self.orders = BucketView(engine, Bucket.WORKER_CONTROLS, WorkerControl)
        copies = Copies(ufs=origin, store=self.store)
        actions = Actions(self.settings.id, store=self.store, reads=self.reads, copies=copies)
        self.executor = BatchExecutor(engine=engine, actions=actions, controls=self.controls, settings=self.settings)
        self.heart = Heart(self.settings, engine=engine, store=self.store, executor=self.executor, orders=self.orders)

    async def run(self, *, execute: bool = True) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.heart.beat())
            tasks.create_task(self.controls.follow())
            tasks.create_task(self.orders.follow())
            if execute:
                tasks.create_task(self.executor.run())


class Cluster:
    """One coordinator, two workers, one origin; parts are killed by cancelling their task."""

    def __init__(self, *, port: int = COORDINATOR_PORT) -> None:
        self.port = port
        self.engine = MemoryEngine()
        self.origin = MemoryUnderStore(page_size=40, chunk_bytes=1 << 16)
        self.workers = [Worker(number, self.engine, self.origin) for number in range(2)]
        self.stores: dict[str, PageStore] = {f"http://{worker.settings.id}": worker.store for worker in self.workers}
        self.coordinator = self.new_coordinator("coordinator-0")
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def new_coordinator(self, name: str, scheduler: SchedulerSettings = SETTINGS) -> Coordinator:
        settings = CoordinatorSettings(id=name, port=self.port, scheduler=scheduler)
        return Coordinator(settings, engine=self.engine, ufs=self.origin, cached=MemoryCachedListing(self.stores))

    def fill(self, count: int) -> dict[str, bytes]:
        data = {f"s3://b/data/{number:04d}": f"object {number}".encode() for number in range(count)}
        for uri, body in data.items():
            self.origin.write(uri, body)
        return data

    async def content(self, uri: str) -> bytes:
        """Return what the origin holds."""
        download = await self.origin.get(UfsPath.parse(uri))
        return b"".join([bytes(chunk) async for chunk in download.chunks])

    def start(self, name: str, work: asyncio.Task[None]) -> None:
        self.tasks[name] = work

    async def kill(self, name: str) -> None:
        task = self.tasks.pop(name)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def ended(self, job_id: str) -> JobState:
        known = await self.coordinator.service.wait(job_id, after=1 << 60, seconds=20)
        return known.job.state

    def cached(self, uri: str) -> list[bytes]:
        held = [(worker.store, worker.store.lookup(uri)) for worker in self.workers]
        return [store.read(item) for store, item in held if item is not None]

    async def live(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.coordinator.cluster.placement.members) != count:
                await asyncio.sleep(0.01)

    async def start_all(self) -> None:
        self.start("coordinator-0", asyncio.create_task(self.coordinator.run()))
        for worker in self.workers:
            self.start(worker.settings.id, asyncio.create_task(worker.run()))
        await self.live(len(self.workers))

    async def stop_all(self) -> None:
        for name in list(self.tasks):
            await self.kill(name)

    async def pause_workers(self) -> None:
        """Keep the workers live, but idle."""
        for worker in self.workers:
            await self.kill(worker.settings.id)
            self.start(worker.settings.id, asyncio.create_task(worker.run(execute=False)))

    def resume_workers(self) -> None:
        for worker in self.workers:
            self.start(f"{worker.settings.id}-executor", asyncio.create_task(worker.executor.run()))


def load(*paths: str, **options: object) -> JobSpec:
    return JobSpec(paths=paths or ("s3://b/data/",), options=JobOptions(**options))  # type: ignore[arg-type]
