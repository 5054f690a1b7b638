"""``python -m tests.benchmarks [--quick]``: measures, prints the table, and writes JSON, Markdown and a chart."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.benchmarks import job_service
from tests.benchmarks.bench import Settings
from tests.benchmarks.chart import ratio_chart
from tests.benchmarks.comparisons import COMPARISONS, compare
from tests.benchmarks.data import KIB, MIB, ObjectSet
from tests.benchmarks.goals import GOALS, judge
from tests.benchmarks.machine import describe_machine, load_average
from tests.benchmarks.peers import Peers
from tests.benchmarks.report import Results, document, markdown, notes, table
from tests.benchmarks.rounds import Run

REPOSITORY = Path(__file__).parents[2]
FULL = Settings(
    large=ObjectSet(name="large", count=4, size=256 * MIB),
    small=ObjectSet(name="small", count=10_000, size=100 * KIB),
    tiny=ObjectSet(name="tiny", count=20_000, size=4 * KIB),
    filler=ObjectSet(name="filler", count=69_996, size=1),
    rounds=4,
    serve_seconds=2.0,
    read_count=2000,
)
QUICK = Settings(
    large=ObjectSet(name="large", count=4, size=64 * MIB),
    small=ObjectSet(name="small", count=2000, size=100 * KIB),
    tiny=ObjectSet(name="tiny", count=3000, size=4 * KIB),
    filler=ObjectSet(name="filler", count=14_996, size=1),
    rounds=3,
    serve_seconds=1.0,
    read_count=500,
)


def main() -> int:
    """Run the benchmarks and return the exit status: 0 whoever wins."""
    arguments = parse_arguments()
    for name in [name for name in os.environ if name.startswith(("AWS_", "PREHEAT_"))]:
        del os.environ[name]  # nothing of the user's own configuration reaches what is measured
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    runs = REPOSITORY / ".bench"
    runs.mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="run-", dir=runs))
    try:
        results = measure(arguments, directory, console)
    finally:
        shutil.rmtree(directory)
    console.print(table(results))
    for note in notes(results):
        console.print(f"- {note}", markup=False, soft_wrap=True)
    if arguments.only:
        return 0
    write(results, arguments.output)
    console.print(f"Written to {arguments.output}: results.md, results.json, ratios.svg.")
    return 0


def parse_arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sets, for a look in a few minutes")
    parser.add_argument("--only", choices=("peers", "goals"), help="a part of the table, which is printed and not kept")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks"), help="directory for the results")
    return parser.parse_args()


def measure(arguments: argparse.Namespace, directory: Path, console: Console) -> Results:
    """Do all rounds and return the results."""
    settings, scale = (QUICK, job_service.QUICK) if arguments.quick else (FULL, job_service.FULL)
    peers = Peers(REPOSITORY / ".venv-peers")
    machine = describe_machine(peers)

    def report(line: str) -> None:
        console.print(line, style="dim", soft_wrap=True)

    run = Run(settings, directory=directory, peers=peers, report=report)
    if arguments.only != "goals":
        run.measure()
    measurements = [] if arguments.only == "peers" else job_service.measure(scale, directory, report)
    command = "make bench-quick" if arguments.quick else "make bench"
    after = {"load_after": load_average(), "worker_peak_mib": run.worker_peak / MIB, "command": command}
    return Results(
        rows=[compare(settings.titled(item), run.samples) for item in COMPARISONS if run.samples],
        samples=run.samples,
        machine=machine | after,
        settings=settings.describe() | {"goals": scale.describe()},
        checked=run.checked,
        verdicts=[judge(scale.titled(goal), measurements) for goal in GOALS if measurements],
        measurements=measurements,
    )


def write(results: Results, directory: Path) -> None:
    """Write the results into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "results.json").write_text(json.dumps(document(results), indent=1, ensure_ascii=False) + "\n")
    (directory / "results.md").write_text(markdown(results))
    (directory / "ratios.svg").write_text(ratio_chart(results.rows))


if __name__ == "__main__":
    sys.exit(main())
