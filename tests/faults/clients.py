"""Those who use the cluster: some submit and insist on an answer, some read."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from preheat.errors import CoordinatorUnreachable, InvalidRequest, NotFound, PreheatError, Unavailable
from preheat.jobs import JobSpec, JobType
from preheat.paths import UfsPath
from tests.faults.history import Submit
from tests.faults.workloads import MOVED

if TYPE_CHECKING:
    from tests.faults.scenario import Scenario

ANSWER_SECONDS = 120.0
"""No request may take longer."""


async def submit_at_random(scenario: Scenario, number: int) -> None:
    """Submit some jobs one after the other, and stop one now and then."""
    submits = scenario.workload.submits
    for count in range(submits):
        await asyncio.sleep(scenario.random.uniform(0, scenario.size.seconds / submits))
        key = f"client-{number}-{count}"
        spec = scenario.workload.new_spec(scenario.random)
        if spec.type is JobType.MOVE:
            scenario.write_some(MOVED)
        job_id = await _insist_on_submit(scenario, key, spec)
        if job_id and scenario.random.random() < 0.2:
            await asyncio.sleep(scenario.random.uniform(0, 20))
            await _stop(scenario, job_id)


async def _insist_on_submit(scenario: Scenario, key: str, spec: JobSpec) -> str | None:
    """Submit until a coordinator acknowledges it, with the same key each time, as a client does that heard nothing."""
    while True:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                known = await _submit(scenario, key, spec)
        except (InvalidRequest, NotFound) as refused:  # too few workers for the replicas, or nothing there now
            scenario.note(f"refused {key}: {refused}")
            return None
        except PreheatError:
            await asyncio.sleep(scenario.random.uniform(0.5, 5))
        except TimeoutError:
            scenario.note(f"timed out {key}")
        else:
            scenario.history.submits.append(Submit(at=time.time(), key=key, spec=spec, job_id=known))
            scenario.note(f"acknowledged {key} as {known[:8]}: {spec.type} {' '.join(spec.paths)}")
            return known


async def _submit(scenario: Scenario, key: str, spec: JobSpec) -> str:
    serving = scenario.serving()
    if not serving:
        raise CoordinatorUnreachable("Nobody answers.")
    process = scenario.random.choice(serving)
    known = await process.request(process.coordinator.service.submit(spec, idempotency_key=key))
    return known.job.id


async def _stop(scenario: Scenario, job_id: str) -> None:
    for process in scenario.serving()[:1]:
        scenario.note(f"stop {job_id[:8]}")
        try:
            await process.request(process.coordinator.service.stop(job_id))
        except Unavailable as error:
            scenario.note(f"not stopped: {error}")


async def read_at_random(scenario: Scenario) -> None:
    """Read objects from workers, some in a version of one's own choice; no other bytes may come (I6)."""
    random = scenario.random
    while True:
        await asyncio.sleep(random.uniform(0.2, 2))
        versions = scenario.origin.versions
        uri, wanted = random.choice([known for known in versions if known[0].startswith(scenario.workload.read)])
        worker = random.choice(list(scenario.workers.values()))
        if not worker.running:
            continue
        if_match = (wanted,) if random.random() < 0.5 else None
        try:
            opened = await worker.reads.open(UfsPath.parse(uri), if_match)
            body = b"".join([bytes(page) async for page in opened.pages(0, opened.info.size)])
        except PreheatError:  # broken off is allowed; other bytes are not
            continue
        if (if_match and opened.info.etag != wanted) or body != scenario.origin.versions[uri, opened.info.etag]:
            scenario.history.mishaps.append(f"I6 {worker.name} gave {len(body)} other bytes of {uri}")
