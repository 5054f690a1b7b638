"""What was measured against a number that we want to reach, without a peer. Pure: nothing is measured here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks.comparisons import Spread


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A work and the number wanted."""

    work: str
    title: str
    unit: str
    target: float
    at_most: bool = False
    """Whether the number is an upper bound, as of a time, and not a lower one, as of a rate."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One number of one work."""

    work: str
    value: float
    detail: str = ""
    """What else was seen, such as where the time went."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of one goal."""

    goal: Goal
    value: Spread
    reason: str
    """The detail of the measurement next to the median."""

    @property
    def won(self) -> bool:
        """Whether the median is as wanted."""
        median, target = self.value.median, self.goal.target
        return median <= target if self.goal.at_most else median >= target


GOALS = (
    Goal(work="plan-1", title="plan {plan_keys} keys on one core, 1 replica", unit="keys/s", target=200_000),
    Goal(work="plan-2", title="plan {plan_keys} keys on one core, 2 replicas", unit="keys/s", target=200_000),
    Goal(
        work="memory",
        title="coordinator's memory, {many_keys} keys ÷ {few_keys}",
        unit="×",
        target=1.15,
        at_most=True,
    ),
    Goal(work="poll", title="read progress, 1,000 jobs, 500 waiters", unit="reads/s", target=5000),
    Goal(work="poll-p99", title="the same, 99th percentile", unit="ms", target=20, at_most=True),
    Goal(work="first-read", title="submit to first read, 4 objects", unit="ms", target=100, at_most=True),
    Goal(
        work="first-read-many", title="submit to first read, {hot_count} objects", unit="ms", target=100, at_most=True
    ),
    Goal(work="skip-s3", title="skip {hot_count} hot objects of S3", unit="objects/s", target=50_000),
    Goal(work="skip-files", title="skip {hot_count} hot files", unit="objects/s", target=50_000),
    Goal(
        work="redo",
        title="3 × kill -9 in a load of {redo_count}: read twice",
        unit="%",
        target=1,
        at_most=True,
    ),
)
"""The numbers are those of the job service's plan, for two cores."""


def judge(goal: Goal, measurements: Sequence[Measurement]) -> Verdict:
    """Return the outcome of one goal.

    Args:
        goal: what was wanted.
        measurements: of all works, at least one of the goal's.
    """
    found = sorted((item for item in measurements if item.work == goal.work), key=lambda item: item.value)
    return Verdict(
        goal=goal,
        value=Spread.of([item.value for item in found]),
        reason=found[len(found) // 2].detail,
    )
