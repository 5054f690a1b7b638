"""Jobs that write: what is pinned is neither replaced, nor added to, nor removed."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from preheat.engine import Bucket
from preheat.errors import ReadOnly
from preheat.inventory import Pin
from preheat.jobs import JobSpec, JobState, JobType
from preheat.worker._actions import Actions
from preheat.worker._copies import Copies
from preheat.worker._executor import BatchExecutor
from tests.unit.memory_cluster import Cluster

VERSION = f"sha256:{'0' * 64}"


def job_of(kind: JobType, path: str, destination: str) -> JobSpec:
    return JobSpec(type=kind, paths=(path,), destination=destination)


async def pin(cluster: Cluster, path: str) -> None:
    """Pin a path, and have the coordinator know it."""
    found = Pin(id=f"pin{len(path)}", path=path, inventory="i", version=VERSION, pinned_at=0.0)
    await cluster.engine.put(Bucket.PINS, found.id, msgspec.json.encode(found))
    async with asyncio.timeout(5):
        while cluster.coordinator._inventories.pin(path) is None:
            await asyncio.sleep(0)


@pytest.mark.parametrize("pinned", ["s3://b/v1/", "s3://b/v1"])
@pytest.mark.parametrize(
    ("kind", "path", "destination"),
    [
        (JobType.COPY, "s3://b/data/", "s3://b/v1/"),
        (JobType.COPY, "s3://b/data/", "s3://b/v1/more"),
        (JobType.COPY, "s3://b/data/0000", "s3://b/v1/"),
        (JobType.COPY, "s3://b/data", "s3://b/v1/"),
        (JobType.MOVE, "s3://b/data/", "s3://b/v1/"),
        (JobType.MOVE, "s3://b/v1/", "s3://b/elsewhere/"),
        (JobType.MOVE, "s3://b/v1/x", "s3://b/elsewhere"),
    ],
)
async def test_a_job_below_a_pin_is_refused(cluster: Cluster, pinned: str, kind: JobType, path: str, destination: str):
    cluster.fill(2)
    cluster.origin.write("s3://b/v1/x", b"x")
    await pin(cluster, pinned)
    with pytest.raises(ReadOnly, match=rf"{VERSION}.*preheat fs unpin {pinned}"):
        await cluster.coordinator.service.submit(job_of(kind, path, destination))
    assert not cluster.coordinator.service.list()


async def test_what_only_reads_a_pin_or_goes_beside_it_is_done(cluster: Cluster):
    cluster.origin.write("s3://b/v1/x", b"x")
    cluster.origin.write("s3://b/v10", b"x")
    await pin(cluster, "s3://b/v1/")
    for spec in (
        job_of(JobType.COPY, "s3://b/v1/", "s3://b/copy/"),
        job_of(JobType.MOVE, "s3://b/v10", "s3://b/v100"),
    ):
        known = await cluster.coordinator.service.submit(spec)
        assert await cluster.ended(known.job.id) is JobState.SUCCEEDED


@pytest.mark.parametrize(
    ("kind", "pinned", "refused"),
    [
        (JobType.COPY, "s3://b/to/v1/", "s3://b/from/v1/x"),
        (JobType.MOVE, "s3://b/to/v1/", "s3://b/from/v1/x"),
        (JobType.MOVE, "s3://b/from/v1/", "s3://b/from/v1/x"),
    ],
)
async def test_workers_refuse_single_objects(cluster: Cluster, kind: JobType, pinned: str, refused: str):
    """For a pin that lies below what the job names, or was made after its submit."""
    bodies = {"from/v1/x": b"new", "from/other": b"new", "to/v1/x": b"pinned"}
    for key, body in bodies.items():
        cluster.origin.write(f"s3://b/{key}", body)
    await cluster.pause_workers()
    for worker in cluster.workers:
        copies = Copies(ufs=cluster.origin, store=worker.store, pinned=cluster.coordinator._inventories.pin)
        actions = Actions(worker.settings.id, store=worker.store, reads=worker.reads, copies=copies)
        worker.executor = BatchExecutor(
            engine=worker.engine, actions=actions, controls=worker.controls, settings=worker.settings
        )
    cluster.resume_workers()
    await pin(cluster, pinned)
    known = await cluster.coordinator.service.submit(job_of(kind, "s3://b/from/", "s3://b/to/"))
    assert await cluster.ended(known.job.id) is JobState.FAILED
    (failed,) = [item async for chunk in cluster.coordinator.service.failures(known.job.id) for item in chunk]
    assert (failed.path, failed.code) == (refused, "read_only")
    assert f"{VERSION}. Run `preheat fs unpin {pinned}`" in failed.message
    below = f"{pinned.removeprefix('s3://b/')}x"
    assert await cluster.content(f"s3://b/{below}") == bodies[below]
    assert await cluster.content("s3://b/to/other") == b"new"
