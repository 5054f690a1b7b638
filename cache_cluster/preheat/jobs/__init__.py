"""What crosses the boundaries between coordinator, engine and workers: jobs, batches and results.

All are frozen keyword-only dataclasses, written as JSON by msgspec. The records are O(jobs + open batches): a job's
durable progress is its listing cursor, its counters and its open batches, never a list of files.
"""

from __future__ import annotations

from preheat.jobs._batches import Action, Batch, BatchResult, FailedObject, Tally
from preheat.jobs._records import (
    MAX_REPORTED_FAILURES,
    Forecast,
    Job,
    JobControl,
    OpenBatch,
    Progress,
    Waiter,
    WorkerShare,
)
from preheat.jobs._spec import JobOptions, JobSpec, JobState, JobType, Priority

__all__ = [
    "MAX_REPORTED_FAILURES",
    "Action",
    "Batch",
    "BatchResult",
    "FailedObject",
    "Forecast",
    "Job",
    "JobControl",
    "JobOptions",
    "JobSpec",
    "JobState",
    "JobType",
    "OpenBatch",
    "Priority",
    "Progress",
    "Tally",
    "Waiter",
    "WorkerShare",
]
