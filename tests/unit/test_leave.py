"""A worker before it is stopped: it leaves by the engine alone, and says at its port whether it takes part."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from preheat.errors import Unavailable
from preheat.store import MemoryStore
from preheat.ufs import MemoryUnderStore
from preheat.worker._leave import leave_by
from preheat.worker._readiness import Readiness
from preheat.worker._reads import ReadService
from preheat.worker.port._health import Health
from tests.unit.memory_cluster import Cluster, Worker


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    cluster = Cluster()
    await cluster.start_all()
    yield cluster
    await cluster.stop_all()


async def restart(cluster: Cluster, number: int) -> None:
    await cluster.kill(f"worker-{number}")
    cluster.workers[number] = worker = Worker(number, cluster.engine, cluster.origin)
    worker.heart._started_at = time.time() + 1  # the clock of a process that starts later
    cluster.start(worker.settings.id, asyncio.create_task(worker.run()))


async def test_who_leaves_is_out_until_its_process_ends(cluster: Cluster):
    async with asyncio.timeout(5):
        await leave_by(cluster.engine, "worker-1")
    assert [worker.id for worker in cluster.coordinator.cluster.live()] == ["worker-0"]
    assert cluster.workers[1].heart._readiness.missing
    await restart(cluster, 1)
    await cluster.live(2)
    assert not cluster.workers[1].heart._readiness.missing


async def test_leaving_does_not_end_a_drain_that_was_asked_for(cluster: Cluster):
    await cluster.coordinator.cluster.set_drained("worker-1", drained=True)
    await cluster.live(1)
    async with asyncio.timeout(5):
        await leave_by(cluster.engine, "worker-1")
    await restart(cluster, 1)
    async with asyncio.timeout(5):
        while cluster.workers[1].heart._readiness.missing != "The worker is leaving, or drained.":
            await asyncio.sleep(0.01)


async def test_leaving_waits_for_the_batches_in_work(cluster: Cluster):
    cluster.workers[1].executor.active = 1
    leaving = asyncio.create_task(leave_by(cluster.engine, "worker-1"))
    await cluster.live(1)
    assert not leaving.done()
    cluster.workers[1].executor.active = 0
    await asyncio.wait_for(leaving, 5)


async def test_nobody_leaves_where_nobody_is(cluster: Cluster):
    await asyncio.wait_for(leave_by(cluster.engine, "worker-9"), 5)


def test_the_port_says_whether_the_worker_takes_part():
    readiness = Readiness()
    health = Health(ReadService(MemoryStore(capacity=1 << 20), MemoryUnderStore()), readiness)
    with pytest.raises(Unavailable, match="not joined"):
        health.answer("/v1/readyz")
    readiness.joined(leaving=False)
    assert health.answer("/v1/readyz") == health.answer("/v1/healthz")
    readiness.joined(leaving=True)
    with pytest.raises(Unavailable, match="leaving"):
        health.answer("/v1/readyz")


def test_every_counter_is_a_metric():
    reads = ReadService(MemoryStore(capacity=1 << 20), MemoryUnderStore())
    answer = Health(reads, Readiness()).answer("/metrics")
    metrics = {metric.name: metric for metric in text_string_to_metric_families(answer.body.decode())}
    assert len(metrics) == len(reads.stats())
    assert metrics["preheat_worker_hit_bytes"].type == "counter"
    assert metrics["preheat_worker_failed_directories"].type == "gauge"
