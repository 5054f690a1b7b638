"""``preheat drain`` and ``undrain``: taking a worker out of service, and back."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from preheat.cli._errors import JsonFlag
from preheat.cli._options import DEFAULT_COORDINATOR, Coordinator
from preheat.cli._output import print_json, status_console
from preheat.client import Client, WorkerReport
from preheat.errors import DeadlineExceeded, WorkerNotFound

_POLL_SECONDS = 0.5
WorkerId = Annotated[str, typer.Argument(metavar="WORKER", help="Its name, as `preheat report jobservice` shows it.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(drain)
    app.command()(undrain)


def drain(
    worker: WorkerId,
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Return when its last batch has ended.")] = False,
    timeout: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long to wait.")] = 600,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
    as_json: JsonFlag = False,
) -> None:
    """Give a worker no more work: it ends its batches, hands the others over, and goes on serving reads.

    It stays drained, over restarts too, until `preheat undrain`.
    """
    with Client.from_environment(coordinator) as client:
        report = client.drain(worker)
        if wait:
            report = _wait_drained(client, worker, seconds=timeout)
    if as_json:
        print_json(report)
    elif wait:
        typer.echo(f"{worker} is drained.")
    else:
        typer.echo(f"{worker} is being drained; {report.unfinished_batches} batches are unfinished.")


def undrain(worker: WorkerId, *, coordinator: Coordinator = DEFAULT_COORDINATOR, as_json: JsonFlag = False) -> None:
    """Let a drained worker take part again: its share of the files comes back to it."""
    with Client.from_environment(coordinator) as client:
        report = client.undrain(worker)
    if as_json:
        print_json(report)
    else:
        typer.echo(f"{worker} takes part again within a few seconds.")


def _wait_drained(client: Client, worker_id: str, *, seconds: float) -> WorkerReport:
    deadline = time.monotonic() + seconds
    with status_console().status(f"Draining {worker_id} …"):
        while (worker := _find(client, worker_id)).state != "drained":
            if time.monotonic() > deadline:
                raise DeadlineExceeded(
                    f"{worker_id} is {worker.state} after {seconds:.0f} s: {worker.active_batches} batches in work.",
                    remedy="It goes on draining; run the command again to wait longer.",
                )
            time.sleep(_POLL_SECONDS)
    return worker


def _find(client: Client, worker_id: str) -> WorkerReport:
    worker = next((each for each in client.workers().workers if each.id == worker_id), None)
    if worker is None:
        raise WorkerNotFound(f"There is no worker {worker_id!r} any more.")
    return worker
