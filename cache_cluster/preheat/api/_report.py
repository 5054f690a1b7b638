"""Alluxio's load progress report, as text and as JSON. Pure. Layout: docs/reference/alluxio-compatibility.md.

The text is that of ``LoadJob`` 2.9, which the Enterprise 3.3–3.5 documentation still shows; sizes are written as
Alluxio's ``FormatUtils.getSizeFromBytes`` does: the next unit only from more than 5 × 1024 on.
"""

from __future__ import annotations

import time
from typing import Any

from preheat.jobs import Job, JobState, Progress

_UNITS = ("B", "KB", "MB", "GB", "TB", "PB", "EB")
_NEXT_UNIT_FROM = 5 * 1024


def alluxio_size(size: float) -> str:
    """Return a size as Alluxio writes it: ``5120B``, ``5.00KB``, ``1600.00MB``."""
    if size <= _NEXT_UNIT_FROM:
        return f"{size:.0f}B"
    unit = 0
    while size > _NEXT_UNIT_FROM and unit + 1 < len(_UNITS):
        size /= 1024
        unit += 1
    return f"{size:.2f}{_UNITS[unit]}"


def text_report(job: Job, *, verbose: bool = False) -> str:
    """Return the progress report in TEXT format, ending with a newline."""
    load = job.load
    bandwidth = job.spec.options.bandwidth
    limit = f"{alluxio_size(bandwidth)}/s" if bandwidth else "unlimited"
    lines = [
        f"\tSettings:\tbandwidth: {limit}\tverify: {str(job.spec.options.verify).lower()}",
        f"\tJob State: {_shown_state(job)}",
        f"\tFiles Processed: {_processed(load)}",
        f"\tBytes Loaded: {alluxio_size(_loaded_bytes(load))}{_out_of(load)}",
    ]
    throughput = _throughput(job)
    if throughput is not None:
        lines.append(f"\tThroughput: {alluxio_size(throughput)}/s")
    lines += [
        f"\tBlock load failure rate: {_failure_percentage(load):.2f}%",
        f"\tFiles Failed: {load.failed.objects}",
    ]
    if verbose:
        lines += [f"\t\t{item.path}: Status code: {item.code}, message: {item.message}" for item in job.failures]
    return "\n".join(lines) + "\n"


def json_report(job: Job, *, verbose: bool = False) -> dict[str, Any]:
    """Return the progress report with Alluxio's field names; absent values are left out, as Alluxio does."""
    load = job.load
    report: dict[str, Any] = {
        "mVerbose": verbose,
        "mJobState": _state(job),
        "mBandwidth": job.spec.options.bandwidth,
        "mVerificationEnabled": job.spec.options.verify,
        "mProcessedFileCount": _processed(load),
        "mLoadedByteCount": _loaded_bytes(load),
        "mTotalByteCount": load.listed.bytes if load.listing_done else None,
        "mThroughput": _throughput(job),
        "mFailurePercentage": _failure_percentage(load),
        "mFailureReason": {"message": job.reason} if job.state is JobState.FAILED else None,
        "mFailedFileCount": load.failed.objects,
        "mFailedFilesWithReasons": {item.path: item.message for item in job.failures} if verbose else None,
    }
    return {key: value for key, value in report.items() if value is not None}


def _state(job: Job) -> str:
    """Alluxio before 3.8 knows no WAITING."""
    return JobState.RUNNING if job.state is JobState.WAITING else job.state


def _shown_state(job: Job) -> str:
    return f"{_state(job)} ({job.reason})" if job.state is JobState.FAILED else _state(job)


def _processed(load: Progress) -> int:
    return load.done.objects + load.skipped.objects


def _loaded_bytes(load: Progress) -> int:
    return load.done.bytes


def _out_of(load: Progress) -> str:
    return f" out of {alluxio_size(load.listed.bytes)}" if load.listing_done else ""


def _throughput(job: Job) -> int | None:
    """Bytes per second; none in the first second, as Alluxio does."""
    if job.started_at is None:
        return None
    seconds = int((job.finished_at or time.time()) - job.started_at)
    return job.load.done.bytes // seconds if seconds else None


def _failure_percentage(load: Progress) -> float:
    ended = (load.done + load.skipped + load.failed).objects
    return 100.0 * load.failed.objects / ended if ended else 0.0
