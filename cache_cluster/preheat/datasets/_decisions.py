"""What to do about a dataset next. Pure: one step at a time, from its record and from what is seen around it.

The steps are in this order so that a coordinator may die after any of them, and several may take them at once: what is
to be done is written down first, by compare-and-swap, and doing it twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from preheat.datasets._declaration import Rewarm
from preheat.datasets._outcomes import begun, drift_ends_at, ended, expired, failed, look_at
from preheat.datasets._schedule import next_time
from preheat.datasets._state import Cause, ConditionType, Cycle, Loaded, Record, Run
from preheat.jobs import Job
from preheat.mounts import Mount
from preheat.settings import DatasetSettings
from preheat.units import human_size

_TTL_SLACK_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What is around a dataset now."""

    members: Mapping[str, float] = field(default_factory=dict)
    """The live workers, with the start of their processes."""
    job: Job | None = None
    """That of the run, if it has one and the job is still known."""
    rule: Mount | None = None
    """What holds for the readers because of the dataset."""
    due: Mapping[str, float] = field(default_factory=dict)
    """By path: when it is freed, or was."""


class Idle:
    """Nothing, for now."""


@dataclass(frozen=True, slots=True)
class Change:
    """Write the record, if it is still the one that was decided about."""

    record: Record


@dataclass(frozen=True, slots=True)
class Submit:
    """Submit a run's job, and write its id into the record."""

    run: Run


@dataclass(frozen=True, slots=True)
class Leave:
    """Wait no longer for a run's job, and forget the run."""

    run: Run


@dataclass(frozen=True, slots=True)
class SetRule:
    """Let something hold for the readers; none lets it hold no longer."""

    rule: Mount | None


@dataclass(frozen=True, slots=True)
class SetTtl:
    """Let a path be freed in so many seconds; none lets it stay."""

    path: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class TakeLook:
    """Look what the workers hold and the under store has; the record says who does."""

    record: Record


class Forget:
    """Delete the record."""


Decision = Idle | Change | Submit | Leave | SetRule | SetTtl | TakeLook | Forget


def decide(record: Record, seen: Seen, now: float, settings: DatasetSettings | None = None) -> Decision:
    """Return the next step.

    Args:
        record: what is known of the dataset.
        seen: what is around it.
        now: seconds since the epoch.
        settings: how patient to be.
    """
    settings = settings or DatasetSettings()
    if undone := _undo(record, seen):
        return undone
    said = _observed(record, seen, now)
    if said != record:
        return Change(said)
    if record.run is not None:
        return _follow(record, record.run, seen, settings, now)
    if not record.dataset.preload.enabled:
        return Idle()
    return _keep(record, seen, settings, now)


def _undo(record: Record, seen: Seen) -> Leave | SetRule | Forget | None:
    """Return what there is that the declaration has not, or no longer has."""
    if record.left is not None:
        return Leave(record.left)
    rule = None if record.removed else record.dataset.rule
    if seen.rule != rule:
        return SetRule(rule)
    return Forget() if record.removed else None


def next_load(record: Record, now: float) -> float | None:
    """Return when the schedule is to be obeyed next, in seconds since the epoch; none without one."""
    preload = record.dataset.preload
    if not (preload.enabled and preload.schedule):
        return None
    return next_time(preload.schedule, preload.timezone, max(record.changed_at, record.fired_at, now))


def _observed(record: Record, seen: Seen, now: float) -> Record:
    """Return the record with what can be said at a glance."""
    record = replace(record, observed=True)
    wanted, there = record.dataset.replicas, len(seen.members)
    ready, text = there >= wanted, f"{there} of {wanted} workers that its copies need are live."
    record = record.saying(ConditionType.WORKERS_READY, "Live" if ready else "TooFew", text, status=ready, now=now)
    if record.condition(ConditionType.LOADED) is None:
        waiting = "WaitingToBeLoaded" if record.dataset.preload.enabled else "NotEnabled"
        record = record.saying(ConditionType.METADATA_LOADED, "NotListed", status=False, now=now)
        record = record.saying(ConditionType.LOADED, waiting, status=False, now=now)
    lost = sorted(set(record.loaded.members) - set(seen.members)) if record.loaded else []
    if lost:
        text = f"Since it was loaded left: {', '.join(lost[:5])}{f' and {len(lost) - 5} more' if lost[5:] else ''}."
        return record.saying(ConditionType.COPIES_LOST, "WorkerLost", text, status=True, now=now)
    known = record.condition(ConditionType.COPIES_LOST)
    if known and known.reason == "WorkerLost":
        return record.no_longer(ConditionType.COPIES_LOST, "WorkerBack", now=now)
    return record


def _follow(record: Record, run: Run, seen: Seen, settings: DatasetSettings, now: float) -> Decision:
    if not run.job_id:
        return _begin(record, run, seen, now)
    if seen.job is None:
        return Change(failed(record, "JobGone", f"The job {run.job_id} is not known any more.", settings, now))
    if not seen.job.state.ended:
        return Idle()
    return Change(ended(record, run, seen.job, members=seen.members, settings=settings, now=now))


