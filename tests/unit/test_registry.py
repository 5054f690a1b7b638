"""Who is live, and when the placement map changes."""

from __future__ import annotations

from dataclasses import replace

from preheat.placement import SLOTS, PlacementMap
from preheat.registry import Heartbeat, Registry, next_placement


def beat(number: int, *, leaving: bool = False) -> Heartbeat:
    return Heartbeat(id=f"worker-{number}", url=f"http://w{number}", capacity=10 << 30, leaving=leaving)


def test_a_silent_worker_is_lost_and_comes_back():
    registry = Registry(timeout_seconds=10)
    registry.record(beat(0), now=100)
    registry.record(beat(1), now=105)
    assert [worker.id for worker in registry.live(now=109)] == ["worker-0", "worker-1"]
    assert [worker.id for worker in registry.live(now=111)] == ["worker-1"]
    registry.record(beat(0), now=112)
    assert [worker.id for worker in registry.live(now=112)] == ["worker-0", "worker-1"]


def test_a_leaving_worker_is_lost_at_once():
    registry = Registry(timeout_seconds=10)
    registry.record(beat(0), now=100)
    registry.record(beat(0, leaving=True), now=101)
    assert registry.live(now=101) == []
    assert [worker.id for worker in registry.leaving(now=101)] == ["worker-0"]
    assert registry.leaving(now=112) == []
    registry.record(replace(beat(0, leaving=True), stopped=True), now=112)
    assert registry.leaving(now=112) == []
    assert [worker.id for worker in registry.all()] == ["worker-0"]
    registry.forget("worker-0")
    assert registry.all() == []


def test_the_epoch_rises_only_when_members_change():
    first = next_placement(PlacementMap(), [beat(0), beat(1)])
    assert first is not None
    assert (first.epoch, [member.weight for member in first.members]) == (1, [10.0, 10.0])
    assert next_placement(first, [beat(0), beat(1)]) is None
    second = next_placement(first, [beat(1)])
    assert second is not None
    assert (second.epoch, len(second.members)) == (2, 1)


def test_who_is_silent_for_half_of_the_timeout_is_a_suspect_until_given_up():
    registry = Registry(timeout_seconds=10)
    registry.record(beat(0), now=100)
    assert [registry.suspects(now=now) for now in (104, 106, 109, 111)] == [False, True, True, False]


def test_a_cluster_keeps_the_slots_that_it_began_with():
    began = next_placement(PlacementMap(), [beat(0)])
    assert began is not None
    assert began.slots == SLOTS
    for kept in (0, 5):
        grown = next_placement(PlacementMap(epoch=3, slots=kept), [beat(0)])
        assert grown is not None
        assert grown.slots == kept
