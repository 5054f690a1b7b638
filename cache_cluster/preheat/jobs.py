"""What crosses the boundaries between coordinator, engine and workers: jobs, batches and results.

All are frozen keyword-only dataclasses, written as JSON by msgspec. The records are O(jobs + open batches): a job's
durable progress is its listing cursor, its counters and its open batches, never a list of files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from preheat.placement import Member
from preheat.versions import ObjectInfo

MAX_REPORTED_FAILURES = 100
"""How many failed objects a job's record names; the counters count all."""


class JobType(StrEnum):
    """What a job does to each object below its paths."""

    LOAD = "load"  #: fetch into the cache
    FREE = "free"  #: evict from the cache
    COPY = "copy"  #: write to another place of an under store
    MOVE = "move"  #: the same, then delete the source
    REPLICATE = "replicate"  #: bring what is cached to a number of copies, each on one of its owners
    REBALANCE = "rebalance"  #: bring what is cached to its owners, each object in as many copies as it has
    PERSIST = "persist"  #: give the under store what was written to the cache

    @property
    def lists_cache(self) -> bool:
        """Whether the job's objects are those that the workers hold, rather than those of the under store."""
        return self in (JobType.FREE, JobType.REPLICATE, JobType.REBALANCE, JobType.PERSIST)

    @property
    def has_destination(self) -> bool:
        """Whether the job writes to an under store."""
        return self in (JobType.COPY, JobType.MOVE)


class Priority(StrEnum):
    """Which job goes first where several wait for a worker or a coordinator."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class JobState(StrEnum):
    """Where a job is in its life."""

    WAITING = "WAITING"  #: accepted and durable, not started
    RUNNING = "RUNNING"  #: listing, and batches are with the workers
    VERIFYING = "VERIFYING"  #: every entry is being read back from its owners
    STOPPED = "STOPPED"  #: stopped by a request; a new submit starts it again
    SUCCEEDED = "SUCCEEDED"  #: every listed object is accounted for, within the job's criterion
    FAILED = "FAILED"  #: it is not; ``reason`` says why

    @property
    def ended(self) -> bool:
        """Whether no coordinator works on the job any more."""
        return self in (JobState.STOPPED, JobState.SUCCEEDED, JobState.FAILED)


@dataclass(frozen=True, kw_only=True, slots=True)
class JobOptions:
    """How a job treats its objects; :mod:`preheat.coordinator._validation` says which types take which."""

    replicas: int = 1
    """Workers that hold each object."""
    batch_size: int = 500
    """Objects in one request to a worker, at most."""
    skip_if_exists: bool = True
    """Leave a cached copy of the same version alone; otherwise fetch it again."""
    verify: bool = False
    """Read every entry back from its owners, checksums included, before the job may succeed."""
    bandwidth: int | None = None
    """Bytes per second and worker; none is unlimited."""
    file_filter_regex: str | None = None
    """Only keys that this regular expression matches in full."""
    min_hot_fraction: float | None = None
    """The job may succeed with failed files if at least this share of the files is hot."""
    max_failed_files: int | None = None
    """The job may succeed with up to this many failed files; without either limit, with none."""
    deadline: float | None = None
    """The job fails if it has not ended by then, in seconds since the epoch."""
    priority: Priority = Priority.NORMAL
    load_metadata_only: bool = False
    """Let the workers know the objects' sizes and versions without fetching them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobSpec:
    """What was asked for."""

    type: JobType = JobType.LOAD
    paths: tuple[str, ...] = ()
    index: str = ""
    """A file of the under store that names the paths, one a line, in their place."""
    destination: str = ""
    """Where a copy or a move writes to."""
    alias: str = ""
    """What Alluxio's dialect C finds the job by, of the submitter's choosing or random; not part of the identity."""
    retry_of: str = ""
    """The job whose failed objects are to be done, instead of all below the paths."""
    within: tuple[str, ...] = ()
    """Prefixes that the submitter is bound to, where the paths do not tell all that is touched; empty is everywhere."""
    options: JobOptions = JobOptions()

    @property
    def parts(self) -> int:
        """How many listings there are: one a path; an index file and what failed in another job are one each."""
        return 1 if self.index or self.retry_of else len(self.paths)

    @property
    def identity(self) -> str:
        """Two specs with one identity are the same job while one of them runs."""
        kind = f"{self.type} metadata" if self.options.load_metadata_only else self.type
        return "\n".join((kind, self.retry_of, self.index, self.destination, *self.paths, *self.within))


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """A count of objects and of their bytes."""

    objects: int = 0
    bytes: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(objects=self.objects + other.objects, bytes=self.bytes + other.bytes)

    def __sub__(self, other: Tally) -> Tally:
        return Tally(objects=self.objects - other.objects, bytes=self.bytes - other.bytes)


