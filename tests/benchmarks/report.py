"""The results as a table for the terminal, as Markdown and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from tests.benchmarks.comparisons import Comparison, Row, Spread, compare, measured
from tests.benchmarks.goals import Goal, Verdict, judge
from tests.benchmarks.record import Record

HEADINGS = ("work", "preheat", "peer", "ratio (min–max)", "CPU ratio", "target", "result")
_LEFT_OUT = "left out of this run"
NOT_MEASURED = (
    "TLS: everything is plain HTTP on loopback",
    "a network: origin, clients, cluster and peers share one machine and its cores; the distant origin is a delay",
    "a real disk: files stay in the page cache, and this machine's disk may be virtual",
    "authentication in the rows without a peer: only the rows with one have a cluster that asks for tokens",
    "a cluster on several machines, or with the engine replicated",
    "a real origin and real workers in the row on memory: its listing is synthetic, its workers answer at once",
)


@dataclass(frozen=True, kw_only=True)
class Results:
    """What was measured, and what it says."""

    record: Record
    rows: Sequence[Row]
    verdicts: Sequence[Verdict]
    not_measured: Sequence[str]

    @classmethod
    def of(cls, record: Record, comparisons: Sequence[Comparison], goals: Sequence[Goal]) -> Results:
        """Compare and judge; what the record has nothing of is named as not measured."""
        judged = [goal for goal in goals if any(item.work == goal.work for item in record.measurements)]
        compared = [comparison for comparison in comparisons if measured(comparison, record.samples)]
        left_out = [_left_out(comparison, record) for comparison in comparisons if comparison not in compared]
        left_out += [(_LEFT_OUT, goal.title) for goal in goals if goal not in judged]
        return cls(
            record=record,
            rows=[compare(item, record.samples, cores=record.machine["cores"]) for item in compared],
            verdicts=[judge(goal, record.measurements) for goal in judged],
            not_measured=[*NOT_MEASURED, *_by_reason(left_out)],
        )


def _left_out(comparison: Comparison, record: Record) -> tuple[str, str]:
    """Return why there is no row, and which one."""
    return record.missing.get(comparison.peer, _LEFT_OUT), f"{comparison.title} / {comparison.peer}"


def _by_reason(left_out: Sequence[tuple[str, str]]) -> list[str]:
    titles: dict[str, list[str]] = {}
    for reason, title in left_out:
        titles.setdefault(reason, []).append(title)
    return [f"{reason}: {'; '.join(found)}" for reason, found in titles.items()]


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
    record, machine = results.record, results.record.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    checked = ", ".join(f"{count} of {work}" for work, count in record.checked.items())
    spent = sorted(record.spent.items(), key=lambda item: -item[1])
    return [
        *(f"lost: {describe(row)}: {_reason(row)}" for row in results.rows if not row.won),
        *(f"lost: {verdict.goal.title}: {verdict.reason}" for verdict in results.verdicts if not verdict.won),
        f"compared byte by byte with the source: {checked or 'nothing'}",
        f"peak memory of a worker: {record.worker_peak_mib:.0f} MiB",
        f"{machine['cores']} cores ({machine['cpu']}), {machine['memory_gib']:.0f} GiB, Linux {machine['kernel']}",
        *(
            f"{part}: {run.date}, `{run.command}`, load average before {run.load_before}, at the end {run.load_after}"
            for part, run in record.parts.items()
        ),
        f"versions: Python {machine['python']}, {versions}",
        f"time taken: {sum(record.spent.values()):.0f} s: {', '.join(f'{what} {took:.0f} s' for what, took in spent)}",
        *(f"not measured: {what}" for what in results.not_measured),
    ]


def _reason(row: Row) -> str:
    bound = f"; bound here about {row.bound:.1f}×, with no CPU time of ours" if row.bound else ""
    return row.reason + bound


def markdown(results: Results) -> str:
    """Return table and notes as a page."""
    lines = [
        "# Results",
        "",
        "Written by `make bench`; [README](README.md) says how to read it.",
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
    """Return everything, for JSON: the record's fields, and what follows from them."""
    return {
        "rows": [{**dataclasses.asdict(row), "won": row.won} for row in results.rows],
        "goals": [{**dataclasses.asdict(verdict), "won": verdict.won} for verdict in results.verdicts],
        "not_measured": list(results.not_measured),
        **dataclasses.asdict(results.record),
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
        f"{row.cpu_ratio.median:.2f}×" if row.cpu_ratio else "",
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
