"""Defects to plant into the product, to show that the suite would find them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from preheat import accounting
from preheat.accounting import _batches
from preheat.coordinator import _cached
from preheat.coordinator._batches import BatchQueue
from preheat.coordinator._cached import CachedPage, HeldPage
from preheat.coordinator._index_file import Block, IndexFile, Position
from preheat.coordinator._runner import JobRunner
from preheat.coordinator._scheduler import JobScheduler
from preheat.coordinator._source import JobSource, Page
from preheat.engine import Bucket, Entry
from preheat.jobs import Batch, BatchResult, FailedObject, Job, JobSpec, OpenBatch, Priority, Progress
from preheat.paths import UfsPath
from preheat.planning import PlannedBatch
from preheat.versions import ObjectInfo
from preheat.worker._actions import Actions, Outcome
from preheat.worker._copies import Copies
from preheat.worker.fills._fills import Throttle
from tests.faults.workloads import CHORES, LOADS, Workload


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


def delete_unseen(patch: pytest.MonkeyPatch) -> None:
    """Move: the source goes without a look at the target, since a copy was made of all that was there before."""

    async def move(self: Copies, source: UfsPath, info: ObjectInfo, target: UfsPath, *, throttle: Throttle) -> None:
        await self._ufs.delete(source, etag=info.etag)

    patch.setattr(Copies, "move", move)


def trim_keepers(patch: pytest.MonkeyPatch) -> None:
    """Replicate: who is to keep a copy drops it as well."""

    async def trim(self: Actions, batch: Batch, entry: ObjectInfo, throttle: Throttle) -> Outcome:
        return Outcome.DONE if self._store.delete(batch.root + entry.key) else Outcome.SKIPPED

    patch.setattr(Actions, "_trim", trim)


def trim_newcomers(patch: pytest.MonkeyPatch) -> None:
    """Replicate: a copy goes that came when the keepers had been told what to have."""
    patch.setattr(Actions, "_came_later", lambda *_: False)


def trim_for_other_owners(patch: pytest.MonkeyPatch) -> None:
    """Replicate: it goes on to drop when others own the objects than those that were given copies."""
    patch.setattr(JobRunner, "_check_epoch", lambda *_: None)


def drop_before_it_is_there(patch: pytest.MonkeyPatch) -> None:
    """Rebalance: who is not to keep a copy drops it while its successors are still fetching theirs."""

    def opened(planned: PlannedBatch) -> OpenBatch:
        return OpenBatch(tally=planned.batch.tally, waiting=planned.workers + planned.then)

    async def publish(self: BatchQueue, planned: Sequence[PlannedBatch], priority: Priority) -> None:
        for item in planned:
            await self._publish(item.batch, [f"{worker}.{priority}" for worker in item.workers + item.then])

    patch.setattr(_batches, "_opened", opened)
    patch.setattr(BatchQueue, "publish", publish)


def miss_the_horizon(patch: pytest.MonkeyPatch) -> None:
    """Free: a page of all caches ends where the last worker's does, not the first's."""

    merge = _cached.merge

    def merge_all(pages: Mapping[str, CachedPage]) -> HeldPage:
        merged = merge({worker: replace(page, next=None) for worker, page in pages.items()})
        return replace(merged, next=max((page.next for page in pages.values() if page.next), default=None))

    patch.setattr(_cached, "merge", merge_all)


def skip_a_block(patch: pytest.MonkeyPatch) -> None:
    """Index file: who goes on with it misses what comes next."""
    blocks = IndexFile.blocks

    async def blocks_after_the_next(self: IndexFile, start: Position) -> AsyncIterator[Block]:
        skip = bool(start.offset)
        async for block in blocks(self, start):
            if not skip:
                yield block
            skip = False

    patch.setattr(IndexFile, "blocks", blocks_after_the_next)


def ignore_priorities(patch: pytest.MonkeyPatch) -> None:
    """Scheduler: whoever finds a slot takes it."""

    async def turn(self: JobScheduler, priority: Priority) -> None:
        async with self._slots:
            return

    patch.setattr(JobScheduler, "_turn", turn)


Plant = Callable[[pytest.MonkeyPatch], None]
PLANTED: tuple[tuple[Plant, Workload], ...] = (
    (count_duplicates, LOADS),
    (skip_a_page, LOADS),
    (save_unfenced, LOADS),
    (believe_without_looking, LOADS),
    (delete_unseen, CHORES),
    (trim_keepers, CHORES),
    (trim_newcomers, CHORES),
    (trim_for_other_owners, CHORES),
    (drop_before_it_is_there, CHORES),
    (miss_the_horizon, CHORES),
    (skip_a_block, CHORES),
    (ignore_priorities, CHORES),
)
