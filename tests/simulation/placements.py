"""How evenly objects spread over workers, and what moves when one joins or leaves: the real placement, many keys."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from math import sqrt
from statistics import mean

from preheat.placement import SLOTS, Member, PlacementMap

_ROOT = "s3://bench/synthetic/shard-"


@dataclass(frozen=True, kw_only=True)
class Balance:
    """Shares of the objects of one placement map, as multiples of the mean share."""

    keys: int
    least: float
    most: float
    chance: float
    """Standard deviation of a share if each key were drawn by lot: nothing that hashes spreads better."""


@dataclass(frozen=True, kw_only=True)
class Movement:
    """What a change of membership moved."""

    moved: float
    """Share of the keys whose owner changed."""
    ideal: float
    """The share that has to move: that of the worker that came or went."""
    needless: int
    """Keys that moved although neither their old nor their new owner came or went; must be none."""


def cluster(workers: int) -> PlacementMap:
    """Return a new cluster's map of equal workers."""
    return PlacementMap(
        epoch=1,
        slots=SLOTS,
        members=tuple(Member(id=f"worker-{number}", url=f"http://worker-{number}") for number in range(workers)),
    )


def owners(placement: PlacementMap, keys: int) -> list[str]:
    """Return the first owner of each key."""
    return [placement.owners(f"{_ROOT}{number:09d}")[0].id for number in range(keys)]


def balance(placement: PlacementMap, placed: list[str]) -> Balance:
    """Return how evenly the keys are spread."""
    shares = Counter(placed)
    expected = mean(shares[member.id] for member in placement.members)
    counts = [shares[member.id] / expected for member in placement.members]
    return Balance(keys=len(placed), least=min(counts), most=max(counts), chance=1 / sqrt(expected))


def movement(placement: PlacementMap, placed: list[str]) -> Movement:
    """Return what moves when the last worker leaves; backwards, it is what moves when it joins."""
    *rest, gone = placement.members
    after = owners(replace(placement, epoch=2, members=tuple(rest)), len(placed))
    changed = [(old, new) for old, new in zip(placed, after, strict=True) if old != new]
    return Movement(
        moved=len(changed) / len(placed),
        ideal=1 / len(placement.members),
        needless=sum(gone.id != old for old, _ in changed),
    )
