"""Defects to plant into the product, to show that the suite would find them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from preheat import accounting
from preheat.coordinator._runner import JobRunner
from preheat.coordinator._source import JobSource, Page
from preheat.engine import Bucket, Entry
from preheat.jobs import Batch, BatchResult, FailedObject, Job, JobSpec, Progress
from preheat.versions import ObjectInfo
from preheat.worker._actions import Actions, Outcome
from preheat.worker._fills import Throttle


def count_duplicates(patch: pytest.MonkeyPatch) -> None:
    """Accounting: a result that was counted before, or that nobody waits for, counts again."""
    record_result = accounting.record_result

    def record_every_result(progress: Progress, result: BatchResult) -> tuple[Progress, tuple[FailedObject, ...]]:
        batch = progress.open.get(result.batch_id)
        if batch is None or result.worker not in batch.waiting:
            return replace(progress, done=progress.done + result.done), ()
        return record_result(progress, result)

    patch.setattr(accounting, "record_result", record_every_result)


def skip_a_page(patch: pytest.MonkeyPatch) -> None:
    """Cursor: who goes on with a listing misses the first page of what is left."""
    pages = JobSource.pages

    async def pages_after_the_next(self: JobSource, spec: JobSpec, progress: Progress) -> AsyncIterator[Page | None]:
        skip = bool(progress.cursor)
        async for page in pages(self, spec, progress):
            if not skip or page is None:
                yield page
            skip = False

    patch.setattr(JobSource, "pages", pages_after_the_next)


def save_unfenced(patch: pytest.MonkeyPatch) -> None:
    """Fence: an owner that was replaced writes over its successor."""

    async def save(self: Any, job: Job) -> None:
        value = msgspec.json.encode(job)
        self._revision = await self._engine.put(Bucket.JOBS, job.id, value)
        self._job = job
        self._jobs.apply(Entry(key=job.id, value=value, revision=self._revision))

    patch.setattr(JobRunner, "_save", save)


def believe_without_looking(patch: pytest.MonkeyPatch) -> None:
    """Verification: a worker says that an object is hot without reading it."""

    async def verify(self: Actions, batch: Batch, entry: ObjectInfo, throttle: Throttle) -> Outcome:
        return Outcome.DONE

    patch.setattr(Actions, "_verify", verify)


Plant = Callable[[pytest.MonkeyPatch], None]
PLANTED: tuple[Plant, ...] = (count_duplicates, skip_a_page, save_unfenced, believe_without_looking)
