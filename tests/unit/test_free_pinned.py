"""What is pinned is not freed, nor dropped as an outdated copy, and the job says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from preheat import accounting
from preheat.errors import Unavailable
from preheat.jobs import Action, Batch, Job, JobSpec, JobState, JobType, Progress, Tally
from preheat.paths import UfsPath
from preheat.versions import ObjectInfo
from preheat.worker._actions import Actions, Outcome
from preheat.worker._copies import Copies
from tests.unit.freshness_worker import Worker, running

ROOT = "s3://b/"
URIS = [f"{ROOT}d/{number}" for number in range(3)]


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    async with running() as worker:
        for uri in URIS:
            worker.origin.write(uri, b"old")
            await worker.reads.fetch(UfsPath.parse(uri), info=None)
        yield worker


async def trim(worker: Worker, *entries: ObjectInfo, **given: object) -> list[Outcome]:
    actions = Actions(
        "me", store=worker.store, reads=worker.reads, copies=Copies(ufs=worker.origin, store=worker.store)
    )
    batch = Batch(id="b", job_id="j", action=Action.TRIM, root=ROOT, entries=entries, **given)  # type: ignore[arg-type]

    async def pay(size: int) -> None:
        raise AssertionError(f"{size} bytes were fetched")

    return [await actions.do(batch, entry, pay) for entry in entries]


async def here(worker: Worker) -> list[ObjectInfo]:
    return [await worker.origin.stat(UfsPath.parse(uri)) for uri in URIS]


def held(worker: Worker) -> list[str]:
    return [uri for uri in URIS if worker.store.lookup(uri)]


async def test_only_what_is_pinned_stays(worker: Worker) -> None:
    entries = await here(worker)
    await worker.pin(await worker.list(f"{ROOT}d/"), f"{ROOT}d/1")
    assert await trim(worker, *entries) == [Outcome.DONE, Outcome.SKIPPED, Outcome.DONE]
    assert held(worker) == [URIS[1]]
    await worker.unpin()
    assert await trim(worker, entries[1]) == [Outcome.DONE]
    assert held(worker) == []


async def test_a_worker_that_holds_none_says_the_same(worker: Worker) -> None:
    entries = await here(worker)
    await worker.pin(await worker.list(f"{ROOT}d/"))
    for uri in URIS:
        worker.store.delete(uri)
    assert await trim(worker, *entries) == [Outcome.SKIPPED] * 3


async def test_a_copy_of_another_version_than_the_pinned_one_is_freed(worker: Worker) -> None:
    inventory = await worker.list(f"{ROOT}d/")
    entry = worker.origin.write(URIS[0], b"newer")
    await worker.reads.fetch(UfsPath.parse(URIS[0]), info=entry)
    await worker.pin(inventory)
    assert await trim(worker, entry) == [Outcome.DONE]


async def test_the_pinned_copy_is_not_dropped_because_others_keep_a_newer_one(worker: Worker) -> None:
    await worker.pin(await worker.list(f"{ROOT}d/"))
    old = (await here(worker))[0]
    newer = worker.origin.write(URIS[0], b"newer")
    assert await trim(worker, newer, keepers=("other",)) == [Outcome.SKIPPED]
    assert await trim(worker, old, keepers=("other",)) == [Outcome.DONE]  # who keeps it has the pinned version


async def test_what_nobody_can_tell_of_is_not_freed(worker: Worker, tmp_path: Path) -> None:
    entries = await here(worker)
    inventory = await worker.list(f"{ROOT}d/")
    await worker.pin(replace(inventory, id="lost"))
    with pytest.raises(Unavailable):
        await trim(worker, entries[0])
    assert held(worker) == URIS


def test_the_job_says_what_stayed() -> None:
    ten = Tally(objects=10, bytes=100)
    work = Progress(listed=ten, done=Tally(objects=7), skipped=Tally(objects=3), listing_done=True)
    job = Job(id="j", spec=JobSpec(type=JobType.FREE, paths=(ROOT,)), submitted_at=0.0, work=work)
    state, reason = accounting.verdict(job)
    assert (state, reason) == (JobState.SUCCEEDED, "3 of 10 files are pinned and stay; see `preheat fs pins`.")
    assert accounting.verdict(replace(job, work=replace(work, done=ten, skipped=Tally())))[1] == ""
