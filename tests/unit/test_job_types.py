"""Free, replicate, copy, move and metadata loads, from the submit to the last object, in one loop."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from preheat.errors import BucketNotFound, InvalidRequest
from preheat.jobs import Job, JobOptions, JobSpec, JobState, JobType, Priority
from preheat.paths import UfsPath
from tests.unit.memory_cluster import SETTINGS, Cluster, load


async def run(cluster: Cluster, spec: JobSpec) -> Job:
    known = await cluster.coordinator.service.submit(spec)
    await cluster.ended(known.job.id)
    return (await cluster.coordinator.service.get(known.job.id)).job


def job_of(kind: JobType, *paths: str, destination: str = "", **options: object) -> JobSpec:
    return JobSpec(type=kind, paths=paths, destination=destination, options=JobOptions(**options))  # type: ignore[arg-type]


def copies(cluster: Cluster, uris: dict[str, bytes]) -> set[int]:
    return {len(cluster.cached(uri)) for uri in uris}


async def test_free_drops_what_is_cached_and_nothing_else(cluster: Cluster):
    data = cluster.fill(90)
    cluster.origin.write("s3://b/more/a", b"a")
    await run(cluster, load("s3://b/", replicas=2))
    for uri in list(data)[:5]:
        cluster.origin.remove(uri)  # what is gone at the origin is freed as well
    job = await run(cluster, job_of(JobType.FREE, "s3://b/data/"))
    assert (job.state, job.work.listed.objects, job.work.done.objects) == (JobState.SUCCEEDED, 90, 90)
    assert copies(cluster, data) == {0}
    assert cluster.cached("s3://b/more/a") == [b"a", b"a"]
    again = await run(cluster, job_of(JobType.FREE, "s3://b/data/"))
    assert (again.state, again.work.listed.objects) == (JobState.SUCCEEDED, 0)


async def test_replicate_raises_and_lowers_the_number_of_copies(cluster: Cluster):
    data = cluster.fill(90)
    assert (await run(cluster, job_of(JobType.REPLICATE, "s3://b/data/"))).state is JobState.FAILED  # nothing is cached
    await run(cluster, load())
    assert copies(cluster, data) == {1}
    up = await run(cluster, job_of(JobType.REPLICATE, "s3://b/data/", replicas=2))
    assert (up.state, up.work.listed.objects) == (JobState.SUCCEEDED, 90)
    assert copies(cluster, data) == {2}
    down = await run(cluster, job_of(JobType.REPLICATE, "s3://b/data/", replicas=1))
    assert down.state is JobState.SUCCEEDED
    assert copies(cluster, data) == {1}
    for uri, body in data.items():
        owner = cluster.coordinator.cluster.placement.owners(uri)[0].id
        (holder,) = [worker for worker in cluster.workers if worker.store.lookup(uri)]
        assert holder.settings.id == owner
        assert cluster.cached(uri) == [body]


async def test_copy_writes_what_is_below_a_path_somewhere_else(cluster: Cluster):
    data = cluster.fill(50)
    with pytest.raises(BucketNotFound, match="'c'"):
        await run(cluster, job_of(JobType.COPY, "s3://b/data/", destination="s3://c/there/"))
    cluster.origin.write("s3://c/other")
    job = await run(cluster, job_of(JobType.COPY, "s3://b/data/", destination="s3://c/there/"))
    assert (job.state, job.work.done.objects) == (JobState.SUCCEEDED, 50)
    for uri, body in data.items():
        assert await cluster.content(uri.replace("s3://b/data/", "s3://c/there/")) == body
        assert await cluster.content(uri) == body
    again = await run(cluster, job_of(JobType.COPY, "s3://b/data/", destination="s3://c/there/"))
    assert (again.work.done.objects, again.work.skipped.objects) == (0, 50)


async def test_move_deletes_the_source_only_when_everything_is_copied(cluster: Cluster):
    data = cluster.fill(50)
    cluster.origin.write("s3://c/other")
    job = await run(cluster, job_of(JobType.MOVE, "s3://b/data/", destination="s3://c/there/"))
    assert (job.state, job.work.done.objects) == (JobState.SUCCEEDED, 50)
    assert job.trimming is not None
    assert job.trimming.done.objects == 50
    for uri, body in data.items():
        assert await cluster.content(uri.replace("s3://b/data/", "s3://c/there/")) == body
    assert [page async for page in cluster.origin.list(UfsPath.parse("s3://b/data/"))] == []


async def test_a_metadata_load_fetches_nothing(cluster: Cluster):
    data = cluster.fill(30)
    job = await run(cluster, load(load_metadata_only=True))
    assert (job.state, job.work.done.objects) == (JobState.SUCCEEDED, 30)
    assert copies(cluster, data) == {0}
    assert sum(worker.reads.counters.origin_reads for worker in cluster.workers) == 0
    uri = next(iter(data))
    owner = cluster.coordinator.cluster.placement.owners(uri)[0].id
    (worker,) = [worker for worker in cluster.workers if worker.settings.id == owner]
    info, cached = await worker.reads.stat(UfsPath.parse(uri))
    assert (info.size, cached) == (len(data[uri]), False)
    assert worker.reads.counters.origin_stats == 0


async def test_a_job_says_what_each_worker_did(cluster: Cluster):
    cluster.fill(60)
    job = await run(cluster, load(replicas=2))
    assert set(job.work.shares) == {"worker-0", "worker-1"}
    assert {share.done.objects for share in job.work.shares.values()} == {60}


async def test_of_the_jobs_that_wait_the_highest_priority_runs_first(cluster: Cluster):
    limited = replace(SETTINGS, max_running=1)
    await cluster.kill("coordinator-0")
    cluster.coordinator = cluster.new_coordinator("coordinator-1", scheduler=limited)
    for name in ("first", "low", "normal", "high"):
        cluster.origin.write(f"s3://b/{name}/a", b"a")
    cluster.start("coordinator-1", asyncio.create_task(cluster.coordinator.run()))
    await cluster.live(2)
    await cluster.pause_workers()
    service = cluster.coordinator.service
    first = await service.submit(load("s3://b/first/"))
    await service.wait(first.job.id, after=first.revision, seconds=5)
    waiting = [
        (await service.submit(load(f"s3://b/{priority}/", priority=priority))).job.id for priority in reversed(Priority)
    ]
    assert [(await service.get(job_id)).queue_position for job_id in waiting] == [3, 2, 1]
    cluster.resume_workers()
    for job_id in waiting:
        await cluster.ended(job_id)
    jobs = [(await service.get(job_id)).job for job_id in waiting]
    assert sorted(jobs, key=lambda job: job.started_at or 0) == jobs[::-1]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (job_of(JobType.COPY, "s3://b/data/"), "destination is missing"),
        (job_of(JobType.COPY, "s3://b/x", "s3://b/y", destination="s3://c/"), "paths has 2 elements"),
        (job_of(JobType.MOVE, "s3://b/data/", destination="s3://b/data/deeper/"), "destination"),
        (job_of(JobType.FREE, "s3://b/data/", verify=True), "verify is only for type=load"),
        (job_of(JobType.LOAD, "s3://b/data/", destination="s3://c/"), "destination is only for"),
        (load(verify=True, load_metadata_only=True), "verify=true with loadMetadataOnly"),
    ],
)
async def test_options_of_another_type_are_refused(cluster: Cluster, spec: JobSpec, message: str):
    cluster.fill(1)
    with pytest.raises(InvalidRequest, match=message):
        await cluster.coordinator.service.submit(spec)
    assert cluster.coordinator.service.list() == []
