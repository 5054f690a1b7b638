"""Alluxio's load progress report, as text and as JSON. Pure. Layout: docs/reference/alluxio-compatibility.md.

The text is that of ``LoadJob`` 2.9, which the Enterprise 3.3–3.5 documentation still shows.
"""

from __future__ import annotations

import time
from typing import Any

from preheat.jobs import Job, JobState, Progress
from preheat.units import alluxio_size


def text_report(job: Job, *, bandwidth: int | None = None, verbose: bool = False) -> str:
    """Return the progress report in TEXT format, ending with a newline.

    Args:
        job: whose progress.
        bandwidth: the limit in force, in bytes per second and worker; none is unlimited.
        verbose: name the failed files.
    """
    load = job.work
    lines = [
        f"\tSettings:\t{_settings(job, bandwidth)}",
        f"\tJob State: {_shown_state(job)}",
        f"\tFiles Processed: {_processed(load)}",
        *_bytes_lines(job),
        f"\tFiles Failed: {load.failed.objects}",
    ]
    if verbose:
        lines += [f"\t\t{item.path}: Status code: {item.code}, message: {item.message}" for item in job.failures]
    return "".join(f"{_one_line(line)}\n" for line in lines)


def json_report(job: Job, *, bandwidth: int | None = None, verbose: bool = False) -> dict[str, Any]:
    """Return the progress report with Alluxio's field names; absent values are left out, as Alluxio does."""
    load = job.work
    report: dict[str, Any] = {
        "mVerbose": verbose,
        "mJobState": _state(job),
        "mBandwidth": bandwidth,
        "mVerificationEnabled": job.spec.options.verify,
        "mProcessedFileCount": _processed(load),
        "mLoadedByteCount": _loaded_bytes(job),
        "mTotalByteCount": load.listed.bytes if load.listing_done else None,
        "mThroughput": _throughput(job),
        "mFailurePercentage": _failure_percentage(load),
        "mFailureReason": {"message": job.reason} if job.state is JobState.FAILED else None,
        "mFailedFileCount": load.failed.objects,
        "mMetadataOnly": job.spec.options.load_metadata_only or None,
        "mFailedFilesWithReasons": {item.path: item.message for item in job.failures} if verbose else None,
    }
    return {key: value for key, value in report.items() if value is not None}


def _settings(job: Job, bandwidth: int | None) -> str:
    limit = f"{alluxio_size(bandwidth)}/s" if bandwidth else "unlimited"
    text = f"bandwidth: {limit}\tverify: {str(job.spec.options.verify).lower()}"
    return f"{text}\tmetadata-only: true" if job.spec.options.load_metadata_only else text


def _bytes_lines(job: Job) -> list[str]:
    """Return the lines about bytes; a job that loads only metadata has none."""
    if job.spec.options.load_metadata_only:
        return []
    throughput = _throughput(job)
    return [
        f"\tBytes Loaded: {alluxio_size(_loaded_bytes(job))}{_out_of(job.work)}",
        *([] if throughput is None else [f"\tThroughput: {alluxio_size(throughput)}/s"]),
        f"\tBlock load failure rate: {_failure_percentage(job.work):.2f}%",
    ]


def _one_line(text: str) -> str:
    """Keep a line one: a key may hold a line feed, and what follows could look like another line of the report."""
    return " ".join(text.splitlines())


def _state(job: Job) -> str:
    """Alluxio before 3.8 knows no WAITING."""
    return JobState.RUNNING if job.state is JobState.WAITING else job.state


def _shown_state(job: Job) -> str:
    return f"{_state(job)} ({job.reason})" if job.state is JobState.FAILED else _state(job)


def _processed(load: Progress) -> int:
    return load.done.objects + load.skipped.objects


def _loaded_bytes(job: Job) -> int:
    return 0 if job.spec.options.load_metadata_only else job.work.done.bytes


def _out_of(load: Progress) -> str:
    return f" out of {alluxio_size(load.listed.bytes)}" if load.listing_done else ""


def _throughput(job: Job) -> int | None:
    """Bytes per second; none in the first second, as Alluxio does."""
    if job.started_at is None:
        return None
    seconds = int((job.finished_at or time.time()) - job.started_at)
    return _loaded_bytes(job) // seconds if seconds else None


def _failure_percentage(load: Progress) -> float:
    ended = (load.done + load.skipped + load.failed).objects
    return 100.0 * load.failed.objects / ended if ended else 0.0