class Action(StrEnum):
    """What a batch asks a worker to do with its entries."""

    FETCH = "fetch"  #: have them in the cache
    VERIFY = "verify"  #: read every page back; what is missing or corrupt is fetched first
    NOTE = "note"  #: know their sizes and versions
    TRIM = "trim"  #: drop them, except on the batch's keepers
    REBALANCE = "rebalance"  #: have them on the batch's keepers; then drop them on the other holders
    PERSIST = "persist"  #: give the under store the versions of them that are pending
    COPY = "copy"  #: write them to the destination
    MOVE = "move"  #: the same, then delete them at the source


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Objects of one job for one group of workers; idempotent, delivered at least once."""

    id: str
    job_id: str
    action: Action
    root: str
    """URI of the bucket, ending with a slash: an entry's path is ``root + entry.key``."""
    entries: tuple[ObjectInfo, ...]
    numbers: tuple[int, ...] = ()
    """Of each entry its number in the order in which the job lists."""
    skip_if_exists: bool = True
    bandwidth: int | None = None
    from_peers: bool = False
    """Other workers are likely to have what is missing: ask them before the under store."""
    keepers: tuple[str, ...] = ()
    """Workers that keep the entries of a TRIM or a REBALANCE."""
    holders: tuple[str, ...] = ()
    """Workers that had copies of each entry of a REBALANCE."""
    drained: tuple[Member, ...] = ()
    """Those of them that are drained, and so not in the placement map."""
    cached_before: float | None = None
    """Nothing is dropped that came at this time or later, in seconds since the epoch, by others than the job; none
    takes all."""
    source: str = ""
    """The job's path that the entries were listed below, for COPY and MOVE."""
    destination: str = ""
    """Where that path is written to; see :func:`preheat.destinations.target`."""

    @property
    def tally(self) -> Tally:
        """Objects and bytes of the batch."""
        return Tally(objects=len(self.entries), bytes=sum(entry.size for entry in self.entries))


