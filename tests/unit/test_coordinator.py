"""The job service from submit to verdict: real coordinator, real executors, on the in-memory twins."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from preheat.coordinator import Coordinator
from preheat.engine import Bucket, MemoryEngine, Queue
from preheat.errors import Conflict, InvalidRequest, JobNotFound, NoLiveWorker, ObjectNotFound
from preheat.jobs import Action, Batch, JobSpec, JobState, LoadOptions
from preheat.registry import Heartbeat
from preheat.settings import CoordinatorSettings, SchedulerSettings, WorkerSettings
from preheat.store import MemoryStore
from preheat.ufs import MemoryUnderStore
from preheat.versions import DatasetVersion
from preheat.worker._executor import BatchExecutor
from preheat.worker._reads import ReadService

SETTINGS = SchedulerSettings(job_lease_seconds=1, worker_timeout_seconds=1.5, no_worker_seconds=3)


class Worker:
    """A worker without a process: a store, an executor and a heartbeat that can stop."""

    def __init__(self, number: int, engine: MemoryEngine, origin: MemoryUnderStore) -> None:
        self.settings = WorkerSettings(id=f"worker-{number}", data_dir=Path(), batch_lease_seconds=1, fetch_attempts=1)
        self.engine = engine
        self.store = MemoryStore(capacity=1 << 30)
        self.reads = ReadService(self.store, origin)
        self.executor = BatchExecutor(engine=engine, store=self.store, reads=self.reads, settings=self.settings)

    async def run(self, *, execute: bool = True) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.beat())
            if execute:
                tasks.create_task(self.executor.run())

    async def beat(self) -> None:
        heartbeat = Heartbeat(id=self.settings.id, url=f"http://{self.settings.id}", capacity=1 << 30)
        while True:
            await self.engine.put(Bucket.WORKERS, heartbeat.id, msgspec.json.encode(heartbeat))
            await asyncio.sleep(0.3)


class Cluster:
    def __init__(self) -> None:
        self.engine = MemoryEngine()
        self.origin = MemoryUnderStore(page_size=40)
        self.coordinator = self.new_coordinator("coordinator-0")
        self.workers = [Worker(number, self.engine, self.origin) for number in range(2)]
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def new_coordinator(self, name: str) -> Coordinator:
        settings = CoordinatorSettings(id=name, scheduler=SETTINGS)
        return Coordinator(settings, engine=self.engine, ufs=self.origin)

    def fill(self, count: int) -> dict[str, bytes]:
        data = {f"s3://b/data/{number:04d}": f"object {number}".encode() for number in range(count)}
        for uri, body in data.items():
            self.origin.put(uri, body)
        return data

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


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    cluster = Cluster()
    cluster.start("coordinator-0", asyncio.create_task(cluster.coordinator.run()))
    for worker in cluster.workers:
        cluster.start(worker.settings.id, asyncio.create_task(worker.run()))
    await cluster.live(2)
    yield cluster
    for name in list(cluster.tasks):
        await cluster.kill(name)


def load(*paths: str, **options: object) -> JobSpec:
    return JobSpec(paths=paths or ("s3://b/data/",), options=LoadOptions(**options))  # type: ignore[arg-type]


async def test_a_load_ends_with_every_object_on_its_owner(cluster: Cluster):
    data = cluster.fill(333)
    submitted = await cluster.coordinator.service.submit(load(batch_size=7, verify=True))
    assert submitted.job.state is JobState.WAITING
    assert await cluster.ended(submitted.job.id) is JobState.SUCCEEDED
    job = cluster.coordinator.service.get(submitted.job.id).job
    assert (job.load.listed.objects, job.load.done.objects, job.load.remaining.objects) == (333, 333, 0)
    assert job.verification is not None
    assert job.verification.done == job.load.listed
    for uri, body in data.items():
        (owner,) = cluster.coordinator.cluster.placement.owners(uri)
        held = next(worker for worker in cluster.workers if worker.settings.id == owner.id).store
        item = held.lookup(uri)
        assert item is not None
        assert held.read(item) == body
    version = DatasetVersion()
    version.update([await cluster.origin.stat(path) for path in map(parse, sorted(data))])
    assert f"sha256:{job.load.version}" == str(version)


def parse(uri: str):
    from preheat.paths import UfsPath

    return UfsPath.parse(uri)


async def test_a_second_load_skips_what_is_hot_and_fetches_what_changed(cluster: Cluster):
    cluster.fill(50)
    first = await cluster.coordinator.service.submit(load())
    await cluster.ended(first.job.id)
    cluster.origin.put("s3://b/data/0007", b"new")
    second = await cluster.coordinator.service.submit(load())
    assert second.job.id != first.job.id
    assert await cluster.ended(second.job.id) is JobState.SUCCEEDED
    job = cluster.coordinator.service.get(second.job.id).job
    assert (job.load.skipped.objects, job.load.done.objects) == (49, 1)
    assert cluster.cached("s3://b/data/0007") == [b"new"]
    assert job.load.version != cluster.coordinator.service.get(first.job.id).job.load.version


async def test_without_skip_everything_is_fetched_again(cluster: Cluster):
    cluster.fill(5)
    for _ in range(2):
        known = await cluster.coordinator.service.submit(load(skip_if_exists=False))
        await cluster.ended(known.job.id)
    job = cluster.coordinator.service.get(known.job.id).job
    assert (job.load.skipped.objects, job.load.done.objects) == (0, 5)
    assert sum(worker.reads.counters.load_reads for worker in cluster.workers) == 10


async def test_replicas_count_once_and_are_on_both_workers(cluster: Cluster):
    cluster.fill(20)
    known = await cluster.coordinator.service.submit(load(replicas=2, verify=True))
    assert await cluster.ended(known.job.id) is JobState.SUCCEEDED
    assert cluster.coordinator.service.get(known.job.id).job.load.done.objects == 20
    assert cluster.cached("s3://b/data/0003") == [b"object 3", b"object 3"]


async def test_several_paths_and_a_filter(cluster: Cluster):
    cluster.fill(30)
    cluster.origin.put("s3://b/more/a.jpg", b"a")
    cluster.origin.put("s3://b/more/a.txt", b"t")
    spec = load("s3://b/data/0001", "s3://b/more/", file_filter_regex=r".*(\.jpg|1)")
    known = await cluster.coordinator.service.submit(spec)
    assert await cluster.ended(known.job.id) is JobState.SUCCEEDED
    assert cluster.coordinator.service.get(known.job.id).job.load.done.objects == 2
    assert cluster.cached("s3://b/more/a.txt") == []


async def test_an_object_that_vanishes_fails_the_job_by_name(cluster: Cluster):
    cluster.fill(10)
    cluster.origin.put("s3://b/data/gone", b"x")
    for worker in cluster.workers:
        await cluster.kill(worker.settings.id)
        cluster.start(worker.settings.id, asyncio.create_task(worker.run(execute=False)))
    known = await cluster.coordinator.service.submit(load())
    batches = [f"{worker.settings.id}.{known.job.id}.fetch-1-{n}" for n in range(2) for worker in cluster.workers]
    async with asyncio.timeout(5):
        while not any([await cluster.engine.peek(Queue.BATCHES, subject) for subject in batches]):
            await asyncio.sleep(0.01)
    cluster.origin.delete("s3://b/data/gone")
    for worker in cluster.workers:
        cluster.start(f"{worker.settings.id}-x", asyncio.create_task(worker.executor.run()))
    assert await cluster.ended(known.job.id) is JobState.FAILED
    job = cluster.coordinator.service.get(known.job.id).job
    assert (job.load.done.objects, job.load.failed.objects) == (10, 1)
    assert job.failures[0].path == "s3://b/data/gone"
    assert job.failures[0].code == "object_not_found"
    assert "1 of 11 files could not be loaded" in job.reason


async def test_a_lost_workers_batches_go_to_the_others(cluster: Cluster):
    data = cluster.fill(100)
    await cluster.kill("worker-1")
    cluster.start("worker-1", asyncio.create_task(cluster.workers[1].run(execute=False)))  # alive but stuck
    known = await cluster.coordinator.service.submit(load(batch_size=10))
    await cluster.coordinator.service.wait(known.job.id, after=known.revision + 1, seconds=5)
    await cluster.kill("worker-1")
    assert await cluster.ended(known.job.id) is JobState.SUCCEEDED
    job = cluster.coordinator.service.get(known.job.id).job
    assert job.load.done.objects == 100
    assert all(cluster.workers[0].store.lookup(uri) for uri in data)


async def test_another_coordinator_takes_a_job_over(cluster: Cluster):
    cluster.fill(200)
    for worker in cluster.workers:
        await cluster.kill(worker.settings.id)
        cluster.start(worker.settings.id, asyncio.create_task(worker.run(execute=False)))
    known = await cluster.coordinator.service.submit(load(batch_size=10))
    await cluster.coordinator.service.wait(known.job.id, after=known.revision + 2, seconds=5)
    await cluster.kill("coordinator-0")
    cluster.coordinator = cluster.new_coordinator("coordinator-1")
    cluster.start("coordinator-1", asyncio.create_task(cluster.coordinator.run()))
    for worker in cluster.workers:
        cluster.start(f"{worker.settings.id}-x", asyncio.create_task(worker.executor.run()))
    async with asyncio.timeout(5):
        while known.job.id not in {known.job.id for known in cluster.coordinator.service.list()}:
            await asyncio.sleep(0.01)
    assert await cluster.ended(known.job.id) is JobState.SUCCEEDED
    job = cluster.coordinator.service.get(known.job.id).job
    assert (job.owner, job.generation) == ("coordinator-1", 2)
    assert (job.load.listed.objects, job.load.done.objects + job.load.skipped.objects) == (200, 200)


async def test_the_same_job_is_submitted_once(cluster: Cluster):
    cluster.fill(10)
    for worker in cluster.workers:
        await cluster.kill(worker.settings.id)
        cluster.start(worker.settings.id, asyncio.create_task(worker.run(execute=False)))
    submits = await asyncio.gather(*(cluster.coordinator.service.submit(load()) for _ in range(5)))
    assert len({known.job.id for known in submits}) == 1
    assert sorted(known.attached for known in submits) == [False, True, True, True, True]


async def test_an_idempotency_key_returns_its_job_even_after_its_end(cluster: Cluster):
    cluster.fill(3)
    first = await cluster.coordinator.service.submit(load(), idempotency_key="k1")
    await cluster.ended(first.job.id)
    again = await cluster.coordinator.service.submit(load(), idempotency_key="k1")
    assert (again.job.id, again.attached) == (first.job.id, True)
    with pytest.raises(Conflict, match="k1"):
        await cluster.coordinator.service.submit(load(replicas=2), idempotency_key="k1")


async def test_stop(cluster: Cluster):
    cluster.fill(50)
    for worker in cluster.workers:
        await cluster.kill(worker.settings.id)
        cluster.start(worker.settings.id, asyncio.create_task(worker.run(execute=False)))
    known = await cluster.coordinator.service.submit(load())
    stopped = await cluster.coordinator.service.stop(known.job.id)
    assert stopped.job.state is JobState.STOPPED
    assert (await cluster.coordinator.service.stop(known.job.id)).revision == stopped.revision
    again = await cluster.coordinator.service.submit(load())
    assert again.job.id != known.job.id
    for worker in cluster.workers:
        cluster.start(f"{worker.settings.id}-x", asyncio.create_task(worker.executor.run()))
    assert await cluster.ended(again.job.id) is JobState.SUCCEEDED


async def test_a_job_without_workers_fails_and_says_so(cluster: Cluster):
    cluster.fill(5)
    for worker in cluster.workers:
        await cluster.kill(worker.settings.id)
        cluster.start(worker.settings.id, asyncio.create_task(worker.run(execute=False)))
    known = await cluster.coordinator.service.submit(load())
    for worker in cluster.workers:
        await cluster.kill(worker.settings.id)
    assert await cluster.ended(known.job.id) is JobState.FAILED
    assert "No worker was live" in cluster.coordinator.service.get(known.job.id).job.reason
    with pytest.raises(NoLiveWorker):
        await cluster.coordinator.service.submit(load())


async def test_bad_requests_are_refused_by_name(cluster: Cluster):
    cluster.fill(1)
    service = cluster.coordinator.service
    for spec, message in [
        (load("s3://b/none/"), "s3://b/none/"),
        (load(replicas=3), "replicas=3 but only 2 workers"),
        (load(replicas=0), "replicas=0"),
        (load(bandwidth=0), "bandwidth should be greater than 0"),
        (load(file_filter_regex="("), "fileFilterRegex="),
        (load("nonsense"), "path='nonsense'"),
        (JobSpec(), "paths is empty"),
    ]:
        with pytest.raises((InvalidRequest, ObjectNotFound), match=message.replace("(", r"\(")):
            await service.submit(spec)
    with pytest.raises(JobNotFound, match="'x'"):
        service.get("x")
    assert service.list() == []


async def test_verify_repairs_what_is_missing_and_fails_what_cannot_be_hot(cluster: Cluster):
    cluster.fill(4)
    worker = cluster.workers[0]
    entries = tuple([await cluster.origin.stat(parse(f"s3://b/data/{n:04d}")) for n in range(4)])
    batch = Batch(id="v", job_id="j", action=Action.VERIFY, root="s3://b/", entries=entries)
    cluster.origin.put("s3://b/data/0002", b"changed since")
    result = await worker.executor.execute(batch)
    assert result.done.objects == 3
    assert [(item.path, item.code) for item in result.failed] == [("s3://b/data/0002", "version_changed")]
