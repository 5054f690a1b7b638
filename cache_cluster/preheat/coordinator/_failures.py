"""Every failed object of every job, in the engine: what a job's record has no room for.

The owner writes what failed in numbered chunks before it counts it, so a crash in between writes a chunk again under
the same number, and nothing that is counted is missing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import msgspec

from preheat.engine import Bucket, Engine
from preheat.jobs import FailedObject, Job

CHUNK_OBJECTS = 1000
"""Objects in one chunk: well below the engine's limit of 1 MiB for a value, with keys of 1,024 bytes refused."""


class FailureLog:
    """Appends and reads the failed objects of jobs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def append(self, job: Job, failed: Sequence[FailedObject]) -> int:
        """Write failed objects behind those that the record counts, and return the new number of chunks."""
        chunks = job.failure_chunks
        for chunk in _chunked(failed):
            await self._engine.put(Bucket.FAILURES, _key(job.id, chunks), msgspec.json.encode(chunk))
            chunks += 1
        return chunks

    async def read(self, job: Job, *, first: int = 0) -> AsyncIterator[tuple[FailedObject, ...]]:
        """Yield the chunks of a job from a number on."""
        for number in range(first, job.failure_chunks):
            entry = await self._engine.get(Bucket.FAILURES, _key(job.id, number))
            if entry is not None and entry.value is not None:
                yield msgspec.json.decode(entry.value, type=tuple[FailedObject, ...])

    async def forget(self, job: Job) -> None:
        """Delete the chunks of a job."""
        for number in range(job.failure_chunks):
            await self._engine.delete(Bucket.FAILURES, _key(job.id, number))


def _chunked(failed: Sequence[FailedObject]) -> list[Sequence[FailedObject]]:
    return [failed[start : start + CHUNK_OBJECTS] for start in range(0, len(failed), CHUNK_OBJECTS)]


def _key(job_id: str, number: int) -> str:
    return f"{job_id}.{number}"
