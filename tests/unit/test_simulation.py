"""The simulation of many workers measures what it says: on few keys, and where the answer is known."""

from __future__ import annotations

from preheat.placement import Member, PlacementMap
from tests.simulation.__main__ import columns, measured, table
from tests.simulation.placements import balance, cluster, movement, owners
from tests.simulation.plans import plan


def test_a_leaving_worker_moves_its_share_and_nothing_else():
    placement = cluster(5)
    placed = owners(placement, 2000)
    found = movement(placement, placed)
    assert found.moved == placed.count("worker-4") / 2000
    assert (found.ideal, found.needless) == (0.2, 0)


def test_a_worker_that_owns_nothing_shows_in_the_balance():
    nobody = Member(id="nobody", url="http://nobody")
    placement = PlacementMap(epoch=1, members=(*cluster(3).members, nobody))
    found = balance(placement, owners(cluster(3), 400))
    assert found.least == 0
    assert found.most > 1.2


def test_more_workers_need_more_messages_and_a_second_replica_twice_as_many():
    few, many, twice = (
        plan(cluster(workers), keys=4000, replicas=replicas) for workers, replicas in ((2, 1), (20, 1), (20, 2))
    )
    assert 4 * 2 * 2 <= few.messages <= 4 * 3 * 2  # four pages for two workers, 500 at most in a batch, and the results
    assert few.keys_per_message > many.keys_per_message
    assert twice.messages == 2 * many.messages  # and no more: its batches are as full
    assert twice.record_bytes < 3 * many.record_bytes


def test_the_table_has_a_column_for_each_number_of_workers():
    lines = table(
        [2, 3], lambda count: columns(count, files=measured("load-small"), mebibytes=100.0, keys=2000)
    ).splitlines()
    assert lines[0] == "| | 2 workers | 3 workers |"
    assert {line.count("|") for line in lines} == {4}
