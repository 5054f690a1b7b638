"""The options of a worker's page store. Each is also an environment variable PREHEAT_X."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from preheat.cli._errors import parse_size_option
from preheat.settings import EVICTION_POLICIES

DataDirs = Annotated[
    list[Path] | None,
    typer.Option(
        "--data-dir",
        file_okay=False,
        resolve_path=True,
        help="Where cached data is kept; again for each further disk, which have equal shares of the capacity. In "
        "PREHEAT_DATA_DIR they are separated by commas. By default $XDG_DATA_HOME/preheat/workers/ID.",
        show_default=False,
    ),
]
Eviction = Annotated[
    str,
    typer.Option(
        envvar="PREHEAT_EVICTION",
        metavar="POLICY",
        help=f"Which objects make room for others: {', '.join(EVICTION_POLICIES)}.",
    ),
]
HighWatermark = Annotated[
    float,
    typer.Option(envvar="PREHEAT_HIGH_WATERMARK", help="The share of the capacity above which room is made."),
]
LowWatermark = Annotated[
    float,
    typer.Option(envvar="PREHEAT_LOW_WATERMARK", help="The share of the capacity at which enough room is made."),
]
SegmentSize = Annotated[
    int,
    typer.Option(
        parser=parse_size_option,
        metavar="SIZE",
        envvar="PREHEAT_SEGMENT_SIZE",
        help="The files that a large object is cut into: whole MiB.",
    ),
]
DEFAULT_SEGMENT_SIZE = "256MiB"
StagingSize = Annotated[
    int,
    typer.Option(
        parser=parse_size_option,
        metavar="SIZE",
        envvar="PREHEAT_STAGING_SIZE",
        help="The bodies and the parts of uploads that may wait here to be written; more are asked to slow down.",
    ),
]
DEFAULT_STAGING_SIZE = "64GiB"
RepairAfter = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        envvar="PREHEAT_REPAIR_AFTER",
        help="How long another worker has to be away until what it held of pending writes is copied anew.",
    ),
]
UploadIdle = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        envvar="PREHEAT_UPLOAD_IDLE",
        help="How long nothing may come to an upload in parts until it is dropped.",
    ),
]
MaxUploads = Annotated[
    int, typer.Option(envvar="PREHEAT_MAX_UPLOADS", help="The uploads in parts that may be open here at once.")
]


def data_dirs(given: list[Path] | None, environment: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Return the directories of the option, else those of the environment."""
    named = environment.get("PREHEAT_DATA_DIR", "").split(",")  # Typer would split a list of paths at colons
    return tuple(given or (Path(name).resolve() for name in map(str.strip, named) if name))
