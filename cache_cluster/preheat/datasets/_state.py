"""What is known of a declared dataset: its record, which any coordinator changes by compare-and-swap. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from preheat.datasets._declaration import Dataset
from preheat.jobs import JobSpec, Tally


class Phase(StrEnum):
    """How far the preload is, in the words of Fluid."""

    UNKNOWN = ""  #: no coordinator has looked at it yet
    NOT_STARTED = "NotStarted"  #: it is not to be loaded, or waits for workers, for its metadata or for its time
    LOADING = "DisLoading"  #: a load is under way
    LOADED = "Loaded"  #: the last load that began has succeeded, or failed after one that had


class Owner(StrEnum):
    """Who declared a dataset, and so may change it."""

    API = "api"
    FILE = "file"  #: the coordinator's configuration


class ConditionType(StrEnum):
    """What can be said of a dataset besides its phase."""

    WORKERS_READY = "WorkersReady"
    METADATA_LOADED = "MetadataLoaded"
    LOADED = "Loaded"
    FAILING = "Failing"
    QUOTA_EXCEEDED = "QuotaExceeded"
    COPIES_LOST = "CopiesLost"
    DRIFTED = "Drifted"


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """Whether something holds of a dataset, and since when."""

    type: ConditionType
    status: bool
    reason: str
    message: str = ""
    since: float
    """Of the last change of ``status``, in seconds since the epoch."""


class Cause(StrEnum):
    """Why a dataset is loaded."""

    DECLARED = "Declared"
    SCHEDULED = "Scheduled"
    COPIES_LOST = "CopiesLost"
    DRIFTED = "Drifted"


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A job that is to be: first this is written, then it is submitted, so that it is submitted once."""

    key: str
    """Its idempotency key."""
    spec: JobSpec
    made_at: float = 0.0
    job_id: str = ""
    """Empty until it was submitted."""
    attached: bool = False
    """The job was there already: somebody else's."""

    @property
    def is_load(self) -> bool:
        """Whether it brings objects, and not just their metadata."""
        return not self.spec.options.load_metadata_only


@dataclass(frozen=True, kw_only=True, slots=True)
class Cycle:
    """All that is done until the dataset is loaded, with every further try."""

    cause: Cause
    began_at: float
    listed: bool
    """The metadata is known, as far as this cycle needs it."""
    failures: int = 0
    """In a row."""
    retry_at: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """The last load that succeeded."""

    at: float
    job_id: str
    version: str
    """``sha256:…``; empty where an order file named the objects."""
    hot_fraction: float
    tally: Tally
    members: dict[str, float] = field(default_factory=dict)
    """The workers then, with the start of their processes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What the last look at the workers and the under store found."""

    at: float
    seconds: float
    """How long it took."""
    hot_fraction: float
    changes: int = 0
    """Objects that the under store has otherwise than they were listed."""
    pinned: bool = False
    """They were listed so in a version that is pinned."""
    problem: str = ""
    """Why a worker or the under store did not answer; empty if all did."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """A dataset, who declared it, and what has become of it."""

    dataset: Dataset
    owner: Owner = Owner.API
    changed_at: float
    """When it was declared as it is."""
    removed: bool = False
    """It is no longer declared: what was made of it is removed, then the record."""
    observed: bool = False
    cycle: Cycle | None = None
    run: Run | None = None
    left: Run | None = None
    """One that is not wanted any more: its job goes on only if others wait for it."""
    runs: int = 0
    """So far; the next one's number."""
    held: bool = False
    """It is not loaded before its schedule or its declaration says so: its time to live is over, or it was stopped."""
    fired_at: float = 0.0
    """When the schedule was obeyed last."""
    listed: Tally | None = None
    """By the last run that listed it."""
    last_job: str = ""
    loaded: Loaded | None = None
    look: Look | None = None
    look_begun: float = 0.0
    """When a coordinator took the next look upon itself."""
    colds: int = 0
    """Looks in a row that found copies missing, though no worker had left."""
    drifts: int = 0
    """Loads because the under store had changed, since it last was calm."""
    conditions: tuple[Condition, ...] = ()

    @property
    def phase(self) -> Phase:
        """How far the preload is."""
        if not self.observed:
            return Phase.UNKNOWN
        if not self.dataset.preload.enabled:
            return Phase.NOT_STARTED
        if self.run and self.run.is_load:
            return Phase.LOADING
        return Phase.LOADED if self.loaded else Phase.NOT_STARTED

    def condition(self, kind: ConditionType) -> Condition | None:
        """Return what is said of one thing."""
        return next((item for item in self.conditions if item.type is kind), None)

    def holds(self, kind: ConditionType) -> bool:
        """Say whether something holds."""
        found = self.condition(kind)
        return found is not None and found.status

    def saying(self, kind: ConditionType, reason: str, message: str = "", *, status: bool, now: float) -> Record:
        """Return the record with a condition; its ``since`` moves only if the status changes."""
        before = self.condition(kind)
        since = before.since if before and before.status is status else now
        said = Condition(type=kind, status=status, reason=reason, message=message, since=since)
        others = [item for item in self.conditions if item.type is not kind]
        order = list(ConditionType)
        return replace(self, conditions=tuple(sorted([*others, said], key=lambda item: order.index(item.type))))

    def no_longer(self, kind: ConditionType, reason: str, *, now: float) -> Record:
        """Return the record with a condition that held and does not any more; one that never did is left out."""
        return self.saying(kind, reason, status=False, now=now) if self.holds(kind) else self


def declared(before: Record | None, dataset: Dataset, owner: Owner, now: float) -> Record:
    """Return the record of a dataset that was declared, anew or otherwise than before.

    What was loaded still counts if the same objects are to be there in as many copies.
    """
    if before is None:
        return Record(dataset=dataset, owner=owner, changed_at=now)
    if before.removed or dataset.content != before.dataset.content:
        left, observed = without_run(before).left, before.observed
        return Record(dataset=dataset, owner=owner, changed_at=now, runs=before.runs, observed=observed, left=left)
    if dataset == before.dataset:
        return replace(before, owner=owner, held=before.held and owner is Owner.FILE)  # a file is read at each start
    cycle = replace(before.cycle, failures=0, retry_at=0.0) if before.cycle else None
    changed = replace(before, dataset=dataset, owner=owner, changed_at=now, held=False, cycle=cycle)
    return changed if dataset.preload.enabled else replace(without_run(changed), cycle=None)


def without_run(record: Record) -> Record:
    """Return the record when its run is not wanted any more."""
    run = record.run
    return replace(record, run=None, left=run if run and run.job_id and not run.attached else record.left)
