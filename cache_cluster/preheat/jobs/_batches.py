"""What coordinators and workers send each other: batches and their results."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from preheat.placement import Member
from preheat.versions import ObjectInfo


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
