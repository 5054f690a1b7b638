"""Every failed object of every job, in the engine: what a job's record has no room for.

The owner writes what failed in numbered chunks before it counts it, so a crash in between writes a chunk again under
the same number, and nothing that is counted is missing. Each generation numbers its own: an owner that was replaced
without knowing it writes where its successor does not look. What an earlier verification could not read back stays
in the log, though a later one may have repaired it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import islice

import msgspec

from preheat.engine import Bucket, Engine
from preheat.jobs import FailedObject, Job

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

    async def forget(self, job: Job) -> None:
        """Delete the chunks of a job."""
        for key in _keys(job):
            await self._engine.delete(Bucket.FAILURES, key)


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


def _keys(job: Job) -> list[str]:
    return [
        f"{job.id}.{generation}.{number}"
        for generation, count in sorted(job.failure_chunks.items())
        for number in range(count)
    ]
