"""The results as a table for the terminal, as Markdown and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from tests.benchmarks.comparisons import Row, Sample, Spread
from tests.benchmarks.goals import Measurement, Verdict

HEADINGS = ("work", "preheat", "peer", "ratio (min–max)", "CPU ratio", "target", "result")
NOT_MEASURED = (
    "TLS: everything is plain HTTP on loopback",
    "network latency: origin, clients, cluster and peers share one machine and its cores",
    "a real disk: files stay in the page cache, and this machine's disk may be virtual",
    "authentication of reads and of the coordinator's API: the cluster is open, as it is on loopback by default",
    "a cluster on several machines, or with the engine replicated",
    "a real origin and real workers in the row on memory: its listing is synthetic, its workers answer at once",
    "of the targets: an origin 30 ms away, juicefs warmup, batch reads, the page store alone, cold reads",
)


@dataclass(frozen=True, kw_only=True)
class Results:
    """One run of the benchmarks."""

    rows: Sequence[Row]
    samples: Sequence[Sample]
    machine: Mapping[str, Any]
    settings: Mapping[str, Any]
    checked: Mapping[str, int]
    """Objects compared byte by byte with their source, by work."""
    verdicts: Sequence[Verdict] = ()
    measurements: Sequence[Measurement] = ()


def table(results: Results) -> Table:
    """Return the table for the terminal."""
    found = Table(*HEADINGS, title="Preheat beside its peers, on this machine")
    for row in results.rows:
        found.add_row(*cells(row), style="green" if row.won else "red")
    for verdict in results.verdicts:
        found.add_row(*goal_cells(verdict), style="green" if verdict.won else "red")
    return found


def notes(results: Results) -> list[str]:
    """Return the lines below the table."""
    machine = results.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    reasons = [(describe(row), row.reason) for row in results.rows if not row.won]
    reasons += [(verdict.goal.title, verdict.reason) for verdict in results.verdicts if not verdict.won]
    checked = ", ".join(f"{count} of {work}" for work, count in results.checked.items())
    return [
        *(f"lost: {what}: {reason}" for what, reason in reasons),
        f"compared byte by byte with the source: {checked or 'nothing'}",
        f"peak memory of a worker: {machine['worker_peak_mib']:.0f} MiB",
        f"{machine['cores']} cores ({machine['cpu']}), {machine['memory_gib']:.0f} GiB, Linux {machine['kernel']}",
        f"load average before the run {machine['load_before']}, at its end {machine['load_after']}",
        f"versions: Python {machine['python']}, {versions}",
        *(f"not measured: {what}" for what in NOT_MEASURED),
    ]


def markdown(results: Results) -> str:
    """Return table and notes as a page."""
    lines = [
        "# Results",
        "",
        f"Written by `{results.machine['command']}` on {results.machine['date']}, {results.settings['rounds']} rounds.",
        "[README](README.md) says how to read it.",
        "",
        "![our rate as a multiple of the peer's](ratios.svg)",
        "",
        f"| {' | '.join(HEADINGS)} |",
        f"|{'---|' * len(HEADINGS)}",
        *(f"| {' | '.join(cells(row))} |" for row in results.rows),
        *(f"| {' | '.join(goal_cells(verdict))} |" for verdict in results.verdicts),
        "",
        *(f"- {note}" for note in notes(results)),
        "",
    ]
    return "\n".join(lines)


def document(results: Results) -> dict[str, Any]:
    """Return everything, for JSON."""
    return {
        "machine": dict(results.machine),
        "settings": dict(results.settings),
        "checked": dict(results.checked),
        "rows": [{**dataclasses.asdict(row), "won": row.won} for row in results.rows],
        "goals": [{**dataclasses.asdict(verdict), "won": verdict.won} for verdict in results.verdicts],
        "measurements": [dataclasses.asdict(measurement) for measurement in results.measurements],
        "samples": [dataclasses.asdict(sample) for sample in results.samples],
        "not_measured": list(NOT_MEASURED),
    }


def cells(row: Row) -> tuple[str, ...]:
    """Return a row of the table."""
    comparison = row.comparison
    target = f"≥ {comparison.target:g}×"
    if comparison.cpu_target is not None:
        target += f", CPU ≤ {comparison.cpu_target:g}×"
    return (
        comparison.title,
        f"{number(row.ours.median)} {comparison.unit}",
        f"{comparison.peer} {number(row.peer.median)}",
        f"{row.ratio.median:.2f}× ({_extremes(row.ratio)})",
        f"{row.cpu_ratio.median:.2f}×",
        target,
        "won" if row.won else "lost",
    )


def goal_cells(verdict: Verdict) -> tuple[str, ...]:
    """Return a row of the table for what has no peer: in the place of a ratio stand the extremes."""
    goal, value = verdict.goal, verdict.value
    return (
        goal.title,
        f"{number(value.median)} {goal.unit}",
        "",
        f"({number(value.low)}–{number(value.high)})",
        "",
        f"{'≤' if goal.at_most else '≥'} {number(goal.target)} {goal.unit}",
        "won" if verdict.won else "lost",
    )


def describe(row: Row) -> str:
    """Return a row's name: its work and its peer."""
    return f"{row.comparison.title} / {row.comparison.peer}"


def number(value: float) -> str:
    """Return a rate with three digits or as a whole number."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _extremes(spread: Spread) -> str:
    return f"{spread.low:.2f}–{spread.high:.2f}"
