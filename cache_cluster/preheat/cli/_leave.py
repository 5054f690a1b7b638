"""``preheat leave``: what runs on a worker's machine before its process is stopped."""

from __future__ import annotations

from typing import Annotated

import typer

from preheat.cli._engine_options import takes_engine
from preheat.cli._processes import WorkerName, server_extra, worker_name
from preheat.settings import EngineSettings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(takes_engine(leave))


def leave(
    *,
    worker_id: WorkerName = "",
    timeout: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long to wait.")] = 60,
    engine: EngineSettings,
) -> None:
    """Drain this machine's worker until its process ends: run it before the worker is stopped.

    It waits until the worker's batches have ended, and needs no coordinator. The next process takes part again.
    """
    name = worker_name(worker_id)
    with server_extra():
        from preheat.worker import leave as leave_cluster  # noqa: PLC0415 - only with preheat[server]
    leave_cluster(engine, name, seconds=timeout)
    typer.echo(f"{name} has left.")
