"""Accounting: what a job's record becomes when something happens. Pure: record in, record out.

Batches are delivered at least once and their results too; a result is counted once, because a batch that is not open,
or that no longer waits for the worker, is ignored. An object with several owners counts once: as failed if it failed on
any, as skipped if all of them skipped it, as done otherwise. So listed = done + skipped + failed + remaining (I7).
Where its copies are in several batches, these have a joint account that is closed when the last of them has its result.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import reduce
from itertools import count, islice, repeat

from preheat.errors import ObjectNotFound
from preheat.jobs import (
    MAX_REPORTED_FAILURES,
    Action,
    BatchResult,
    FailedObject,
    Job,
    JobOptions,
    JobState,
    JobType,
    OpenBatch,
    Progress,
    Tally,
    WorkerShare,
)
from preheat.planning import PlannedBatch, passes

_VERBS = {
    JobType.LOAD: "loaded",
    JobType.FREE: "freed",
    JobType.COPY: "copied",
    JobType.MOVE: "moved",
    JobType.REPLICATE: "replicated",
    JobType.REBALANCE: "rebalanced",
    JobType.PERSIST: "persisted",
}
_NOTHING = Tally()


def progress_of(job: Job, action: Action) -> Progress:
    """Return the accounts of one of a job's passes."""
    if action is passes(job.spec)[0]:
        return job.work
    return (job.verification if action is Action.VERIFY else job.trimming) or Progress()


def with_progress(job: Job, action: Action, progress: Progress) -> Job:
    """Return a job with the accounts of one of its passes."""
    if action is passes(job.spec)[0]:
        return replace(job, work=progress)
    if action is Action.VERIFY:
        return replace(job, verification=progress)
    return replace(job, trimming=progress)


def begin_verification(last: Progress | None, *, epoch: int) -> Progress:
    """Return the accounts of a verification that begins, the first one or again.

    The batches' numbers go on: results of the last one's may come twice. What that found not to be hot still ends the
    count of :func:`hot_in_order`.
    """
    known = last or Progress()
    return Progress(epoch=epoch, batches=known.batches, first_failed=known.first_failed)


def entry_numbers(progress: Progress, *, whole: bool) -> Iterable[int]:
    """Return the numbers of the entries that are listed next, in the order in which the job lists.

    Where others come between them (see :attr:`Page.whole <preheat.coordinator._catalog.Page.whole>`), all have the
    number at which the order is known last: none of what follows counts before all of them are done.
    """
    known = whole and progress.in_order == progress.listed.objects
    return count(progress.in_order) if known else repeat(progress.in_order)


def record_window(
    progress: Progress,
    planned: Sequence[PlannedBatch],
    *,
    cursor: str,
    version: str,
    missing: int = 0,
    missing_after: int = 0,
    left_out: Tally = _NOTHING,
    whole: bool = True,
) -> Progress:
    """Account a window of the listing that is now in batches; the cursor moves past it.

    ``missing`` objects were asked for by name and are not there: they failed already, with no bytes; the first of them
    comes after ``missing_after`` others of the window. With those that are ``left_out`` there was nothing to do: they
    are skipped. A window that is not ``whole`` is as :func:`entry_numbers` says.
    """
    gone = Tally(objects=missing)
    listed = sum((item.tally for item in planned), progress.listed) + gone + left_out
    first_missing = next(islice(entry_numbers(progress, whole=whole), missing_after, None)) if missing else None
    return replace(
        progress,
        listed=listed,
        in_order=listed.objects if whole else progress.in_order,
        first_failed=_first(progress.first_failed, first_missing),
        skipped=progress.skipped + left_out,
        failed=progress.failed + gone,
        open=progress.open | _opened_all(planned),
        batches=progress.batches + len(planned),
        cursor=cursor,
        version=version,
    )


def record_listed_path(progress: Progress, *, last: bool) -> Progress:
    """Account the end of one path's listing."""
    return replace(progress, path_index=progress.path_index + 1, cursor="", listing_done=last)


