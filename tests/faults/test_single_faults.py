"""One fault each, at the worst moment: what random histories found once, and what they still find."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random

import msgspec
import pytest

from preheat.coordinator import JobService
from preheat.engine import Bucket, Entry, Queue
from preheat.jobs import Action, BatchResult, Job, JobOptions, JobSpec, JobState, JobType, Tally
from preheat.paths import UfsPath
from preheat.settings import SchedulerSettings
from tests.faults import virtual_time
from tests.faults.connection import EngineFaults
from tests.faults.origin import FaultyOrigin, OriginFaults
from tests.faults.processes import CoordinatorProcess, Machines, Process

PATH = "s3://b/one/"


class Stage:
    """Machines without random faults, and what the engine held over time."""

    def __init__(self) -> None:
        random = Random(1)
        self.origin_faults = OriginFaults()
        self.origin = FaultyOrigin(self.origin_faults, random)
        settings = SchedulerSettings()
        self.machines = Machines(random, engine_faults=EngineFaults(), origin=self.origin, settings=settings)
        self.engine = self.machines.engine
        self.jobs: list[Job] = []
        self.placements = 0
        self.processes: list[Process] = []
        for number in range(60):
            self.origin.write(f"{PATH}{number:03d}", b"%d" % number)

    async def start(self, *names: str) -> list[Process]:
        """Start processes, and let them find each other."""
        starts: dict[bool, Callable[[str], Process]] = {
            True: self.machines.start_coordinator,
            False: self.machines.start_worker,
        }
        started = [starts[name.startswith("coordinator")](name) for name in names]
        self.processes += started
        await asyncio.sleep(3)
        return started

    async def watch(self) -> None:
        jobs, cluster = asyncio.create_task(self._watch_jobs()), asyncio.create_task(self._watch_placement())
        await asyncio.gather(jobs, cluster)

    async def _watch_jobs(self) -> None:
        async for entry in self.engine.watch(Bucket.JOBS):
            if entry is not None and entry.value is not None:
                self.jobs.append(msgspec.json.decode(entry.value, type=Job))

    async def _watch_placement(self) -> None:
        async for entry in self.engine.watch(Bucket.CLUSTER):
            self.placements += entry is not None

    async def until(self, state: JobState) -> Job:
        """Wait for any job's state."""
        async with asyncio.timeout(300):
            while not (found := [job for job in self.jobs if job.state is state]):
                await asyncio.sleep(0.01)
        return found[-1]

    def end(self) -> None:
        for process in self.processes:
            process.kill()


def on_stage(play: Callable[[Stage], Awaitable[None]]) -> None:
    async def perform() -> None:
        stage = Stage()
        watching = asyncio.create_task(stage.watch())
        try:
            await play(stage)
        finally:
            stage.end()
            watching.cancel()

    virtual_time.run(perform())


def service(process: Process) -> JobService:
    assert isinstance(process, CoordinatorProcess)
    return process.coordinator.service


def load(**options: object) -> JobSpec:
    return JobSpec(paths=(PATH,), options=JobOptions(**options))  # type: ignore[arg-type]


def test_a_submit_that_broke_off_does_not_run_beside_its_twin():
    async def play(stage: Stage) -> None:
        first, second, _ = await stage.start("coordinator-a", "coordinator-b", "worker-1")
        submitting = asyncio.create_task(first.request(service(first).submit(load(batch_size=2))))
        ghost = await stage.until(JobState.WAITING)
        first.kill()  # the record is written, and the identity is not claimed yet
        await asyncio.gather(submitting, return_exceptions=True)
        assert stage.engine._values[Bucket.IDENTITIES] == {}
        await asyncio.sleep(25)
        twin = await second.request(service(second).submit(load(batch_size=2)))
        await stage.until(JobState.SUCCEEDED)
        await asyncio.sleep(60)
        assert {job.id for job in stage.jobs if job.state is JobState.RUNNING} == {twin.job.id}
        assert [job.state for job in stage.jobs if job.id == ghost.id] == [JobState.WAITING, JobState.STOPPED]

    on_stage(play)


@pytest.mark.parametrize("seconds_dead", [3, 15])
def test_a_coordinator_that_starts_does_not_bring_a_dead_worker_back(seconds_dead: float):
    async def play(stage: Stage) -> None:
        _, _, dead = await stage.start("coordinator-a", "worker-1", "worker-2")
        dead.kill()
        before = stage.placements
        await asyncio.sleep(seconds_dead)
        await stage.start("coordinator-b")  # finds the last heartbeat of the dead worker
        await asyncio.sleep(30)
        assert stage.placements - before == 1

    on_stage(play)


def test_workers_are_not_lost_while_nobody_reaches_the_engine():
    async def play(stage: Stage) -> None:
        processes = await stage.start("coordinator-a", "worker-1", "worker-2")
        before = stage.placements
        for process in processes:
            process.connection.pause()
        await asyncio.sleep(60)
        for process in processes:
            process.connection.resume()
        await asyncio.sleep(30)
        assert stage.placements == before
        processes[-1].kill()
        await asyncio.sleep(30)
        assert stage.placements == before + 1

    on_stage(play)


