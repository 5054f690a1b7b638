"""Batches on their way to this worker: the next one in line of each priority, the highest first."""

from __future__ import annotations

import asyncio
from itertools import count

from preheat.engine import Consumer, Engine, Lease, Queue
from preheat.errors import EngineUnavailable
from preheat.jobs import Priority
from preheat.logs import get_logger

log = get_logger("worker")
_PULL_SECONDS = 2.0
_RETRY_SECONDS = 0.5


class HeldBatch:
    """A delivered batch whose lease is renewed until :meth:`drop`."""

    def __init__(self, lease: Lease, lease_seconds: float, order: tuple[int, int]) -> None:
        self.data = lease.data
        self.job_id = lease.subject.split(".")[2]
        self.rank = order[0]
        """Of its priority; the highest has the least."""
        self.order = order
        self.taken = asyncio.Event()
        self._lease = lease
        self._lease_seconds = lease_seconds
        self._renewal = asyncio.create_task(self._renew())

    async def ack(self) -> None:
        """Remove the batch from the queue: its result is stored."""
        await self._lease.ack()

    async def release(self, delay: float) -> None:
        """Give the batch back, to be delivered again after ``delay`` seconds."""
        self.drop()
        try:
            await self._lease.release(delay)
        except EngineUnavailable:  # then when the lease ends
            log.warning("A batch could not be given back.", action="release_failed", batch=self._lease.subject)

    def drop(self) -> None:
        """Renew no more; what was not acknowledged is delivered again when the lease ends."""
        self._renewal.cancel()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease_seconds / 3)
            try:
                await self._lease.renew()
            except EngineUnavailable:
                log.warning("A batch's lease could not be renewed.", action="renew_failed", batch=self._lease.subject)


class Intake:
    """Pulls one batch of each priority ahead, so that a high one waits for no more than the batches in work."""

    def __init__(self, engine: Engine, worker_id: str, *, lease_seconds: float) -> None:
        self._engine = engine
        self._worker_id = worker_id
        self._lease_seconds = lease_seconds
        self._line: asyncio.PriorityQueue[tuple[tuple[int, int], HeldBatch]] = asyncio.PriorityQueue()
        self._numbers = count()

    async def run(self) -> None:
        """Pull until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for rank, priority in enumerate(Priority):
                consumer = await self._engine.consume(
                    Queue.BATCHES,
                    f"{self._worker_id}.{priority}.>",
                    name=f"worker-{self._worker_id}-{priority}",
                    lease_seconds=self._lease_seconds,
                )
                tasks.create_task(self._pull(rank, consumer))

    async def next(self) -> HeldBatch:
        """Return the next batch to do; the caller drops it."""
        _, held = await self._line.get()
        held.taken.set()
        return held

    def put_back(self, held: HeldBatch) -> None:
        """Put a batch into line; one that was taken gets its old place."""
        self._line.put_nowait((held.order, held))

    async def _pull(self, rank: int, consumer: Consumer) -> None:
        while True:
            try:
                leases = await consumer.pull(1, _PULL_SECONDS)
            except EngineUnavailable as error:
                log.warning("No batches: the engine is away.", action="pull_failed", error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            for lease in leases:
                await self._offer(HeldBatch(lease, self._lease_seconds, (rank, next(self._numbers))))

    async def _offer(self, held: HeldBatch) -> None:
        """Put a batch in line and wait until it is taken."""
        self.put_back(held)
        try:
            await held.taken.wait()
        except asyncio.CancelledError:
            held.drop()
            raise
