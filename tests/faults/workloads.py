"""What clients ask of a cluster: loads, or all that a job can do, each on datasets of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from preheat.jobs import JobOptions, JobSpec, JobType, Priority

LOADED = ("s3://b/one/", "s3://b/two/", "s3://b/three/")
FREED = "s3://b/freed/"
"""Loaded and freed."""
KEPT = "s3://b/kept/"
"""Loaded and replicated: nothing else drops a copy of it."""
SPREAD = "s3://b/spread/"
"""Loaded and rebalanced."""
COPIED, COPIES = "s3://b/copied/", "s3://b/copies/"
MOVED, ARCHIVE = "s3://b/moved/", "s3://b/archive/"
NAMED, NAMED_BELOW = "s3://b/named/", "s3://b/named/sub/"
"""Named by an index file: the objects of the first one by one, the second as a directory."""
INDEX = "s3://b/lists/today"


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Who asks for what."""

    datasets: tuple[str, ...]
    """There from the beginning, and changed by others from time to time."""
    objects: int
    """In each dataset: this many, more or less."""
    new_spec: Callable[[Random], JobSpec]
    read: tuple[str, ...]
    """What readers read."""
    readers: int
    submits: int
    """By each client."""
    max_running: tuple[int, ...]
    """How many jobs a coordinator runs at once is one of these."""


def _any_load(random: Random) -> JobSpec:
    paths = random.sample(LOADED, k=random.choice((1, 1, 2)))
    options = JobOptions(
        batch_size=random.choice((2, 5, 15)),
        replicas=random.choice((1, 1, 2)),
        verify=random.random() < 0.7,
        skip_if_exists=random.random() < 0.8,
        max_failed_files=random.choice((None, None, 3)),
    )
    return JobSpec(paths=tuple(paths), options=options)


def _options(random: Random, *, verify: bool = False, max_failed_files: int | None = None) -> JobOptions:
    return JobOptions(
        batch_size=random.choice((2, 5, 15)),
        replicas=random.choice((1, 2, 3)),
        priority=random.choice((Priority.HIGH, Priority.NORMAL, Priority.NORMAL, Priority.LOW)),
        skip_if_exists=random.random() < 0.8,
        verify=verify,
        max_failed_files=max_failed_files,
    )


def _load_to_drop(random: Random) -> JobSpec:
    return JobSpec(paths=(random.choice((FREED, KEPT, SPREAD)),), options=_options(random))


def _free(random: Random) -> JobSpec:
    return JobSpec(type=JobType.FREE, paths=(FREED,), options=_options(random))


def _replicate(random: Random) -> JobSpec:
    return JobSpec(type=JobType.REPLICATE, paths=(KEPT,), options=_options(random))


def _rebalance(random: Random) -> JobSpec:
    return JobSpec(type=JobType.REBALANCE, paths=(SPREAD,), options=replace(_options(random), replicas=1))


def _copy(random: Random) -> JobSpec:
    return JobSpec(type=JobType.COPY, paths=(COPIED,), destination=COPIES, options=_options(random))


def _move(random: Random) -> JobSpec:
    return JobSpec(type=JobType.MOVE, paths=(MOVED,), destination=ARCHIVE, options=_options(random))


def _load_named(random: Random) -> JobSpec:
    return JobSpec(index=INDEX, options=_options(random, verify=random.random() < 0.7, max_failed_files=3))


_CHORES = {_load_to_drop: 4, _replicate: 4, _rebalance: 4, _free: 3, _move: 3, _copy: 2, _load_named: 4}


def _any_chore(random: Random) -> JobSpec:
    return random.choices(list(_CHORES), list(_CHORES.values()))[0](random)


LOADS = Workload(datasets=LOADED, objects=40, new_spec=_any_load, read=LOADED, readers=1, submits=2, max_running=(8,))
CHORES = Workload(
    datasets=(FREED, KEPT, SPREAD, COPIED, MOVED, NAMED, NAMED_BELOW),
    objects=25,
    new_spec=_any_chore,
    read=(KEPT, FREED, SPREAD),
    readers=4,
    submits=6,
    max_running=(1, 1, 2),
)
