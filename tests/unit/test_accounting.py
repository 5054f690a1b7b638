"""Accounting: a history of windows, results in any order and number, and lost workers always adds up."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preheat import accounting
from preheat.copies import HeldObject
from preheat.jobs import (
    Action,
    Batch,
    BatchResult,
    FailedObject,
    Job,
    JobOptions,
    JobSpec,
    JobState,
    JobType,
    Progress,
    Tally,
)
from preheat.placement import Member, PlacementMap
from preheat.planning import PlannedBatch, Planner
from preheat.versions import ObjectInfo

WORKERS = ("worker-0", "worker-1", "worker-2")


def objects(count: int, size: int = 10, first: int = 0) -> list[ObjectInfo]:
    return [
        ObjectInfo(key=f"k{number:05d}", size=size, etag="e", last_modified=0.0)
        for number in range(first, first + count)
    ]


def planned(number: int, entries: list[ObjectInfo], workers: tuple[str, ...] = ("worker-0",)) -> PlannedBatch:
    batch = Batch(id=f"fetch-1-{number}", job_id="j", action=Action.FETCH, root="s3://b/", entries=tuple(entries))
    return PlannedBatch(batch=batch, workers=workers)


def result(batch: Batch, worker: str, *, skipped: int = 0, failed: int = 0) -> BatchResult:
    entries = batch.entries
    failures = tuple(
        FailedObject(path=batch.root + entry.key, size=entry.size, code="x", message="m") for entry in entries[:failed]
    )
    rest = entries[failed + skipped :]
    return BatchResult(
        batch_id=batch.id,
        job_id=batch.job_id,
        worker=worker,
        done=Tally(objects=len(rest), bytes=sum(entry.size for entry in rest)),
        skipped=Tally(objects=skipped, bytes=sum(entry.size for entry in entries[failed : failed + skipped])),
        failed=failures,
    )


def adds_up(progress: Progress) -> bool:
    waiting = sum((batch.tally for batch in progress.open.values()), Tally())
    return progress.remaining == waiting and progress.remaining.objects >= 0


def test_a_result_is_counted_once():
    item = planned(0, objects(5))
    progress = accounting.record_window(Progress(), [item], cursor="k00004", version="v")
    outcome = result(item.batch, "worker-0", skipped=2, failed=1)
    progress, failed = accounting.record_result(progress, outcome)
    assert (progress.done.objects, progress.skipped.objects, progress.failed.objects) == (2, 2, 1)
    assert len(failed) == 1
    again, nothing = accounting.record_result(progress, outcome)
    assert (again, nothing) == (progress, ())


def test_an_object_with_two_owners_counts_once():
    item = planned(0, objects(5), workers=("worker-0", "worker-1"))
    progress = accounting.record_window(Progress(), [item], cursor="c", version="v")
    progress, _ = accounting.record_result(progress, result(item.batch, "worker-0", skipped=3))
    assert progress.remaining.objects == 5
    progress, failed = accounting.record_result(progress, result(item.batch, "worker-1", failed=1, skipped=4))
    assert (progress.done.objects, progress.skipped.objects, progress.failed.objects) == (1, 3, 1)
    assert [item.path for item in failed] == ["s3://b/k00000"]


def test_results_of_strangers_are_ignored():
    item = planned(0, objects(5))
    progress = accounting.record_window(Progress(), [item], cursor="c", version="v")
    for stranger in (result(planned(9, objects(5)).batch, "worker-0"), result(item.batch, "worker-2")):
        assert accounting.record_result(progress, stranger) == (progress, ())


@given(st.data())
def test_any_history_adds_up(data: st.DataObject):
    """Windows, results (late, twice, out of order) and lost workers: I7 and I4 hold after every step."""
    progress, known = Progress(), []
    for step in range(data.draw(st.integers(1, 25))):
        before = progress
        kind = data.draw(st.sampled_from(["window", "result", "lost"]))
        if kind == "window":
            workers = tuple(data.draw(st.lists(st.sampled_from(WORKERS), min_size=1, max_size=2, unique=True)))
            items = [
                planned(progress.batches + i, objects(data.draw(st.integers(1, 5)), first=step * 100 + i * 10), workers)
                for i in range(data.draw(st.integers(1, 3)))
            ]
            known += items
            progress = accounting.record_window(progress, items, cursor=f"{step:03d}", version="v")
        elif kind == "result" and known:
            item = data.draw(st.sampled_from(known))
            failed = data.draw(st.integers(0, len(item.batch.entries)))
            skipped = data.draw(st.integers(0, len(item.batch.entries) - failed))
            outcome = result(item.batch, data.draw(st.sampled_from(WORKERS)), skipped=skipped, failed=failed)
            progress, _ = accounting.record_result(progress, outcome)
        elif kind == "lost":
            for batch_id in accounting.lost_batches(progress, WORKERS[:2]):
                lost = next(item for item in known if item.batch.id == batch_id)
                moved = planned(progress.batches, list(lost.batch.entries), ("worker-1",))
                known.append(moved)
                progress = accounting.replace_batch(progress, batch_id, [moved])
        assert adds_up(progress)
        for name in ("listed", "done", "skipped", "failed"):
            assert getattr(progress, name).objects >= getattr(before, name).objects


def test_planning_puts_every_object_into_exactly_one_batch_of_its_owners():
    placement = PlacementMap(members=tuple(Member(id=worker, url="") for worker in WORKERS))
    spec = JobSpec(paths=("s3://b/",), options=JobOptions(batch_size=7, replicas=2))
    planner = Planner(job_id="j", spec=spec, action=Action.FETCH, generation=3, batch_bytes=40)
    items = planner.plan(objects(500), root="s3://b/", placement=placement, first=12)
    assert sorted(entry.key for item in items for entry in item.batch.entries) == [item.key for item in objects(500)]
    assert [item.batch.id for item in items] == [f"fetch-3-{number}" for number in range(12, 12 + len(items))]
    for item in items:
        assert len(item.batch.entries) <= 4  # 40 bytes end a batch before 7 objects do
        assert [entry.key for entry in item.batch.entries] == sorted(entry.key for entry in item.batch.entries)
        for entry in item.batch.entries:
            assert tuple(owner.id for owner in placement.owners(f"s3://b/{entry.key}", 2)) == item.workers


def job(load: Progress, verification: Progress | None = None) -> Job:
    spec = JobSpec(paths=("s3://b/p/",))
    return Job(id="j", spec=spec, submitted_at=0.0, work=load, verification=verification)


@pytest.mark.parametrize(
    ("options", "failed", "succeeds"),
    [
        ({}, 0, True),
        ({}, 1, False),
        ({"max_failed_files": 2}, 2, True),
        ({"max_failed_files": 2}, 3, False),
        ({"min_hot_fraction": 0.75}, 25, True),
        ({"min_hot_fraction": 0.75}, 26, False),
        ({"min_hot_fraction": 0.5, "max_failed_files": 10}, 11, False),
        ({"min_hot_fraction": 0.95, "max_failed_files": 10}, 6, False),
    ],
)
def test_a_job_may_succeed_with_few_enough_failures(options: dict[str, float], failed: int, succeeds: bool):
    hundred, lost = Tally(objects=100, bytes=100), Tally(objects=failed, bytes=failed)
    ended = job(Progress(listed=hundred, done=hundred - lost, failed=lost, listing_done=True))
    ended = replace(ended, spec=replace(ended.spec, options=JobOptions(**options)))  # type: ignore[arg-type]
    state, reason = accounting.verdict(ended)
    assert state is (JobState.SUCCEEDED if succeeds else JobState.FAILED)
    assert (f"{failed} of 100 files" in reason) is (failed > 0)


FIVE = Tally(objects=5, bytes=50)
LOADED = Progress(listed=FIVE, done=FIVE, version="v1", listing_done=True)


@pytest.mark.parametrize(
    ("ended", "state", "reason"),
    [
        (job(LOADED), JobState.SUCCEEDED, ""),
        (job(Progress(listing_done=True)), JobState.FAILED, "Nothing is listed below s3://b/p/"),
        (job(replace(LOADED, done=Tally(), failed=FIVE)), JobState.FAILED, "5 of 5 files could not be loaded"),
        (job(LOADED, LOADED), JobState.SUCCEEDED, ""),
        (job(LOADED, replace(LOADED, done=Tally(), failed=FIVE)), JobState.FAILED, "5 of 5 files are not hot"),
        (job(LOADED, replace(LOADED, version="v2")), JobState.FAILED, "changed at the origin"),
    ],
)
def test_verdict(ended: Job, state: JobState, reason: str):
    assert accounting.verdict(ended)[0] is state
    assert reason in accounting.verdict(ended)[1]


def test_the_record_names_a_hundred_failures_and_counts_all():
    failed = tuple(FailedObject(path=f"s3://b/{n}", size=1, code="x", message="m") for n in range(150))
    ended = accounting.record_failures(job(LOADED), failed)
    assert len(accounting.record_failures(ended, failed).failures) == 100


def test_a_batch_is_no_larger_than_the_engine_takes_even_if_all_of_it_fails():
    objects = [
        ObjectInfo(key=f"{number:04d}\x01" * 200, size=1, etag="e" * 70, last_modified=0.0) for number in range(800)
    ]
    planner = Planner(
        job_id="j",
        spec=JobSpec(paths=("s3://b/",), options=JobOptions(batch_size=10_000)),
        action=Action.FETCH,
        generation=1,
        batch_bytes=1 << 40,
    )
    placement = PlacementMap(epoch=1, members=(Member(id="w", url="http://w"),))
    planned = planner.plan(objects, root="s3://b/", placement=placement, first=0)
    assert [item for each in planned for item in each.batch.entries] == objects
    for each in planned:
        failed = tuple(
            FailedObject(path=f"s3://b/{entry.key}", size=1, code="origin_unavailable", message="m" * 300)
            for entry in each.batch.entries
        )
        result = BatchResult(batch_id=each.batch.id, job_id="j", worker="w", done=Tally(), failed=failed)
        assert max(len(msgspec.json.encode(each.batch)), len(msgspec.json.encode(result))) < 1 << 20


FOUR = (*WORKERS, "worker-3")


class Caches:
    """Who holds copies of one object, and the queue of its rebalance."""

    def __init__(self, holders: list[str]) -> None:
        self.copies = dict.fromkeys(holders, "before")
        """By worker, the job that brought its copy."""
        self.placement = PlacementMap(members=tuple(Member(id=each, url="") for each in FOUR))
        self.progress = Progress()
        self.queue: list[tuple[PlannedBatch, str]] = []
        self.planned: dict[str, PlannedBatch] = {}

    def plan(self, *, generation: int, recorded: bool) -> None:
        held = HeldObject(
            key="k", size=1, etag="e", last_modified=0.0,
            workers=tuple(self.copies), job_ids=tuple(self.copies.values()),
        )  # fmt: skip
        spec = JobSpec(type=JobType.REBALANCE)
        planner = Planner(job_id="j", spec=spec, action=Action.REBALANCE, generation=generation, batch_bytes=1)
        items = planner.plan([held], root="s3://b/", placement=self.placement, first=0)
        self.queue += [(item, worker) for item in items for worker in item.workers]
        if recorded:
            self.planned = {item.batch.id: item for item in items}
            self.progress = accounting.record_window(self.progress, items, cursor="c", version="v")

    def work(self, number: int) -> None:
        """Let a worker do a batch of the queue, from which nothing is ever removed, and account its result."""
        item, worker = self.queue[number % len(self.queue)]
        if worker in item.batch.keepers:
            self.copies.setdefault(worker, "j")
        else:
            self.copies.pop(worker, None)
        before = self.progress
        self.progress, _ = accounting.record_result(before, result(item.batch, worker))
        for batch_id in accounting.second_steps(before, self.progress):
            second = self.planned[batch_id]
            self.queue += [(second, each) for each in self.progress.open[batch_id].waiting]


@given(
    holders=st.lists(st.sampled_from(FOUR), min_size=1, max_size=4, unique=True),
    before_the_crash=st.lists(st.integers(0, 9), max_size=4),
    order=st.lists(st.integers(0, 9), min_size=5, max_size=30),
)
def test_no_order_of_a_rebalance_leaves_fewer_copies_than_there_were(
    holders: list[str], before_the_crash: list[int], order: list[int]
):
    caches = Caches(holders)
    caches.plan(generation=1, recorded=False)  # the coordinator dies before it has written that down
    if caches.queue:
        for number in before_the_crash:
            caches.work(number)
    caches.plan(generation=2, recorded=True)
    in_place = {member.id for member in caches.placement.owners("s3://b/k", len(holders))}
    if caches.queue:
        for number in [*order, *range(20), *range(20)]:
            caches.work(number)
            assert len(caches.copies) >= len(holders)
    assert set(caches.copies) == in_place
    assert caches.progress.open == {}


def test_a_batch_of_two_steps_goes_on_with_what_did_not_fail_and_relies_on_its_first_workers():
    entries = objects(4)
    item = replace(planned(0, entries, workers=("worker-0",)), then=("worker-1", "worker-2"))
    opened = accounting.record_window(Progress(), [item], cursor="c", version="v", left_out=Tally(objects=2, bytes=20))
    assert (opened.listed.objects, opened.skipped.objects, opened.remaining.objects) == (6, 2, 4)
    moved, failed = accounting.record_result(opened, result(item.batch, "worker-0", failed=1))
    assert (accounting.second_steps(opened, moved), failed) == (["fetch-1-0"], ())
    assert moved.open["fetch-1-0"].waiting == ("worker-1", "worker-2")
    assert accounting.lost_batches(moved, WORKERS) == []
    assert accounting.lost_batches(moved, WORKERS[1:]) == ["fetch-1-0"]  # who drops relies on who keeps
    rest = replace(item.batch, entries=item.batch.entries[1:])
    moved, _ = accounting.record_result(moved, result(rest, "worker-1", skipped=3))
    ended, failed = accounting.record_result(moved, result(rest, "worker-2"))
    assert (ended.done.objects, ended.skipped.objects, ended.failed.objects, len(failed)) == (3, 2, 1, 1)
    assert (accounting.second_steps(moved, ended), accounting.ended_steps(moved, ended)) == ([], ["fetch-1-0"])
    lost, failed = accounting.record_result(opened, result(item.batch, "worker-0", failed=4))
    assert (len(failed), accounting.second_steps(opened, lost), lost.open) == (4, [], {})