def _begin(record: Record, run: Run, seen: Seen, now: float) -> Decision:
    """Submit a run; while it loads, no time that is over frees what it has found in the cache."""
    if not record.holds(ConditionType.WORKERS_READY):
        return Idle()
    pending = [path for path in record.dataset.targets if seen.due.get(path, 0.0) > now]
    return SetTtl(pending[0], None) if run.is_load and record.dataset.ttl and pending else Submit(run)


def _keep(record: Record, seen: Seen, settings: DatasetSettings, now: float) -> Decision:
    """Return what keeps a dataset loaded of which no run is under way."""
    if ttl := _ttl(record, seen, now):
        return ttl
    ends = _ends_at(record)
    if record.cycle is None and ends is not None and ends <= now:
        return Change(expired(record, now))
    cause = _cause(record, settings, now)
    if cause is Cause.SCHEDULED:
        return Change(replace(begun(record, _cycle(record, cause, now)), fired_at=now))
    if record.cycle is not None:
        return _go_on(record, record.cycle, settings, now)
    if cause is not None:
        return Change(begun(record, _cycle(record, cause, now)))
    return _look(record, seen, settings, now)


def _look(record: Record, seen: Seen, settings: DatasetSettings, now: float) -> Decision:
    """Return the look that is due, if no other coordinator has it in hand."""
    free = now >= record.look_begun + settings.look_most_seconds
    if record.loaded and free and now >= _look_at(record, record.loaded, seen, settings):
        return TakeLook(replace(record, look_begun=now))
    return Idle()


def _cause(record: Record, settings: DatasetSettings, now: float) -> Cause | None:
    """Return why the dataset is to be loaded now, if it is."""
    preload = record.dataset.preload
    if preload.schedule and next_time(preload.schedule, preload.timezone, _since(record)) <= now:
        return Cause.SCHEDULED
    if record.held:
        return None
    if record.loaded is None:
        return None if preload.schedule and record.listed else Cause.DECLARED
    lost = record.condition(ConditionType.COPIES_LOST)
    if lost and lost.status and preload.rewarm in (Rewarm.ALL, Rewarm.LOST):
        settle = 0.0 if lost.reason == "Cold" else settings.settle_seconds
        return Cause.COPIES_LOST if lost.since + settle <= now else None
    ends = drift_ends_at(record, settings)
    return Cause.DRIFTED if ends is not None and ends <= now else None


def _since(record: Record) -> float:
    return max(record.changed_at, record.fired_at)


def _cycle(record: Record, cause: Cause, now: float) -> Cycle:
    """Return a new cycle; what failed until its schedule came again goes on being tried ever more seldom."""
    listed = record.listed is not None and not record.dataset.looks_first
    return Cycle(cause=cause, began_at=now, listed=listed, failures=record.cycle.failures if record.cycle else 0)


def _go_on(record: Record, cycle: Cycle, settings: DatasetSettings, now: float) -> Decision:
    """Return the next run of a cycle, once it may begin."""
    dataset = record.dataset
    if now < cycle.retry_at or not record.holds(ConditionType.WORKERS_READY):
        return Idle()
    if cycle.listed and dataset.preload.schedule and cycle.cause is Cause.DECLARED:
        return Change(replace(record, cycle=None))  # its metadata was all that could not wait for the schedule
    if cycle.listed and (too_much := _over_quota(record)):
        over = failed(record, "QuotaExceeded", too_much, settings, now)
        return Change(over.saying(ConditionType.QUOTA_EXCEEDED, "TooLarge", too_much, status=True, now=now))
    if cycle.listed:
        record = record.no_longer(ConditionType.QUOTA_EXCEEDED, "Fits", now=now)
    spec = dataset.load_spec(now) if cycle.listed else dataset.metadata_spec()
    run = Run(key=f"dataset {dataset.name} {record.changed_at} {record.runs}", spec=spec, made_at=now)
    return Change(replace(record, run=run, runs=record.runs + 1))


def _over_quota(record: Record) -> str:
    """Return by how much a dataset is too large; empty if it is not."""
    quota, listed = record.dataset.quota, record.listed
    needed = listed.bytes * record.dataset.replicas if listed else 0
    if quota is None or needed <= quota:
        return ""
    return f"All copies take {human_size(needed)}, its quota is {human_size(quota)}."


def _ends_at(record: Record) -> float | None:
    ttl = record.dataset.ttl
    return record.loaded.at + ttl if record.loaded and ttl is not None else None


def _ttl(record: Record, seen: Seen, now: float) -> SetTtl | None:
    """Return the path whose time is not set as it should be."""
    ends = _ends_at(record)
    if ends is None:
        return None
    for path in record.dataset.targets:
        due = seen.due.get(path)
        if due is None or (abs(due - ends) > _TTL_SLACK_SECONDS and max(due, ends) > now + _TTL_SLACK_SECONDS):
            return SetTtl(path, max(ends - now, 1.0))
    return None


def _look_at(record: Record, loaded: Loaded, seen: Seen, settings: DatasetSettings) -> float:
    """Return when to look next: at once if a worker left, soon after one came back, for its disk may not have."""
    since = max(loaded.at, record.look.at if record.look else 0.0)
    lost = record.condition(ConditionType.COPIES_LOST)
    if lost and lost.status and lost.since > since:
        return lost.since
    restarts = [at for worker, at in seen.members.items() if worker in loaded.members and at > since]
    soon = [min(restarts) + settings.settle_seconds] if restarts else []
    return min([look_at(record, loaded, settings), *soon])
