"""What is asked for: a job's type, paths and options."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
