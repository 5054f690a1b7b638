"""A job's batches in the queue: one message for each worker that is to do a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from itertools import product

import msgspec

from preheat.engine import Engine, Queue
from preheat.jobs import Batch, Priority
from preheat.planning import PlannedBatch


class BatchQueue:
    """Publishes, finds and drops the batches of one job."""

    def __init__(self, engine: Engine, job_id: str) -> None:
        self._engine = engine
        self._job_id = job_id

    async def publish(self, planned: Sequence[PlannedBatch], priority: Priority) -> None:
        """Give batches to their workers."""
        publishes = []
        for item in planned:
            data = msgspec.json.encode(item.batch)
            for worker in item.workers:
                subject = f"{worker}.{priority}.{self._job_id}.{item.batch.id}"
                publishes.append(self._engine.publish(Queue.BATCHES, subject, data))
        await asyncio.gather(*publishes)

    async def find(self, batch_id: str, workers: Iterable[str]) -> Batch | None:
        """Return a batch that one of these workers has not acknowledged."""
        for worker, priority in product(workers, Priority):
            if data := await self._engine.peek(Queue.BATCHES, f"{worker}.{priority}.{self._job_id}.{batch_id}"):
                return msgspec.json.decode(data, type=Batch)
        return None

    async def drop(self, batch_id: str) -> None:
        """Take a batch from every worker that has not begun it."""
        await self._engine.purge(Queue.BATCHES, f"*.*.{self._job_id}.{batch_id}")

    async def drop_all(self) -> None:
        """Take every batch of the job from every worker."""
        await self._engine.purge(Queue.BATCHES, f"*.*.{self._job_id}.>")
