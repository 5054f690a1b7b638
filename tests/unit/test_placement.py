"""Placement balances by capacity and moves only what it must."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preheat.placement import Member, PlacementMap

PATHS = [f"s3://bucket/train/{number:06d}.jpg" for number in range(4000)]


def cluster(*weights: float) -> PlacementMap:
    members = tuple(Member(id=f"worker-{i}", url=f"http://w{i}", weight=weight) for i, weight in enumerate(weights))
    return PlacementMap(epoch=1, members=members)


def test_equal_workers_share_equally():
    shares = Counter(cluster(1, 1, 1, 1).owners(path)[0].id for path in PATHS)
    assert all(abs(share / len(PATHS) - 0.25) < 0.03 for share in shares.values())


def test_a_worker_of_three_times_the_capacity_owns_three_quarters():
    shares = Counter(cluster(1, 3).owners(path)[0].id for path in PATHS)
    assert abs(shares["worker-1"] / len(PATHS) - 0.75) < 0.03


def test_a_lost_worker_moves_only_its_own_share():
    before = cluster(1, 1, 1)
    after = PlacementMap(epoch=2, members=before.members[:2])
    moved = [path for path in PATHS if before.owners(path) != after.owners(path)]
    assert moved == [path for path in PATHS if before.owners(path)[0].id == "worker-2"]


@given(st.sampled_from(PATHS), st.integers(1, 4))
def test_replicas_are_distinct_and_begin_with_the_owner(path: str, replicas: int):
    owners = cluster(1, 2, 3, 4).owners(path, replicas)
    assert len({owner.id for owner in owners}) == replicas
    assert owners[:1] == cluster(1, 2, 3, 4).owners(path)


@pytest.mark.parametrize("replicas", [1, 2])
def test_no_members_no_owners(replicas: int):
    assert PlacementMap().owners("s3://b/k", replicas) == ()


def test_owners_do_not_depend_on_the_order_or_the_process():
    """A client computes the owner itself, so this must never change: the vector pins it."""
    members = cluster(1, 1, 1).members
    reversed_map = PlacementMap(epoch=1, members=members[::-1])
    owners = "".join(cluster(1, 1, 1).owners(path)[0].id[-1] for path in PATHS[:32])
    assert owners == "".join(reversed_map.owners(path)[0].id[-1] for path in PATHS[:32])
    assert owners == "00122221020022112011011221100101"
