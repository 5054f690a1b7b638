"""What the engine keeps of a job: its record with its accounts, and what was asked of it after its submit."""

from __future__ import annotations

from dataclasses import dataclass, field

from preheat.jobs._batches import FailedObject, Tally
from preheat.jobs._spec import JobSpec, JobState, Priority

MAX_REPORTED_FAILURES = 100
"""How many failed objects a job's record names; the counters count all."""
_NOTHING = Tally()


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
    done: Tally = _NOTHING
    skipped: Tally = _NOTHING
    failed: int = 0
    error: str = ""
    """The last failure's message."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """The accounts of one pass over the listing. listed = done + skipped + failed + remaining, always (I7)."""

    listed: Tally = _NOTHING
    done: Tally = _NOTHING
    skipped: Tally = _NOTHING
    failed: Tally = _NOTHING
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
