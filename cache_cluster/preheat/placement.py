"""Placement: which workers own an object.

Rendezvous (highest random weight) hashing, weighted by capacity: a worker's score for a path is
``-weight / ln(h)`` with h a hash of (path, worker) in (0, 1), and the k highest scores own it (Thaler and Ravishankar
1998; the logarithm after Schindelhauer and Schomaker 2005). A worker that joins or leaves moves only its own share.
The map carries an epoch that rises with every change of membership.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from math import log

from xxhash import xxh3_64_intdigest

_TWO_64 = float(2**64)


@dataclass(frozen=True, kw_only=True)
class Member:
    """One live worker."""

    id: str
    url: str
    """Base URL of its data port."""
    weight: float = 1.0
    """Its share of the data relative to the others: the capacity in GiB."""
    zone: str = ""
    """What fails together; the copies of an object go to different zones where there are."""
    started_at: float = 0.0
    """A restart makes a new epoch: what was proven of a worker's disk before may not hold after."""

    @cached_property
    def seed(self) -> int:
        """The hash seed that makes this worker's scores independent of the others'."""
        return xxh3_64_intdigest(self.id.encode())


@dataclass(frozen=True, kw_only=True)
class PlacementMap:
    """The live workers at one epoch."""

    epoch: int = 0
    members: tuple[Member, ...] = ()

    def owners(self, path: str, replicas: int = 1) -> tuple[Member, ...]:
        """Return the ``replicas`` owners of a path (all members if there are fewer), the first owner first."""
        if not self.members:
            return ()
        scores = self._scores(path.encode())
        if replicas == 1:
            return (self.members[scores.index(max(scores))],)
        count = len(scores) if self._zoned else replicas
        ranked = heapq.nlargest(count, range(len(scores)), key=scores.__getitem__)
        return _spread([self.members[place] for place in ranked], replicas)

    def member(self, worker_id: str) -> Member | None:
        """Return the member with this id, if it is live."""
        return next((member for member in self.members if member.id == worker_id), None)

    def _scores(self, path: bytes) -> list[float]:
        """Return each member's rank for a path; the highest owns it. Among equal weights the hash ranks the same."""
        hashes = map(xxh3_64_intdigest, repeat(path), self._seeds)
        if self._equal:
            return list(hashes)
        return [-weight / log((value + 1) / (_TWO_64 + 1)) for value, weight in zip(hashes, self._weights, strict=True)]

    @cached_property
    def _seeds(self) -> list[int]:
        return [member.seed for member in self.members]

    @cached_property
    def _weights(self) -> list[float]:
        return [member.weight for member in self.members]

    @cached_property
    def _equal(self) -> bool:
        return len(set(self._weights)) == 1

    @cached_property
    def _zoned(self) -> bool:
        return any(member.zone for member in self.members)


def _spread(ranked: list[Member], count: int) -> tuple[Member, ...]:
    """Return the first member of each zone, then of what is left, in the order of their ranks."""
    zones: set[str] = set()
    first_of_zone: list[Member] = []
    others: list[Member] = []
    for member in ranked:
        fresh = not member.zone or member.zone not in zones
        (first_of_zone if fresh else others).append(member)
        zones.add(member.zone)
    return tuple((first_of_zone + others)[:count])
