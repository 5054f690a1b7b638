"""What the native API gives, as pydantic models; the JSON is camelCase. What it takes: :mod:`preheat.api._schemas`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Self

from pydantic import Field

from preheat.accounting import dataset_version, hot_fraction, hot_in_order, hot_in_order_at_most
from preheat.api._schemas import Options, Schema
from preheat.coordinator import Coordinator, KnownJob
from preheat.jobs import FailedObject, Job, JobOptions, JobState, JobType, Tally
from preheat.placement import PlacementMap
from preheat.registry import Heartbeat

_CACHED_JOBS = 1024


class OptionsView(Options):
    """How a job treats its objects, with the defaults filled in."""

    bandwidth: int | None = Field(description="Bytes per second and worker; null is unlimited.")

    @classmethod
    def of(cls, options: JobOptions) -> OptionsView:
        """Show options."""
        values = {name: getattr(options, name) for name in cls.model_fields}
        deadline = _time(options.deadline) if options.deadline else None
        return cls.model_construct(**(values | {"deadline": deadline}))


class Count(Schema):
    """A number of files and their bytes."""

    files: int
    bytes: int

    @classmethod
    def of(cls, tally: Tally) -> Count:
        """Show a tally."""
        return cls(files=tally.objects, bytes=tally.bytes)


class Failure(Schema):
    """One file that could not be done."""

    path: str
    size: int
    code: str
    message: str

    @classmethod
    def of(cls, failed: FailedObject) -> Failure:
        """Show a failed object."""
        return cls(path=failed.path, size=failed.size, code=failed.code, message=failed.message)


class Forecast(Schema):
    """When a job will have ended, at the rate at which it went of late."""

    finish_at: datetime | None = Field(description="The end of its present pass; null if that cannot be said.")
    late: bool = Field(description="Whether it will end after its deadline.")

    @classmethod
    def of(cls, job: Job) -> Forecast | None:
        """Show a running job's forecast."""
        if job.started_at is None or job.state.ended:
            return None
        finish_at = job.forecast.finish_at
        return cls(finish_at=None if finish_at is None else _time(finish_at), late=job.forecast.late)


class JobItem(Schema):
    """One job of a list."""

    id: str
    type: JobType
    paths: list[str]
    index: str | None
    destination: str | None
    options: OptionsView
    state: JobState
    listed: Count
    loaded: Count
    skipped: Count
    failed: Count
    remaining: Count
    in_flight: int = Field(description="Bytes of the remaining ones that the workers have fetched so far.")
    verified: Count | None
    hot_fraction: float
    hot_in_order: int = Field(description="How many entries from the start of the listing's order are all hot.")
    hot_in_order_at_most: int | None = Field(description="Where that ends in this job, for the next one has failed.")
    dataset_version: str | None
    listing_done: bool
    forecast: Forecast | None = Field(description="While it runs.")
    failures: list[Failure]
    reason: str
    abandoned: bool = Field(description="It was stopped since nobody waited for it any more.")
    submitted_at: datetime
    queue_position: int | None = Field(description="Of a WAITING job: 1 is the next to run.")
    started_at: datetime | None
    finished_at: datetime | None
    trace: str | None = Field(description="The W3C trace id of the request that submitted it.")
    revision: int
    url: str
    attached: bool

    @classmethod
    def of(cls, known: KnownJob, *, base_url: str, in_flight: int) -> Self:
        """Show a job."""
        job, load = known.job, known.job.work
        return cls(
            id=job.id,
            type=job.spec.type,
            paths=list(job.spec.paths),
            index=job.spec.index or None,
            destination=job.spec.destination or None,
            options=OptionsView.of(job.spec.options),
            state=job.state,
            listed=Count.of(load.listed),
            loaded=Count.of(load.done),
            skipped=Count.of(load.skipped),
            failed=Count.of(load.failed),
            remaining=Count.of(load.remaining),
            in_flight=in_flight,
            verified=Count.of(job.verification.done) if job.verification else None,
            hot_fraction=hot_fraction(job),
            hot_in_order=hot_in_order(job),
            hot_in_order_at_most=hot_in_order_at_most(job),
            dataset_version=dataset_version(job),
            listing_done=load.listing_done,
            forecast=Forecast.of(job),
            failures=[Failure.of(failed) for failed in job.failures],
            reason=job.reason,
            abandoned=job.abandoned,
            submitted_at=_time(job.submitted_at),
            queue_position=known.queue_position,
            started_at=_time(job.started_at) if job.started_at else None,
            finished_at=_time(job.finished_at) if job.finished_at else None,
            trace=job.trace or None,
            revision=known.revision,
            url=f"{base_url}/jobs/{job.id}",
            attached=known.attached,
        )


