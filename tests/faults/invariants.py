"""The invariants I1 to I8 of the design, checked on a history. Pure: history in, violations out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from math import inf

from preheat.engine import Queue
from preheat.jobs import Job, JobState, Priority, Progress, Tally
from preheat.versions import DatasetVersion
from tests.faults import effects, receipts
from tests.faults.history import History, Record, Success
from tests.faults.workloads import INDEX, NAMED

_RANK = {JobState.WAITING: 0, JobState.RUNNING: 1, JobState.VERIFYING: 2}
_ENDED = 3
_TURN_SECONDS = 4.0
"""How long ago a coordinator without trouble may have decided that a job begins: a pull, and some round trips."""
_TROUBLE_SECONDS = 20.0
"""For how long round trips that began in trouble may delay what comes after it."""
_NOTICED_SECONDS = 0.5
"""How long before its success a job may have looked at the placement map for the last time."""


def violations(history: History) -> list[str]:
    """Return what the history violates, each with the invariant's number."""
    return [
        *history.mishaps,
        *_hot(history),
        *_one_record(history),
        *_one_running(history),
        *_progress(history),
        *_acknowledged(history),
        *_accounts(history),
        *_answers(history),
        *_left_over(history),
        *_in_turn(history),
        *effects.violations(history),
        *receipts.violations(history),
    ]


def _hot(history: History) -> Iterator[str]:
    """I1: a success means that all that is listed was counted, and with ``verify`` that all of it was hot."""
    for success in history.successes:
        job = success.job
        if not all(progress.complete for progress in _passes(job)):
            yield f"I1 {job.id} succeeded before it was complete"
        if _origin_changed(history, job, job.submitted_at, success.at):
            continue
        if job.work.listed != _tally(success):
            yield f"I1 {job.id} succeeded with {job.work.listed} of {_tally(success)}"
        if job.work.version != _version(success):
            yield f"I1 {job.id} succeeded as another version than the origin's"
        if job.verification is None or _hotness_lost(history, success):
            continue
        if len(success.cold) > job.verification.failed.objects * job.spec.options.replicas:
            yield f"I1 {job.id} succeeded without {len(success.cold)} objects: {success.cold[:3]}"


def _one_record(history: History) -> Iterator[str]:
    """I2: a terminal state never changes."""
    for records in _by_job(history.records).values():
        for before, after in pairwise(records):
            if before.job.state.ended and after.job != before.job:
                yield f"I2 {before.job.id} was {before.job.state} and became {after.job.state} at {after.at:.1f}"


def _one_running(history: History) -> Iterator[str]:
    """I3: one running job per identity."""
    running: dict[str, str] = {}
    for record in history.records:
        job, identity = record.job, record.job.spec.identity
        if job.state.ended:
            if running.get(identity) == job.id:
                del running[identity]
        elif job.state is not JobState.WAITING and running.setdefault(identity, job.id) != job.id:
            yield f"I3 {job.id} runs beside {running[identity]} at {record.at:.1f}"


def _progress(history: History) -> Iterator[str]:
    """I4: progress never goes back."""
    for records in _by_job(history.records).values():
        for before, after in pairwise(records):
            for backward in _went_back(before.job, after.job):
                yield f"I4 {before.job.id} {backward} went back at {after.at:.1f}"


def _acknowledged(history: History) -> Iterator[str]:
    """I5: an acknowledged submit survives; I8: and comes to an end."""
    last = {record.job.id: record.job for record in history.records}
    keys: dict[str, str] = {}
    for submit in history.submits:
        if submit.job_id not in last:
            yield f"I5 {submit.job_id}, acknowledged at {submit.at:.1f}, is unknown"
        elif not last[submit.job_id].state.ended:
            yield f"I8 {submit.job_id} is still {last[submit.job_id].state} at {history.ended_at:.0f}"
        elif last[submit.job_id].state is JobState.FAILED and not _reason_holds(history, last[submit.job_id]):
            yield f"I8 {submit.job_id} failed for no good reason: {last[submit.job_id].reason!r}"
        if keys.setdefault(submit.key, submit.job_id) != submit.job_id:
            yield f"I5 the key {submit.key} was answered with two jobs"


def _accounts(history: History) -> Iterator[str]:
    """I7: listed = loaded + skipped + failed + remaining; and what failed is named."""
    for record in history.records:
        for progress in _passes(record.job):
            if not _adds_up(progress):
                yield f"I7 {record.job.id} does not add up at {record.at:.1f}"
    for records in _by_job(history.records).values():
        job = records[-1].job
        named = history.failures.get(job.id, 0)
        failed = sum(progress.failed.objects for progress in _passes(job))
        verifications = {record.job.verification.epoch for record in records if record.job.verification}
        if job.state.ended and (named < failed or (named > failed and len(verifications) < 2)):
            yield f"I7 {job.id} counts {failed} failed objects and names {named}"


def _answers(history: History) -> Iterator[str]:
    """Whatever a coordinator answers was a state of the job, and each coordinator goes forward only."""
    known = {(record.job.id, record.revision): record.job for record in history.records}
    last: dict[tuple[str, str], int] = defaultdict(int)
    for answer in history.answers:
        if known.get((answer.job.id, answer.revision)) != answer.job:
            yield f"I4 {answer.source} answered with a state that {answer.job.id} never had"
        if answer.revision < last[answer.source, answer.job.id]:
            yield f"I4 {answer.source} went back to revision {answer.revision} of {answer.job.id}"
        last[answer.source, answer.job.id] = answer.revision


