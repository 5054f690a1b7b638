"""Plans a job over a synthetic listing and prints how long it took: ``python -m tests.benchmarks.plan_keys 1000000 2``.

In a process of its own, on one thread: list, version, place, batch, and account for the window and for its results, as
the coordinator does between the under store and the engine. What is left out is the engine: encoding and publishing
the batches, and writing the job's record.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from preheat import accounting
from preheat.coordinator._cached import MemoryCachedListing
from preheat.coordinator._source import JobSource
from preheat.engine import MemoryEngine
from preheat.jobs import Action, BatchResult, JobOptions, JobSpec, Progress
from preheat.placement import SLOTS, Member, PlacementMap
from preheat.planning import PlannedBatch, Planner
from preheat.settings import SchedulerSettings
from preheat.versions import DatasetVersion
from tests.benchmarks.synthetic import URI, SyntheticListing

_WORKERS = 3
_ACTION = Action.FETCH


async def plan(count: int, *, replicas: int) -> Progress:
    """Plan a load of ``count`` objects to its end, as if the workers answered at once."""
    spec = JobSpec(paths=(URI,), options=JobOptions(replicas=replicas))
    settings = SchedulerSettings()
    planner = Planner(job_id="job", spec=spec, action=_ACTION, generation=1, batch_bytes=settings.batch_bytes)
    members = tuple(Member(id=f"worker-{n}", url=f"http://127.0.0.{n + 2}:28080") for n in range(_WORKERS))
    placement = PlacementMap(epoch=1, members=members, slots=SLOTS)
    source = JobSource(
        engine=MemoryEngine(),
        ufs=SyntheticListing(count),
        cached=MemoryCachedListing({}),
        members=lambda: members,
        listing_attempts=1,
    )
    progress = Progress()
    async for page in source.pages(spec, progress):
        if page is None:
            return accounting.record_listed_path(progress, last=True)
        version = DatasetVersion(progress.version)
        version.update(page.objects)
        planned = planner.plan(page.objects, root=page.root, placement=placement, first=progress.batches)
        progress = accounting.record_window(progress, planned, cursor=page.cursor, version=version.state)
        progress = _answered(progress, planned)
    raise AssertionError("The listing of a path ends with None.")


def _answered(progress: Progress, planned: list[PlannedBatch]) -> Progress:
    for item in planned:
        for worker in item.workers:
            result = BatchResult(batch_id=item.batch.id, job_id="job", worker=worker, done=item.batch.tally)
            progress, _ = accounting.record_result(progress, result)
    return progress


def main() -> None:
    """Plan once, and print the result as JSON."""
    count, replicas = (int(argument) for argument in sys.argv[1:])
    cpu, started = time.process_time(), time.perf_counter()
    progress = asyncio.run(plan(count, replicas=replicas))
    result = {"keys": progress.done.objects, "seconds": time.perf_counter() - started}
    json.dump(result | {"cpu": time.process_time() - cpu, "batches": progress.batches}, sys.stdout)


if __name__ == "__main__":
    main()
