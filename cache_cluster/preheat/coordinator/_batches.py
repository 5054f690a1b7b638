"""A job's batches in the queue: one message for each worker that is to do a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product

import msgspec

from preheat import accounting
from preheat.engine import Engine, Queue
from preheat.errors import EngineUnavailable
from preheat.jobs import Batch, OpenBatch, Priority, Progress
from preheat.placement import PlacementMap
from preheat.planning import PlannedBatch

_LATER = "_.later"
"""In the place of a worker and a priority: no worker pulls this one."""


async def clear_queues(engine: Engine, job_id: str) -> None:
    """Drop what the queues hold of a job that has ended; it may be done again."""
    await BatchQueue(engine, job_id).drop_all()
    await engine.forget_consumer(Queue.RESULTS, f"job-{job_id}")
    await engine.purge(Queue.RESULTS, f"{job_id}.>")


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

    async def begin_second_steps(
        self, before: Progress, after: Progress, placement: PlacementMap, priority: Priority
    ) -> None:
        """Give batches to their second workers where the first have reported since ``before``.

        Where one of the first has left since, the owner plans the batch again instead.
        """
        live = {member.id for member in placement.members}
        for batch_id in accounting.second_steps(before, after):
            if live.issuperset(after.open[batch_id].keepers):
                await self._begin_second_step(batch_id, after.open[batch_id], priority)

    async def _begin_second_step(self, batch_id: str, step: OpenBatch, priority: Priority) -> None:
        batch = await self._peek(_LATER, batch_id)
        if batch is None:
            raise EngineUnavailable(f"The batch {batch_id} of the job {self._job_id} is not in the queue.")
        failed = {item.path for item in step.failed}
        entries = tuple(entry for entry in batch.entries if batch.root + entry.key not in failed)
        await self._publish(replace(batch, entries=entries), [f"{worker}.{priority}" for worker in step.waiting])

    async def forget_second_steps(self, before: Progress, after: Progress) -> None:
        """Drop what was kept for the second workers of batches that have ended since ``before``."""
        for batch_id in accounting.ended_steps(before, after):
            await self.drop(batch_id)

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