def record_result(progress: Progress, result: BatchResult) -> tuple[Progress, tuple[FailedObject, ...]]:
    """Account one worker's result, and return what failed for good if that closed the batch."""
    batch = progress.open.get(result.batch_id)
    if batch is None or result.worker not in batch.waiting:
        return progress, ()
    share = _shared(progress.shares.get(result.worker, WorkerShare()), result)
    progress = replace(progress, shares=progress.shares | {result.worker: share})
    if batch.joint:
        return _record_joint_result(progress, batch, result)
    batch = replace(
        batch,
        waiting=tuple(worker for worker in batch.waiting if worker != result.worker),
        skipped=_least(batch.skipped, result.skipped),
        failed=_union(batch.failed, result.failed),
        first_failed=_first(batch.first_failed, _first_failed(batch, result)),
    )
    if not batch.waiting and len(batch.failed) < batch.tally.objects:
        batch = replace(batch, waiting=batch.then, then=())
    if batch.waiting:
        return replace(progress, open=progress.open | {result.batch_id: batch}), ()
    return _close(progress, result.batch_id, batch), batch.failed


def _record_joint_result(
    progress: Progress, batch: OpenBatch, result: BatchResult
) -> tuple[Progress, tuple[FailedObject, ...]]:
    """Account a result to its batch's joint account; what failed stays with the batch until that is closed."""
    account = _told(progress.open[batch.joint], batch, result)
    batches = {key: other for key, other in progress.open.items() if key != result.batch_id} | {batch.joint: account}
    if result.failed:
        batches[result.batch_id] = replace(batch, waiting=(), failed=result.failed)
    if account.batches:
        return replace(progress, open=batches), ()
    for other in batches.values():
        if other.joint == batch.joint:
            account = replace(account, failed=_union(account.failed, other.failed))
    others = {key: other for key, other in batches.items() if other.joint != batch.joint}
    return _close(replace(progress, open=others), batch.joint, account), account.failed


def second_steps(before: Progress, after: Progress) -> list[str]:
    """Return the open batches that go to their second workers between two states: the first have all reported."""
    return [key for key, batch in after.open.items() if before.open[key].then and not batch.then]


def ended_steps(before: Progress, after: Progress) -> list[str]:
    """Return the batches of two steps that were open before and are not any more."""
    return [key for key, batch in before.open.items() if batch.keepers and key not in after.open]


def replace_batch(progress: Progress, batch_id: str, planned: Sequence[PlannedBatch]) -> Progress:
    """Account that the entries of an open batch went to other workers, in new batches."""
    lost = progress.open[batch_id]
    still_open = {key: batch for key, batch in progress.open.items() if key != batch_id}
    opened = _opened_instead(lost, still_open[lost.joint], planned) if lost.joint else _opened_all(planned)
    return replace(progress, open=still_open | opened, batches=progress.batches + len(planned))


def without_open_failures(job: Job) -> Job:
    """Return the job as it is recorded: of what failed in open batches only the fact."""
    for action in passes(job.spec):
        progress = progress_of(job, action)
        if any(batch.failed for batch in progress.open.values()):
            named = {key: replace(batch, failed=(), parked=bool(batch.failed)) for key, batch in progress.open.items()}
            job = with_progress(job, action, replace(progress, open=named))
    return job


def lost_batches(progress: Progress, live: Iterable[str], drained: Iterable[str] = ()) -> list[str]:
    """Return the open batches that wait for, or rely on, a worker that is not live; a drained one may drop copies."""
    alive = set(live)
    dropping = alive.union(drained)

    def is_lost(batch: OpenBatch) -> bool:
        may_do = dropping if batch.keepers and not batch.then else alive
        return not (may_do.issuperset(batch.waiting) and alive.issuperset(batch.keepers))

    return [key for key, batch in progress.open.items() if is_lost(batch)]


def record_failures(job: Job, failed: Sequence[FailedObject]) -> Job:
    """Name failed objects in the record, up to its limit."""
    room = MAX_REPORTED_FAILURES - len(job.failures)
    return replace(job, failures=job.failures + tuple(failed[:room])) if failed and room > 0 else job


