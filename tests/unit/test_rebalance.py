"""Rebalance: copies move to the workers that own them, from worker to worker, and none is ever missing meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from preheat.coordinator import _cached
from preheat.errors import InvalidRequest, StoreFull
from preheat.jobs import JobOptions, JobSpec, JobState, JobType
from preheat.paths import UfsPath
from tests.unit.memory_cluster import load
from tests.unit.peer_cluster import PeerCluster

PATH = "s3://b/data/"
REBALANCE = JobSpec(type=JobType.REBALANCE, paths=(PATH,), options=JobOptions(batch_size=4))


@pytest.fixture
async def cluster() -> AsyncIterator[PeerCluster]:
    running = PeerCluster()
    running.start("coordinator-0", asyncio.create_task(running.coordinator.run()))
    yield running
    await running.close()


async def in_place(cluster: PeerCluster, copies: dict[str, int]) -> bool:
    return all(cluster.holders(uri) == cluster.owners(uri, count) for uri, count in copies.items())


async def test_after_workers_joined_each_object_moves_to_its_owners_without_the_origin(cluster: PeerCluster):
    data = cluster.fill(60)
    await cluster.join(0, 1)
    await cluster.done(load(replicas=1))
    await cluster.done(load(*list(data)[:20], replicas=2))
    copies = cluster.least = {uri: len(cluster.holders(uri)) for uri in data}
    assert set(copies.values()) == {1, 2}
    await cluster.join(2, 3, 4)
    before = cluster.origin_reads()
    assert not await in_place(cluster, copies)
    job = await cluster.done(REBALANCE)
    assert (job.state, job.work.listed.objects, job.failures) == (JobState.SUCCEEDED, 60, ())
    assert job.work.done.objects + job.work.skipped.objects == 60
    assert min(job.work.done.objects, job.work.skipped.objects) > 0
    assert await in_place(cluster, copies)
    assert (cluster.origin_reads(), cluster.peer_reads() > 0) == (before, True)
    again, moved = await cluster.done(REBALANCE), cluster.peer_reads()
    assert (again.state, again.work.skipped.objects, again.work.batches) == (JobState.SUCCEEDED, 60, 0)
    assert (cluster.origin_reads(), cluster.peer_reads()) == (before, moved)


async def test_workers_that_left_and_come_back_with_what_they_had(cluster: PeerCluster):
    data = cluster.fill(60)
    await cluster.join(0, 1, 2)
    await cluster.done(load())
    away = await cluster.leave(0)
    await cluster.done(load())
    assert (await cluster.done(REBALANCE)).work.batches == 0  # the next in rank are the owners now
    await cluster.join(3)
    await cluster.come_back(away)
    copies = cluster.least = {uri: len(cluster.holders(uri)) for uri in data}
    assert set(copies.values()) == {1, 2}
    before = cluster.origin_reads()
    assert (await cluster.done(REBALANCE)).state is JobState.SUCCEEDED
    assert await in_place(cluster, copies)
    assert cluster.origin_reads() == before


async def test_the_copies_of_a_drained_worker_move_to_the_owners(cluster: PeerCluster):
    data = cluster.fill(60)
    await cluster.join(0, 1, 2)
    await cluster.done(load(replicas=1))
    await cluster.done(load(*list(data)[:20], replicas=2))
    copies = cluster.least = {uri: len(cluster.holders(uri)) for uri in data}
    drained = await cluster.drain(0)
    had, before = drained.store.usage().objects, cluster.origin_reads()
    for uri in data:
        cluster.origin.remove(uri)  # so the drained worker has the only copy of some
    job = await cluster.done(REBALANCE)
    assert (job.state, job.work.listed.objects, job.work.done.objects) == (JobState.SUCCEEDED, 60, had)
    assert await in_place(cluster, copies)
    assert (had > 0, drained.store.usage().objects, cluster.origin_reads()) == (True, 0, before)
    again = await cluster.done(REBALANCE)
    assert (again.state, again.work.batches) == (JobState.SUCCEEDED, 0)


async def test_a_drained_worker_keeps_what_too_few_others_could_have(cluster: PeerCluster):
    data = cluster.fill(20)
    await cluster.join(0, 1, 2)
    await cluster.done(load(replicas=2))
    await cluster.drain(0)
    await cluster.drain(1)
    cluster.least = dict.fromkeys(data, 2)
    for _ in range(2):
        assert (await cluster.done(REBALANCE)).state is JobState.SUCCEEDED
        assert all("worker-2" in cluster.holders(uri) and len(cluster.holders(uri)) == 2 for uri in data)


async def test_a_drained_worker_that_stops_meanwhile_holds_nothing_up(cluster: PeerCluster):
    data = cluster.fill(30)
    await cluster.join(0, 1, 2)
    await cluster.done(load(replicas=2))
    drained = await cluster.drain(0)
    await cluster.kill("worker-0")
    cluster.start("worker-0", asyncio.create_task(drained.run(execute=False)))
    service = cluster.coordinator.service
    known = await service.submit(REBALANCE)
    async with asyncio.timeout(10):
        while not any(step.waiting == ("worker-0",) for step in known.job.work.open.values()):
            await asyncio.sleep(0.01)
            known = await service.get(known.job.id)
    await cluster.kill("worker-0")
    cluster.workers.remove(drained)
    assert await cluster.ended(known.job.id) is JobState.SUCCEEDED
    assert await in_place(cluster, dict.fromkeys(data, 2))


async def test_outdated_copies_are_dropped_and_not_counted(cluster: PeerCluster):
    await cluster.join(0, 1, 2)
    data = cluster.fill(10)
    await cluster.done(load(replicas=3))
    for uri in data:
        cluster.origin.write(uri, b"new")
        await cluster.workers[0].reads.fetch(UfsPath.parse(uri), info=None)
    assert (await cluster.done(REBALANCE)).state is JobState.SUCCEEDED
    assert await in_place(cluster, dict.fromkeys(data, 1))


async def test_a_copy_that_cannot_be_made_costs_none(cluster: PeerCluster, monkeypatch: pytest.MonkeyPatch):
    data = cluster.fill(30)
    await cluster.join(0)
    await cluster.done(load())
    await cluster.join(1)
    cluster.least = dict.fromkeys(data, 1)
    full, refused = cluster.workers[1], sorted(data)[::2]

    def refuse(path: str, **_: object) -> None:
        if path in refused:
            raise StoreFull("No room.")

    write = full.store.writer
    monkeypatch.setattr(full.store, "writer", lambda path, **given: refuse(path) or write(path, **given))
    job = await cluster.done(REBALANCE)
    assert (job.state, {each.code for each in job.failures}) == (JobState.FAILED, {"store_full"})
    assert {each.path for each in job.failures} < set(refused)
    assert all(len(cluster.holders(uri)) == 1 for uri in data)
    monkeypatch.undo()
    known = await cluster.coordinator.service.retry(job.id)
    assert await cluster.ended(known.job.id) is JobState.SUCCEEDED
    assert await in_place(cluster, cluster.least)


@pytest.mark.parametrize("write", [2, 3, 4, 6, 8, 11])
@pytest.mark.parametrize("written", [False, True])
async def test_a_coordinator_killed_at_any_point_loses_no_copy_and_leaves_no_more(
    cluster: PeerCluster, monkeypatch: pytest.MonkeyPatch, write: int, written: bool
):
    monkeypatch.setattr(_cached, "_PAGE_OBJECTS", 10)
    data = cluster.fill(60)
    await cluster.join(0, 1)
    await cluster.done(load(replicas=2))
    await cluster.done(load(*list(data)[:30], replicas=1))
    await cluster.join(2, 3)
    copies = cluster.least = {uri: len(cluster.holders(uri)) for uri in data}
    before = cluster.origin_reads()
    known = await cluster.coordinator.service.submit(REBALANCE)
    cluster.engine.stop_before(known.job.id, write, written=written)
    async with asyncio.timeout(10):
        await cluster.engine.stopped.wait()
    await cluster.replace_coordinator()
    assert await cluster.ended(known.job.id) is JobState.SUCCEEDED
    assert await in_place(cluster, copies)
    assert cluster.origin_reads() == before


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (JobSpec(type=JobType.REBALANCE, paths=(PATH, "s3://b/")), "'s3://b/data/', which is below 's3://b/'"),
        (JobSpec(type=JobType.REBALANCE, paths=(PATH, "s3://b/data")), "which is below"),
        (JobSpec(type=JobType.REBALANCE, paths=(PATH,), options=JobOptions(replicas=2)), "keeps the number of copies"),
        (JobSpec(type=JobType.REBALANCE), "paths is empty"),
    ],
)
async def test_what_would_make_the_number_of_copies_unclear_is_refused(
    cluster: PeerCluster, spec: JobSpec, message: str
):
    await cluster.join(0)
    with pytest.raises(InvalidRequest, match=message):
        await cluster.coordinator.service.submit(spec)