def _left_over(history: History) -> Iterator[str]:
    """I8: no work waits for ever. What nobody pulls any more of an ended job stays until the job is forgotten."""
    for message in history.left_in_queues:
        if not message.startswith((f"{Queue.RESULTS}:", f"{Queue.BATCHES}: _.later.")):
            yield f"I8 nobody takes {message}"


def _in_turn(history: History) -> Iterator[str]:
    """Priorities: a coordinator begins no job while it knows of a more urgent one that waits."""
    starts = {start.job.id: start for start in _starts(history)}
    waited_until = {job_id: start.at for job_id, start in starts.items()} | history.removed
    known: dict[tuple[str, str], Record] = {}
    for answer in history.answers:
        known.setdefault((answer.source, answer.job.id), answer)
    for start in starts.values():
        since = start.at - _TURN_SECONDS
        if _was_slow(history, start.job.owner, since - _TROUBLE_SECONDS, start.at):
            continue
        for (source, job_id), first in known.items():
            waits = waited_until.get(job_id, inf) > start.at
            if source == start.job.owner and waits and first.at <= since and _urgency(first) < _urgency(start):
                yield f"priority: {start.job.id} began at {start.at:.1f} at {source} before {job_id}"


def _was_slow(history: History, process: str, since: float, until: float) -> bool:
    """Whether a process was paused, or the engine in trouble, at any moment of a time."""
    return any(begin <= until and end >= since and process.startswith(name) for begin, end, name in history.slow)


def _urgency(record: Record) -> int:
    return list(Priority).index(record.job.spec.options.priority)


def _starts(history: History) -> Iterator[Record]:
    """Yield the first record of each job that is not of a waiting one."""
    for records in _by_job(history.records).values():
        first = next((record for record in records if record.job.state is not JobState.WAITING), None)
        if first is not None:
            yield first


def _passes(job: Job) -> list[Progress]:
    return [progress for progress in (job.work, job.verification, job.trimming) if progress]


def _by_job(records: list[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        found[record.job.id].append(record)
    return found


def _adds_up(progress: Progress) -> bool:
    remaining = sum((batch.tally for batch in progress.open.values()), Tally())
    total = progress.done + progress.skipped + progress.failed + remaining
    return total == progress.listed and min(progress.done.objects, progress.skipped.objects) >= 0


def _went_back(before: Job, after: Job) -> Iterator[str]:
    if _rank(after) < _rank(before):
        yield "its state"
    if after.generation < before.generation:
        yield "its generation"
    if len(_passes(after)) < len(_passes(before)):
        yield "its passes"
    for old, new in zip(_passes(before), _passes(after), strict=False):
        yield from _pass_went_back(old, new)


def _pass_went_back(old: Progress, new: Progress) -> Iterator[str]:
    """A verification that is done again, at a later epoch, counts anew; its batches' numbers go on."""
    if new.batches < old.batches:
        yield "its numbers"
    if new.epoch > old.epoch:
        return
    for name in ("listed", "done", "skipped", "failed"):
        was, became = getattr(old, name), getattr(new, name)
        if became.objects < was.objects or became.bytes < was.bytes:
            yield name
    if _place(new) < _place(old):
        yield "its cursor"


def _place(progress: Progress) -> tuple[int, int, str]:
    """Return how far a listing went; a position in an index file has three colons, and no key here has one."""
    _, offset, _, within = progress.cursor.split(":") if ":" in progress.cursor else ("", "0", "", progress.cursor)
    return progress.path_index, int(offset), within


def _rank(job: Job) -> int:
    return _RANK.get(job.state, _ENDED)


def _tally(success: Success) -> Tally:
    objects = len(success.listing) + success.missing
    return Tally(objects=objects, bytes=sum(item.size for item in success.listing))


def _version(success: Success) -> str:
    version = DatasetVersion()
    version.update(success.listing)
    return version.state


def _reason_holds(history: History, job: Job) -> bool:
    """Whether a failed job says why, and does not blame the origin for what the origin did not do."""
    changed = _origin_changed(history, job, job.submitted_at, history.ended_at)
    return bool(job.reason) and (changed or "changed at the origin" not in job.reason)


def _origin_changed(history: History, job: Job, since: float, until: float) -> bool:
    """Whether the origin may have listed one thing and then another."""
    roots = job.spec.paths or (INDEX, NAMED)
    return any(since <= change.at <= until and change.uri.startswith(roots) for change in history.origin_changes)


def _hotness_lost(history: History, success: Success) -> bool:
    """Whether an owner lost its disk after the job may have verified it, or another became owner as it succeeded."""
    states = (record for record in history.records if record.job.id == success.job.id)
    since = next(record.at for record in states if record.job.state is JobState.VERIFYING)
    if any(since <= at <= success.at for at, _ in history.losses):
        return True
    return any(success.at - _NOTICED_SECONDS <= at <= success.at for at, _ in history.placements)
