"""How many entries are hot from the start of a job's order: never more than are, and in the end exactly as many."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preheat import accounting
from preheat.jobs import Action, BatchResult, FailedObject, Job, JobOptions, JobSpec, JobState, Progress, Tally
from preheat.placement import Member, PlacementMap
from preheat.planning import PlannedBatch, Planner
from preheat.versions import ObjectInfo
from tests.unit.memory_cluster import Cluster

WORKERS = ("worker-0", "worker-1", "worker-2")
BLOCK = 6
INDEX = "s3://b/order.txt"


def of_worker(worker: str) -> PlacementMap:
    return PlacementMap(members=tuple(Member(id=other, url="") for other in WORKERS if other != worker))


@dataclass
class History:
    """A job as it goes, and beside its record what has really become of each entry."""

    data: st.DataObject
    job: Job = field(default_factory=lambda: Job(id="j", spec=JobSpec(), submitted_at=0.0))
    order: list[str] = field(default_factory=list)
    """All that was listed, in the order of the index file."""
    hot: set[str] = field(default_factory=set)
    batches: dict[str, PlannedBatch] = field(default_factory=dict)
    accounts: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """The keys of each account: a joint one, or a batch."""
    mixed: set[int] = field(default_factory=set)
    """Blocks in which names of two buckets alternate: their entries count when all of them are hot."""
    lost: str = ""

    @property
    def countable(self) -> int:
        truth = next((number for number, key in enumerate(self.order) if key not in self.hot), len(self.order))
        return truth // BLOCK * BLOCK if truth // BLOCK in self.mixed else truth

    def planner(self) -> Planner:
        options = JobOptions(batch_size=self.data.draw(st.integers(1, 4)), replicas=2)
        return Planner(
            job_id="j", spec=JobSpec(options=options), action=Action.FETCH, generation=1, batch_bytes=1 << 20
        )

    def open(self, planned: Sequence[PlannedBatch], work: Progress) -> None:
        self.job = replace(self.job, work=work)
        self.batches |= {item.batch.id: item for item in planned}
        for item in planned:
            self.accounts[self.account(item.batch.id)] |= {entry.key for entry in item.batch.entries}

    def account(self, batch_id: str) -> str:
        return self.job.work.open[batch_id].joint or batch_id

    def window(self, groups: Sequence[Sequence[tuple[str, bool]]]) -> None:
        """List a block: names that are there or not, in one group for each bucket."""
        for number, group in enumerate(groups, start=1):
            whole = number == len(groups)
            there = [ObjectInfo(key=key, size=1, etag="e", last_modified=0.0) for key, is_there in group if is_there]
            missing = [index for index, (_, is_there) in enumerate(group) if not is_there]
            work = self.job.work
            numbers = accounting.entry_numbers(work, whole=whole)
            placement = of_worker(self.lost)
            planned = self.planner().plan(
                there, root="s3://b/", placement=placement, first=work.batches, numbers=numbers
            )
            after = missing[0] if missing else 0
            work = accounting.record_window(
                work, planned, cursor="c", version="v", missing=len(missing), missing_after=after, whole=whole
            )
            self.open(planned, work)

    def report(self, batch_id: str, worker: str) -> None:
        """Let a worker do a batch, of which some may fail; an object is hot when all of its workers have done it."""
        batch = self.batches[batch_id].batch
        failed = self.data.draw(
            st.sets(st.sampled_from(batch.entries)) if self.data.draw(st.booleans()) else st.just(())
        )
        numbers = [number for number, entry in zip(batch.numbers, batch.entries, strict=True) if entry in failed]
        result = BatchResult(
            batch_id=batch_id,
            job_id="j",
            worker=worker,
            done=Tally(objects=len(batch.entries) - len(failed), bytes=len(batch.entries) - len(failed)),
            failed=tuple(FailedObject(path=f"s3://b/{item.key}", size=1, code="x", message="") for item in failed),
            first_failed=min(numbers, default=None),
        )
        account = self.account(batch_id)
        work, cold = accounting.record_result(self.job.work, result)
        if account not in work.open:
            self.hot |= self.accounts[account] - {item.path.removeprefix("s3://b/") for item in cold}
        self.job = replace(self.job, work=work)

    def lose(self, worker: str) -> None:
        """Give the batches of a worker that died to those that live."""
        self.lost = worker
        for batch_id in accounting.lost_batches(self.job.work, set(WORKERS) - {worker}):
            work = self.job.work
            placement, batch = of_worker(worker), self.batches[batch_id].batch
            planned = self.planner().plan_again(batch, placement=placement, first=work.batches)
            self.open(planned, accounting.replace_batch(work, batch_id, planned))

    def report_any(self) -> None:
        waited_for = sorted(batch_id for batch_id, batch in self.job.work.open.items() if batch.waiting)
        batch_id = self.data.draw(st.sampled_from(waited_for))
        self.report(batch_id, self.data.draw(st.sampled_from(self.job.work.open[batch_id].waiting)))

    def block(self) -> None:
        """List consecutive lines, of one bucket or of two that alternate."""
        lines = [(f"k{len(self.order) + number:03d}", self.data.draw(st.integers(0, 9)) > 0) for number in range(BLOCK)]
        self.order += [key for key, _ in lines]
        groups = [lines[::2], lines[1::2]] if self.data.draw(st.booleans()) else [lines]
        if len(groups) > 1:
            self.mixed.add(len(self.order) // BLOCK - 1)
        self.window(groups)


@settings(deadline=None)
@given(st.data())
def test_the_count_is_never_more_than_is_hot_and_exact_when_all_is_done(data: st.DataObject):
    history, before = History(data), 0
    for _ in range(data.draw(st.integers(1, 20))):
        step = data.draw(st.sampled_from(["block", "report", "report", "lose"]))
        if step == "block":
            history.block()
        elif step == "report" and history.job.work.open:
            history.report_any()
        elif step == "lose" and not history.lost:
            history.lose(data.draw(st.sampled_from(WORKERS)))
        counted = accounting.hot_in_order(history.job)
        assert before <= counted <= history.countable
        before = counted
    while history.job.work.open:
        history.report_any()
    assert accounting.hot_in_order(history.job) == history.countable


def test_the_count_survives_the_jobs_owner():
    work = Progress()
    entries = [ObjectInfo(key=f"k{number}", size=1, etag="e", last_modified=0.0) for number in range(6)]
    planner = Planner(
        job_id="j", spec=JobSpec(options=JobOptions(batch_size=2)), action=Action.FETCH, generation=1, batch_bytes=99
    )
    planned = planner.plan(entries, root="s3://b/", placement=PlacementMap(members=(Member(id="w", url=""),)), first=0)
    work = accounting.record_window(work, planned, cursor="c", version="v")
    job = Job(id="j", spec=JobSpec(), submitted_at=0.0, work=work)
    for item in planned[:2]:
        job = msgspec.json.decode(msgspec.json.encode(accounting.without_open_failures(job)), type=Job)
        result = BatchResult(batch_id=item.batch.id, job_id="j", worker="w", done=item.batch.tally)
        job = replace(job, work=accounting.record_result(job.work, result)[0])
    assert accounting.hot_in_order(job) == 4


def test_a_verification_that_finds_an_entry_cold_ends_the_count_there():
    work = Progress(listed=Tally(objects=9, bytes=9), done=Tally(objects=9, bytes=9), in_order=9, listing_done=True)
    job = Job(id="j", spec=JobSpec(), submitted_at=0.0, work=work)
    assert accounting.hot_in_order(replace(job, verification=Progress())) == 9
    found = Progress(first_failed=4, batches=7, epoch=1)
    assert accounting.hot_in_order(replace(job, verification=found)) == 4
    again = accounting.begin_verification(found, epoch=2)
    assert (again.epoch, again.batches, again.listed) == (2, 7, Tally())
    assert accounting.hot_in_order(replace(job, verification=again)) == 4


def test_entries_keep_their_numbers_when_their_worker_leaves():
    entries = [ObjectInfo(key=f"k{number}", size=1, etag="e", last_modified=0.0) for number in range(6)]
    planner = Planner(
        job_id="j", spec=JobSpec(options=JobOptions(batch_size=2)), action=Action.FETCH, generation=1, batch_bytes=99
    )
    first, second = (PlacementMap(members=(Member(id=each, url=""),)) for each in WORKERS[:2])
    planned = planner.plan(entries, root="s3://b/", placement=first, first=0)
    work = accounting.record_window(Progress(), planned, cursor="c", version="v")
    for item in planned[:2]:
        result = BatchResult(batch_id=item.batch.id, job_id="j", worker=WORKERS[0], done=item.batch.tally)
        work, _ = accounting.record_result(work, result)
    (lost,) = accounting.lost_batches(work, WORKERS[1:])
    again = planner.plan_again(planned[2].batch, placement=second, first=work.batches)
    work = accounting.replace_batch(work, lost, again)
    assert [item.batch.numbers for item in again] == [(4, 5)]
    assert accounting.hot_in_order(Job(id="j", spec=JobSpec(), submitted_at=0.0, work=work)) == 4


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    cluster = Cluster()
    await cluster.start_all()
    yield cluster
    await cluster.stop_all()


async def test_a_wait_for_the_first_of_an_index_file_ends_while_the_job_goes_on(cluster: Cluster):
    paths = sorted(cluster.fill(40), reverse=True)
    cluster.origin.write(INDEX, "\n".join(paths).encode())
    service = cluster.coordinator.service
    known = await service.submit(JobSpec(index=INDEX, options=JobOptions(batch_size=1, bandwidth=40)))
    known = await service.wait(known.job.id, after=None, seconds=20, hot_in_order=3)
    assert (known.job.state, accounting.hot_in_order(known.job) >= 3) == (JobState.RUNNING, True)
    assert all(cluster.cached(path) for path in paths[:3])
    await service.stop(known.job.id)


async def test_a_wait_for_more_than_can_become_hot_ends_as_soon_as_that_is_certain(cluster: Cluster):
    paths = sorted(cluster.fill(20), reverse=True)
    cluster.origin.write(INDEX, "\n".join([*paths[:12], "s3://b/data/gone", *paths[12:]]).encode())
    service = cluster.coordinator.service
    await cluster.pause_workers()
    known = await service.submit(JobSpec(index=INDEX, options=JobOptions(max_failed_files=1, verify=True)))
    async with asyncio.timeout(20):
        known = await service.wait(known.job.id, after=None, seconds=60, hot_in_order=13)
    assert (known.job.state, accounting.hot_in_order_at_most(known.job)) == (JobState.RUNNING, 12)
    assert not accounting.decides_order(known.job, 12)
    cluster.resume_workers()
    assert await cluster.ended(known.job.id) is JobState.SUCCEEDED
    job = (await service.get(known.job.id)).job
    assert (accounting.hot_in_order(job), accounting.decides_order(job, 12)) == (12, True)
