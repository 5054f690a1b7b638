"""The engine on three nats-servers, every stream and bucket on all of them: the contract, and the loss of a leader."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator

import pytest

from preheat.engine import Bucket, Engine, Queue, connect
from preheat.errors import Conflict, EngineUnavailable
from preheat.settings import EngineSettings, SchedulerSettings
from testbed.nats import NatsCluster
from tests.unit.engine_conformance import EngineConformance


@pytest.fixture(scope="module")
def nats_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsCluster]:
    with NatsCluster(tmp_path_factory.mktemp("nats-cluster")) as cluster:
        yield cluster


@pytest.fixture
async def engine(nats_cluster: NatsCluster) -> AsyncIterator[Engine]:
    engine = await connect(EngineSettings(url=nats_cluster.url, replicas=3), name="test")
    yield engine
    await engine.close()


@pytest.fixture
async def other_engine(nats_cluster: NatsCluster) -> AsyncIterator[Engine]:
    """The connection of another process, to a node that survives the loss of the jobs' leader."""
    leader = nats_cluster.leader("KV_preheat_jobs")
    survivor = next(node for node in nats_cluster.nodes if node is not leader)
    token = nats_cluster.url.partition("@")[0]
    engine = await connect(EngineSettings(url=f"{token}@{survivor.address}", replicas=3), name="other")
    yield engine
    await engine.close()


class TestNatsCluster(EngineConformance):
    """The shared suite."""


async def test_the_loss_of_a_leader_loses_nothing_acknowledged_and_no_watch(
    engine: Engine, nats_cluster: NatsCluster, other_engine: Engine
):
    token = secrets.token_hex(4)
    # The server feeds each watch from any of the nodes: one of several is likely to be fed by the one that is lost.
    watches = [asyncio.create_task(follow(other_engine, token, until=b"199")) for _ in range(6)]
    revision = await engine.put(Bucket.JOBS, token, b"0", revision=0)
    leader = nats_cluster.leader("KV_preheat_jobs")
    for number in range(1, 200):
        assert await engine.publish(Queue.BATCHES, f"{token}.j.{number}", b"%d" % number)
        revision = await engine.put(Bucket.JOBS, token, b"%d" % number, revision=revision)
        if number == 50:
            leader.kill()
    # A watch that is silent for as long as a worker may be would cost the cluster all its workers.
    await asyncio.wait_for(asyncio.gather(*watches), SchedulerSettings.worker_timeout_seconds)
    leader.start()
    consumer = await engine.consume(Queue.BATCHES, f"{token}.>", name=f"w-{token}", lease_seconds=60)
    found: set[int] = set()
    async with asyncio.timeout(20):
        while len(found) < 199:
            for lease in await consumer.pull(100, timeout=2):
                found.add(int(lease.data))
                await lease.ack()
    assert found == set(range(1, 200))
    await engine.forget_consumer(Queue.BATCHES, f"w-{token}")


async def test_of_two_who_create_a_key_at_once_one_wins(engine: Engine, other_engine: Engine):
    """The server lets the loser look for the key at any node, also at one that has not got it yet."""
    keys = [f"{secrets.token_hex(4)}{number}" for number in range(30)]

    async def create(who: Engine, key: str, value: bytes) -> bool:
        try:
            await who.put(Bucket.KEYS, key, value, revision=0)
        except Conflict:
            return False
        return True

    for key in keys:
        won = await asyncio.gather(create(engine, key, b"one"), create(other_engine, key, b"other"))
        assert sorted(won) == [False, True], key


async def follow(engine: Engine, key: str, *, until: bytes) -> None:
    async for entry in engine.watch(Bucket.JOBS):
        if entry is not None and (entry.key, entry.value) == (key, until):
            return


async def test_more_replicas_than_nodes_end_the_connect_and_say_so(nats_cluster: NatsCluster):
    settings = EngineSettings(url=nats_cluster.url, replicas=5, connect_seconds=2)
    with pytest.raises(EngineUnavailable, match="did not answer"):
        await connect(settings, name="test")
