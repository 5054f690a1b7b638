"""What a job's accounts come to: how much is hot, and how the job ends."""

from __future__ import annotations

from preheat.accounting._passes import first_of
from preheat.errors import ObjectNotFound
from preheat.jobs import Job, JobOptions, JobState, JobType, Progress

_VERBS = {
    JobType.LOAD: "loaded",
    JobType.FREE: "freed",
    JobType.COPY: "copied",
    JobType.MOVE: "moved",
    JobType.REPLICATE: "replicated",
    JobType.REBALANCE: "rebalanced",
    JobType.PERSIST: "persisted",
}


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
    return first_of(job.work.first_failed, verified)


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
