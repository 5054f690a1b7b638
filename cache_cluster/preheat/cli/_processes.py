"""``preheat coordinator`` and ``preheat worker``: the single processes, for a cluster on many machines."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated

import typer

from preheat.cli._access_options import (
    AdminTokenFile,
    AllowAnonymous,
    Auth,
    TlsCert,
    TlsKey,
    serving_tls,
)
from preheat.cli._engine_options import NatsWait, takes_engine
from preheat.cli._errors import usage_errors
from preheat.cli._options import (
    DEFAULT_CAPACITY,
    Capacity,
    ConfigFile,
    Host,
    PublicUrl,
    ServesS3,
)
from preheat.cli._store_options import (
    DEFAULT_SEGMENT_SIZE,
    DEFAULT_STAGING_SIZE,
    DataDirs,
    Eviction,
    HighWatermark,
    LowWatermark,
    MaxUploads,
    RepairAfter,
    SegmentSize,
    StagingSize,
    UploadIdle,
    data_dirs,
)
from preheat.cluster import ClusterFiles, default_data_dir
from preheat.errors import PreheatError
from preheat.settings import (
    COORDINATOR_PORT,
    DATA_PORT,
    S3_PORT,
    AccessSettings,
    CoordinatorSettings,
    EngineSettings,
    StoreSettings,
    WorkerSettings,
    WriteSettings,
)
from preheat.token_files import own_token

_ID = re.compile(r"[A-Za-z0-9_-]+")
WorkerName = Annotated[
    str,
    typer.Option(
        "--id",
        envvar="PREHEAT_ID",
        help="Its name, the same after a restart: it decides which objects are its own.  [default: host name]",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(takes_engine(coordinator))
    app.command()(takes_engine(worker))


def coordinator(
    *,
    host: Host = CoordinatorSettings.host,
    port: Annotated[int, typer.Option(envvar="PREHEAT_PORT", help="The REST API's port.")] = COORDINATOR_PORT,
    public_url: PublicUrl = "",
    cluster_url: Annotated[
        str,
        typer.Option(
            envvar="PREHEAT_CLUSTER_URL",
            metavar="URL",
            help="How workers reach it, if that is not how others do.  [default: as --public-url]",
            show_default=False,
        ),
    ] = "",
    engine: EngineSettings,
    nats_wait: NatsWait = EngineSettings.connect_seconds,
    config: ConfigFile = None,
    auth: Auth = False,
    admin_token_file: AdminTokenFile = None,
    allow_anonymous: AllowAnonymous = False,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
) -> None:
    """Run one coordinator. It keeps no files: all state is in NATS, and there may be several."""
    with usage_errors():
        access = AccessSettings(
            auth=auth,
            allow_anonymous=allow_anonymous,
            admin_token_file=admin_token_file,
            token=own_token(),
            adopt_token=bool(os.environ.get("PREHEAT_TOKEN_FILE")) and not os.environ.get("PREHEAT_TOKEN"),
        )
        access.check_host(host)
        settings = CoordinatorSettings(
            host=host,
            port=port,
            public_url=public_url,
            cluster_url=cluster_url,
            engine=replace(engine, connect_seconds=nats_wait),
            config_file=config,
            access=access,
            tls=serving_tls(tls_cert, tls_key),
        )
    with server_extra():
        from preheat.api import run_coordinator  # noqa: PLC0415 - only with preheat[server]
    run_coordinator(settings)


def worker(
    *,
    worker_id: WorkerName = "",
    host: Host = WorkerSettings.host,
    port: Annotated[int, typer.Option(envvar="PREHEAT_PORT", help="The data port.")] = DATA_PORT,
    public_url: PublicUrl = "",
    s3_port: Annotated[
        int, typer.Option(envvar="PREHEAT_S3_PORT", help="The port of the S3 API; 0 takes a free one.")
    ] = S3_PORT,
    s3: ServesS3 = True,
    data_dir: DataDirs = None,
    capacity: Capacity = DEFAULT_CAPACITY,  # type: ignore[assignment] # Typer parses the default as well
    eviction: Eviction = StoreSettings.eviction,
    high_watermark: HighWatermark = StoreSettings.high_watermark,
    low_watermark: LowWatermark = StoreSettings.low_watermark,
    segment_size: SegmentSize = DEFAULT_SEGMENT_SIZE,  # type: ignore[assignment] # as for the capacity
    staging_size: StagingSize = DEFAULT_STAGING_SIZE,  # type: ignore[assignment] # as for the capacity
    max_uploads: MaxUploads = WriteSettings.open_uploads,
    upload_idle: UploadIdle = WriteSettings.upload_idle_seconds,
    repair_after: RepairAfter = WriteSettings.repair_seconds,
    zone: Annotated[
        str, typer.Option(envvar="PREHEAT_ZONE", help="What fails together, such as a rack: copies avoid sharing one.")
    ] = "",
    engine: EngineSettings,
    nats_wait: NatsWait = EngineSettings.connect_seconds,
    auth: Auth = False,
    allow_anonymous: AllowAnonymous = False,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
) -> None:
    """Run one worker: it fetches objects, keeps them on disk and serves them."""
    name = worker_name(worker_id)
    with usage_errors():
        access = AccessSettings(auth=auth, allow_anonymous=allow_anonymous, token=own_token())
        access.check_host(host)
        directory, *more = data_dirs(data_dir) or [ClusterFiles(default_data_dir()).worker(name)]
        settings = WorkerSettings(
            id=name,
            data_dir=directory,
            more_data_dirs=tuple(more),
            capacity=capacity,
            store=StoreSettings(
                eviction=eviction,
                high_watermark=high_watermark,
                low_watermark=low_watermark,
                segment_size=segment_size,
            ),
            writes=WriteSettings(
                staging_bytes=staging_size,
                open_uploads=max_uploads,
                upload_idle_seconds=upload_idle,
                repair_seconds=repair_after,
            ),
            zone=zone,
            host=host,
            port=port,
            public_url=public_url,
            s3_port=s3_port if s3 else None,
            engine=replace(engine, connect_seconds=nats_wait),
            access=access,
            tls=serving_tls(tls_cert, tls_key),
        )
    with server_extra():
        from preheat.worker import run_worker  # noqa: PLC0415 - only with preheat[server]
    run_worker(settings)


def worker_name(given: str) -> str:
    """Return the name of this machine's worker: the option's, or else the host's.

    Raises:
        BadParameter: it cannot be one.
    """
    name = given or socket.gethostname().replace(".", "-")
    if not _ID.fullmatch(name):
        raise typer.BadParameter(f"--id={name!r} may have letters, digits, '-' and '_'.")
    return name


@contextmanager
def server_extra() -> Iterator[None]:
    """Tell how to install what a server needs and a client does not."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise PreheatError(
            f"The Python package {error.name} is not installed.",
            remedy="Install it with: pip install 'preheat[server]'",
        ) from error
