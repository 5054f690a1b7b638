"""What a job costs its coordinator with many workers: the real windows, planner, accounts and records, no engine."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import msgspec

from preheat import accounting
from preheat.coordinator._cached import MemoryCachedListing
from preheat.coordinator._source import JobSource
from preheat.coordinator._windows import filling, windows
from preheat.engine import MemoryEngine
from preheat.jobs import Action, BatchResult, Job, JobOptions, JobSpec, Progress
from preheat.placement import PlacementMap
from preheat.planning import PlannedBatch, Planner, owners_of_a_batch
from preheat.settings import SchedulerSettings
from preheat.versions import DatasetVersion
from tests.benchmarks.synthetic import URI, SyntheticListing


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What planning and accounting for a load took."""

    keys: int
    replicas: int
    seconds: float
    """CPU."""
    messages: int
    """Of the engine: a batch to each of its workers, and a result from each."""
    record_bytes: int
    """The job's record when it was at its largest."""

    @property
    def keys_per_second(self) -> float:
        """Keys that one core plans and accounts for."""
        return self.keys / self.seconds

    @property
    def keys_per_message(self) -> float:
        """How many objects each message of the engine is for."""
        return self.keys / self.messages


def plan(placement: PlacementMap, *, keys: int, replicas: int) -> Plan:
    """Plan a load of so many keys to its end; workers answer when as many batches are open as may be."""
    return asyncio.run(_plan(placement, keys, JobSpec(paths=(URI,), options=JobOptions(replicas=replicas))))


async def _plan(placement: PlacementMap, keys: int, spec: JobSpec) -> Plan:
    settings, members = SchedulerSettings(), placement.members
    source = JobSource(
        engine=MemoryEngine(),
        ufs=SyntheticListing(keys),
        cached=MemoryCachedListing({}),
        members=lambda: members,
        listing_attempts=1,
    )
    planner = Planner(job_id="job", spec=spec, action=Action.FETCH, generation=1, batch_bytes=settings.batch_bytes)
    job = Job(id="job", spec=spec, submitted_at=0.0)
    progress, open_batches, messages, largest = Progress(), [], 0, 0
    began = time.process_time()
    each = spec.options.batch_size
    enough = filling(batch_size=each, workers=len(members), owners=owners_of_a_batch(spec))
    async for page in windows(source.pages(spec, progress), lambda: enough):
        if page is None:
            break
        version = DatasetVersion(progress.version)
        version.update(page.objects)
        planned = planner.plan(page.objects, root=page.root, placement=placement, first=progress.batches)
        progress = accounting.record_window(progress, planned, cursor=page.cursor, version=version.state)
        messages += 2 * sum(len(item.workers) for item in planned)
        open_batches += planned
        if len(open_batches) >= settings.open_batches_per_worker * len(members):
            largest = max(largest, _record_bytes(job, progress))
            progress, open_batches = _answered(progress, open_batches), []
    largest = max(largest, _record_bytes(job, progress))
    progress = _answered(progress, open_batches)
    assert progress.done.objects == keys
    seconds = time.process_time() - began
    return Plan(keys=keys, replicas=spec.options.replicas, seconds=seconds, messages=messages, record_bytes=largest)


def _record_bytes(job: Job, progress: Progress) -> int:
    return len(msgspec.json.encode(accounting.with_progress(job, Action.FETCH, progress)))


def _answered(progress: Progress, planned: list[PlannedBatch]) -> Progress:
    for item in planned:
        for worker in item.workers:
            result = BatchResult(batch_id=item.batch.id, job_id="job", worker=worker, done=item.batch.tally)
            progress, _ = accounting.record_result(progress, result)
    return progress