class JobView(JobItem):
    """One job."""

    receipt: str | None = Field(None, description="What it has proven, signed (a compact JWS).")

    @classmethod
    def of(cls, known: KnownJob, *, base_url: str, in_flight: int) -> Self:
        """Show a job."""
        item = super().of(known, base_url=base_url, in_flight=in_flight)
        return item.model_copy(update={"receipt": known.job.receipt or None})


class JobList(Schema):
    """One page of jobs, newest first."""

    jobs: list[JobItem]
    next: str | None = Field(description="Cursor of the next page.")


class WorkerView(Schema):
    """One worker."""

    id: str
    url: str
    s3_url: str = Field(description="The endpoint for S3 clients; empty if it serves none.")
    zone: str = Field(description="What fails together, such as a rack.")
    live: bool
    leaving: bool = Field(description="It is drained or stopping: it takes no more batches.")
    capacity: int
    used: int
    objects: int
    active_batches: int = Field(description="In work now.")
    pool_size: int = Field(
        description="The most that it works on at once, beside those of jobs with a bandwidth limit."
    )
    unfinished_batches: int = Field(description="Of running jobs, given to it and without a result.")
    load_average: list[float] = Field(description="Of its machine, over 1, 5 and 15 minutes.")
    started_at: datetime

    @classmethod
    def of(cls, heartbeat: Heartbeat, *, live: bool, unfinished: int) -> WorkerView:
        """Show a worker's last heartbeat."""
        return cls(
            id=heartbeat.id,
            url=heartbeat.url,
            s3_url=heartbeat.s3_url,
            zone=heartbeat.zone,
            live=live,
            leaving=heartbeat.leaving,
            capacity=heartbeat.capacity,
            used=heartbeat.used,
            objects=heartbeat.objects,
            active_batches=heartbeat.active_batches,
            pool_size=heartbeat.pool_size,
            unfinished_batches=unfinished,
            load_average=list(heartbeat.load_average),
            started_at=_time(heartbeat.started_at),
        )


class WorkerList(Schema):
    """The workers at an epoch of the placement map."""

    epoch: int
    workers: list[WorkerView]


class MemberView(Schema):
    """One worker that owns objects."""

    id: str
    url: str
    weight: float
    zone: str


class PlacementView(Schema):
    """The placement map."""

    epoch: int
    members: list[MemberView]
    slots: int
    """What the paths are divided into before their owners are computed."""

    @classmethod
    def of(cls, placement: PlacementMap) -> PlacementView:
        """Show a placement map."""
        members = [MemberView(id=m.id, url=m.url, weight=m.weight, zone=m.zone) for m in placement.members]
        return cls(epoch=placement.epoch, members=members, slots=placement.slots)


class JobViews:
    """Jobs as they are shown; what many clients ask for at once is written as JSON once."""

    def __init__(self, coordinator: Coordinator, *, base_url: str) -> None:
        self._cluster = coordinator.cluster
        self._base_url = base_url
        self._written: dict[str, tuple[tuple[object, ...], bytes]] = {}

    def view(self, known: KnownJob) -> JobItem:
        """Show a job in a list."""
        return JobItem.of(known, base_url=self._base_url, in_flight=self._in_flight(known))

    def json(self, known: KnownJob) -> bytes:
        """Return a job as JSON, in one line."""
        in_flight = self._in_flight(known)
        version = (known.revision, known.queue_position, known.attached, in_flight)
        written = self._written.pop(known.job.id, None)
        if written is None or written[0] != version:
            view = JobView.of(known, base_url=self._base_url, in_flight=in_flight)
            written = (version, view.model_dump_json(by_alias=True).encode())
        self._written[known.job.id] = written  # the last one used is the last to go
        if len(self._written) > _CACHED_JOBS:
            del self._written[next(iter(self._written))]
        return written[1]

    def _in_flight(self, known: KnownJob) -> int:
        if known.job.state.ended:
            return 0
        return sum(worker.transfers.get(known.job.id, 0) for worker in self._cluster.live())


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)
