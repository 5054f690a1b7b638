"""``python -m tests.benchmarks [--quick]``: measures, prints the table, and writes JSON, Markdown and a chart."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

from rich.console import Console

from tests.benchmarks import job_service, settings
from tests.benchmarks.chart import ratio_chart
from tests.benchmarks.comparisons import COMPARISONS, Part
from tests.benchmarks.data import MIB
from tests.benchmarks.goals import GOALS
from tests.benchmarks.machine import describe_machine, load_average, now
from tests.benchmarks.metering import Journal
from tests.benchmarks.peers import Peers
from tests.benchmarks.record import Circumstances, Record
from tests.benchmarks.report import Results, document, markdown, notes, table
from tests.benchmarks.rounds import Run

REPOSITORY = Path(__file__).parents[2]
_RESULTS = "results.json"


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
        record = measure(arguments, directory, console)
    finally:
        shutil.rmtree(directory)
    earlier = arguments.output / _RESULTS
    if arguments.only and earlier.exists():
        record = Record.read(earlier).updated(record)
    results = judge_all(record, quick=arguments.quick)
    console.print(table(results))
    for note in notes(results):
        console.print(f"- {note}", markup=False, soft_wrap=True)
    write(results, arguments.output)
    console.print(f"Written to {arguments.output}: results.md, {_RESULTS}, ratios.svg.")
    return 0


def parse_arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds of smaller sets, in less than two minutes")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=list(Part),
        type=Part,
        metavar="PART",
        help=f"some of {', '.join(Part)}; the others of an earlier run with the same output stay",
    )
    parser.add_argument("--output", type=Path, help="directory for the results [docs/benchmarks, or .bench/quick]")
    arguments = parser.parse_args()
    arguments.output = arguments.output or Path(".bench/quick" if arguments.quick else "docs/benchmarks")
    return arguments


def measure(arguments: argparse.Namespace, directory: Path, console: Console) -> Record:
    """Do all rounds and return what was measured."""
    amounts, scale = _amounts(quick=arguments.quick)
    parts: Collection[Part] = arguments.only or list(Part)
    peers = Peers(REPOSITORY / ".venv-peers")
    machine, date, load_before = describe_machine(peers), now(), load_average()
    journal = Journal(lambda line: console.print(line, style="dim", soft_wrap=True, markup=False))
    run = Run(amounts, parts=parts, directory=directory, peers=peers, journal=journal)
    run.measure()
    measurements = job_service.measure(scale, directory, journal) if Part.GOALS in parts else []
    circumstances = Circumstances(
        date=date,
        command=" ".join(["python -m tests.benchmarks", *sys.argv[1:]]),
        load_before=load_before,
        load_after=load_average(),
    )
    return Record(
        machine=machine,
        settings=amounts.describe() | {"goals": scale.describe()},
        parts=dict.fromkeys(parts, circumstances),
        samples=run.samples,
        measurements=measurements,
        checked=run.checked,
        missing=run.missing,
        spent=journal.spent,
        worker_peak_mib=run.worker_peak / MIB,
    )


def judge_all(record: Record, *, quick: bool) -> Results:
    """Return what was measured beside what was wanted, with the numbers of the run in the titles."""
    amounts, scale = _amounts(quick=quick)
    return Results.of(record, [amounts.titled(item) for item in COMPARISONS], [scale.titled(goal) for goal in GOALS])


def _amounts(*, quick: bool) -> tuple[settings.Settings, job_service.Scale]:
    return (settings.QUICK, job_service.QUICK) if quick else (settings.FULL, job_service.FULL)


def write(results: Results, directory: Path) -> None:
    """Write the results into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / _RESULTS).write_text(json.dumps(document(results), indent=1, ensure_ascii=False) + "\n")
    (directory / "results.md").write_text(markdown(results))
    (directory / "ratios.svg").write_text(ratio_chart(results.rows))


if __name__ == "__main__":
    sys.exit(main())
