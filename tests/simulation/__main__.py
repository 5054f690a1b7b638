"""``make simulate``: what 10, 100 and 1,000 workers come to, written into ``docs/explanation/scale.md``.

Placement, planning and records are the real code, run here; rates of loading and of the engine are those that were
measured (``docs/benchmarks/results.json``, and DESIGN for the engine); what a worker holds is assumed. CPU time is
that of this machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from math import sqrt
from pathlib import Path

from preheat.placement import SLOTS
from preheat.settings import WorkerSettings
from preheat.units import human_duration, human_size
from tests.simulation.placements import balance, cluster, movement, owners
from tests.simulation.plans import Plan, plan

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "explanation" / "scale.md"
RESULTS = DOCS / "benchmarks" / "results.json"
WORKERS = (10, 100, 1000)
ENGINE_MESSAGES = 5_000
"""Publishes a second that one JetStream node took, synced always, one at a time; measured."""
HELD = 1 << 40
"""Bytes that each worker is assumed to hold."""
KEYS = 200_000
_BENCHMARK_WORKERS = 2
_KEYS_PER_WORKER = 200
_MANY = 10**9
_BLOCK = re.compile(r"(<!-- simulated -->\n).*?(<!-- end -->)", re.DOTALL)


def measured(work: str) -> float:
    """Return our median rate at a row of the benchmark, per worker."""
    rows = json.loads(RESULTS.read_text())["rows"]
    row = next(row for row in rows if row["comparison"]["work"] == work and row["comparison"]["peer"] == "s5cmd")
    return float(row["ours"]["median"]) / _BENCHMARK_WORKERS


def columns(workers: int, *, files: float, mebibytes: float, keys: int = KEYS) -> dict[str, str]:
    """Return the rows of the table for so many workers.

    Args:
        workers: how many.
        files: of 100 KiB that a worker loads per second.
        mebibytes: that a worker loads per second.
        keys: to plan.
    """
    placement = cluster(workers)
    (first, single), (first_double, double) = (
        tuple(plan(placement, keys=keys, replicas=replicas) for _ in range(2)) for replicas in (1, 2)
    )
    placed = owners(placement, _KEYS_PER_WORKER * max(100, workers))
    spread, moves = balance(placement, placed), movement(placement, placed)
    seconds = HELD / (workers - 1) / (mebibytes * (1 << 20))
    return {
        "least and most of the objects on a worker, of the mean": f"{spread.least:.2f}–{spread.most:.2f}",
        "the same by lot (±3 σ)": f"{1 - 3 * spread.chance:.2f}–{1 + 3 * spread.chance:.2f}",
        "the same of endless objects, as slots go by lot (±3 σ)": _range(3 * sqrt(workers / placement.slots)),
        "moves when a worker joins or leaves (has to)": f"{moves.moved:.2%} ({moves.ideal:.2%})",
        "moves that need not be": f"{moves.needless}",
        "planned by one core while no slot is known, 1 replica": f"{first.keys_per_second:,.0f} keys/s",
        "planned by one core while no slot is known, 2 replicas": f"{first_double.keys_per_second:,.0f} keys/s",
        "planned by one core when all are known, 1 replica": f"{single.keys_per_second:,.0f} keys/s",
        "planned by one core when all are known, 2 replicas": f"{double.keys_per_second:,.0f} keys/s",
        "10⁹ objects planned by one core, 1 replica": human_duration(_seconds_of_many(first, single)),
        "10⁹ objects planned by one core, 2 replicas": human_duration(_seconds_of_many(first_double, double)),
        "objects per message of the engine, 1 replica": f"{single.keys_per_message:.1f}",
        "objects per message of the engine, 2 replicas": f"{double.keys_per_message:.1f}",
        "largest record of a job, 1 replica": human_size(single.record_bytes),
        "largest record of a job, 2 replicas": human_size(double.record_bytes),
        "files of 100 KiB that the workers could load": f"{files * workers:,.0f} per second",
        "the same as one job, 1 replica": _bound(single, files * workers),
        "the same as one job, 2 replicas": _bound(double, files * workers / 2),
        "messages of the engine at that rate": f"{_messages(single, files * workers):,.0f} per second",
        "heartbeats": f"{workers / WorkerSettings(id='w', data_dir=Path()).heartbeat_seconds:,.0f} per second",
        "a lost worker's share is warm again after": human_duration(seconds),
        "what the peers or the origin give meanwhile": f"{human_size(mebibytes * (1 << 20) * (workers - 1))}/s",
    }


def _range(spread: float) -> str:
    return f"{1 - spread:.3f}–{1 + spread:.3f}"


def _seconds_of_many(first: Plan, again: Plan) -> float:
    """Return how long a load is planned whose objects are in all slots: the first one of each finds the owners."""
    found = 1 / first.keys_per_second - 1 / again.keys_per_second
    return _MANY / again.keys_per_second + SLOTS * max(0.0, found)


def _rate(found: Plan, wanted: float) -> float:
    return min(wanted, found.keys_per_second, ENGINE_MESSAGES * found.keys_per_message)


def _bound(found: Plan, wanted: float) -> str:
    limits: dict[str, float] = {
        "the workers": wanted,
        "planning": found.keys_per_second,
        "the engine": ENGINE_MESSAGES * found.keys_per_message,
    }
    name = min(limits, key=limits.__getitem__)
    return f"{limits[name]:,.0f} per second: {name}"


def _messages(found: Plan, wanted: float) -> float:
    return _rate(found, wanted) / found.keys_per_message


def table(counts: Sequence[int], column: Callable[[int], dict[str, str]]) -> str:
    """Return the table in Markdown, a column for each count of workers."""
    found = [column(count) for count in counts]
    lines = ["| | " + " | ".join(f"{count:,} workers" for count in counts) + " |", "|---" * (len(counts) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(values[name] for values in found) + " |" for name in found[0]]
    return "\n".join(lines)


def main() -> None:
    """Run the simulation, print its table, and put it into the page."""
    files, mebibytes = measured("load-small"), measured("load-large")
    text = table(WORKERS, lambda count: columns(count, files=files, mebibytes=mebibytes))
    print(text)  # noqa: T201 - it is a command
    page = PAGE.read_text()
    PAGE.write_text(_BLOCK.sub(lambda match: f"{match[1]}\n{text}\n\n{match[2]}", page))


if __name__ == "__main__":
    main()
