"""Placement: which workers own an object.

Rendezvous (highest random weight) hashing, weighted by capacity: a worker's score for a path is
``-weight / ln(h)`` with h a hash of (path, worker) in (0, 1), and the k highest scores own it (Thaler and Ravishankar
1998; the logarithm after Schindelhauer and Schomaker 2005). A worker that joins or leaves moves only its own share.
The map carries an epoch that rises with every change of membership.

That is a hash for each worker. So a map may divide the paths into slots by their hash, and it is the slots that have
owners: these are found once, as they are asked for, and remembered. Whoever computes an owner goes by the map's slots.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import repeat
from math import log
from mmap import mmap

from xxhash import xxh3_64_intdigest

SLOTS = 1 << 21
"""Of new clusters' maps: a thousand workers have some two thousand each, which spreads their shares by 2 %."""
_TWO_64 = float(2**64)
_REMEMBERED_OWNERS = 4
"""Of a slot, at most, with two bytes for each."""
_FEWEST_REMEMBERED, _MOST_REMEMBERED = 16, 0xFFFF
"""Members of a map: with fewer it is quicker to compute again, and more places do not fit into two bytes."""


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
    slots: int = 0
    """Into so many the paths are divided, as long as the cluster lives; with none each path has its own owners."""

    def owners(self, path: str, replicas: int = 1) -> tuple[Member, ...]:
        """Return the ``replicas`` owners of a path (all members if there are fewer), the first owner first."""
        members = self.members
        if not self.slots:
            return tuple([members[place] for place in self._ranked(path.encode(), replicas)])
        slot, tables = xxh3_64_intdigest(path.encode()) % self.slots, self._tables
        if replicas > len(tables):
            return tuple([members[place] for place in self._ranked(b"%d" % slot, replicas)])
        ends = [table[slot] for table in tables[:replicas]]
        if not all(ends):
            ends = [place + 1 for place in self._ranked(b"%d" % slot, replicas)]
            for table, end in zip(tables, ends, strict=False):
                table[slot] = end
        return tuple([members[end - 1] for end in ends])

    def _ranked(self, key: bytes, count: int) -> list[int]:
        """Return the places of the ``count`` members that rank highest for a key."""
        scores = self._scores(key)
        if count == 1 and scores:
            return [scores.index(max(scores))]
        if self._zoned or count > _REMEMBERED_OWNERS:
            ranked = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)
            return _spread(ranked, [member.zone for member in self.members], count)
        ranked = []
        for _ in range(min(count, len(scores))):
            place = scores.index(max(scores))
            ranked.append(place)
            scores[place] = -1.0
        return ranked

    def member(self, worker_id: str) -> Member | None:
        """Return the member with this id, if it is live."""
        return next((member for member in self.members if member.id == worker_id), None)

    def _scores(self, key: bytes) -> list[float]:
        """Return each member's rank for a key; the highest owns it. Among equal weights the hash ranks the same."""
        hashes = map(xxh3_64_intdigest, repeat(key), self._seeds)
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
    def _tables(self) -> list[memoryview[int]]:
        return _tables(tuple((member.id, member.weight, member.zone) for member in self.members), self.slots)

    @cached_property
    def _zoned(self) -> bool:
        return any(member.zone for member in self.members)


@lru_cache(maxsize=4)
def _tables(ranking: tuple[tuple[str, float, str], ...], slots: int) -> list[memoryview[int]]:
    """Return what is remembered of the slots' owners: a table of first ones, one of second ones, and so on.

    In them is the owner's place among the members, from 1 on, and 0 as long as nobody asked. Maps of the same members
    share them, so they outlive a restart of a worker. What nobody wrote to takes no memory.
    """
    count = min(len(ranking), _REMEMBERED_OWNERS) if _FEWEST_REMEMBERED <= len(ranking) <= _MOST_REMEMBERED else 0
    return [memoryview(mmap(-1, 2 * slots)).cast("H") for _ in range(count)]


def _spread(ranked: list[int], zones: list[str], count: int) -> list[int]:
    """Return the first place of each zone, then of what is left, in the order of their ranks."""
    found: set[str] = set()
    first_of_zone: list[int] = []
    others: list[int] = []
    for place in ranked:
        fresh = not zones[place] or zones[place] not in found
        (first_of_zone if fresh else others).append(place)
        found.add(zones[place])
    return (first_of_zone + others)[:count]
