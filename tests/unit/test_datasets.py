"""What is done about declared datasets: pure decisions, without a loop and without a clock."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import msgspec
import pytest

from preheat.datasets import (
    Change,
    Condition,
    ConditionType,
    Dataset,
    Forget,
    Idle,
    Leave,
    Look,
    Owner,
    Phase,
    Preload,
    Record,
    Rewarm,
    Seen,
    SetRule,
    SetTtl,
    Submit,
    TakeLook,
    deadline_after,
    decide,
    declared,
    failed,
    looked,
    next_time,
    without_run,
)
from preheat.errors import InvalidRequest
from preheat.jobs import Job, JobOptions, JobState, Progress, Tally
from preheat.mounts import Freshness, Mount
from preheat.settings import DatasetSettings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
DAY = 86400.0
SETTINGS = DatasetSettings()
PATH = "s3://b/data/"


def dataset(**given: object) -> Dataset:
    preload = {
        name: given.pop(name) for name in ("schedule", "order", "deadline", "rewarm", "timezone") if name in given
    }
    enabled = given.pop("enabled", True)
    return Dataset(**{"name": "images", "path": PATH, "preload": Preload(enabled=enabled, **preload), **given})  # type: ignore[arg-type]


@dataclass
class World:
    """A dataset and what is around it; takes each step as a coordinator would, and notes what was submitted."""

    record: Record
    now: float = NOON
    members: dict[str, float] = field(default_factory=lambda: {"w0": 1.0, "w1": 1.0})
    job: Job | None = None
    rule: Mount | None = None
    due: dict[str, float] = field(default_factory=dict)
    submitted: list[tuple[bool, JobOptions]] = field(default_factory=list)
    looks: int = 0
    left: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, item: Dataset) -> World:
        return cls(declared(None, item, Owner.API, NOON))

    def settle(self) -> World:
        """Take all steps that are due."""
        for _ in range(30):
            if not self.step():
                return self
        raise AssertionError(f"not settled: {self.record}")

    def step(self) -> bool:
        decision = decide(self.record, self.seen, self.now, SETTINGS)
        match decision:
            case Change(record=after) | TakeLook(record=after):
                assert after != self.record, "a change that changes nothing"
                self.looks += isinstance(decision, TakeLook)
                self.record = msgspec.json.decode(msgspec.json.encode(after), type=Record)
            case Submit(run=run):
                self.submitted.append((run.is_load, run.spec.options))
                self.job = Job(id=f"job-{len(self.submitted)}", spec=run.spec, submitted_at=self.now)
                self.record = replace(self.record, run=replace(run, job_id=self.job.id))
            case Leave(run=run):
                self.left.append(run.job_id)
                self.record = replace(self.record, left=None)
            case SetRule(rule=rule):
                self.rule = rule
            case SetTtl(path=path, seconds=None):
                del self.due[path]
            case SetTtl(path=path, seconds=seconds):
                self.due[path] = self.now + float(seconds or 0)
        return not isinstance(decision, Idle | TakeLook | Forget)

    @property
    def seen(self) -> Seen:
        return Seen(members=self.members, job=self.job, rule=self.rule, due=self.due)

    def end(self, state: JobState = JobState.SUCCEEDED, size: int = 100, reason: str = "") -> World:
        """Let the job end."""
        assert self.job
        work = Progress(listed=Tally(objects=10, bytes=size), done=Tally(objects=10, bytes=size), listing_done=True)
        self.job = replace(self.job, state=state, work=work, finished_at=self.now, reason=reason)
        return self.settle()

    def loaded(self) -> World:
        """Let it be loaded for the first time."""
        self.settle().end()
        return self.end()

    def after(self, seconds: float) -> World:
        self.now += seconds
        return self.settle()

    def see(self, **found: object) -> World:
        """Let a look end."""
        look = Look(**{"at": self.now, "seconds": 1.0, "hot_fraction": 1.0, **found})  # type: ignore[arg-type]
        self.record = looked(self.record, look, SETTINGS, self.now)
        return self.settle()

    @property
    def kinds(self) -> list[str]:
        return ["load" if is_load else "metadata" for is_load, _ in self.submitted]

    def condition(self, kind: ConditionType) -> Condition:
        found = self.record.condition(kind)
        assert found
        return found


def test_it_is_loaded_once_there_are_workers_and_metadata():
    world = World.of(dataset(replicas=2))
    assert world.record.phase is Phase.UNKNOWN
    world.members = {"w0": 1.0}
    world.settle()
    assert (world.record.phase, world.submitted) == (Phase.NOT_STARTED, [])
    assert world.condition(ConditionType.WORKERS_READY).message == "1 of 2 workers that its copies need are live."
    world.members = {"w0": 1.0, "w1": 1.0}
    world.settle()
    assert (world.record.phase, world.kinds) == (Phase.NOT_STARTED, ["metadata"])
    world.end()
    assert (world.record.phase, world.kinds) == (Phase.LOADING, ["metadata", "load"])
    assert world.submitted[1][1].replicas == 2
    assert world.condition(ConditionType.METADATA_LOADED).status
    world.end()
    assert (world.record.phase, world.record.loaded is not None) == (Phase.LOADED, True)
    assert world.after(60).kinds == ["metadata", "load"]


def test_what_is_not_enabled_is_not_started():
    world = World.of(dataset(enabled=False, freshness="always-check")).after(30 * DAY)
    assert (world.record.phase, world.submitted) == (Phase.NOT_STARTED, [])
    assert world.rule == Mount(name="", path=PATH, freshness=Freshness.ALWAYS_CHECK)
    world.record = replace(world.record, removed=True)
    world.settle()
    assert world.rule is None
    assert isinstance(decide(world.record, world.seen, world.now), Forget)


def test_a_schedule_waits_for_its_time_and_takes_a_missed_one_once():
    world = World.of(dataset(schedule="0 2 * * *", timezone="Europe/Berlin", deadline="06:00 Europe/Berlin")).settle()
    world.end()
    assert (world.kinds, world.record.phase) == (["metadata"], Phase.NOT_STARTED)
    assert world.after(12 * 3600).kinds == ["metadata"]  # 01:00 in Berlin
    assert world.after(3600).kinds == ["metadata", "load"]
    assert world.submitted[1][1].deadline == datetime(2026, 3, 2, 6, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
    world.end()
    assert world.record.phase is Phase.LOADED
    world.members = {"w0": world.now + 1}  # all were away for three days
    assert world.after(3 * DAY).kinds == ["metadata", "load", "load"]
    world.end()
    assert world.after(23 * 3600).kinds.count("load") == 2
    assert world.after(3600).kinds.count("load") == 3


def test_a_failure_is_tried_again_ever_later_and_a_stop_is_not():
    world = World.of(dataset()).settle().end()
    for wait in (30, 60, 120):
        count = len(world.submitted)
        world.end(JobState.FAILED, reason="Access denied.")
        assert "Access denied." in world.condition(ConditionType.FAILING).message
        assert len(world.after(wait - 1).submitted) == count
        assert len(world.after(1).submitted) == count + 1
    world.end(JobState.STOPPED)
    assert world.condition(ConditionType.FAILING).reason == "Stopped"
    count = len(world.submitted)
    assert len(world.after(7 * DAY).submitted) == count
    world.record = declared(world.record, world.record.dataset, Owner.API, world.now)
    world.settle().end()
    assert not world.condition(ConditionType.FAILING).status
    assert world.record.phase is Phase.LOADED


def test_what_fails_at_each_time_of_its_schedule_is_not_tried_more_often_in_between():
    world = World.of(dataset(schedule="*/5 * * * *")).settle().end()
    tries = []
    for _ in range(12):
        count = len(world.submitted)
        for _ in range(30):
            if world.after(10).record.run:
                world.end(JobState.FAILED)
        tries.append(len(world.submitted) - count)
    assert tries[-6:] == [1] * 6


def test_the_pause_between_two_tries_has_an_end():
    record = World.of(dataset()).settle().record
    for _ in range(2000):
        record = failed(record, "LoadFailed", "No.", SETTINGS, NOON)
    assert record.cycle
    assert record.cycle.retry_at == NOON + SETTINGS.retry_most_seconds


def test_a_job_that_is_gone_is_submitted_again():
    world = World.of(dataset()).settle()
    world.job = None
    world.settle()
    assert world.condition(ConditionType.FAILING).reason == "JobGone"
    assert world.after(30).kinds == ["metadata", "metadata"]


def test_somebody_elses_job_with_fewer_copies_is_waited_for_but_does_not_count():
    world = World.of(dataset(replicas=2)).settle().end()
    assert world.job
    world.job = replace(world.job, spec=replace(world.job.spec, options=JobOptions(replicas=1)))
    world.end()
    assert (world.kinds, world.record.phase) == (["metadata", "load", "load"], Phase.LOADING)


@pytest.mark.parametrize("rewarm", list(Rewarm))
def test_a_lost_worker_is_told_at_once_and_its_share_loaded_again_by_policy(rewarm: Rewarm):
    world = World.of(dataset(rewarm=rewarm)).loaded().after(1)
    world.members = {"w0": 1.0}
    world.settle()
    assert world.condition(ConditionType.COPIES_LOST).message == "Since it was loaded left: w1."
    world.see(hot_fraction=0.5)  # what is hot is told at once, too
    assert world.condition(ConditionType.COPIES_LOST).reason == "WorkerLost"
    assert (world.looks, world.kinds) == (1, ["metadata", "load"])
    world.after(SETTINGS.settle_seconds)
    assert (len(world.submitted) == 3) is (rewarm in (Rewarm.ALL, Rewarm.LOST))
    if len(world.submitted) == 3:
        world.end()
        assert not world.condition(ConditionType.COPIES_LOST).status
        assert world.record.phase is Phase.LOADED


def test_a_worker_that_comes_back_in_time_costs_a_look():
    world = World.of(dataset()).loaded()
    world.members = {"w0": 1.0}
    world.after(5)
    world.members = {"w0": 1.0, "w1": world.now}
    world.after(1)
    assert not world.condition(ConditionType.COPIES_LOST).status
    world.after(SETTINGS.settle_seconds)
    assert (world.looks, world.kinds) == (1, ["metadata", "load"])
    world.see(hot_fraction=0.5)  # its disk was another one
    assert world.kinds == ["metadata", "load", "load"]


@pytest.mark.parametrize("rewarm", list(Rewarm))
def test_drift_is_told_and_loaded_by_policy(rewarm: Rewarm):
    world = World.of(dataset(rewarm=rewarm)).loaded().after(SETTINGS.look_seconds)
    assert world.looks == 1
    assert world.after(1).looks == 1, "two looks at the same time"
    world.see(changes=3)
    assert world.condition(ConditionType.DRIFTED).message == "3 objects are not as they were listed."
    assert (len(world.submitted) == 3) is (rewarm in (Rewarm.ALL, Rewarm.DRIFT))


def test_what_changes_all_the_time_is_loaded_ever_more_seldom_until_it_is_calm():
    world = World.of(dataset()).loaded()
    expected = [0.0, 600.0, 1200.0, 2400.0, 4800.0, 9600.0, SETTINGS.drift_most_seconds, SETTINGS.drift_most_seconds]
    for count, pause in enumerate(expected, start=3):
        world.after(SETTINGS.look_seconds).see(changes=1)
        if pause:
            world.after(pause - 1).see(changes=2)
            assert len(world.submitted) == count - 1
            ends = datetime.fromtimestamp(world.now + 1, tz=UTC).isoformat(timespec="seconds")
            assert f"loaded again at {ends}" in world.condition(ConditionType.DRIFTED).message
            world.after(1)
        assert len(world.submitted) == count
        world.end()
    world.after(SETTINGS.look_seconds).see()
    assert world.record.drifts == len(expected), "calm for ten minutes is not calm"
    world.after(SETTINGS.drift_calm_seconds).see()
    assert len(world.see(changes=1).submitted) == 2 + len(expected) + 1


def test_a_pinned_version_is_kept_though_the_origin_drifts():
    world = World.of(dataset()).loaded().after(SETTINGS.look_seconds).see(changes=3, pinned=True)
    assert world.condition(ConditionType.DRIFTED).reason == "PinnedVersionKept"
    assert world.kinds == ["metadata", "load"]


def test_a_look_that_is_never_finished_is_anothers_and_long_ones_are_rare():
    world = World.of(dataset()).loaded().after(SETTINGS.look_seconds)
    assert world.after(SETTINGS.look_most_seconds).looks == 2
    world.see(seconds=100.0)
    assert world.after(4999).looks == 2
    assert world.after(1).looks == 3
    world.see(hot_fraction=0.2, problem="A worker does not answer.")
    assert (world.kinds, world.record.holds(ConditionType.COPIES_LOST)) == (["metadata", "load"], False)


def test_copies_that_are_evicted_each_time_are_loaded_ever_more_seldom():
    world = World.of(dataset()).loaded()
    for count in range(3):
        world.after(SETTINGS.look_seconds * 2**count - 1)
        assert world.looks == count
        world.after(1).see(hot_fraction=0.9)
        assert world.kinds.count("load") == count + 2
        world.end()
    world.after(SETTINGS.look_seconds * 8).see()
    assert world.record.colds == 0


def test_a_quota_is_held_against_all_copies_before_anything_is_loaded():
    world = World.of(dataset(replicas=2, quota=199)).settle().end(size=100)
    assert (world.kinds, world.record.phase) == (["metadata"], Phase.NOT_STARTED)
    assert world.condition(ConditionType.QUOTA_EXCEEDED).message == "All copies take 200 B, its quota is 199 B."
    world.after(SETTINGS.retry_seconds).end(size=99)
    assert world.kinds == ["metadata", "metadata", "load"]
    assert not world.condition(ConditionType.QUOTA_EXCEEDED).status


def test_the_time_to_live_counts_from_the_last_success():
    world = World.of(dataset(ttl=DAY, schedule="0 2 * * *")).settle().end().after(14 * 3600).after(3600)
    world.end()
    assert world.due == {PATH: world.now + DAY}
    world.after(23 * 3600)
    assert (world.kinds[-1], world.due) == ("load", {}), "nothing is freed while it loads"
    world.end()
    assert world.due == {PATH: world.now + DAY}
    once = World.of(dataset(ttl=DAY)).loaded().after(DAY)
    assert (once.record.phase, once.condition(ConditionType.LOADED).reason) == (Phase.NOT_STARTED, "Expired")
    assert once.after(DAY).kinds == ["metadata", "load"]


def test_an_order_file_is_the_loads_index_and_the_metadata_is_the_datasets():
    world = World.of(dataset(order="s3://b/order.txt", sub_paths=("train/", "labels.csv"))).settle()
    assert world.job
    assert world.job.spec.paths == ("s3://b/data/train/", "s3://b/data/labels.csv")
    world.end()
    assert (world.job.spec.index, world.job.spec.paths) == ("s3://b/order.txt", ())
    assert world.record.dataset.grant.prefixes == (PATH, "s3://b/order.txt/")


@pytest.mark.parametrize("attached", [False, True])
def test_a_load_that_nobody_wants_any_more_is_left_once(attached: bool):
    for dataset_now in (dataset(enabled=False), dataset(replicas=2), None):
        world = World.of(dataset()).settle().end()
        assert world.record.run
        world.record = replace(world.record, run=replace(world.record.run, attached=attached))
        if dataset_now:
            world.record = declared(world.record, dataset_now, Owner.API, world.now)
        else:
            world.record = replace(without_run(world.record), removed=True)
        world.settle()
        assert world.left == ([] if attached else ["job-2"])
        assert world.record.left is None


def test_declaring_again_keeps_what_still_holds():
    world = World.of(dataset()).loaded()
    kept = declared(world.record, dataset(ttl=5.0), Owner.API, NOON)
    assert kept.loaded == world.record.loaded
    assert declared(world.record, dataset(replicas=3), Owner.API, NOON).loaded is None
    assert declared(world.record, dataset(), Owner.FILE, NOON) == replace(world.record, owner=Owner.FILE)
    assert declared(replace(world.record, removed=True), dataset(), Owner.API, NOON).loaded is None
    off = declared(world.record, dataset(enabled=False), Owner.API, NOON)
    assert (off.phase, off.run, off.cycle) == (Phase.NOT_STARTED, None, None)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"name": "a.b"}, "name="),
        ({"path": "s3://b/data"}, "s3://b/data/"),
        ({"sub_paths": ("../x",)}, "not below"),
        ({"sub_paths": ("/x",)}, "not below"),
        ({"replicas": 0}, "replicas=0"),
        ({"freshness": "now"}, "freshness='now'"),
        ({"schedule": "61 * * * *"}, "schedule="),
        ({"schedule": "0 0 31 2 *"}, "schedule="),
        ({"schedule": "* * * * * *"}, "6 fields"),
        ({"schedule": "0 2 * * *", "timezone": "Mars/Olympus"}, "timezone="),
        ({"timezone": "../../etc"}, "timezone="),
        ({"deadline": "tomorrow"}, "deadline="),
        ({"deadline": "2030-01-01T00:00:00Z"}, "deadline="),
        ({"deadline": "06:00 Mars/Olympus"}, "timezone="),
        ({"order": "order.txt"}, "order.txt"),
    ],
)
def test_what_cannot_be_declared_is_refused_with_its_name(given: dict[str, object], named: str):
    with pytest.raises(InvalidRequest, match=named.replace("(", r"\(")):
        dataset(**given)


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        ("30 2 * * *", "2026-03-28T12:00+01:00", "2026-03-29T03:00+02:00"),  # the hour is left out
        ("30 2 * * *", "2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"),
        ("30 2 * * *", "2026-10-24T12:00+02:00", "2026-10-25T02:30+02:00"),  # it comes twice: the first time
        ("30 2 * * *", "2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"),
        ("30 2 * * *", "2026-10-25T02:10+01:00", "2026-10-26T02:30+01:00"),  # not in the past either
        ("*/30 * * * *", "2026-10-25T02:30+02:00", "2026-10-25T02:00+01:00"),  # both times
        ("@daily", "2026-10-25T02:30+02:00", "2026-10-26T00:00+01:00"),
    ],
)
def test_schedules_where_clocks_change(schedule: str, after: str, expected: str):
    start, end = (datetime.fromisoformat(text).timestamp() for text in (after, expected))
    assert next_time(schedule, "Europe/Berlin", start) == end


def test_deadlines_are_spans_or_times_of_day_in_a_zone():
    assert deadline_after("2h", NOON) == NOON + 7200
    assert deadline_after("06:00", NOON) == NOON + 18 * 3600
    assert deadline_after("13:30 Europe/Berlin", NOON) == NOON + 1800
