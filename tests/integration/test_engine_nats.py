"""The engine on a real nats-server: the contract, and what a crash of the server leaves."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator

import pytest

from preheat.engine import Bucket, Engine, Entry, Queue, connect
from preheat.errors import EngineUnavailable
from preheat.settings import EngineSettings
from testbed.nats import NatsServer
from testbed.ports import free_port
from tests.unit.engine_conformance import EngineConformance


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
async def engine(server: NatsServer) -> AsyncIterator[Engine]:
    engine = await connect(EngineSettings(url=server.url), name="test")
    yield engine
    await engine.close()


class TestNatsEngine(EngineConformance):
    """The shared suite."""


async def test_a_crash_loses_nothing_acknowledged(engine: Engine, server: NatsServer):
    token = secrets.token_hex(4)
    seen: asyncio.Queue[Entry] = asyncio.Queue()

    async def follow() -> None:
        async for entry in engine.watch(Bucket.JOBS):
            if entry is not None and entry.key == token:
                seen.put_nowait(entry)

    following = asyncio.create_task(follow())
    revision = await engine.put(Bucket.JOBS, token, b"before", revision=0)
    assert (await asyncio.wait_for(seen.get(), 5)).value == b"before"
    published = [await engine.publish(Queue.BATCHES, f"{token}.j.{n}", b"%d" % n) for n in range(50)]
    assert all(published)
    server.kill()
    during = asyncio.create_task(engine.put(Bucket.JOBS, token, b"after", revision=revision))
    server.start()
    assert await during > revision
    consumer = await engine.consume(Queue.BATCHES, f"{token}.>", name=f"w-{token}", lease_seconds=30)
    found: set[bytes] = set()
    async with asyncio.timeout(20):
        while len(found) < 50:
            for lease in await consumer.pull(50, timeout=2):
                found.add(lease.data)
                await lease.ack()
    assert found == {b"%d" % n for n in range(50)}
    async with asyncio.timeout(20):
        while (await seen.get()).value != b"after":
            pass
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await engine.forget_consumer(Queue.BATCHES, f"w-{token}")


async def test_nobody_there_is_an_error_with_a_remedy():
    settings = EngineSettings(url=f"nats://127.0.0.1:{free_port()}", connect_seconds=0.5)
    with pytest.raises(EngineUnavailable, match="preheat status"):
        await connect(settings, name="test")


async def test_a_wrong_token_is_refused_and_not_shown(server: NatsServer):
    url = server.url.replace("nats://", "nats://wrong")
    settings = EngineSettings(url=url, connect_seconds=0.5)
    with pytest.raises(EngineUnavailable) as caught:
        await connect(settings, name="test")
    assert "wrong" not in str(caught.value)
    assert url not in repr(settings)
