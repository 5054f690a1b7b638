"""Options that several commands share. Each is also an environment variable PREHEAT_X."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from preheat.cli._errors import parse_bandwidth, parse_capacity
from preheat.client import DEFAULT_URL
from preheat.jobs import JobOptions

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

Host = Annotated[str, typer.Option(envvar="PREHEAT_HOST", help="The address to listen on.")]
PublicUrl = Annotated[
    str,
    typer.Option(
        envvar="PREHEAT_PUBLIC_URL", help="How others reach it.  [default: http://HOST:PORT]", show_default=False
    ),
]
NatsReplicas = Annotated[
    int, typer.Option(envvar="PREHEAT_NATS_REPLICAS", min=1, max=5, help="Copies of the state: 3 in a NATS cluster.")
]
NatsUrl = Annotated[
    str,
    typer.Option(
        envvar="PREHEAT_NATS_URL",
        help="The engine; several servers with commas. Credentials belong into the variable: command lines are public.",
    ),
]

DEFAULTS = JobOptions()

Replicas = Annotated[int, typer.Option(min=1, help="Workers that hold each file.")]
Verify = Annotated[bool, typer.Option("--verify", help="Read every file back from its workers before success.")]
SkipIfExists = Annotated[
    bool,
    typer.Option("--skip-if-exists/--no-skip-if-exists", help="Leave cached files of the same version alone."),
]
Bandwidth = Annotated[
    int | None,
    typer.Option(parser=parse_bandwidth, metavar="RATE", help="Per worker and second, e.g. 100MiB; else unlimited."),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Files in one request to a worker.")]
MinHotFraction = Annotated[
    float | None,
    typer.Option(min=0, max=1, metavar="SHARE", help="Succeed with failed files if this share is hot, e.g. 0.99."),
]
MaxFailedFiles = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="Succeed with up to this many failed files.")
]
FileFilter = Annotated[
    str | None,
    typer.Option(
        "--file-filter-regx", "--file-filter-regex", metavar="REGEX", help="Only keys that this matches in full."
    ),
]