def hot_in_order(job: Job) -> int:
    """Return how many entries, from the start of the order in which the job lists, are hot without a gap.

    Hot is what the loading pass has accounted as loaded or skipped, acknowledged by all of its owners. An entry that
    failed ends the count for good. So does one that a verification finds not to be hot, from then on: what was counted
    before it ended was acknowledged, and not yet read back.
    """
    ends = (job.work.in_order, hot_in_order_at_most(job), *(batch.first for batch in job.work.open.values()))
    return min(end for end in ends if end is not None)


def hot_in_order_at_most(job: Job) -> int | None:
    """Return where the count of :func:`hot_in_order` ends for good; none while nothing in it has failed."""
    verified = job.verification.first_failed if job.verification else None
    return _first(job.work.first_failed, verified)


def decides_order(job: Job, wanted: int) -> bool:
    """Say whether so many entries are hot in order, or it is certain that they will not be."""
    at_most = hot_in_order_at_most(job)
    return hot_in_order(job) >= wanted or (at_most is not None and at_most < wanted)


def hot_fraction(job: Job) -> float:
    """Return the share of the listed files that is hot: read back if the job verifies, acknowledged otherwise.

    For other types than load it is the share that is done.
    """
    hot = job.verification.done if job.verification else job.work.done + job.work.skipped
    return hot.objects / job.work.listed.objects if job.work.listed.objects else 0.0


def dataset_version(job: Job) -> str | None:
    """Return the version of what was listed, once the listing ended; a part of a dataset, as a retry is, has none."""
    whole = job.spec.type is JobType.LOAD and not job.spec.retry_of
    complete = whole and job.work.listing_done and job.work.version
    return f"sha256:{job.work.version}" if complete else None


def too_many_failed(options: JobOptions, progress: Progress) -> bool:
    """Say whether the failed files of a complete pass are more than the job may succeed with."""
    failed, listed = progress.failed.objects, progress.listed.objects
    if options.min_hot_fraction is None and options.max_failed_files is None:
        return failed > 0
    few_enough = options.max_failed_files is None or failed <= options.max_failed_files
    hot_enough = options.min_hot_fraction is None or listed - failed >= options.min_hot_fraction * listed
    return not (few_enough and hot_enough)


def verdict(job: Job) -> tuple[JobState, str]:
    """Return how a job ends whose passes are complete, and why."""
    if job.work.listed.objects == 0:
        return _verdict_on_nothing(job)
    if job.verification and job.verification.version != job.work.version:
        return JobState.FAILED, (
            "The dataset changed at the origin between loading and verifying: what is cached is neither version. "
            "Submit the job again."
        )
    last = job.verification or job.trimming or job.work
    if not last.failed.objects:
        return JobState.SUCCEEDED, _remark(job)
    state = JobState.FAILED if too_many_failed(job.spec.options, last) else JobState.SUCCEEDED
    return state, _failure_reason(job, last)


def _verdict_on_nothing(job: Job) -> tuple[JobState, str]:
    if job.spec.type in (JobType.FREE, JobType.REBALANCE, JobType.PERSIST):  # there is nothing to do, so it is done
        return JobState.SUCCEEDED, ""
    where = job.spec.index or ", ".join(job.spec.paths)
    what = "cached" if job.spec.type.lists_cache else "listed"
    return JobState.FAILED, str(ObjectNotFound(f"Nothing is {what} below {where}."))


def _remark(job: Job) -> str:
    """Return what is to be said of a job that did what it should."""
    pinned = job.work.skipped.objects
    if job.spec.type is not JobType.FREE or not pinned:
        return ""
    return f"{pinned} of {job.work.listed.objects} files are pinned and stay; see `preheat fs pins`."


def _failure_reason(job: Job, progress: Progress) -> str:
    what = "are not hot" if job.verification else f"could not be {_VERBS[job.spec.type]}"
    first = f" The first: {job.failures[0].path}: {job.failures[0].message}" if job.failures else ""
    return f"{progress.failed.objects} of {progress.listed.objects} files {what}.{first}"


