"""Every failed object of every job, in the engine: what a job's record has no room for.

The owner writes what failed in numbered chunks before it counts it, so a crash in between writes a chunk again under
the same number, and nothing that is counted is missing. Each generation numbers its own: an owner that was replaced
without knowing it writes where its successor does not look. What an earlier verification could not read back stays
in the log, though a later one may have repaired it.

What failed in a batch that other workers still do is parked beside the log, for the owner's successor: the batch counts
it when the last worker has reported.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import msgspec

from preheat.accounting import progress_of, with_progress
from preheat.engine import Bucket, Engine
from preheat.jobs import FailedObject, Job, OpenBatch, Progress
from preheat.planning import passes

CHUNK_OBJECTS = 1000
"""Objects in one chunk at most."""
_CHUNK_BYTES = 512 << 10
"""A chunk ends before it has more; the engine takes 1 MiB in one value."""


class FailureLog:
    """Appends and reads the failed objects of jobs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def append(self, job: Job, failed: Sequence[FailedObject]) -> dict[int, int]:
        """Write failed objects behind those that the record counts, and return what it has to count then."""
        number = job.failure_chunks.get(job.generation, 0)
        for chunk in _chunks(failed):
            await self._engine.put(Bucket.FAILURES, f"{job.id}.{job.generation}.{number}", chunk)
            number += 1
        return job.failure_chunks | {job.generation: number}

    async def read(self, job: Job, *, first: int = 0) -> AsyncIterator[tuple[FailedObject, ...]]:
        """Yield the chunks of a job, without the ``first`` ones."""
        for key in islice(_keys(job), first, None):
            entry = await self._engine.get(Bucket.FAILURES, key)
            if entry is not None and entry.value is not None:
                yield msgspec.json.decode(entry.value, type=tuple[FailedObject, ...])

    async def park(self, job: Job, before: Progress, after: Progress) -> None:
        """Keep what failed in the batches that stay open: what ``after`` knows and ``before`` did not."""
        for batch_id, batch in after.open.items():
            if batch.failed and batch != before.open[batch_id]:
                await self._engine.put(Bucket.FAILURES, _parked(job, batch_id), msgspec.json.encode(batch.failed))

    async def unpark(self, job: Job, before: Progress, after: Progress) -> None:
        """Drop what was parked of batches that are not open any more."""
        for batch_id, batch in before.open.items():
            if batch.failed and batch_id not in after.open:
                await self._engine.delete(Bucket.FAILURES, _parked(job, batch_id))

    async def restore(self, job: Job) -> Job:
        """Return a job as recorded with what is parked of its open batches."""
        for action in passes(job.spec):
            progress = progress_of(job, action)
            batches = {
                batch_id: await self._unparked(job, batch_id, batch) for batch_id, batch in progress.open.items()
            }
            if batches != progress.open:
                job = with_progress(job, action, replace(progress, open=batches))
        return job

    async def forget(self, job: Job) -> None:
        """Delete the chunks of a job, and what is parked."""
        for key in _keys(job):
            await self._engine.delete(Bucket.FAILURES, key)
        for action in passes(job.spec):
            for batch_id, batch in progress_of(job, action).open.items():
                if batch.parked:
                    await self._engine.delete(Bucket.FAILURES, _parked(job, batch_id))

    async def _unparked(self, job: Job, batch_id: str, batch: OpenBatch) -> OpenBatch:
        entry = await self._engine.get(Bucket.FAILURES, _parked(job, batch_id)) if batch.parked else None
        if entry is None or entry.value is None:
            return batch
        return replace(batch, failed=msgspec.json.decode(entry.value, type=tuple[FailedObject, ...]), parked=False)


def _chunks(failed: Iterable[FailedObject]) -> Iterator[bytes]:
    """Yield JSON arrays of the objects; the same ones each time."""
    items, size = list[bytes](), 0
    for item in map(msgspec.json.encode, failed):
        if items and (len(items) == CHUNK_OBJECTS or size + len(item) > _CHUNK_BYTES):
            yield b"[%b]" % b",".join(items)
            items, size = [], 0
        items.append(item)
        size += len(item) + 1
    if items:
        yield b"[%b]" % b",".join(items)


def _parked(job: Job, batch_id: str) -> str:
    return f"{job.id}.open.{batch_id}"


def _keys(job: Job) -> list[str]:
    return [
        f"{job.id}.{generation}.{number}"
        for generation, count in sorted(job.failure_chunks.items())
        for number in range(count)
    ]