def test_a_watch_that_starts_over_does_not_bring_a_dead_worker_back():
    async def play(stage: Stage) -> None:
        _, _, dead = await stage.start("coordinator-a", "worker-1", "worker-2")
        dead.kill()
        await asyncio.sleep(15)
        before = stage.placements
        last = stage.engine._values[Bucket.WORKERS]["worker-2"]
        for watcher in stage.engine._watchers[Bucket.WORKERS]:
            watcher.put_nowait(Entry(key="worker-2", value=last.value, revision=last.revision))
        await asyncio.sleep(30)
        assert stage.placements == before

    on_stage(play)


def test_a_result_that_comes_after_the_end_is_forgotten_with_its_job():
    async def play(stage: Stage) -> None:
        first, *_ = await stage.start("coordinator-a", "worker-1")
        known = await first.request(service(first).submit(load()))
        job = await stage.until(JobState.SUCCEEDED)
        late = BatchResult(batch_id=f"{Action.FETCH}-1-0", job_id=job.id, worker="worker-1", done=Tally())
        await stage.engine.publish(Queue.RESULTS, f"{job.id}.fetch-1-0.worker-1", msgspec.json.encode(late))
        # The job is seven days old at once: the heartbeats of seven days would take a minute to simulate.
        aged = replace(job, finished_at=time.time() - SchedulerSettings.retention_seconds)
        await stage.engine.put(Bucket.JOBS, job.id, msgspec.json.encode(aged))
        await asyncio.sleep(40)
        assert await stage.engine.get(Bucket.JOBS, known.job.id) is None
        assert not any(stream.messages for stream in stage.engine._streams.values())

    on_stage(play)


def test_a_worker_that_joins_while_a_job_verifies_is_verified_too():
    async def play(stage: Stage) -> None:
        first, *_ = await stage.start("coordinator-a", "worker-1", "worker-2")
        await first.request(service(first).submit(load(verify=True, batch_size=2)))
        await stage.until(JobState.VERIFYING)
        await asyncio.sleep(2)
        await stage.start("worker-3")
        await stage.until(JobState.SUCCEEDED)
        placement = first.coordinator.cluster.placement  # type: ignore[attr-defined]
        assert len(placement.members) == 3
        owned = [info.key for info in await stage.origin.now_at(PATH) if owner(placement, info.key) == "worker-3"]
        assert owned
        assert all(stage.machines.stores["worker-3"].lookup(f"s3://b/{key}") for key in owned)

    on_stage(play)


def test_replicate_leaves_a_copy_alone_that_a_reader_brings_meanwhile():
    uri = f"{PATH}007"

    async def play(stage: Stage) -> None:
        first, *workers = await stage.start("coordinator-a", "worker-1", "worker-2")
        await first.request(service(first).submit(load(batch_size=2)))
        await stage.until(JobState.SUCCEEDED)
        placement = first.coordinator.cluster.placement  # type: ignore[attr-defined]
        (other,) = [worker for worker in workers if worker.name != owner(placement, "one/007")]
        stage.machines.stores[owner(placement, "one/007")].delete(uri)
        spec = JobSpec(type=JobType.REPLICATE, paths=(PATH,), options=JobOptions(batch_size=2))
        known = await first.request(service(first).submit(spec))
        async with asyncio.timeout(60):
            while not any(job.id == known.job.id and job.work.listing_done for job in stage.jobs):
                await asyncio.sleep(0.01)
        stage.origin_faults.latency = 0
        await other.reads.fetch(UfsPath.parse(uri), info=None)  # type: ignore[attr-defined]
        async with asyncio.timeout(60):
            while not (ended := [job for job in stage.jobs if job.id == known.job.id and job.state.ended]):
                await asyncio.sleep(0.01)
        assert ended[-1].state is JobState.SUCCEEDED
        assert ended[-1].work.listed.objects == 59
        assert ended[-1].trimming is not None
        assert ended[-1].trimming.listed.objects == 60
        assert stage.machines.stores[other.name].lookup(uri)

    on_stage(play)


def test_an_owner_that_was_replaced_while_it_was_paused_gives_its_slot_back():
    async def play(stage: Stage) -> None:
        first, _, worker = await stage.start("coordinator-a", "coordinator-b", "worker-1")
        known = await first.request(service(first).submit(load(batch_size=2)))
        job = await stage.until(JobState.RUNNING)
        paused = next(process for process in stage.processes if process.name == job.owner)
        await asyncio.sleep(3)
        worker.connection.pause()  # so that the owner has no result in its hands
        await asyncio.sleep(2)
        paused.connection.pause()
        await asyncio.sleep(2)
        worker.connection.resume()
        assert (await stage.until(JobState.SUCCEEDED)).owner != paused.name
        paused.connection.resume()
        await asyncio.sleep(30)
        assert await stage.engine.peek(Queue.JOBS, f"normal.{known.job.id}") is None
        assert paused.coordinator._scheduler._slots._value == SchedulerSettings.max_running  # type: ignore[attr-defined]

    on_stage(play)


def owner(placement, key: str) -> str:
    return placement.owners(f"s3://b/{key}")[0].id
