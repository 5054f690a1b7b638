"""Jobs that move copies do so one at a path, whoever runs them, and however they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import msgspec
import pytest

from preheat.coordinator._movers import Movers, overlap
from preheat.engine import Bucket, MemoryEngine
from preheat.jobs import Job, JobOptions, JobSpec, JobState, JobType
from tests.unit.memory_cluster import load
from tests.unit.peer_cluster import PeerCluster


class Jobs:
    """Records of jobs, and who may move copies."""

    def __init__(self) -> None:
        self.engine = MemoryEngine()
        self.movers = Movers(self.engine)

    async def running(self, name: str, *paths: str, kind: JobType = JobType.REBALANCE, index: str = "") -> Job:
        spec = JobSpec(type=kind, paths=paths, index=index)
        job = Job(id=name, spec=spec, submitted_at=0.0, state=JobState.RUNNING)
        await self.engine.put(Bucket.JOBS, name, msgspec.json.encode(job))
        return job

    async def end(self, job: Job) -> None:
        ended = replace(job, state=JobState.STOPPED)
        await self.engine.put(Bucket.JOBS, job.id, msgspec.json.encode(ended))


def test_paths_overlap_if_an_object_could_be_below_both() -> None:
    assert overlap(("s3://b/x/",), ("s3://b/",))
    assert overlap(("s3://a/", "s3://b/x/y"), ("s3://b/x/",))
    assert overlap(("",), ("s3://b/",))
    assert not overlap(("s3://b/x/", "s3://c/"), ("s3://b/y/", "s3://b/xy"))


async def test_one_at_a_path() -> None:
    jobs = Jobs()
    first = await jobs.running("first", "s3://b/x/")
    second = await jobs.running("second", "s3://b/", kind=JobType.REPLICATE)
    elsewhere, indexed = await jobs.running("elsewhere", "s3://b/y/"), await jobs.running("indexed", index="s3://b/i")
    found = [await jobs.movers.enter(job) for job in (first, second, elsewhere, first)]
    assert found == ["", "first", "", ""]
    assert await jobs.movers.enter(second) in {"first", "elsewhere"}
    assert await jobs.movers.enter(await jobs.running("load", "s3://b/x/", kind=JobType.LOAD)) == ""
    await jobs.movers.leave(first)
    assert await jobs.movers.enter(second) == "elsewhere"
    await jobs.end(elsewhere)  # its coordinator died before it could leave
    assert await jobs.movers.enter(second) == ""
    assert await jobs.movers.enter(indexed) == "second"


async def test_of_many_that_begin_at_once_one_is_let_in() -> None:
    jobs = Jobs()
    many = [await jobs.running(f"job-{number}", "s3://b/" + "x/" * number) for number in range(10)]
    found = await asyncio.gather(*(Movers(jobs.engine).enter(job) for job in many))
    assert found.count("") == 1


@pytest.fixture
async def cluster() -> AsyncIterator[PeerCluster]:
    running = PeerCluster()
    running.start("coordinator-0", asyncio.create_task(running.coordinator.run()))
    yield running
    await running.close()


async def test_replicate_and_rebalance_at_once_leave_as_many_copies_as_were_asked_for(cluster: PeerCluster) -> None:
    data = cluster.fill(20)
    await cluster.join(0, 1)
    await cluster.done(load())
    await cluster.join(2)
    cluster.least = dict.fromkeys(data, 1)
    options = JobOptions(replicas=2, bandwidth=2000)
    specs = [
        JobSpec(type=JobType.REPLICATE, paths=("s3://b/data/",), options=options),
        JobSpec(type=JobType.REBALANCE, paths=("s3://b/",)),
    ]
    jobs = await asyncio.gather(*map(cluster.done, specs))
    assert {job.state for job in jobs} == {JobState.SUCCEEDED, JobState.FAILED}
    done, refused = sorted(jobs, key=lambda job: job.state is JobState.FAILED)
    assert refused.reason.startswith(f"The job {done.id} moves copies of the same files")
    assert (await cluster.done(refused.spec)).state is JobState.SUCCEEDED
    assert all(len(cluster.holders(uri)) == 2 for uri in data)
