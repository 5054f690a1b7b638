"""What every engine must do, whatever it stands on."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from preheat.engine import Bucket, Engine, Queue
from preheat.errors import Conflict


class EngineConformance:
    """Subclasses give an ``engine`` fixture; names are fresh per test, since a real engine keeps its state."""

    @pytest.fixture
    def token(self) -> str:
        return secrets.token_hex(4)

    async def test_a_message_is_delivered_once_until_its_lease_ends(self, engine: Engine, token: str):
        assert await engine.publish(Queue.BATCHES, f"{token}.j.1", b"one")
        consumer = await engine.consume(Queue.BATCHES, f"{token}.>", name=f"w-{token}", lease_seconds=0.4)
        (lease,) = await consumer.pull(10, timeout=5)
        assert (lease.subject, lease.data) == (f"{token}.j.1", b"one")
        assert not await consumer.pull(10, timeout=0.1)
        (again,) = await consumer.pull(10, timeout=5)
        assert again.data == b"one"
        await again.ack()
        assert not await consumer.pull(10, timeout=0.6)
        await engine.forget_consumer(Queue.BATCHES, f"w-{token}")

    async def test_a_renewed_lease_is_not_redelivered(self, engine: Engine, token: str):
        await engine.publish(Queue.JOBS, token, b"job")
        consumer = await engine.consume(Queue.JOBS, token, name=f"c-{token}", lease_seconds=0.6)
        (lease,) = await consumer.pull(1, timeout=5)
        for _ in range(4):
            assert not await consumer.pull(1, timeout=0.3)
            await lease.renew()
        await lease.release()
        (again,) = await consumer.pull(1, timeout=5)
        await again.ack()
        await engine.forget_consumer(Queue.JOBS, f"c-{token}")

    async def test_a_subject_holds_one_message(self, engine: Engine, token: str):
        assert await engine.publish(Queue.JOBS, token, b"first")
        assert not await engine.publish(Queue.JOBS, token, b"second")
        assert await engine.peek(Queue.JOBS, token) == b"first"
        await engine.purge(Queue.JOBS, token)
        assert await engine.peek(Queue.JOBS, token) is None
        assert await engine.publish(Queue.JOBS, token, b"third")
        await engine.purge(Queue.JOBS, token)

    async def test_consumers_and_purges_keep_to_their_subjects(self, engine: Engine, token: str):
        for subject in (f"{token}a.j.1", f"{token}b.j.1", f"{token}b.k.1"):
            await engine.publish(Queue.BATCHES, subject, subject.encode())
        await engine.purge(Queue.BATCHES, "*.j.>")
        consumer = await engine.consume(Queue.BATCHES, f"{token}b.>", name=f"w-{token}", lease_seconds=5)
        leases = await consumer.pull(10, timeout=5)
        assert [lease.subject for lease in leases] == [f"{token}b.k.1"]
        await engine.purge(Queue.BATCHES, f"{token}b.>")
        await engine.forget_consumer(Queue.BATCHES, f"w-{token}")

    async def test_a_pull_ends_when_something_arrives(self, engine: Engine, token: str):
        consumer = await engine.consume(Queue.RESULTS, f"{token}.>", name=f"r-{token}", lease_seconds=5)
        pull = asyncio.create_task(consumer.pull(100, timeout=20))
        await engine.publish(Queue.RESULTS, f"{token}.1.w", b"result")
        (lease,) = await asyncio.wait_for(pull, 5)
        await lease.ack()
        await engine.forget_consumer(Queue.RESULTS, f"r-{token}")

    async def test_compare_and_swap(self, engine: Engine, token: str):
        first = await engine.put(Bucket.JOBS, token, b"1", revision=0)
        with pytest.raises(Conflict):
            await engine.put(Bucket.JOBS, token, b"x", revision=0)
        second = await engine.put(Bucket.JOBS, token, b"2", revision=first)
        assert second > first
        with pytest.raises(Conflict):
            await engine.put(Bucket.JOBS, token, b"x", revision=first)
        entry = await engine.get(Bucket.JOBS, token)
        assert entry is not None
        assert (entry.value, entry.revision) == (b"2", second)
        with pytest.raises(Conflict):
            await engine.delete(Bucket.JOBS, token, revision=first)
        assert await engine.get(Bucket.JOBS, token) == entry
        await engine.delete(Bucket.JOBS, token, revision=second)
        assert await engine.get(Bucket.JOBS, token) is None
        third = await engine.put(Bucket.JOBS, token, b"3", revision=0)
        assert third > second
        await engine.delete(Bucket.JOBS, token)
        with pytest.raises(Conflict):
            await engine.delete(Bucket.JOBS, token, revision=third)
        assert await engine.put(Bucket.JOBS, token, b"4", revision=0) > third

    async def test_a_watch_gives_the_state_then_the_changes(self, engine: Engine, token: str):
        await engine.put(Bucket.CONTROLS, f"{token}a", b"1")
        watch = engine.watch(Bucket.CONTROLS)
        state = {}
        async for entry in watch:
            if entry is None:
                break
            state[entry.key] = entry.value
        assert state[f"{token}a"] == b"1"
        await engine.put(Bucket.CONTROLS, f"{token}b", b"2")
        await engine.delete(Bucket.CONTROLS, f"{token}a")
        changes = [await asyncio.wait_for(anext(watch), 5) for _ in range(2)]
        assert [(change.key, change.value) for change in changes if change] == [
            (f"{token}b", b"2"),
            (f"{token}a", None),
        ]
        await watch.aclose()  # type: ignore[attr-defined]  # an async generator
