"""Placement balances by capacity and moves only what it must, of paths as of slots of paths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preheat.placement import SLOTS, Member, PlacementMap

PATHS = [f"s3://bucket/train/{number:06d}.jpg" for number in range(4000)]
Cluster = Callable[..., PlacementMap]


@pytest.fixture(params=[0, SLOTS], ids=["paths", "slots"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """Return what makes a map of workers with these weights."""
    return lambda *weights: of_weights(request.param, *weights)


def of_weights(slots: int, *weights: float) -> PlacementMap:
    members = tuple(Member(id=f"worker-{i}", url=f"http://w{i}", weight=weight) for i, weight in enumerate(weights))
    return PlacementMap(epoch=1, members=members, slots=slots)


def test_equal_workers_share_equally(cluster: Cluster):
    shares = Counter(cluster(1, 1, 1, 1).owners(path)[0].id for path in PATHS)
    assert all(abs(share / len(PATHS) - 0.25) < 0.03 for share in shares.values())


def test_a_worker_of_three_times_the_capacity_owns_three_quarters(cluster: Cluster):
    shares = Counter(cluster(1, 3).owners(path)[0].id for path in PATHS)
    assert abs(shares["worker-1"] / len(PATHS) - 0.75) < 0.03


def test_a_lost_worker_moves_only_its_own_share(cluster: Cluster):
    before = cluster(1, 1, 1)
    after = replace(before, epoch=2, members=before.members[:2])
    moved = [path for path in PATHS if before.owners(path) != after.owners(path)]
    assert moved == [path for path in PATHS if before.owners(path)[0].id == "worker-2"]


@given(st.sampled_from(PATHS), st.integers(1, 5), st.sampled_from([0, 1, SLOTS]))
def test_replicas_are_distinct_and_begin_with_the_owner(path: str, replicas: int, slots: int):
    placement = of_weights(slots, 1, 2, 3, 4, 5, 6)
    owners = placement.owners(path, replicas)
    assert len({owner.id for owner in owners}) == replicas
    for fewer in range(replicas):
        assert owners[:fewer] == placement.owners(path, fewer)
    assert owners == placement.owners(path, replicas)


def test_replicas_go_to_different_zones_where_there_are(cluster: Cluster):
    members = [replace(member, zone="ab"[i % 2]) for i, member in enumerate(cluster(1, 1, 1, 1).members)]
    zoned = replace(cluster(), members=tuple(members))
    for path in PATHS[:200]:
        assert [{owner.zone for owner in zoned.owners(path, count)} for count in (1, 2, 4)][1:] == [{"a", "b"}] * 2
        assert set(zoned.owners(path, 9)) == set(members)


@pytest.mark.parametrize("replicas", [1, 2])
def test_no_members_no_owners(cluster: Cluster, replicas: int):
    assert cluster().owners("s3://b/k", replicas) == ()


def test_slots_have_the_owners_of_the_present_members_whoever_was_asked_before():
    """What is remembered is shared by maps of the same members: in the same order, with the same weights and zones."""
    first = of_weights(SLOTS, 1, 1, 1)
    moved = replace(first, members=tuple(replace(member, url=f"http://new-{member.id}") for member in first.members))
    for path in PATHS[:200]:
        owner = first.owners(path)[0].id
        assert replace(first, members=first.members[::-1]).owners(path)[0].id == owner
        assert moved.owners(path)[0].url == f"http://new-{owner}"


@pytest.mark.parametrize(
    ("slots", "expected"),
    [(0, "00122221020022112011011221100101"), (1 << 21, "11100111021020212221200022211011")],
)
def test_owners_do_not_depend_on_the_order_or_the_process(slots: int, expected: str):
    """A client computes the owner itself, so this must never change: the vector pins it."""
    placement = of_weights(slots, 1, 1, 1)
    reversed_map = replace(placement, members=placement.members[::-1])
    owners = "".join(placement.owners(path)[0].id[-1] for path in PATHS[:32])
    assert owners == "".join(reversed_map.owners(path)[0].id[-1] for path in PATHS[:32])
    assert owners == expected
