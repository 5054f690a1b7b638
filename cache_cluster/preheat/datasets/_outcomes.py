"""What becomes of a dataset's record when a run has ended or a look was taken. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from preheat.accounting import dataset_version, hot_fraction
from preheat.datasets._declaration import Rewarm
from preheat.datasets._state import Cause, ConditionType, Cycle, Loaded, Look, Record, Run
from preheat.jobs import Job, JobState
from preheat.settings import DatasetSettings


def retry_at(failures: int, settings: DatasetSettings, now: float) -> float:
    """Return when what has failed so often in a row is tried again."""
    seconds = settings.retry_seconds * 2.0 ** (min(failures, 30) - 1)
    return now + min(seconds, settings.retry_most_seconds)


def drift_pause(drifts: int, settings: DatasetSettings) -> float:
    """Return how long what has changed so often waits to be loaded again, in seconds from when that was seen."""
    if not drifts:
        return 0.0
    return min(settings.drift_seconds * 2.0 ** (min(drifts, 30) - 1), settings.drift_most_seconds)


def look_at(record: Record, loaded: Loaded, settings: DatasetSettings) -> float:
    """Return when to look next: less often where a look takes long, or what it finds is cold each time."""
    took = record.look.seconds if record.look else 0.0
    pause = max(settings.look_seconds * 2.0 ** min(record.colds, 8), settings.look_pause_factor * took)
    return max(loaded.at, record.look.at if record.look else 0.0) + pause


def failed(record: Record, reason: str, message: str, settings: DatasetSettings, now: float) -> Record:
    """Return the record after a run that could not be submitted, or failed: it is tried again, later each time."""
    if record.cycle is None:
        return replace(record, run=None)
    failures = record.cycle.failures + 1
    cycle = replace(
        record.cycle,
        failures=failures,
        retry_at=retry_at(failures, settings, now),
        listed=record.cycle.listed and not record.dataset.looks_first,
    )
    after = replace(record, cycle=cycle, run=None)
    return after.saying(ConditionType.FAILING, reason, message, status=True, now=now)


def ended(
    record: Record, run: Run, job: Job, *, members: Mapping[str, float], settings: DatasetSettings, now: float
) -> Record:
    """Return the record after the job of its run has ended."""
    record = replace(record, last_job=job.id)
    if job.state is JobState.STOPPED:
        return _stopped(record, job, now)
    if job.state is not JobState.SUCCEEDED:
        return failed(record, "LoadFailed", f"The job {job.id} failed: {job.reason}", settings, now)
    record = replace(record, run=None, listed=job.work.listed)
    record = record.no_longer(ConditionType.FAILING, "Succeeded", now=now)
    record = record.saying(ConditionType.METADATA_LOADED, "Listed", status=True, now=now)
    if not run.is_load:
        cycle = record.cycle and replace(record.cycle, listed=True, failures=0, retry_at=0.0)
        return replace(record, cycle=cycle)
    if not _does(job, run):  # the submit found somebody else's job of the same paths; now it is our turn
        return record
    return _loaded(record, job, members, now)


def looked(record: Record, look: Look, settings: DatasetSettings, now: float) -> Record:
    """Return the record after a look."""
    record = replace(record, look=look, look_begun=0.0)
    lost = record.condition(ConditionType.COPIES_LOST)
    explained = lost is not None and lost.status and lost.reason == "WorkerLost"
    if not look.problem and not explained:
        record = _heat_seen(record, look, now)
    if look.changes:
        reason = "PinnedVersionKept" if look.pinned else "OriginChanged"
        record = record.saying(ConditionType.DRIFTED, reason, status=True, now=now)
        return record.saying(ConditionType.DRIFTED, reason, _drift(record, look, settings), status=True, now=now)
    return record if look.problem else _calm(record, settings, now)


def drift_ends_at(record: Record, settings: DatasetSettings) -> float | None:
    """Return when a dataset that has drifted is to be loaded again; none if it has not, or is kept as it is."""
    drifted = record.condition(ConditionType.DRIFTED)
    moves = record.dataset.preload.rewarm in (Rewarm.ALL, Rewarm.DRIFT)
    if drifted is None or not drifted.status or drifted.reason != "OriginChanged" or not moves:
        return None
    return drifted.since + drift_pause(record.drifts, settings)


def _drift(record: Record, look: Look, settings: DatasetSettings) -> str:
    text = f"{look.changes} objects are not as they were listed."
    ends = drift_ends_at(record, settings) if record.drifts else None
    if ends is None:
        return text
    moment = datetime.fromtimestamp(ends, tz=UTC).isoformat(timespec="seconds")
    return f"{text} It changes often, and so is loaded again at {moment}."


def _calm(record: Record, settings: DatasetSettings, now: float) -> Record:
    """Return the record when the under store has what was listed: once that lasts, the next change is a first one."""
    record = record.no_longer(ConditionType.DRIFTED, "AsListed", now=now)
    calm = record.loaded is not None and now >= record.loaded.at + settings.drift_calm_seconds
    return replace(record, drifts=0) if calm else record


def _heat_seen(record: Record, look: Look, now: float) -> Record:
    if look.hot_fraction >= 1.0:
        return replace(record, colds=0)
    share = f"{look.hot_fraction:.1%} of it is hot: copies were evicted or freed, or lost with a worker's disk."
    record = replace(record, colds=record.colds + 1)
    return record.saying(ConditionType.COPIES_LOST, "Cold", share, status=True, now=now)


def expired(record: Record, now: float) -> Record:
    """Return the record when the time to live of what was loaded is over."""
    record = replace(record, loaded=None, look=None, held=True, colds=0)
    for kind in (ConditionType.COPIES_LOST, ConditionType.DRIFTED):
        record = record.no_longer(kind, "Expired", now=now)
    return record.saying(ConditionType.LOADED, "Expired", "Its time to live is over.", status=False, now=now)


def begun(record: Record, cycle: Cycle) -> Record:
    """Return the record when the dataset is to be loaded."""
    drifts = record.drifts + (cycle.cause is Cause.DRIFTED)
    return replace(record, cycle=cycle, held=False, drifts=drifts)


def _loaded(record: Record, job: Job, members: Mapping[str, float], now: float) -> Record:
    loaded = Loaded(
        at=job.finished_at or now,
        job_id=job.id,
        version=dataset_version(job) or "",
        hot_fraction=hot_fraction(job),
        tally=job.work.listed,
        members=dict(members),
    )
    record = replace(record, cycle=None, loaded=loaded, look=None)
    for kind in (ConditionType.COPIES_LOST, ConditionType.DRIFTED, ConditionType.QUOTA_EXCEEDED):
        record = record.no_longer(kind, "LoadedAgain", now=now)
    return record.saying(ConditionType.LOADED, "LoadSucceeded", status=True, now=now)


def _stopped(record: Record, job: Job, now: float) -> Record:
    """Do not do again by oneself what somebody has stopped."""
    text = f"The job {job.id} was stopped; it is loaded at its next time, or when it is declared again."
    record = replace(record, run=None, cycle=None, held=True)
    return record.saying(ConditionType.FAILING, "Stopped", text, status=True, now=now)


def _does(job: Job, run: Run) -> bool:
    """Whether a job has done what a run was to do: one that a submit has found may have had other options."""
    wanted, given = run.spec.options, job.spec.options
    return (
        not given.load_metadata_only
        and given.replicas >= wanted.replicas
        and not given.file_filter_regex
        and job.work.failed.objects == 0
    )