def _opened_all(planned: Sequence[PlannedBatch]) -> dict[str, OpenBatch]:
    """Return batches as they are opened, each joint account among them."""
    return {item.batch.id: _opened(item) for item in planned} | _joint_accounts(planned)


def _opened_instead(lost: OpenBatch, account: OpenBatch, planned: Sequence[PlannedBatch]) -> dict[str, OpenBatch]:
    """Return what is opened in the place of a batch of a joint account.

    All present owners are asked for the entries. One copy takes the place of the lost one, and what the others skip is
    told of those entries already.
    """
    others = len(account.copies)
    opened = {
        item.batch.id: replace(_opened(item), tally=_NOTHING, joint=lost.joint, copy=others if item.copy else lost.copy)
        for item in planned
    }
    return opened | {lost.joint: replace(account, batches=account.batches - 1 + len(planned))}


def _joint_accounts(planned: Sequence[PlannedBatch]) -> dict[str, OpenBatch]:
    by_account: dict[str, list[PlannedBatch]] = defaultdict(list)
    for item in planned:
        if item.joint:
            by_account[item.joint].append(item)
    return {
        joint: OpenBatch(
            tally=sum((item.tally for item in items), _NOTHING),
            waiting=(),
            first=min(number for item in items for number in item.batch.numbers),
            batches=len(items),
            copies=(_NOTHING,) * len({item.copy for item in items}),
        )
        for joint, items in by_account.items()
    }


def _opened(planned: PlannedBatch) -> OpenBatch:
    keepers = planned.workers if planned.then else ()
    return OpenBatch(
        tally=_NOTHING if planned.joint else planned.batch.tally,
        waiting=planned.workers,
        then=planned.then,
        keepers=keepers,
        first=min(planned.batch.numbers, default=0),
        joint=planned.joint,
        copy=planned.copy,
    )


def _told(account: OpenBatch, batch: OpenBatch, result: BatchResult) -> OpenBatch:
    """Return a joint account after the result of one of its batches."""
    copies = list(account.copies)
    if batch.copy < len(copies):
        copies[batch.copy] += result.skipped
    return replace(
        account,
        batches=account.batches - 1,
        copies=tuple(copies),
        skipped=reduce(_least, copies[1:], copies[0]),
        first_failed=_first(account.first_failed, _first_failed(batch, result)),
    )


def _close(progress: Progress, batch_id: str, batch: OpenBatch) -> Progress:
    failed = Tally(objects=len(batch.failed), bytes=sum(item.size for item in batch.failed))
    skipped = _least(batch.skipped, batch.tally - failed)
    return replace(
        progress,
        open={key: value for key, value in progress.open.items() if key != batch_id},
        done=progress.done + batch.tally - failed - skipped,
        skipped=progress.skipped + skipped,
        failed=progress.failed + failed,
        first_failed=_first(progress.first_failed, batch.first_failed),
    )


def _first_failed(batch: OpenBatch, result: BatchResult) -> int | None:
    """Return the first entry that failed; of a worker that does not say which, the batch's first one."""
    return result.first_failed if result.first_failed is not None or not result.failed else batch.first


def _first(known: int | None, found: int | None) -> int | None:
    return found if known is None else known if found is None else min(known, found)


def _shared(share: WorkerShare, result: BatchResult) -> WorkerShare:
    return WorkerShare(
        batches=share.batches + 1,
        done=share.done + result.done,
        skipped=share.skipped + result.skipped,
        failed=share.failed + len(result.failed),
        error=result.failed[-1].message if result.failed else share.error,
    )


def _least(first: Tally | None, second: Tally) -> Tally:
    if first is None:
        return second
    return Tally(objects=min(first.objects, second.objects), bytes=min(first.bytes, second.bytes))


def _union(first: tuple[FailedObject, ...], second: tuple[FailedObject, ...]) -> tuple[FailedObject, ...]:
    return tuple({item.path: item for item in (*second, *first)}.values())
