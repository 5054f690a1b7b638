"""What the coordinator's REST API answers, as :class:`preheat.client.Client` returns it."""

from __future__ import annotations

from datetime import datetime

import msgspec

from preheat.jobs import Action, JobState, JobType, Priority


class Count(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Files and their bytes."""

    files: int = 0
    bytes: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(files=self.files + other.files, bytes=self.bytes + other.bytes)


class Options(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A job's options as the coordinator filled them in."""

    replicas: int = 1
    batch_size: int = 500
    skip_if_exists: bool = True
    verify: bool = False
    bandwidth: int | None = None
    """Bytes per second and worker."""
    file_filter_regex: str | None = None
    min_hot_fraction: float | None = None
    max_failed_files: int | None = None
    deadline: datetime | None = None
    priority: Priority = Priority.NORMAL
    load_metadata_only: bool = False


class Failure(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One object that failed."""

    path: str
    size: int
    code: str
    message: str


class ForecastReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """When a running job will have ended, at the rate at which it went of late."""

    finish_at: datetime | None = None
    late: bool = False


class JobReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A job as ``GET /v1/jobs/{id}`` describes it."""

    id: str
    type: JobType
    paths: tuple[str, ...]
    index: str | None = None
    destination: str | None = None
    options: Options = Options()
    state: JobState
    listed: Count = Count()
    loaded: Count = Count()
    skipped: Count = Count()
    failed: Count = Count()
    remaining: Count = Count()
    in_flight: int = 0
    """Bytes of the remaining ones that the workers have fetched so far."""
    verified: Count | None = None
    hot_fraction: float = 0.0
    hot_in_order: int = 0
    """How many entries from the start of the listing's order are all hot."""
    hot_in_order_at_most: int | None = None
    """Where that ends in this job, for the next one has failed."""
    dataset_version: str | None = None
    listing_done: bool = False
    forecast: ForecastReport | None = None
    failures: tuple[Failure, ...] = ()
    reason: str = ""
    abandoned: bool = False
    """It was stopped since nobody waited for it any more."""
    submitted_at: datetime
    queue_position: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    trace: str | None = None
    """The W3C trace id of the request that submitted it."""
    revision: int = 0
    url: str = ""
    attached: bool = False
    receipt: str | None = None
    """What it has proven, signed; see :mod:`preheat.receipts`. A list does not have it."""


class JobPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some jobs, newest first, and the cursor of the next page."""

    jobs: tuple[JobReport, ...] = ()
    next: str | None = None


class TaskReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What one worker did in one pass of a job."""

    worker: str
    action: Action
    status: JobState
    open_batches: int = 0
    batches: int = 0
    done: Count = Count()
    skipped: Count = Count()
    failed: int = 0
    error: str = ""


class TaskPage(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks of a job."""

    tasks: tuple[TaskReport, ...] = ()


class StopReport(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to :meth:`Client.stop_load`."""

    success: bool


class WorkerReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A worker as ``GET /v1/workers`` describes it."""

    id: str
    url: str
    s3_url: str = ""
    """The endpoint for S3 clients; empty if it serves none."""
    zone: str = ""
    live: bool
    leaving: bool = False
    """It is drained or stopping: it takes no more batches."""
    capacity: int
    used: int = 0
    objects: int = 0
    active_batches: int = 0
    pool_size: int = 0
    unfinished_batches: int = 0
    load_average: tuple[float, ...] = ()
    started_at: datetime | None = None

    @property
    def state(self) -> str:
        """``live``, ``draining``, ``drained``, or ``lost`` if it fell silent."""
        if self.leaving:
            return "draining" if self.active_batches or self.unfinished_batches else "drained"
        return "live" if self.live else "lost"


class WorkerPage(msgspec.Struct, frozen=True, kw_only=True):
    """The workers at one epoch."""

    epoch: int
    workers: tuple[WorkerReport, ...] = ()


class Requests(msgspec.Struct, frozen=True, kw_only=True):
    """Requests to under stores that charge for them."""

    list: int = 0
    get: int = 0


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What the requests cost."""

    list: float = 0.0
    get: float = 0.0
    total: float = 0.0
    currency: str = ""
    basis: str = ""


class WorkerEstimateReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker would hold, and its room; sizes are bytes."""

    id: str
    objects: int
    bytes: int
    free: int
    evictable: int
    fits: bool


class EstimateReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a load would do, as ``POST /v1/estimates`` describes it."""

    objects: int
    bytes: int
    missing: int = 0
    requests: Requests = Requests()
    cost: Cost = Cost()
    seconds: float | None = None
    fits: bool = True
    workers: tuple[WorkerEstimateReport, ...] = ()
    dataset_version: str | None = None


class PinReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A pin as ``GET /v1/pins`` describes it."""

    id: str
    path: str
    version: str
    inventory: str
    pinned_at: datetime


class PinPage(msgspec.Struct, frozen=True, kw_only=True):
    """All pins, by path."""

    pins: tuple[PinReport, ...] = ()


class ObjectVersion(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An object as it was or is."""

    size: int
    etag: str
    last_modified: datetime


class ChangeReport(msgspec.Struct, frozen=True, kw_only=True):
    """An object that is not as it was listed."""

    change: str
    key: str
    old: ObjectVersion | None = None
    new: ObjectVersion | None = None


class WarmthReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What ``GET /v1/warmth`` found."""

    path: str
    version: str
    source: str
    inventory: str | None
    listed_at: datetime | None
    expected: Count
    hot: Count
    hot_fraction: float
    fewest_copies: int | None
    complete: bool
    reason: str


class DriftReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What ``GET /v1/drift`` found."""

    path: str
    drift: bool
    pinned: bool
    inventory: str
    listed_at: datetime
    version: str
    origin_version: str
    unchanged: Count
    changed: int
    added: int
    deleted: int
    examples: tuple[ChangeReport, ...] = ()
