"""Options that several commands share. Each is also an environment variable PREHEAT_X."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from preheat.cli._errors import parse_capacity
from preheat.client import DEFAULT_URL

Coordinator = Annotated[
    str, typer.Option("--coordinator", envvar="PREHEAT_COORDINATOR_URL", help="The coordinator's URL.")
]
DEFAULT_COORDINATOR = DEFAULT_URL

DataDir = Annotated[
    Path | None,
    typer.Option(
        envvar="PREHEAT_DATA_DIR",
        file_okay=False,
        resolve_path=True,
        help="Where everything is kept: jobs, cached data, logs.  [default: $XDG_DATA_HOME/preheat]",
        show_default=False,
    ),
]
Capacity = Annotated[
    int,
    typer.Option(
        parser=parse_capacity, metavar="SIZE", envvar="PREHEAT_CAPACITY", help="Cached data per worker, at most."
    ),
]
DEFAULT_CAPACITY = "50GiB"

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar="PREHEAT_CONFIG",
        exists=True,
        dir_okay=False,
        help="Declares datasets and mounts (TOML); read again when it changes.",
        show_default=False,
    ),
]
Host = Annotated[str, typer.Option(envvar="PREHEAT_HOST", help="The address to listen on.")]
PublicUrl = Annotated[
    str,
    typer.Option(
        envvar="PREHEAT_PUBLIC_URL", help="How others reach it.  [default: http://HOST:PORT]", show_default=False
    ),
]
ServesS3 = Annotated[bool, typer.Option("--s3/--no-s3", envvar="PREHEAT_S3", help="Whether S3 clients are served.")]
