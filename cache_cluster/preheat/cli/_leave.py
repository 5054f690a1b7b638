"""``preheat leave``: what runs on a worker's machine before its process is stopped."""

from __future__ import annotations

from typing import Annotated

import typer

from preheat.cli._access_options import NatsCa, NatsCert, NatsCredentials, NatsKey, engine_settings
from preheat.cli._errors import usage_errors
from preheat.cli._options import NatsReplicas, NatsUrl
from preheat.cli._processes import WorkerName, server_extra, worker_name
from preheat.settings import EngineSettings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(leave)


def leave(
    *,
    worker_id: WorkerName = "",
    timeout: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long to wait.")] = 60,
    nats_url: NatsUrl = EngineSettings.url,
    nats_replicas: NatsReplicas = EngineSettings.replicas,
    nats_ca: NatsCa = None,
    nats_cert: NatsCert = None,
    nats_key: NatsKey = None,
    nats_credentials: NatsCredentials = None,
) -> None:
    """Drain this machine's worker until its process ends: run it before the worker is stopped.

    It waits until the worker's batches have ended, and needs no coordinator. The next process takes part again.
    """
    with usage_errors():
        engine = engine_settings(
            url=nats_url,
            replicas=nats_replicas,
            ca=nats_ca,
            cert=nats_cert,
            key=nats_key,
            credentials=nats_credentials,
        )
    name = worker_name(worker_id)
    with server_extra():
        from preheat.worker import leave as leave_cluster  # noqa: PLC0415 - only with preheat[server]
    leave_cluster(engine, name, seconds=timeout)
    typer.echo(f"{name} has left.")
