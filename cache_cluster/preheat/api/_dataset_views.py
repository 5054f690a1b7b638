"""What ``/v1/datasets`` gives; what it takes: :mod:`preheat.api._datasets`."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Self

from pydantic import Field

from preheat.api._answers import Count
from preheat.api._schemas import Schema
from preheat.coordinator import JobService
from preheat.datasets import (
    Cause,
    Condition,
    ConditionType,
    Owner,
    Phase,
    Record,
    Rewarm,
    heat_of,
    next_load,
    progress_of,
)
from preheat.jobs import Job


class ConditionView(Schema):
    """What is said of a dataset besides its phase."""

    type: ConditionType
    status: bool
    reason: str
    message: str
    since: datetime

    @classmethod
    def of(cls, condition: Condition) -> Self:
        """Show a condition."""
        return cls(
            type=condition.type,
            status=condition.status,
            reason=condition.reason,
            message=condition.message,
            since=_time(condition.since),
        )


class StatusView(Schema):
    """What has become of a dataset."""

    phase: Phase = Field(description="As Fluid has it: empty, then NotStarted, DisLoading, Loaded.")
    progress: float = Field(description="Share of the listed files that the load is done with; 1 once Loaded.")
    hot_fraction: float = Field(description="Share of the files that is hot, as of the load or the last look.")
    version: str | None = Field(description="The dataset version of the last load that succeeded.")
    last_success: datetime | None
    job_id: str | None = Field(description="The job that runs, or ran last.")
    cause: Cause | None = Field(description="Why it is being loaded; null if it is not.")
    listed: Count | None = Field(description="Each file once, as it was listed last.")
    next_load: datetime | None = Field(description="When the schedule is due.")
    retry_at: datetime | None = Field(description="When what has failed is tried again.")
    looked_at: datetime | None = Field(description="When it was last compared with the workers and the under store.")
    problem: str = Field(description="Who did not answer then; else empty.")
    conditions: list[ConditionView]

    @property
    def problems(self) -> list[str]:
        """What is in the way of the dataset, as sentences."""
        bad = (ConditionType.FAILING, ConditionType.QUOTA_EXCEEDED, ConditionType.COPIES_LOST, ConditionType.DRIFTED)
        said = [item.message for item in self.conditions if item.status and item.type in bad]
        ready = (item for item in self.conditions if item.type is ConditionType.WORKERS_READY)
        return list(dict.fromkeys([*said, *(item.message for item in ready if not item.status)]))

    @classmethod
    def of(cls, record: Record, job: Job | None, now: float) -> Self:
        """Show a record, with the job of its run if one runs."""
        cycle, loaded, look = record.cycle, record.loaded, record.look
        upcoming = next_load(record, now)
        return cls(
            phase=record.phase,
            progress=progress_of(record, job),
            hot_fraction=heat_of(record, job),
            version=loaded.version or None if loaded else None,
            last_success=_time(loaded.at) if loaded else None,
            job_id=record.last_job or None,
            cause=cycle.cause if cycle else None,
            listed=Count.of(record.listed) if record.listed else None,
            next_load=_time(upcoming) if upcoming else None,
            retry_at=_time(cycle.retry_at) if cycle and cycle.retry_at > now else None,
            looked_at=_time(look.at) if look else None,
            problem=look.problem if look else "",
            conditions=[ConditionView.of(item) for item in record.conditions],
        )


class PreloadView(Schema):
    """Whether, what and when it is loaded."""

    enabled: bool
    path: str | None
    schedule: str | None
    timezone: str
    order: str | None
    deadline: str | None
    rewarm: Rewarm


class DatasetView(Schema):
    """A declared dataset."""

    name: str
    path: str
    sub_paths: list[str]
    replicas: int
    ttl: float | None
    quota: int | None
    freshness: str | None
    preload: PreloadView
    declared_by: Owner = Field(description="Who may change it: the API, or the coordinator's file.")
    declared_at: datetime
    status: StatusView

    @classmethod
    def of(cls, record: Record, job: Job | None, now: float) -> Self:
        """Show a record."""
        dataset, preload = record.dataset, record.dataset.preload
        return cls(
            name=dataset.name,
            path=dataset.path,
            sub_paths=list(dataset.sub_paths),
            replicas=dataset.replicas,
            ttl=dataset.ttl,
            quota=dataset.quota,
            freshness=dataset.freshness or None,
            preload=PreloadView(
                enabled=preload.enabled,
                path=preload.path or None,
                schedule=preload.schedule or None,
                timezone=preload.timezone,
                order=preload.order or None,
                deadline=preload.deadline or None,
                rewarm=preload.rewarm,
            ),
            declared_by=record.owner,
            declared_at=_time(record.changed_at),
            status=StatusView.of(record, job, now),
        )


class DatasetList(Schema):
    """The declared datasets, by name."""

    datasets: list[DatasetView]


def job_of(record: Record, service: JobService) -> Job | None:
    """Return the job of a dataset's run, if one runs."""
    known = service.peek(record.run.job_id) if record.run else None
    return known.job if known else None


def shown(record: Record, service: JobService) -> DatasetView:
    """Return a dataset as it is now."""
    return DatasetView.of(record, job_of(record, service), time.time())


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)
