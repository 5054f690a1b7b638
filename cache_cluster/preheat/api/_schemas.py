"""What the native API takes and gives, as pydantic models; the JSON is camelCase."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from preheat.accounting import dataset_version, hot_fraction
from preheat.coordinator import KnownJob
from preheat.jobs import FailedObject, JobSpec, JobState, JobType, LoadOptions, Tally
from preheat.placement import PlacementMap
from preheat.registry import Heartbeat
from preheat.units import parse_size


def _size(value: Any) -> Any:
    if isinstance(value, str):
        return parse_size(value, field="bandwidth") if value else None
    return value


class Schema(BaseModel):
    """camelCase in JSON, either spelling accepted, unknown fields refused."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class Options(Schema):
    """How a job treats its objects."""

    replicas: int = Field(1, ge=1, description="Workers that hold each object.")
    batch_size: int = Field(200, ge=1, le=10_000, description="Objects in one request to a worker.")
    skip_if_exists: bool = Field(default=True, description="Leave a cached copy of the same version alone.")
    verify: bool = Field(default=False, description="Read every entry back from its owners before the job may succeed.")
    bandwidth: Annotated[int | None, BeforeValidator(_size)] = Field(
        None, ge=1, description="Bytes per second and worker, a number or a size such as 100MiB; null is unlimited."
    )
    file_filter_regex: str | None = Field(None, max_length=1000, description="Only keys that this matches in full.")
    min_hot_fraction: float | None = Field(
        None, ge=0, le=1, description="Succeed with failed files if at least this share of the files is hot."
    )
    max_failed_files: int | None = Field(None, ge=0, description="Succeed with up to this many failed files.")
    deadline: AwareDatetime | None = Field(None, description="Fail if the job has not ended by then.")

    def to_options(self) -> LoadOptions:
        """Return the options as the coordinator takes them."""
        deadline = self.deadline.timestamp() if self.deadline else None
        return LoadOptions(**self.model_dump(exclude={"deadline"}), deadline=deadline)

    @classmethod
    def of(cls, options: LoadOptions) -> Options:
        """Show options."""
        values = {name: getattr(options, name) for name in cls.model_fields}
        deadline = _time(options.deadline) if options.deadline else None
        return cls.model_construct(**(values | {"deadline": deadline}))


class Submit(Schema):
    """A job to be done."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"paths": ["s3://datasets/digits/"], "options": {"verify": True}}]}
    )

    type: JobType = JobType.LOAD
    path: str | None = Field(None, description="Short for paths with one element.")
    paths: list[str] = Field(default_factory=list, max_length=1000)
    options: Options = Options()

    @model_validator(mode="after")
    def _some_path(self) -> Self:
        if (self.path is None) == (not self.paths):
            raise ValueError("give either path or paths, and not an empty list")
        return self

    def to_spec(self) -> JobSpec:
        """Return the job as the coordinator takes it."""
        paths = self.paths or [self.path or ""]
        return JobSpec(type=self.type, paths=tuple(dict.fromkeys(paths)), options=self.options.to_options())


class Claim(Schema):
    """A waiter and its present fence."""

    waiter: str = Field(min_length=1, max_length=1024, description="A stable name, e.g. of a task instance.")
    fence: str = Field(min_length=8, max_length=128, description="Made anew by each process that waits.")


class Change(Schema):
    """What can change while a job runs."""

    bandwidth: Annotated[int | None, BeforeValidator(_size)] = Field(
        ge=1, description="Bytes per second and worker, a number or a size; null lifts the limit."
    )


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


class JobView(Schema):
    """One job."""

    id: str
    type: JobType
    paths: list[str]
    options: Options
    state: JobState
    listed: Count
    loaded: Count
    skipped: Count
    failed: Count
    remaining: Count
    verified: Count | None
    hot_fraction: float
    dataset_version: str | None
    listing_done: bool
    failures: list[Failure]
    reason: str
    submitted_at: datetime
    queue_position: int | None = Field(description="Of a WAITING job: 1 is the next to run.")
    started_at: datetime | None
    finished_at: datetime | None
    revision: int
    url: str
    attached: bool

    @classmethod
    def of(cls, known: KnownJob, *, base_url: str) -> JobView:
        """Show a job."""
        job, load = known.job, known.job.load
        return cls(
            id=job.id,
            type=job.spec.type,
            paths=list(job.spec.paths),
            options=Options.of(job.spec.options),
            state=job.state,
            listed=Count.of(load.listed),
            loaded=Count.of(load.done),
            skipped=Count.of(load.skipped),
            failed=Count.of(load.failed),
            remaining=Count.of(load.remaining),
            verified=Count.of(job.verification.done) if job.verification else None,
            hot_fraction=hot_fraction(job),
            dataset_version=dataset_version(job),
            listing_done=load.listing_done,
            failures=[Failure.of(failed) for failed in job.failures],
            reason=job.reason,
            submitted_at=_time(job.submitted_at),
            queue_position=known.queue_position,
            started_at=_time(job.started_at) if job.started_at else None,
            finished_at=_time(job.finished_at) if job.finished_at else None,
            revision=known.revision,
            url=f"{base_url}/jobs/{job.id}",
            attached=known.attached,
        )


class JobList(Schema):
    """One page of jobs, newest first."""

    jobs: list[JobView]
    next: str | None = Field(description="Cursor of the next page.")


class WorkerView(Schema):
    """One worker."""

    id: str
    url: str
    live: bool
    capacity: int
    used: int
    objects: int
    active_batches: int = Field(description="In work now.")
    pool_size: int = Field(description="The most that it works on at once.")
    unfinished_batches: int = Field(description="Of running jobs, given to it and without a result.")
    load_average: list[float] = Field(description="Of its machine, over 1, 5 and 15 minutes.")
    started_at: datetime

    @classmethod
    def of(cls, heartbeat: Heartbeat, *, live: bool, unfinished: int) -> WorkerView:
        """Show a worker's last heartbeat."""
        return cls(
            id=heartbeat.id,
            url=heartbeat.url,
            live=live,
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


class PlacementView(Schema):
    """The placement map."""

    epoch: int
    members: list[MemberView]

    @classmethod
    def of(cls, placement: PlacementMap) -> PlacementView:
        """Show a placement map."""
        members = [MemberView(id=m.id, url=m.url, weight=m.weight) for m in placement.members]
        return cls(epoch=placement.epoch, members=members)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)