@dataclass(frozen=True, kw_only=True, slots=True)
class FailedObject:
    """One object that could not be done, and why."""

    path: str
    size: int
    code: str
    """The error's code, e.g. ``access_denied``."""
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchResult:
    """What one worker did with one batch: done + skipped + failed = the batch's objects."""

    batch_id: str
    job_id: str
    worker: str
    done: Tally
    skipped: Tally = Tally()
    failed: tuple[FailedObject, ...] = ()
    first_failed: int | None = None
    """The least number of an entry that failed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenBatch:
    """A batch whose result is still missing from at least one of its workers.

    Or the joint account of several batches, which nobody waits for itself: it has their objects, and they have none.
    """

    tally: Tally
    waiting: tuple[str, ...]
    """Workers that have not reported."""
    then: tuple[str, ...] = ()
    """Workers that it goes to when all of those have."""
    keepers: tuple[str, ...] = ()
    """Workers whose copies let the others drop theirs."""
    skipped: Tally | None = None
    """The least that any worker skipped so far; none before the first result."""
    failed: tuple[FailedObject, ...] = ()
    """What failed on any worker so far, one entry per object. The owner alone knows: the record has no room for it."""
    parked: bool = False
    """In a record: what failed so far is in the failure log."""
    first: int = 0
    """The least number of an entry."""
    first_failed: int | None = None
    """The least number of an entry that failed so far."""
    joint: str = ""
    """Of a batch: the account that it is in together with others, which have other copies of the same objects."""
    copy: int = 0
    """Of such a batch: which copy of its entries it makes."""
    batches: int = 0
    """Of a joint account: those of its batches that are open."""
    copies: tuple[Tally, ...] = ()
    """Of a joint account: what was skipped so far, by copy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerShare:
    """What one worker reported of a pass. An object with several owners is in the share of each."""

    batches: int = 0
    done: Tally = Tally()
    skipped: Tally = Tally()
    failed: int = 0
    error: str = ""
    """The last failure's message."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """The accounts of one pass over the listing. listed = done + skipped + failed + remaining, always (I7)."""

    listed: Tally = Tally()
    done: Tally = Tally()
    skipped: Tally = Tally()
    failed: Tally = Tally()
    open: dict[str, OpenBatch] = field(default_factory=dict)
    path_index: int = 0
    """Which of the job's paths is being listed."""
    cursor: str = ""
    """The last key planned of that path; everything at or before it is in a batch or accounted for."""
    listing_done: bool = False
    version: str = ""
    """State of the dataset version's hash chain at the cursor."""
    batches: int = 0
    """Batches planned so far; the next one's number."""
    epoch: int = 0
    """The placement map's when a verification began: it proves nothing about owners of a later one."""
    began_at: float | None = None
    """When a verification began, in seconds since the epoch."""
    shares: dict[str, WorkerShare] = field(default_factory=dict)
    """By worker."""
    in_order: int = 0
    """So many entries are the first ones of the order; of those listed since, others come between them."""
    first_failed: int | None = None
    """The least number of an entry that failed for good."""

    @property
    def remaining(self) -> Tally:
        """What was listed and has no result."""
        return self.listed - self.done - self.skipped - self.failed

    @property
    def complete(self) -> bool:
        """Whether the listing ended and every batch was accounted for."""
        return self.listing_done and not self.open


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """How a running job will end, at the rate at which it went of late."""

    finish_at: float | None = None
    """When its present pass ends, in seconds since the epoch; none as long as that cannot be said."""
    late: bool = False
    """Whether that is after its deadline."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One job's durable record. Only its owner writes it, by compare-and-swap."""

    id: str
    spec: JobSpec
    state: JobState = JobState.WAITING
    submitted_at: float
    started_at: float | None = None
    finished_at: float | None = None
    trace: str = ""
    """The W3C trace id of the request that submitted it."""
    owner: str = ""
    """The coordinator that works on it."""
    generation: int = 0
    """Raised by each owner that takes it over: part of a batch's id, so that an old owner's batches are told apart."""
    work: Progress = field(default_factory=Progress)
    """The pass that does what the job is for."""
    verification: Progress | None = None
    """The pass that reads everything back."""
    trimming: Progress | None = None
    """The pass that drops: at the source what a move has copied, in caches what a replicate has elsewhere."""
    failures: tuple[FailedObject, ...] = ()
    """The first few of what failed."""
    failure_chunks: dict[int, int] = field(default_factory=dict)
    """How many chunks of the failure log, by generation, name all of what failed."""
    reason: str = ""
    """Why it failed or was stopped."""
    abandoned: bool = False
    """It was stopped since nobody waited for it any more; see :mod:`preheat.claims`."""
    forecast: Forecast = Forecast()
    late_since: float | None = None
    """When the forecast said for the first time that the job will be late."""
    receipt: str = ""
    """What it has proven, signed (see :mod:`preheat.receipts`): written with the state that ends it, or never."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiter:
    """Somebody who waits for a job."""

    fence: str
    """Made anew by each process that waits on the waiter's behalf; only the present one may cancel."""
    leaves_at: float | None = None
    """When its cancel takes effect, in seconds since the epoch; none if it waits on."""
    lease: float | None = None
    """For how many seconds it waits without a sign of its process; none is for ever."""
    renewed_at: float = 0.0
    """When its process was heard of last, in seconds since the epoch; of use with a lease only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobControl:
    """What was asked of a job after its submit. Any coordinator writes it; the owner and the workers obey."""

    stop: bool = False
    """The job is to stop, or has ended otherwise than done: workers drop what they have of it."""
    priority: Priority | None = None
    """In the place of the one that was submitted, for the batches to come."""
    bandwidth: int | None = None
    """Bytes per second and worker, in the place of the one that was submitted; 0 lifts the limit."""
    waiters: dict[str, Waiter] = field(default_factory=dict)

    def bandwidth_in_force(self, submitted: int | None) -> int | None:
        """Return the limit as things stand, where ``submitted`` was asked for at first; none is unlimited."""
        return submitted if self.bandwidth is None else self.bandwidth or None
