"""Workers in one loop that come and go, and read from each other over real data ports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from preheat.engine import Bucket, MemoryEngine
from preheat.jobs import Job, JobSpec
from preheat.placement import Member, PlacementMap
from preheat.store import MemoryStore
from preheat.worker.fills import Peers
from preheat.worker.port import DataServer
from tests.unit.memory_cluster import SETTINGS, Cluster, Worker

QUICK = replace(SETTINGS, result_lease_seconds=0.3)


class WatchedStore(MemoryStore):
    """Tells before it drops an object."""

    def __init__(self, dropping: Callable[[str], None]) -> None:
        super().__init__(capacity=1 << 30)
        self._dropping = dropping

    def delete(self, path: str) -> bool:
        if self.lookup(path) is not None:
            self._dropping(path)
        return super().delete(path)


class StoppingEngine(MemoryEngine):
    """Stops whoever writes a job's record for the given time, before or after it is written."""

    def __init__(self) -> None:
        super().__init__()
        self.stopped = asyncio.Event()
        self._left: tuple[str, int, bool] | None = None

    def stop_before(self, job_id: str, write: int, *, written: bool) -> None:
        self._left = job_id, write, written

    async def put(self, bucket: Bucket, key: str, value: bytes, *, revision: int | None = None) -> int:
        if bucket is not Bucket.JOBS or self._left is None or self._left[0] != key:
            return await super().put(bucket, key, value, revision=revision)
        job_id, write, written = self._left
        self._left = (job_id, write - 1, written) if write > 1 else None
        if write == 1 and not written:
            await self._stop()
        stored = await super().put(bucket, key, value, revision=revision)
        if write == 1:
            await self._stop()
        return stored

    async def _stop(self) -> None:
        self.stopped.set()
        await asyncio.Event().wait()


class PeerCluster(Cluster):
    """Workers that come and go, and read from each other over real data ports."""

    engine: StoppingEngine

    def __init__(self) -> None:
        super().__init__()
        self.engine = StoppingEngine()
        self.coordinator = self.new_coordinator("coordinator-0", QUICK)
        self.workers.clear()
        self.stores.clear()
        self.running = AsyncExitStack()
        self.servers: dict[str, DataServer] = {}
        self._placement = PlacementMap()
        self.least: dict[str, int] = {}
        """What no object's number of copies may fall below, where anybody cares."""

    async def join(self, *numbers: int) -> None:
        for number in numbers:
            name = f"worker-{number}"
            peers = Peers(name, owners=self._ranked)
            worker = Worker(number, self.engine, self.origin, peers=peers, store=WatchedStore(self._dropping))
            self.running.callback(peers.close)
            server = self.servers[name] = await self.running.enter_async_context(DataServer(worker.reads))
            worker.heart.url = server.url
            self.stores[server.url] = worker.store
            self.workers.append(worker)
            self.start(name, asyncio.create_task(worker.run()))
        await self.live(len(self.workers))

    def _ranked(self, path: str, count: int) -> Sequence[Member]:
        if (placement := self.coordinator.cluster.placement).members:  # else a coordinator just starts
            self._placement = placement
        return self._placement.owners(path, count)

    async def leave(self, number: int) -> Worker:
        (worker,) = [each for each in self.workers if each.settings.id == f"worker-{number}"]
        await worker.heart.leave()
        await self.kill(worker.settings.id)
        self.workers.remove(worker)
        await self.live(len(self.workers))
        return worker

    async def drain(self, number: int) -> Worker:
        """Take a worker out of the map; it goes on running."""
        name = f"worker-{number}"
        await self.coordinator.cluster.set_drained(name, drained=True)
        async with asyncio.timeout(10):
            while self.coordinator.cluster.placement.member(name):
                await asyncio.sleep(0.01)
        return next(worker for worker in self.workers if worker.settings.id == name)

    async def come_back(self, worker: Worker) -> None:
        self.workers.append(worker)
        self.start(worker.settings.id, asyncio.create_task(worker.run()))
        await self.live(len(self.workers))

    def holders(self, uri: str) -> set[str]:
        return {worker.settings.id for worker in self.workers if worker.store.lookup(uri)}

    def owners(self, uri: str, count: int) -> set[str]:
        return {member.id for member in self.coordinator.cluster.placement.owners(uri, count)}

    def origin_reads(self) -> int:
        return sum(worker.reads.counters.origin_reads for worker in self.workers)

    def peer_reads(self) -> int:
        return sum(worker.reads.counters.peer_reads for worker in self.workers)

    async def done(self, spec: JobSpec) -> Job:
        known = await self.coordinator.service.submit(spec)
        await self.ended(known.job.id)
        return (await self.coordinator.service.get(known.job.id)).job

    async def replace_coordinator(self) -> None:
        await self.kill("coordinator-0")
        self.coordinator = self.new_coordinator("coordinator-1", QUICK)
        self.start("coordinator-1", asyncio.create_task(self.coordinator.run()))
        async with asyncio.timeout(5):
            await self.coordinator.wait_loaded()

    def _dropping(self, uri: str) -> None:
        left = len(self.holders(uri)) - 1
        assert left >= self.least.get(uri, 0), f"{uri} has {left} copies left"

    async def close(self) -> None:
        await self.stop_all()
        await self.running.aclose()
