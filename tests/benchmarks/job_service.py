"""The order in which the job service is measured against its goals, and how much."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from testbed.local_cluster import local_cluster
from testbed.s3 import SeaweedFS
from tests.benchmarks import jobs, planning, polling
from tests.benchmarks.bench import WORKERS
from tests.benchmarks.data import KIB, ObjectSet, upload
from tests.benchmarks.goals import Goal, Measurement
from tests.benchmarks.metering import Journal

_SUBMIT = ObjectSet(name="first", count=4, size=4 * KIB, root="submits/")
_WARMUP = ObjectSet(name="warm", count=16, size=4 * KIB, root="warmup/")


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is measured."""

    plan_keys: int
    few_keys: int
    many_keys: int
    poll_seconds: float
    submits: int
    hot: ObjectSet
    redo: ObjectSet
    rounds: int
    slow: bool
    """Whether to measure also what takes longest: the memory of a long job, and the kills."""

    def describe(self) -> dict[str, Any]:
        """Return the scale for the report."""
        return asdict(self)

    def titled(self, goal: Goal) -> Goal:
        """Return a goal with this run's numbers in the fields of its title."""
        title = goal.title.format(
            plan_keys=f"{self.plan_keys:,}",
            few_keys=f"{self.few_keys:,}",
            many_keys=f"{self.many_keys:,}",
            hot_count=f"{self.hot.count:,}",
            redo_count=f"{self.redo.count:,}",
        )
        return replace(goal, title=title)


FULL = Scale(
    plan_keys=1_000_000,
    few_keys=100_000,
    many_keys=5_000_000,
    poll_seconds=5.0,
    submits=30,
    hot=ObjectSet(name="hot", count=50_000, size=KIB),
    redo=ObjectSet(name="redo", count=20_000, size=4 * KIB),
    rounds=4,
    slow=True,
)
QUICK = Scale(
    plan_keys=200_000,
    few_keys=100_000,
    many_keys=500_000,
    poll_seconds=1.0,
    submits=5,
    hot=ObjectSet(name="hot", count=5000, size=KIB),
    redo=ObjectSet(name="redo", count=10_000, size=4 * KIB),
    rounds=2,
    slow=False,
)


def measure(scale: Scale, directory: Path, journal: Journal) -> list[Measurement]:
    """Measure everything once or more often, and return what was measured.

    Args:
        scale: how much.
        directory: for all data and logs.
        journal: gets a line for each measurement.

    Raises:
        WrongResultError: a job did not end as it must.
    """
    measurements = []
    for part in (_planning, _polling, _jobs):
        with journal.spending(part.__name__.lstrip("_")):
            for measurement in part(scale, directory):
                journal.note(f"{measurement.work}: {measurement.value:,.2f}; {measurement.detail}")
                measurements.append(measurement)
    return measurements


def _planning(scale: Scale, directory: Path) -> Iterator[Measurement]:
    for _ in range(scale.rounds):
        for replicas in (1, 2):
            yield planning.plan(scale.plan_keys, replicas)
    if scale.slow:
        yield planning.compare_memory(scale.few_keys, scale.many_keys, directory)


def _polling(scale: Scale, directory: Path) -> Iterator[Measurement]:
    with polling.polled(directory / "polling") as coordinator:
        for _ in range(scale.rounds):
            yield from polling.poll(coordinator, scale.poll_seconds)


def _jobs(scale: Scale, directory: Path) -> Iterator[Measurement]:
    submitted = [replace(_SUBMIT, name=f"{number:03d}") for number in range(scale.submits)]
    with SeaweedFS(directory / "job-origin") as origin:
        upload(origin, _WARMUP, *submitted, scale.hot, *([scale.redo] if scale.slow else []))
        with jobs.watched_cluster(origin, directory / "submits") as (cluster, proxy):
            jobs.load(cluster, jobs.Dataset.on_s3(origin, _WARMUP))
            for objects in submitted:
                yield jobs.first_read(cluster, proxy, objects, "first-read")
            for _ in range(scale.rounds):
                yield jobs.first_read(cluster, proxy, scale.hot, "first-read-many")
        if scale.slow:
            with jobs.watched_cluster(origin, directory / "kills") as (cluster, proxy):
                yield jobs.redo(cluster, proxy, jobs.Dataset.on_s3(origin, scale.redo))
        datasets = [jobs.Dataset.on_s3(origin, scale.hot), jobs.Dataset.of_files(directory / "files", scale.hot)]
        with local_cluster(directory / "skips", environment=origin.environment(), workers=WORKERS) as cluster:
            for dataset in datasets:
                jobs.load(cluster, dataset)
            for _ in range(scale.rounds):
                for dataset in datasets:
                    yield jobs.skip(cluster, dataset)
