"""``preheat load --dry-run``: what a load would do, as a table."""

from __future__ import annotations

from typing import Annotated

import typer

from preheat.cli._output import print_json, print_pairs, print_table
from preheat.client import Client, EstimateReport, WorkerEstimateReport
from preheat.jobs import JobSpec
from preheat.units import human_duration, human_size

DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Load nothing: list, and say what it would take. Exit code 1 if it does not fit."),
]


def show_estimate(client: Client, spec: JobSpec, *, as_json: bool) -> None:
    """Print what a load would do if nothing of it were cached.

    Raises:
        typer.Exit: with code 1, if a worker has no room for its share.
    """
    estimate = client.estimate(spec)
    if as_json:
        print_json(estimate)
    else:
        print_pairs(_summary(spec, estimate), title="Dry run: nothing is loaded")
        typer.echo()
        print_table(("WORKER", "FILES", "BYTES", "FREE", "EVICTABLE", "FITS"), map(_row, estimate.workers))
    if not estimate.fits:
        raise typer.Exit(1)


def _summary(spec: JobSpec, estimate: EstimateReport) -> list[tuple[str, str]]:
    requests, cost = estimate.requests, estimate.cost
    pairs = [
        ("files", f"{estimate.objects:,}"),
        ("bytes", f"{human_size(estimate.bytes)}, on {spec.options.replicas} worker(s) each"),
        ("missing", f"{estimate.missing:,} that the index file names" if estimate.missing else ""),
        ("requests", f"{requests.list:,} LIST, {requests.get:,} GET"),
        ("cost", f"{_money(cost.total)} {cost.currency} ({cost.basis})"),
        ("time", _time(spec, estimate)),
        ("dataset version", estimate.dataset_version or ""),
        ("fits", "yes" if estimate.fits else "NO: add workers or capacity"),
    ]
    return [(name, value) for name, value in pairs if value]


def _time(spec: JobSpec, estimate: EstimateReport) -> str:
    if estimate.seconds is None or spec.options.bandwidth is None:
        return "unknown: give --bandwidth, the rate to reckon with"
    return f"{human_duration(estimate.seconds)} at {human_size(spec.options.bandwidth)}/s and worker"


def _money(amount: float) -> str:
    return f"{amount:.2f}" if amount >= 0.01 else f"{amount:.6f}"


def _row(worker: WorkerEstimateReport) -> tuple[str, ...]:
    return (
        worker.id,
        f"{worker.objects:,}",
        human_size(worker.bytes),
        human_size(worker.free),
        human_size(worker.evictable),
        "yes" if worker.fits else "NO",
    )
