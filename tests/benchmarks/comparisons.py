"""What was measured, and how our part compares with a peer's. Pure: nothing is measured here."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

OURS = "preheat"
_LEAST_CPU_SECONDS = 0.01
"""What the kernel counts CPU time in."""


class Part(StrEnum):
    """What can be measured by itself."""

    LOADS = "loads"
    DISTANT = "distant"
    SERVING = "serving"
    STORE = "store"
    GOALS = "goals"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One run of one work by one system."""

    work: str
    system: str
    amount: float
    """How much was done, in the unit of the work's rate."""
    seconds: float
    cpu: Mapping[str, float]
    """CPU seconds of the system's own processes, by name."""
    others: Mapping[str, float] = field(default_factory=dict)
    """CPU seconds of the processes that take part but are not the system's, by name."""

    @property
    def rate(self) -> float:
        """Amount per second."""
        return self.amount / self.seconds

    @property
    def cpu_each(self) -> float:
        """CPU seconds of the system per unit of the amount."""
        return sum(self.cpu.values()) / self.amount


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Several values as their median and their extremes."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of at least one value."""
        return cls(median=statistics.median(values), low=min(values), high=max(values))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A work, a peer that does the same, and by how much we want to be better."""

    part: Part
    work: str
    title: str
    unit: str
    peer: str
    target: float
    """At least this ratio of our rate to the peer's."""
    cpu_target: float | None = None
    """At most this ratio of our CPU time for the same amount to the peer's; None if none was set."""
    bounded: bool = False
    """Whether what takes part and is nobody's, as the origin, can use all cores and so bounds the rate."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """The outcome of one comparison."""

    comparison: Comparison
    ours: Spread
    """Our rate."""
    peer: Spread
    ratio: Spread
    """Of the rates in one round, ours to the peer's."""
    cpu_ratio: Spread | None
    """Of the CPU seconds for the same amount in one round, ours to the peer's; None if the peer has none of its own."""
    reason: str
    """Where the time of our runs went, as far as it was measured."""
    bound: float | None = None
    """The ratio that a system would reach which took no CPU time itself; None if it is not known."""

    @property
    def won(self) -> bool:
        """Whether the medians meet the targets."""
        cpu_target = self.comparison.cpu_target
        return self.ratio.median >= self.comparison.target and (
            cpu_target is None or self.cpu_ratio is None or self.cpu_ratio.median <= cpu_target
        )


def _load(
    part: Part, work: str, what: str, unit: str, peer: str, target: float, cpu_target: float | None = None
) -> Comparison:
    title = f"load {{{what}_count}} × {{{what}_size}}" + (", origin {round_trip} away" if part is Part.DISTANT else "")
    return Comparison(
        part=part,
        work=f"{work}-{what}",
        title=title,
        unit=unit,
        peer=peer,
        target=target,
        cpu_target=cpu_target,
        bounded=True,
    )


