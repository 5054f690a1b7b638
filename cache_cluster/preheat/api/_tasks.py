"""``GET /v1/jobs/{id}/tasks``: what each worker did for a job."""

from __future__ import annotations

from collections import Counter

from fastapi import APIRouter
from pydantic import Field

from preheat.accounting import progress_of
from preheat.api._answers import Count
from preheat.api._schemas import Schema
from preheat.coordinator import JobService
from preheat.jobs import Action, Job, JobState, Progress, WorkerShare
from preheat.planning import passes


class TaskView(Schema):
    """What one worker did in one pass of a job. A file with several owners is in the task of each."""

    worker: str
    action: Action
    status: JobState = Field(description="RUNNING, SUCCEEDED, FAILED if a file failed, or STOPPED before its end.")
    open_batches: int = Field(description="Given to the worker and without a result.")
    batches: int = Field(description="With a result.")
    done: Count
    skipped: Count
    failed: int = Field(description="Files.")
    error: str = Field(description="Of the last file that failed.")


class TaskList(Schema):
    """The tasks of a job: pass by pass, by worker."""

    tasks: list[TaskView]


def tasks_router(service: JobService) -> APIRouter:
    """Return the route of the tasks."""
    router = APIRouter(prefix="/jobs", tags=["jobs"])

    @router.get("/{job_id}/tasks")
    async def tasks(job_id: str) -> TaskList:
        """Say what each worker did for a job."""
        return TaskList(tasks=tasks_of((await service.get(job_id)).job))

    return router


def tasks_of(job: Job) -> list[TaskView]:
    """Return a job's tasks; pure."""
    return [task for action in passes(job.spec) for task in _pass_tasks(job, action, progress_of(job, action))]


def _pass_tasks(job: Job, action: Action, progress: Progress) -> list[TaskView]:
    waiting = Counter(worker for batch in progress.open.values() for worker in batch.waiting)
    views = []
    for worker in sorted(progress.shares.keys() | waiting.keys()):
        share = progress.shares.get(worker, WorkerShare())
        view = TaskView(
            worker=worker,
            action=action,
            status=_status(job, progress, share, open_batches=waiting[worker]),
            open_batches=waiting[worker],
            batches=share.batches,
            done=Count.of(share.done),
            skipped=Count.of(share.skipped),
            failed=share.failed,
            error=share.error,
        )
        views.append(view)
    return views


def _status(job: Job, progress: Progress, share: WorkerShare, *, open_batches: int) -> JobState:
    if progress.listing_done and not open_batches:
        return JobState.FAILED if share.failed else JobState.SUCCEEDED
    return JobState.STOPPED if job.state.ended else JobState.RUNNING
