"""One process's connection to the engine in memory, with the faults of a real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from preheat.engine import Bucket, Consumer, Entry, Lease, MemoryEngine, Queue
from preheat.errors import EngineUnavailable

T = TypeVar("T")


@dataclass(kw_only=True)
class EngineFaults:
    """How often what goes wrong; probabilities per call."""

    refused: float = 0.0
    """The call fails and nothing happened."""
    answer_lost: float = 0.0
    """The call fails, but it was done."""
    ack_lost: float = 0.0
    """An acknowledgement never arrives, and nobody is told."""
    delivered_twice: float = 0.0
    watch_restarted: float = 0.0
    """A watch says the whole state again, as after a reconnect."""
    latency: float = 0.05
    """Seconds that a call takes at most."""


class Connection:
    """An :class:`~preheat.engine.Engine` whose calls fail, tarry, hang while its process is paused, and end with it."""

    def __init__(self, engine: MemoryEngine, faults: EngineFaults, random: Random) -> None:
        self._engine = engine
        self._faults = faults
        self._random = random
        self._running = asyncio.Event()
        self._running.set()
        self._dead = False

    def kill(self) -> None:
        """Let nothing through any more."""
        self._dead = True
        self._running.set()

    def pause(self) -> None:
        """Hold every call until :meth:`resume`, as for a process that is not scheduled."""
        self._running.clear()

    def resume(self) -> None:
        """Let the calls go on."""
        self._running.set()

    async def running(self) -> None:
        """Return when the process is not paused.

        Raises:
            EngineUnavailable: it was killed.
        """
        await self._running.wait()
        if self._dead:
            raise EngineUnavailable("The process was killed.")

    async def publish(self, queue: Queue, subject: str, data: bytes) -> bool:
        return await self.call(self._engine.publish, queue, subject, data)

    async def consume(self, queue: Queue, subject: str, *, name: str, lease_seconds: float) -> Consumer:
        consumer = await self.call(self._engine.consume, queue, subject, name=name, lease_seconds=lease_seconds)
        return FaultyConsumer(self, consumer)

    async def forget_consumer(self, queue: Queue, name: str) -> None:
        await self.call(self._engine.forget_consumer, queue, name)

    async def peek(self, queue: Queue, subject: str) -> bytes | None:
        return await self.call(self._engine.peek, queue, subject)

    async def purge(self, queue: Queue, subject: str) -> None:
        await self.call(self._engine.purge, queue, subject)

    async def get(self, bucket: Bucket, key: str) -> Entry | None:
        return await self.call(self._engine.get, bucket, key)

    async def put(self, bucket: Bucket, key: str, value: bytes, *, revision: int | None = None) -> int:
        return await self.call(self._engine.put, bucket, key, value, revision=revision)

    async def delete(self, bucket: Bucket, key: str, *, revision: int | None = None) -> None:
        await self.call(self._engine.delete, bucket, key, revision=revision)

    async def watch(self, bucket: Bucket) -> AsyncIterator[Entry | None]:
        announced = False
        while True:
            async with aclosing(self._engine.watch(bucket)) as entries:  # type: ignore[type-var]
                async for entry in entries:
                    await self.pass_time()
                    if entry is not None or not announced:
                        announced = announced or entry is None
                        yield entry
                    if self.happens(self._faults.watch_restarted):
                        break

    async def close(self) -> None:
        """Nothing to release."""

    async def call(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        """Do something at the engine, perhaps."""
        await self.pass_time()
        if self.happens(self._faults.refused):
            raise EngineUnavailable("The call was refused.")
        result = await operation(*args, **kwargs)
        await self.pass_time()
        if self.happens(self._faults.answer_lost):
            raise EngineUnavailable("The answer was lost.")
        return result

    async def deliver(self, pulling: Awaitable[Sequence[Lease]]) -> Sequence[Lease]:
        """Hand messages over: some twice, and none to a process that is gone."""
        leases = await pulling
        await self.running()
        for lease in leases:
            if self.happens(self._faults.delivered_twice):
                await lease.release(self._random.uniform(0, 3))
        return [FaultyLease(self, lease, self._faults) for lease in leases]

    def happens(self, probability: float) -> bool:
        return self._random.random() < probability

    async def pass_time(self) -> None:
        """Let a message take its time; raises as :meth:`running` does."""
        await self.running()
        await asyncio.sleep(self._random.uniform(0, self._faults.latency))
        await self.running()


class FaultyConsumer:
    def __init__(self, connection: Connection, consumer: Consumer) -> None:
        self._connection = connection
        self._consumer = consumer

    async def pull(self, count: int, timeout: float) -> Sequence[Lease]:  # noqa: ASYNC109 - the port's signature
        return await self._connection.deliver(self._connection.call(self._consumer.pull, count, timeout))

    async def close(self) -> None:
        await self._consumer.close()


class FaultyLease:
    def __init__(self, connection: Connection, lease: Lease, faults: EngineFaults) -> None:
        self._connection = connection
        self._lease = lease
        self._faults = faults
        self.subject = lease.subject
        self.data = lease.data

    async def ack(self) -> None:
        await self._connection.running()
        if not self._connection.happens(self._faults.ack_lost):
            await self._connection.call(self._lease.ack)

    async def renew(self) -> None:
        await self._connection.call(self._lease.renew)

    async def release(self, delay: float = 0) -> None:
        await self._connection.call(self._lease.release, delay)
