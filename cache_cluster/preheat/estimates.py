"""What a load would do: objects, bytes, requests, money, time, and whether it fits. Pure: nothing is fetched.

The objects arrive page by page, as the listing gives them; what is kept of them is a few sums per worker.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from preheat.jobs import JobSpec, Tally
from preheat.placement import PlacementMap
from preheat.registry import Heartbeat
from preheat.versions import DatasetVersion, ObjectInfo

_PAID_SCHEME = "s3://"
_PRICE_DIGITS = 9


@dataclass(frozen=True, kw_only=True, slots=True)
class Prices:
    """What requests to the under store cost; other stores and contracts have other prices."""

    list_per_1000: float = 0.005
    get_per_1000: float = 0.0004
    currency: str = "USD"
    basis: str = (
        "AWS list prices of S3 Standard in us-east-1: 0.005 USD for 1,000 LIST and 0.0004 USD for 1,000 GET; "
        "without data transfer, which is free within the region"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerEstimate:
    """What one worker would hold."""

    id: str
    load: Tally
    free: int
    """Bytes that nothing occupies."""
    evictable: int
    """Bytes of what is cached, all of which makes room for what is loaded."""

    @property
    def fits(self) -> bool:
        """Whether there is room for its share, other data given up."""
        return self.load.bytes <= self.free + self.evictable


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What a load would do if nothing were cached."""

    listed: Tally
    missing: int
    """Objects that an index file names and that are not there."""
    list_requests: int
    """To under stores that charge for them, as ``get_requests``."""
    get_requests: int
    workers: tuple[WorkerEstimate, ...]
    seconds: float | None
    """For the worker with the most bytes, at the load's bandwidth; none if it has no limit."""
    dataset_version: str | None
    """None for what is not a whole listing."""

    @property
    def fits(self) -> bool:
        """Whether every worker has room for its share."""
        return all(worker.fits for worker in self.workers)


class Estimator:
    """Adds up the pages of a listing.

    Args:
        spec: the load.
        placement: who would own the objects.
    """

    def __init__(self, spec: JobSpec, placement: PlacementMap) -> None:
        self._spec = spec
        self._placement = placement
        self._version = DatasetVersion()
        self._listed = Tally()
        self._missing = 0
        self._list_requests = 0
        self._get_requests = 0
        self._objects: dict[str, int] = defaultdict(int)
        self._bytes: dict[str, int] = defaultdict(int)

    def add(self, root: str, objects: Sequence[ObjectInfo], *, missing: int = 0) -> None:
        """Take one page of the listing; ``root`` is the URI of its bucket, ending with a slash."""
        self._missing += missing
        self._version.update(objects)
        self._listed += Tally(objects=len(objects), bytes=sum(item.size for item in objects))
        copies = sum(self._place(root, item) for item in objects)
        if root.startswith(_PAID_SCHEME):
            self._list_requests += 2 if self._spec.options.verify else 1  # what is verified is listed anew
            self._get_requests += 0 if self._spec.options.load_metadata_only else copies

    def _place(self, root: str, item: ObjectInfo) -> int:
        owners = self._placement.owners(root + item.key, self._spec.options.replicas)
        for owner in owners:
            self._objects[owner.id] += 1
            self._bytes[owner.id] += 0 if self._spec.options.load_metadata_only else item.size
        return len(owners)

    def result(self, workers: Iterable[Heartbeat]) -> Estimate:
        """Return the sums, with the room that the members of the placement map have."""
        shares = tuple(self._share(worker) for worker in workers if self._placement.member(worker.id))
        bandwidth = self._spec.options.bandwidth
        most = max((share.load.bytes for share in shares), default=0)
        return Estimate(
            listed=self._listed,
            missing=self._missing,
            list_requests=self._list_requests,
            get_requests=self._get_requests,
            workers=shares,
            seconds=most / bandwidth if bandwidth else None,
            dataset_version=str(self._version) if self._listed.objects else None,
        )

    def _share(self, worker: Heartbeat) -> WorkerEstimate:
        used = min(worker.used, worker.capacity)
        load = Tally(objects=self._objects[worker.id], bytes=self._bytes[worker.id])
        return WorkerEstimate(id=worker.id, load=load, free=worker.capacity - used, evictable=used)


def cost(estimate: Estimate, prices: Prices) -> tuple[float, float]:
    """Return what the LIST and what the GET requests cost."""
    lists = estimate.list_requests * prices.list_per_1000 / 1000
    gets = estimate.get_requests * prices.get_per_1000 / 1000
    return round(lists, _PRICE_DIGITS), round(gets, _PRICE_DIGITS)
