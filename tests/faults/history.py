"""What was seen of a cluster while everything went wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

from preheat.jobs import Job, JobSpec
from preheat.placement import PlacementMap
from preheat.store import CachedObject
from preheat.versions import ObjectInfo
from tests.faults.origin import Change

Disks = dict[str, dict[str, CachedObject]]
"""Worker → URI → what it holds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One state of a job, as the engine held it or as a coordinator answered."""

    at: float
    source: str
    """The coordinator that answered, or ``engine``."""
    revision: int
    job: Job


@dataclass(frozen=True, kw_only=True, slots=True)
class Submit:
    """A submit that was acknowledged."""

    at: float
    key: str
    spec: JobSpec
    job_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Success:
    """A job's success, and what was true at that moment."""

    at: float
    job: Job
    epoch: int
    listing: tuple[ObjectInfo, ...]
    """What the origin listed for the job's paths, in the job's order."""
    missing: int
    """Objects that its index file names and the origin does not have."""
    cold: tuple[str, ...]
    """Objects that an owner did not hold, whole and in the version that the origin had."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """The end of a job that began, and what the workers held below its paths at both moments."""

    began_at: float
    at: float
    job: Job
    before: Disks
    after: Disks


@dataclass(frozen=True, kw_only=True, slots=True)
class Drop:
    """A copy that a worker dropped because others were to keep it, and did not have it at that moment."""

    at: float
    job_id: str
    worker: str
    uri: str
    without: tuple[str, ...]
    """Those others."""


@dataclass(kw_only=True)
class History:
    """All of it, in the order of time."""

    seed: int
    records: list[Record] = field(default_factory=list)
    """Every state of every job that the engine held."""
    removed: dict[str, float] = field(default_factory=dict)
    """Job → when its record was deleted: its submit was never acknowledged."""
    answers: list[Record] = field(default_factory=list)
    """What coordinators answered, without repetitions."""
    submits: list[Submit] = field(default_factory=list)
    successes: list[Success] = field(default_factory=list)
    endings: list[Ending] = field(default_factory=list)
    drops: list[Drop] = field(default_factory=list)
    placements: list[tuple[float, PlacementMap]] = field(default_factory=list)
    """When the placement map changed, and to what."""
    slow: list[tuple[float, float, str]] = field(default_factory=list)
    """From when to when which process was paused; without a name, the engine was in trouble for all."""
    losses: list[tuple[float, str]] = field(default_factory=list)
    """When which worker lost its disk."""
    origin_changes: list[Change] = field(default_factory=list)
    """Everything that was written to the origin or deleted there, from its first object on."""
    failures: dict[str, int] = field(default_factory=dict)
    """Job → how many failed objects its failure log names."""
    left_in_queues: list[str] = field(default_factory=list)
    """Messages that nobody will ever take."""
    mishaps: list[str] = field(default_factory=list)
    """What must not happen and was noticed on the spot: a crash, a wrong read, a wait without end."""
    events: list[str] = field(default_factory=list)
    """What was done to the cluster, for the person who reads a failure."""
    ended_at: float = 0.0