COMPARISONS = (
    _load(Part.LOADS, "load", "large", "MiB/s", "s5cmd", 1.1),
    _load(Part.LOADS, "load", "small", "files/s", "s5cmd", 2.0, 0.6),
    _load(Part.LOADS, "load", "tiny", "files/s", "s5cmd", 2.5),
    _load(Part.DISTANT, "distant", "large", "MiB/s", "s5cmd", 1.0),
    _load(Part.DISTANT, "distant", "small", "files/s", "s5cmd", 2.0),
    _load(Part.DISTANT, "distant", "tiny", "files/s", "s5cmd", 2.0),
    _load(Part.LOADS, "load", "large", "MiB/s", "juicefs", 1.8),
    _load(Part.LOADS, "load", "small", "files/s", "juicefs", 2.0),
    Comparison(part=Part.LOADS, work="list", title="list {list_count} keys", unit="keys/s", peer="s5cmd", target=2.0),
    Comparison(part=Part.LOADS, work="list", title="list {list_count} keys", unit="keys/s", peer="boto3", target=8.0),
    Comparison(
        part=Part.SERVING,
        work="serve-small",
        title="serve {small_size}, 32 connections",
        unit="req/s",
        peer="nginx",
        target=0.95,
        cpu_target=1.3,
    ),
    Comparison(
        part=Part.SERVING,
        work="serve-range",
        title="serve 128 KiB ranges, 32 connections",
        unit="req/s",
        peer="nginx",
        target=0.95,
        cpu_target=1.3,
    ),
    Comparison(
        part=Part.SERVING,
        work="serve-large",
        title="serve {large_size}, 4 connections",
        unit="MiB/s",
        peer="nginx",
        target=1.0,
    ),
    Comparison(
        part=Part.SERVING,
        work="batch",
        title="batch read, one by one at nginx, {tiny_size}",
        unit="objects/s",
        peer="nginx",
        target=4.0,
    ),
    Comparison(
        part=Part.SERVING,
        work="read",
        title="fsspec cat, {read_count} × {small_size}, warm",
        unit="files/s",
        peer="s3fs",
        target=5.0,
    ),
    Comparison(
        part=Part.SERVING, work="cold", title="cold read of {cold_size}", unit="MiB/s", peer="origin", target=0.9
    ),
    Comparison(
        part=Part.SERVING,
        work="cold-first-byte",
        title="the same, first byte",
        unit="per second",
        peer="origin",
        target=0.9,
    ),
    *(
        Comparison(
            part=Part.STORE,
            work=f"write-{name}",
            title=f"write {size} objects to the page store",
            unit="MiB/s",
            peer=peer,
            target=0.85,
        )
        for name, size in (("small", "100 KiB"), ("large", "64 MiB"))
        for peer in ("files", "one file")
    ),
)
"""The targets are those of the data plane's plan, for two cores."""


def measured(comparison: Comparison, samples: Sequence[Sample]) -> bool:
    """Return whether both have done the work."""
    systems = {sample.system for sample in samples if sample.work == comparison.work}
    return {OURS, comparison.peer} <= systems


def compare(comparison: Comparison, samples: Sequence[Sample], *, cores: int) -> Row:
    """Return the outcome of one comparison.

    Args:
        comparison: what to compare.
        samples: of all works; those of one work and one system in the order of the rounds.
        cores: how many everything shared.

    Raises:
        ValueError: a round lacks one of the two.
    """
    ours = [sample for sample in samples if (sample.work, sample.system) == (comparison.work, OURS)]
    peer = [sample for sample in samples if (sample.work, sample.system) == (comparison.work, comparison.peer)]
    rounds = list(zip(ours, peer, strict=True))
    return Row(
        comparison=comparison,
        ours=Spread.of([sample.rate for sample in ours]),
        peer=Spread.of([sample.rate for sample in peer]),
        ratio=Spread.of([mine.rate / theirs.rate for mine, theirs in rounds]),
        cpu_ratio=_cpu_ratio(rounds),
        reason=time_spent(ours),
        bound=statistics.median([_bound(mine, theirs, cores) for mine, theirs in rounds])
        if comparison.bounded
        else None,
    )


def _cpu_ratio(rounds: Sequence[tuple[Sample, Sample]]) -> Spread | None:
    if not all(theirs.cpu_each for _, theirs in rounds):
        return None
    return Spread.of([mine.cpu_each / theirs.cpu_each for mine, theirs in rounds])


def _bound(ours: Sample, peer: Sample, cores: int) -> float:
    """Return the ratio of one round if only what is nobody's had worked for us, on all cores."""
    least_seconds = max(sum(ours.others.values()), _LEAST_CPU_SECONDS) / cores
    return ours.amount / least_seconds / peer.rate


def time_spent(samples: Sequence[Sample]) -> str:
    """Return the median wall time of some runs and the median CPU time of each process that took part."""
    parts = {name for sample in samples for name in (*sample.cpu, *sample.others)}
    seconds = {
        name: statistics.median([sample.cpu.get(name, sample.others.get(name, 0.0)) for sample in samples])
        for name in parts
    }
    return spent(statistics.median([sample.seconds for sample in samples]), seconds)


def spent(wall: float, cpu: Mapping[str, float]) -> str:
    """Return wall seconds, and the CPU seconds of processes, the largest first."""
    largest = sorted(((value, name) for name, value in cpu.items() if value >= 0.01), reverse=True)
    names = ", ".join(f"{name} {value:.2f} s" for value, name in largest)
    return f"{wall:.3g} s; CPU: {names or 'not known'}"
