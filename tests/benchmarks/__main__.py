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
from typing import Any

from rich.console import Console

from tests.benchmarks import job_service, settings, store_writing
from tests.benchmarks.chart import ratio_chart
from tests.benchmarks.comparisons import COMPARISONS, Part, Sample
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
    earlier = read_earlier(arguments)
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    runs = REPOSITORY / ".bench"
    runs.mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="run-", dir=runs))
    try:
        record = measure(arguments, directory, console)
    finally:
        shutil.rmtree(directory)
    results = judge_all(earlier.updated(record) if earlier else record, quick=arguments.quick)
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


def read_earlier(arguments: argparse.Namespace) -> Record | None:
    """Return the results whose other parts are to be kept, if there are any.

    Raises:
        SystemExit: they are of another form, or of other amounts.
    """
    file = arguments.output / _RESULTS
    if not (arguments.only and file.exists()):
        return None
    try:
        earlier = Record.read(file)
        earlier.check_amounts(_describe_amounts(quick=arguments.quick))
    except ValueError as error:  # msgspec's errors are such ones
        raise SystemExit(
            f"{file} cannot be added to: {error} Measure all parts, or choose another --output."
        ) from error
    return earlier


def measure(arguments: argparse.Namespace, directory: Path, console: Console) -> Record:
    """Do all rounds and return what was measured."""
    amounts, scale = _amounts(quick=arguments.quick)
    parts: Collection[Part] = arguments.only or list(Part)
    peers = Peers(REPOSITORY / ".venv-peers")
    machine, date, load_before = describe_machine(peers), now(), load_average()
    journal = Journal(lambda line: console.print(line, style="dim", soft_wrap=True, markup=False))
    run = Run(amounts, parts=parts, directory=directory, peers=peers, journal=journal)
    run.measure()
    if Part.STORE in parts:
        run.samples += write_to_store(amounts, directory, journal)
    measurements = job_service.measure(scale, directory, journal) if Part.GOALS in parts else []
    circumstances = Circumstances(
        date=date,
        command=" ".join(["python -m tests.benchmarks", *sys.argv[1:]]),
        load_before=load_before,
        load_after=load_average(),
    )
    return Record(
        machine=machine,
        settings=_describe_amounts(quick=arguments.quick),
        parts=dict.fromkeys(parts, circumstances),
        samples=run.samples,
        measurements=measurements,
        checked=dict(run.checked),
        missing=run.missing,
        spent=dict(journal.spent),
        worker_peak_mib=run.worker_peak / MIB,
    )


def write_to_store(amounts: settings.Settings, directory: Path, journal: Journal) -> list[Sample]:
    """Write objects to a page store, and beside it."""
    journal.note("writing to a page store")
    with journal.spending("store"):
        return [
            sample
            for objects in store_writing.SETS
            for sample in store_writing.write(directory, objects, rounds=amounts.store_rounds)
        ]


def judge_all(record: Record, *, quick: bool) -> Results:
    """Return what was measured beside what was wanted, with the numbers of the run in the titles."""
    amounts, scale = _amounts(quick=quick)
    return Results.of(record, [amounts.titled(item) for item in COMPARISONS], [scale.titled(goal) for goal in GOALS])


def _amounts(*, quick: bool) -> tuple[settings.Settings, job_service.Scale]:
    return (settings.QUICK, job_service.QUICK) if quick else (settings.FULL, job_service.FULL)


def _describe_amounts(*, quick: bool) -> dict[str, Any]:
    amounts, scale = _amounts(quick=quick)
    return amounts.describe() | {"goals": scale.describe()}


def write(results: Results, directory: Path) -> None:
    """Write the results into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / _RESULTS).write_text(json.dumps(document(results), indent=1, ensure_ascii=False) + "\n")
    (directory / "results.md").write_text(markdown(results))
    (directory / "ratios.svg").write_text(ratio_chart(results.rows))


if __name__ == "__main__":
    sys.exit(main())
