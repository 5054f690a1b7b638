"""``preheat up``, ``down`` and ``status``: a whole cluster on this machine."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from preheat.cli._access_options import AllowAnonymous, Auth, TlsCert, TlsKey, serving_tls
from preheat.cli._errors import JsonFlag, usage_errors
from preheat.cli._options import DEFAULT_CAPACITY, Capacity, ConfigFile, DataDir, ServesS3
from preheat.cli._output import print_json, print_pairs, print_table, status_console
from preheat.client import Client, WorkerReport
from preheat.cluster import (
    ClusterFiles,
    ClusterSettings,
    ClusterState,
    PartState,
    default_data_dir,
    read_state,
    run_cluster,
    start_in_background,
    stop_cluster,
)
from preheat.errors import Unavailable
from preheat.settings import COORDINATOR_PORT, DATA_PORT, S3_PORT, AccessSettings
from preheat.token_files import read_token_file
from preheat.units import human_size

_STATUS_SECONDS = 5.0


class PartView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One process in ``preheat status --json``."""

    name: str
    pid: int | None
    alive: bool
    restarts: int
    given_up: bool
    url: str
    s3_url: str = ""
    log: str

    @classmethod
    def of(cls, part: PartState) -> PartView:
        """Show a part's state."""
        return cls(
            name=part.name,
            pid=part.process.pid if part.process else None,
            alive=part.alive,
            restarts=part.restarts,
            given_up=part.given_up,
            url=part.url,
            s3_url=part.s3_url,
            log=part.log,
        )


class StatusView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What ``preheat status --json`` prints."""

    running: bool
    healthy: bool = False
    data_dir: str
    url: str = ""
    pid: int | None = None
    log_dir: str = ""
    airflow_connection: str = ""
    admin_token_file: str = ""
    parts: tuple[PartView, ...] = ()
    workers: tuple[WorkerReport, ...] = ()
    """As the coordinator sees them; empty when it does not answer."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(up)
    app.command()(down)
    app.command()(status)


def up(
    *,
    workers: Annotated[
        int | None,
        typer.Option(envvar="PREHEAT_WORKERS", help="How many workers.  [default: 1]", show_default=False),
    ] = None,
    data_dir: DataDir = None,
    port: Annotated[
        int, typer.Option(envvar="PREHEAT_PORT", help="The coordinator's port; 0 takes a free one.")
    ] = COORDINATOR_PORT,
    worker_port: Annotated[
        int,
        typer.Option(
            envvar="PREHEAT_WORKER_PORT",
            help="The first worker's data port, the others count up from it; 0 takes free ones.",
        ),
    ] = DATA_PORT,
    worker_s3_port: Annotated[
        int | None,
        typer.Option(
            envvar="PREHEAT_WORKER_S3_PORT",
            help=f"The first worker's S3 port, likewise.  [default: {S3_PORT}; with --worker-port 0 free ones]",
            show_default=False,
        ),
    ] = None,
    s3: ServesS3 = True,
    capacity: Capacity = DEFAULT_CAPACITY,  # type: ignore[assignment] # Typer parses the default as well
    worker_hosts: Annotated[
        str,
        typer.Option(
            envvar="PREHEAT_WORKER_HOSTS",
            metavar="IP,IP,…",
            help="One address for each worker, all on the same port, e.g. 127.0.0.2,127.0.0.3.",
        ),
    ] = "",
    config: ConfigFile = None,
    auth: Auth = False,
    allow_anonymous: AllowAnonymous = False,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when the cluster is ready; it goes on running.")
    ] = False,
) -> None:
    """Start a cluster on this machine: the engine (NATS), a coordinator and workers.

    It runs until Ctrl-C or `preheat down`. A process that dies is restarted. The jobs and the cached data stay in
    the data directory for the next start. With --auth an admin's token is made and kept there too.
    """
    hosts = tuple(host.strip() for host in worker_hosts.split(",") if host.strip())
    access = AccessSettings(auth=auth, allow_anonymous=allow_anonymous)
    with usage_errors():
        for host in hosts:
            access.check_host(host)
        settings = ClusterSettings(
            data_dir=data_dir or default_data_dir(),
            workers=workers if workers is not None else len(hosts) or 1,
            port=port,
            worker_port=worker_port,
            worker_s3_port=_s3_port(worker_s3_port, worker_port) if s3 else None,
            worker_hosts=hosts,
            capacity=capacity,
            config_file=config.absolute() if config else None,
            access=access,
            tls=serving_tls(tls_cert, tls_key),
        )
    if detach:
        _up_in_background(settings)
    else:
        _up_in_foreground(settings)


