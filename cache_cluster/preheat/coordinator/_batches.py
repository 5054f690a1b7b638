"""A job's batches in the queue: one message for each worker that is to do a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product

import msgspec

from preheat.engine import Engine, Queue
from preheat.errors import EngineUnavailable
from preheat.jobs import Batch, FailedObject, Priority
from preheat.planning import PlannedBatch

_LATER = "_.later"
"""In the place of a worker and a priority: no worker pulls this one."""


class BatchQueue:
    """Publishes, finds and drops the batches of one job."""

    def __init__(self, engine: Engine, job_id: str) -> None:
        self._engine = engine
        self._job_id = job_id

    async def publish(self, planned: Sequence[PlannedBatch], priority: Priority) -> None:
        """Give batches to their workers; what others do later stays in the queue, where nobody pulls it."""
        publishes = []
        for item in planned:
            lines = [f"{worker}.{priority}" for worker in item.workers] + ([_LATER] if item.then else [])
            publishes.append(self._publish(item.batch, lines))
        await asyncio.gather(*publishes)

    async def publish_later(
        self, batch_id: str, workers: Iterable[str], *, without: Iterable[FailedObject], priority: Priority
    ) -> None:
        """Give a batch to its second workers, without the entries that the first could not do.

        Raises:
            EngineUnavailable: the queue does not have it.
        """
        batch = await self._peek(_LATER, batch_id)
        if batch is None:
            raise EngineUnavailable(f"The batch {batch_id} of the job {self._job_id} is not in the queue.")
        failed = {item.path for item in without}
        entries = tuple(entry for entry in batch.entries if batch.root + entry.key not in failed)
        await self._publish(replace(batch, entries=entries), [f"{worker}.{priority}" for worker in workers])

    async def find(self, batch_id: str, workers: Iterable[str]) -> Batch | None:
        """Return a batch that one of these workers has not acknowledged, or that others are to do later."""
        for line in (_LATER, *(f"{worker}.{priority}" for worker, priority in product(workers, Priority))):
            if batch := await self._peek(line, batch_id):
                return batch
        return None

    async def drop(self, batch_id: str) -> None:
        """Take a batch from every worker that has not begun it."""
        await self._engine.purge(Queue.BATCHES, f"*.*.{self._job_id}.{batch_id}")

    async def drop_all(self) -> None:
        """Take every batch of the job from every worker."""
        await self._engine.purge(Queue.BATCHES, f"*.*.{self._job_id}.>")

    async def _publish(self, batch: Batch, lines: Iterable[str]) -> None:
        data = msgspec.json.encode(batch)
        subjects = (f"{line}.{self._job_id}.{batch.id}" for line in lines)
        await asyncio.gather(*(self._engine.publish(Queue.BATCHES, subject, data) for subject in subjects))

    async def _peek(self, line: str, batch_id: str) -> Batch | None:
        data = await self._engine.peek(Queue.BATCHES, f"{line}.{self._job_id}.{batch_id}")
        return msgspec.json.decode(data, type=Batch) if data else None
