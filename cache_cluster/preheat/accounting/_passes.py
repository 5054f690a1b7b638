"""A job's passes: the accounts of each, and what is noted in the record besides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import count, repeat

from preheat.jobs import MAX_REPORTED_FAILURES, Action, FailedObject, Job, Progress
from preheat.planning import passes


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


def record_listed_path(progress: Progress, *, last: bool) -> Progress:
    """Account the end of one path's listing."""
    return replace(progress, path_index=progress.path_index + 1, cursor="", listing_done=last)


def record_failures(job: Job, failed: Sequence[FailedObject]) -> Job:
    """Name failed objects in the record, up to its limit."""
    room = MAX_REPORTED_FAILURES - len(job.failures)
    return replace(job, failures=job.failures + tuple(failed[:room])) if failed and room > 0 else job


def without_open_failures(job: Job) -> Job:
    """Return the job as it is recorded: of what failed in open batches only the fact."""
    for action in passes(job.spec):
        progress = progress_of(job, action)
        if any(batch.failed for batch in progress.open.values()):
            named = {key: replace(batch, failed=(), parked=bool(batch.failed)) for key, batch in progress.open.items()}
            job = with_progress(job, action, replace(progress, open=named))
    return job


def first_of(known: int | None, found: int | None) -> int | None:
    """Return the lesser number of an entry, where there may be none."""
    return found if known is None else known if found is None else min(known, found)
