"""Times to live: what is cached below a path is freed once, when its time is over, whichever coordinator lives then."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import httpx
import pytest

from preheat.access import Grant, Role, acting_for
from preheat.coordinator import Coordinator
from preheat.coordinator._ttls import Ttls
from preheat.errors import Forbidden, InvalidPath, NoLiveWorker, NotFound
from preheat.jobs import JobState, JobType
from tests.unit.memory_cluster import Cluster, load

PATH = "s3://b/data/"
FIRST = f"{PATH}0000"
DAY = 86400.0


@dataclass
class Clock:
    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def ttls_of(cluster: Cluster, clock: Clock, coordinator: Coordinator | None = None) -> Ttls:
    service = (coordinator or cluster.coordinator).service
    return Ttls(cluster.engine, submit=service.submit, retention_seconds=DAY, clock=clock)


async def loaded(cluster: Cluster) -> None:
    cluster.fill(5)
    known = await cluster.coordinator.service.submit(load())
    await cluster.ended(known.job.id)


async def known(ttls: Ttls) -> Ttls:
    """Let it learn what the engine has, as a coordinator that starts does."""
    following = asyncio.create_task(ttls.view.follow())
    async with asyncio.timeout(5):
        await ttls.view.loaded.wait()
    following.cancel()
    return ttls


def frees(cluster: Cluster) -> list[str]:
    jobs = [known.job for known in cluster.coordinator.service.list()]
    return [job.id for job in jobs if job.spec.type is JobType.FREE]


async def test_a_path_is_freed_when_its_time_is_over_and_not_before(cluster: Cluster, clock: Clock):
    await loaded(cluster)
    ttls = ttls_of(cluster, clock)
    await ttls.set(PATH, 7 * DAY)
    clock.now += 7 * DAY - 1
    await ttls.free_due()
    assert frees(cluster) == []
    clock.now += 1
    await ttls.free_due()
    (job_id,) = frees(cluster)
    assert await cluster.ended(job_id) is JobState.SUCCEEDED
    assert cluster.cached(FIRST) == []
    assert [(ttl.path, ttl.job_id) for ttl in ttls.list()] == [(PATH, job_id)]
    await ttls.free_due()
    assert frees(cluster) == [job_id]
    clock.now += DAY
    await ttls.free_due()
    assert (await known(ttls_of(cluster, clock))).list() == []


async def test_it_survives_restarts_and_of_several_coordinators_one_job_comes(cluster: Cluster, clock: Clock):
    await loaded(cluster)
    await ttls_of(cluster, clock).set(PATH, DAY)
    clock.now += DAY
    second = cluster.new_coordinator("coordinator-1")
    cluster.start("coordinator-1", asyncio.create_task(second.run()))
    await second.wait_loaded()
    both = [await known(ttls_of(cluster, clock)), await known(ttls_of(cluster, clock, second))]
    for ttls in both:  # the second one still believes that it is due
        await ttls.free_due()
        await cluster.ended(frees(cluster)[0])
    assert len(frees(cluster)) == 1


async def test_a_coordinator_that_dies_before_it_marks_the_record_leaves_one_job_all_the_same(
    cluster: Cluster, clock: Clock
):
    await loaded(cluster)
    first = ttls_of(cluster, clock)
    ttl = await first.set(PATH, DAY)
    clock.now += DAY
    submitted = await cluster.coordinator.service.submit(ttl.spec, idempotency_key=f"ttl {ttl.due_at} {ttl.path}")
    await cluster.ended(submitted.job.id)
    await (await known(ttls_of(cluster, clock))).free_due()
    (job_id,) = frees(cluster)
    assert [ttl.job_id for ttl in (await known(first)).list()] == [job_id]


async def test_a_later_set_counts_and_an_unset_path_stays(cluster: Cluster, clock: Clock):
    ttls = ttls_of(cluster, clock)
    await ttls.set("s3a://b/data/", DAY)
    clock.now += DAY / 2
    await ttls.set(PATH, DAY)
    clock.now += DAY / 2
    await ttls.free_due()
    assert frees(cluster) == []
    assert [ttl.path for ttl in ttls.list()] == [PATH]
    await ttls.unset(PATH)
    with pytest.raises(NotFound, match="has no time to live"):
        await ttls.unset(PATH)
    with pytest.raises(InvalidPath):
        await ttls.set("nowhere", DAY)


async def test_what_cannot_be_submitted_now_is_tried_again(cluster: Cluster, clock: Clock):
    await loaded(cluster)
    away = [NoLiveWorker("Nobody is there.")]

    async def submit(spec, *, idempotency_key=None):
        if away:
            raise away.pop()
        return await cluster.coordinator.service.submit(spec, idempotency_key=idempotency_key)

    ttls = Ttls(cluster.engine, submit=submit, retention_seconds=DAY, clock=clock)
    await ttls.set(PATH, 1)
    clock.now += 1
    await ttls.free_due()
    assert frees(cluster) == []
    await ttls.free_due()
    assert len(frees(cluster)) == 1


async def test_a_token_sets_and_sees_its_own_paths_only(cluster: Cluster, clock: Clock):
    ttls = ttls_of(cluster, clock)
    await ttls.set(PATH, DAY)
    with acting_for(Grant(role=Role.SUBMIT, prefixes=("s3://b/other/",))):
        assert ttls.list() == []
        for refused in (ttls.set(PATH, 1), ttls.unset(PATH)):
            with pytest.raises(Forbidden):
                await refused
        await ttls.set("s3://b/other/x", 1)
    assert len(ttls.list()) == 2


async def test_the_rest_api_takes_shows_and_removes_them(client: httpx.AsyncClient):
    for ttl, seconds in (("7d", 7 * DAY), (90, 90.0)):
        answer = await client.put("/v1/ttls", json={"path": "s3://b/a b%/", "ttl": ttl})
        assert (answer.status_code, answer.json()["seconds"], answer.json()["job"]) == (200, seconds, None)
    (shown,) = (await client.get("/v1/ttls")).json()["ttls"]
    assert shown == answer.json()
    assert (await client.delete("/v1/ttls", params={"path": "s3://b/a b%/"})).status_code == 204
    assert (await client.delete("/v1/ttls", params={"path": "s3://b/a b%/"})).json()["code"] == "not_found"
    for wrong in ("soon", 0, -1, True, None, 1e300):
        answer = await client.put("/v1/ttls", json={"path": "s3://b/", "ttl": wrong})
        assert answer.status_code == 400, answer.json()
    assert (await client.put("/v1/ttls", json={"path": "b", "ttl": 1})).json()["code"] == "invalid_path"
