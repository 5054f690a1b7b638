"""The demo's last word: a short table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from rich.table import Table

from demo.reads import Reads
from preheat.client import JobReport
from preheat.units import human_duration, human_size


def summary(*, jobs: Sequence[JobReport], reads: Reads, training: Mapping[str, Any]) -> Table:
    """Return the table of one demo.

    Args:
        jobs: the preload jobs, ended.
        reads: the times of the cold and the warm read.
        training: what the training task reported.
    """
    files = sum(job.listed.files for job in jobs)
    size = sum(job.listed.bytes for job in jobs)
    table = Table(show_header=False, title="Warmed and trained")
    table.add_row("files", f"{files:,}")
    table.add_row("bytes", f"{size:,} ({human_size(size)})")
    table.add_row("warm-up", human_duration(warm_time(jobs).total_seconds()))
    table.add_row("cold read: all objects from S3, obstore", _speed(reads.cold_seconds, size))
    table.add_row("warm read: the same through preheat://", _speed(reads.warm_seconds, size))
    table.add_row("cache hits during training", f"{training['cache_hits']:,} of {training['images']:,}")
    table.add_row("origin reads during training", str(training["origin_reads"]))
    table.add_row("accuracy", f"{training['accuracy']:.1%}")
    return table


def warm_time(jobs: Sequence[JobReport]) -> timedelta:
    """Return the time from the start of the first job to the end of the last."""
    starts = [job.started_at for job in jobs if job.started_at]
    ends = [job.finished_at for job in jobs if job.finished_at]
    return max(ends) - min(starts)


def _speed(seconds: float, size: int) -> str:
    return f"{human_duration(seconds)} ({human_size(size / seconds)}/s)"
