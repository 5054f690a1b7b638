"""Random histories of faults, each from a seed, and the invariants I1 to I8 on all that was seen.

``make soak`` runs more and longer ones. One seed alone: ``FAULT_FIRST_SEED=123 FAULT_SEEDS=1 pytest tests/faults``.
"""

from __future__ import annotations

import os
from collections import Counter
from functools import cache

import pytest

from preheat.jobs import JobState, JobType
from tests.faults.history import History
from tests.faults.invariants import violations
from tests.faults.planted import PLANTED, Plant
from tests.faults.scenario import Size, simulate
from tests.faults.workloads import CHORES, LOADS, Workload

FIRST_SEED = int(os.environ.get("FAULT_FIRST_SEED", "0"))
SEEDS = int(os.environ.get("FAULT_SEEDS", "50"))
SIZE = Size(seconds=float(os.environ.get("FAULT_SECONDS", Size.seconds)))
SEEDS_TO_FIND_A_DEFECT = 40
SEEDS_TO_LOOK_AT = 40
_simulate_once = cache(simulate)


def history_of(seed: int, workload: Workload) -> History:
    """Return a history; the first few are made once and looked at twice."""
    return (_simulate_once if seed < SEEDS_TO_LOOK_AT else simulate)(seed, SIZE, workload)


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + SEEDS))
@pytest.mark.parametrize("workload", [LOADS, CHORES], ids=["loads", "chores"])
def test_no_fault_breaks_an_invariant(seed: int, workload: Workload):
    history = history_of(seed, workload)
    found = violations(history)
    assert not found, "\n".join([f"seed {seed}:", *found[:10], "what was done:", *history.events])


@pytest.mark.parametrize("workload", [LOADS, CHORES], ids=["loads", "chores"])
def test_a_seed_gives_the_same_history_again(workload: Workload):
    first, again = simulate(3, workload=workload), simulate(3, workload=workload)
    assert first.events == again.events
    assert first.records == again.records


def test_histories_are_worth_checking():
    """Jobs end in each way, move between coordinators and lose workers; else nothing is proven above."""
    histories = [history_of(seed, LOADS) for seed in range(SEEDS_TO_LOOK_AT)]
    jobs = [job for history in histories for job in {r.job.id: r.job for r in history.records}.values()]
    assert {job.state for job in jobs} >= {JobState.SUCCEEDED, JobState.FAILED, JobState.STOPPED}
    assert sum(job.generation > 1 for job in jobs) >= 5
    assert sum(len(history.losses) for history in histories) >= 3
    assert sum(success.job.spec.options.verify for history in histories for success in history.successes) >= 5
    assert sum(len(history.answers) for history in histories) >= 500


def test_histories_of_all_types_are_worth_checking():
    """Each type of job succeeds often, breaks off and moves between coordinators."""
    histories = [history_of(seed, CHORES) for seed in range(SEEDS_TO_LOOK_AT)]
    ends = Counter((ending.job.spec.type, ending.job.state) for history in histories for ending in history.endings)
    kinds = set(JobType) - {JobType.PERSIST}  # nothing is written through these workers
    assert all(ends[kind, JobState.SUCCEEDED] >= 4 for kind in kinds)
    assert all(ends[kind, JobState.STOPPED] + ends[kind, JobState.FAILED] for kind in kinds)
    moved_on = [
        ending.job.spec.type for history in histories for ending in history.endings if ending.job.generation > 1
    ]
    assert set(moved_on) == kinds
    assert any(success.job.spec.index for history in histories for success in history.successes)


@pytest.mark.parametrize(("plant", "workload"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED])
def test_a_planted_defect_is_found(plant: Plant, workload: Workload, monkeypatch: pytest.MonkeyPatch):
    plant(monkeypatch)
    found = (violations(simulate(seed, workload=workload)) for seed in range(SEEDS_TO_FIND_A_DEFECT))
    assert any(found), f"{SEEDS_TO_FIND_A_DEFECT} histories did not show: {plant.__doc__}"
