"""Accounting: a history of windows, results in any order and number, and lost workers always adds up."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
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


PLACEMENT = PlacementMap(members=tuple(Member(id=worker, url="") for worker in WORKERS))


def loader(*, generation: int = 1, batch_size: int = 3, batch_bytes: int = 1 << 20) -> Planner:
    spec = JobSpec(paths=("s3://b/",), options=JobOptions(batch_size=batch_size, replicas=2))
    return Planner(job_id="j", spec=spec, action=Action.FETCH, generation=generation, batch_bytes=batch_bytes)


def test_planning_puts_each_copy_of_every_object_into_exactly_one_batch_of_its_owner():
    items = loader(generation=3, batch_size=7, batch_bytes=40).plan(
        objects(500), root="s3://b/", placement=PLACEMENT, first=12
    )
    assert [item.batch.id for item in items] == [f"fetch-3-{number}" for number in range(12, 12 + len(items))]
    assert sum((item.tally for item in items), Tally()) == Tally(objects=500, bytes=5000)
    for item in items:
        assert len(item.batch.entries) <= 4  # 40 bytes end a batch before 7 objects do
        assert [entry.key for entry in item.batch.entries] == sorted(entry.key for entry in item.batch.entries)
    planned = Counter((entry.key, item.copy, item.workers) for item in items for entry in item.batch.entries)
    assert planned == Counter(
        (entry.key, copy, (owner.id,))
        for entry in objects(500)
        for copy, owner in enumerate(PLACEMENT.owners(f"s3://b/{entry.key}", 2))
    )
    joint = {(entry.key, item.joint) for item in items for entry in item.batch.entries}
    assert len(joint) == 500  # all copies of an object are in one account
    assert len({item.joint for item in items}) > 500 * 10 / (3 * 40) - 1


def test_a_thousand_workers_get_a_batch_for_each_copy_and_not_one_for_each_pair_of_owners():
    members = tuple(Member(id=f"preheat-worker-{number}", url="") for number in range(1000))
    items = loader(batch_size=500).plan(objects(5000), root="s3://b/", placement=PlacementMap(members=members), first=0)
    assert len(items) <= 2 * 1000


@settings(deadline=None, max_examples=40)
@given(randoms=st.randoms(use_true_random=False), count=st.integers(1, 20), lost=st.sampled_from([*WORKERS, ""]))
def test_a_joint_account_counts_each_object_once_by_what_all_of_its_owners_say(randoms: Random, count: int, lost: str):
    """Results in any order and twice, and a lost worker; what an owner says of an object is known beforehand."""
    entries, lives = objects(count), set(WORKERS) - {lost}
    says = {(who, entry.key): randoms.choice(["done", "skipped", "failed"]) for who in WORKERS for entry in entries}
    queue = loader().plan(entries, root="s3://b/", placement=PLACEMENT, first=0)
    progress = accounting.record_window(Progress(), queue, cursor="c", version="v")
    asked, failed, lost_at = set[tuple[str, str]](), list[str](), randoms.randint(0, 2 * len(queue))
    for step in range(2 * lost_at + 100):
        if step == lost_at:
            progress, queue = without(progress, queue, lives)
        if step >= lost_at and not progress.open:
            break
        item = randoms.choice(queue) if step < lost_at + 9 else queue[step % len(queue)]
        before, (worker,) = progress, item.workers
        progress, gone = accounting.record_result(before, said(item.batch, worker, says))
        failed += [each.path for each in gone]
        asked |= {(worker, entry.key) for entry in item.batch.entries} if progress != before else set()
        assert adds_up(progress)
    told = {entry.key: {says[who, key] for who, key in asked if key == entry.key} for entry in entries}
    skipped = [key for key, words in told.items() if words == {"skipped"}]
    assert (progress.open, progress.remaining) == ({}, Tally())
    assert sorted(failed) == [f"s3://b/{key}" for key, words in told.items() if "failed" in words]
    assert (progress.failed.objects, progress.skipped.objects >= len(skipped)) == (len(failed), True)


def without(progress: Progress, queue: list[PlannedBatch], live: set[str]) -> tuple[Progress, list[PlannedBatch]]:
    """Give what workers that died have not done to those that live."""
    placement = PlacementMap(members=tuple(member for member in PLACEMENT.members if member.id in live))
    for batch_id in accounting.lost_batches(progress, live):
        batch = next(item.batch for item in queue if item.batch.id == batch_id)
        again = loader().plan_again(batch, placement=placement, first=progress.batches)
        progress, queue = accounting.replace_batch(progress, batch_id, again), queue + again
    return progress, queue


def said(batch: Batch, worker: str, says: dict[tuple[str, str], str]) -> BatchResult:
    by = {word: [entry for entry in batch.entries if says[worker, entry.key] == word] for word in says.values()}
    done, skipped, failed = (by.get(word, []) for word in ("done", "skipped", "failed"))
    return BatchResult(
        batch_id=batch.id,
        job_id="j",
        worker=worker,
        done=Tally(objects=len(done), bytes=10 * len(done)),
        skipped=Tally(objects=len(skipped), bytes=10 * len(skipped)),
        failed=tuple(FailedObject(path=f"s3://b/{entry.key}", size=10, code="x", message="") for entry in failed),
    )


@pytest.mark.parametrize(("first", "second", "skipped"), [(4, 4, 4), (4, 0, 0), (2, 2, 2)])
def test_an_object_is_skipped_if_all_of_its_owners_skip_it(first: int, second: int, skipped: int):
    placement = PlacementMap(members=PLACEMENT.members[:2])
    items = loader(batch_size=9).plan(objects(4), root="s3://b/", placement=placement, first=0)
    progress = accounting.record_window(Progress(), items, cursor="c", version="v")
    left = {0: first, 1: second}
    for item in items:
        taken = min(left[item.copy], len(item.batch.entries))
        left[item.copy] -= taken
        progress, _ = accounting.record_result(progress, result(item.batch, item.workers[0], skipped=taken))
    assert (progress.skipped.objects, progress.done.objects) == (skipped, 4 - skipped)


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
