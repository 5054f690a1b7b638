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

    def score(self, path: bytes) -> float:
        """Return the worker's rank for a path; the highest owns it."""
        return -self.weight / log((xxh3_64_intdigest(path, self.seed) + 1) / (_TWO_64 + 1))


@dataclass(frozen=True, kw_only=True)
class PlacementMap:
    """The live workers at one epoch."""

    epoch: int = 0
    members: tuple[Member, ...] = ()

    def owners(self, path: str, replicas: int = 1) -> tuple[Member, ...]:
        """Return the ``replicas`` owners of a path (all members if there are fewer), the first owner first."""
        encoded = path.encode()
        if replicas == 1 and self.members:
            return (max(self.members, key=lambda member: member.score(encoded)),)
        ranked = heapq.nlargest(len(self.members), self.members, key=lambda member: member.score(encoded))
        return _spread(ranked, replicas)

    def member(self, worker_id: str) -> Member | None:
        """Return the member with this id, if it is live."""
        return next((member for member in self.members if member.id == worker_id), None)


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