def down(data_dir: DataDir = None) -> None:
    """Stop the cluster that `preheat up` started on this data directory."""
    files = ClusterFiles(data_dir or default_data_dir())
    state = stop_cluster(files)
    if state is None:
        typer.echo(f"No cluster runs on {files.root}.")
    else:
        typer.echo(f"Stopped the cluster on {files.root} (pid {state.supervisor.pid}).")


def status(*, data_dir: DataDir = None, as_json: JsonFlag = False) -> None:
    """Show the cluster of this data directory: its processes and its workers. Exit code 0 if all is well."""
    files = ClusterFiles(data_dir or default_data_dir())
    state = read_state(files.state)
    view = StatusView(running=False, data_dir=str(files.root)) if state is None else _view(state)
    if as_json:
        print_json(view)
    elif not view.running:
        typer.echo(f"No cluster runs on {files.root}. Start one with: preheat up")
    else:
        _print_status(view)
    if not view.healthy:
        raise typer.Exit(1)


def _s3_port(asked: int | None, worker_port: int) -> int:
    if asked is not None:
        return asked
    return S3_PORT if worker_port else 0


def _up_in_background(settings: ClusterSettings) -> None:
    with status_console().status("Starting the cluster …"):
        state = start_in_background(settings)
    _print_ready(state, stop=f"preheat down --data-dir {state.data_dir}")


def _up_in_foreground(settings: ClusterSettings) -> None:
    # No spinner here: it has a thread, and a supervisor may not have a second one.
    remarks = status_console()
    remarks.print("Starting the cluster …")
    run_cluster(
        settings,
        on_ready=lambda state: _print_ready(state, stop=f"Ctrl-C, or preheat down --data-dir {state.data_dir}"),
        report=lambda text: remarks.print(text, markup=False, soft_wrap=True),
    )


def _view(state: ClusterState) -> StatusView:
    return StatusView(
        running=True,
        healthy=state.healthy,
        data_dir=state.data_dir,
        url=state.url,
        pid=state.supervisor.pid,
        log_dir=state.log_dir,
        airflow_connection=state.airflow_connection,
        admin_token_file=state.admin_token_file,
        parts=tuple(PartView.of(part) for part in state.parts),
        workers=_known_workers(state),
    )


def _known_workers(state: ClusterState) -> tuple[WorkerReport, ...]:
    with suppress(Unavailable), _client(state) as client:
        return client.workers().workers
    return ()


def _client(state: ClusterState) -> Client:
    """Return a client of the cluster, which finds its token where this user may read it."""
    if not (state.admin_token_file and os.access(state.admin_token_file, os.R_OK)):
        return Client.from_environment(state.url, timeout=_STATUS_SECONDS)
    token = read_token_file(Path(state.admin_token_file)).text
    return Client(state.url, token=token, ca_file=state.ca_file, timeout=_STATUS_SECONDS)


def _print_status(view: StatusView) -> None:
    workers = {worker.id: worker for worker in view.workers}
    print_pairs([("coordinator", view.url), ("data directory", view.data_dir), ("supervisor", f"pid {view.pid}")])
    print_table(
        ("PROCESS", "PID", "STATE", "RESTARTS", "URL", "S3", "ZONE", "CACHED"),
        (_part_row(part, workers.get(part.name)) for part in view.parts),
    )


def _part_row(part: PartView, worker: WorkerReport | None) -> tuple[str, ...]:
    zone = worker.zone if worker else ""
    cached = f"{human_size(worker.used)}, {worker.objects} objects" if worker else "-"
    return (
        part.name,
        str(part.pid or "-"),
        _part_state(part, worker),
        str(part.restarts),
        part.url,
        part.s3_url or "-",
        zone or "-",
        cached,
    )


def _part_state(part: PartView, worker: WorkerReport | None) -> str:
    if part.alive:
        return worker.state if worker and worker.leaving else "running"
    return f"given up, see {part.log}" if part.given_up else "restarting"


def _print_ready(state: ClusterState, *, stop: str) -> None:
    pairs = [
        ("coordinator", state.url),
        ("dashboard", f"{state.url}/"),
        ("workers", ", ".join(part.url for part in state.workers)),
        ("S3 endpoints", ", ".join(part.s3_url for part in state.workers if part.s3_url)),
        ("data directory", state.data_dir),
        ("Airflow connection", state.airflow_connection),
        ("admin token", f"in {state.admin_token_file}" if state.admin_token_file else ""),
        ("stop with", stop),
    ]
    print_pairs([(name, text) for name, text in pairs if text], title="Preheat is ready")
