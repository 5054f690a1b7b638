"""Runs one long load in a coordinator of its own and prints its peak memory: ``python -m tests.benchmarks.long_job N``.

The coordinator is real, with its scheduler, its views and NATS (``PREHEAT_NATS_URL``), only without its REST API; the
listing of N keys is synthetic, and ``tests.benchmarks.instant_workers`` answers for the workers.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

import uvloop

from preheat.coordinator import Coordinator, KnownJob
from preheat.coordinator._cached import MemoryCachedListing
from preheat.engine import Engine, connect
from preheat.jobs import JobSpec
from preheat.logs import configure_logging
from preheat.settings import CoordinatorSettings, EngineSettings
from tests.benchmarks.metering import peak_memory
from tests.benchmarks.synthetic import URI, SyntheticListing

_READY_SECONDS = 30.0
_POLL_SECONDS = 0.05
_LOAD_SECONDS = 900.0
_ENDED = 1 << 50
"""A revision that no job reaches: a wait for it ends with the job."""


async def load(engine: Engine, count: int, *, workers: int) -> KnownJob:
    """Load a synthetic listing with a new coordinator, and return the job as it ended.

    Args:
        engine: its engine.
        count: how many objects are listed.
        workers: how many workers must be live before the submit.
    """
    settings = CoordinatorSettings(id="coordinator")
    coordinator = Coordinator(settings, engine=engine, ufs=SyntheticListing(count), cached=MemoryCachedListing({}))
    working = asyncio.create_task(coordinator.run())
    try:
        async with asyncio.timeout(_READY_SECONDS):
            await coordinator.wait_loaded()
            while len(coordinator.cluster.placement.members) < workers:
                await asyncio.sleep(_POLL_SECONDS)
        job = (await coordinator.service.submit(JobSpec(paths=(URI,)))).job
        return await coordinator.service.wait(job.id, after=_ENDED, seconds=_LOAD_SECONDS)
    finally:
        working.cancel()
        await asyncio.wait({working})


async def _load_with_nats(count: int, workers: int) -> dict[str, float | str]:
    engine = await connect(EngineSettings(url=os.environ["PREHEAT_NATS_URL"]), name="coordinator")
    before, started = peak_memory(os.getpid()), time.perf_counter()
    try:
        job = (await load(engine, count, workers=workers)).job
    finally:
        await engine.close()
    return {
        "state": job.state,
        "reason": job.reason,
        "keys": job.work.done.objects,
        "batches": job.work.batches,
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time(),
        "before": before,
        "peak": peak_memory(os.getpid()),
    }


def main() -> None:
    """Load once, and print the result as JSON."""
    configure_logging()
    count, workers = (int(argument) for argument in sys.argv[1:])
    json.dump(uvloop.run(_load_with_nats(count, workers)), sys.stdout)


if __name__ == "__main__":
    main()
