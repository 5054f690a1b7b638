"""``preheat fs``: what a job does with files, in Alluxio's words."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from preheat.cli import _fs_pins
from preheat.cli._errors import JsonFlag
from preheat.cli._job_options import takes_job_options
from preheat.cli._options import DEFAULT_COORDINATOR, Coordinator
from preheat.cli._outcome import Wait, conclude
from preheat.client import Client
from preheat.jobs import JobOptions, JobSpec, JobType

_LIMITS = ("bandwidth", "priority", "deadline", "batch_size", "file_filter_regex")
Cached = Annotated[str, typer.Argument(metavar="PATH", help="One cached file, or all below it: s3://bucket/prefix/.")]
Source = Annotated[str, typer.Argument(metavar="SRC", help="A file, or all below it: s3://bucket/prefix/.")]
Destination = Annotated[str, typer.Argument(metavar="DST", help="Where to, in any under store: s3://bucket/other/.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    files = typer.Typer(no_args_is_help=True, help="Free, copy, move and replicate files.")
    files.command("free")(free)
    files.command("cp")(copy)
    files.command("mv")(move)
    files.command("setReplication")(set_replication)
    _fs_pins.register(files)
    app.add_typer(files, name="fs")


@takes_job_options("priority", "deadline", "batch_size", "file_filter_regex")
def free(
    path: Cached,
    *,
    options: JobOptions,
    wait: Wait = True,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
    as_json: JsonFlag = False,
) -> None:
    """Evict what is cached below a path from all workers. The under store is not touched."""
    spec = JobSpec(type=JobType.FREE, paths=(path,), options=options)
    _run(spec, coordinator, wait=wait, as_json=as_json)


@takes_job_options(*_LIMITS, "skip_if_exists", "max_failed_files")
def copy(
    path: Source,
    destination: Destination,
    *,
    options: JobOptions,
    wait: Wait = True,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
    as_json: JsonFlag = False,
) -> None:
    """Copy files within or between under stores, by all workers."""
    spec = JobSpec(type=JobType.COPY, paths=(path,), destination=destination, options=options)
    _run(spec, coordinator, wait=wait, as_json=as_json)


@takes_job_options(*_LIMITS, "max_failed_files")
def move(
    path: Source,
    destination: Destination,
    *,
    options: JobOptions,
    wait: Wait = True,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
    as_json: JsonFlag = False,
) -> None:
    """Move files within or between under stores: they are deleted at the source when all of them are copied."""
    spec = JobSpec(type=JobType.MOVE, paths=(path,), destination=destination, options=options)
    _run(spec, coordinator, wait=wait, as_json=as_json)


@takes_job_options(*_LIMITS)
def set_replication(
    path: Cached,
    *,
    replicas: Annotated[int, typer.Option(min=1, help="Workers that are to hold each file.")],
    options: JobOptions,
    wait: Wait = True,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
    as_json: JsonFlag = False,
) -> None:
    """Bring what is cached below a path to a number of copies: missing ones are fetched, others dropped."""
    spec = JobSpec(type=JobType.REPLICATE, paths=(path,), options=replace(options, replicas=replicas))
    _run(spec, coordinator, wait=wait, as_json=as_json)


def _run(spec: JobSpec, coordinator: str, *, wait: bool, as_json: bool) -> None:
    with Client.from_environment(coordinator) as client:
        conclude(client, client.submit(spec), wait=wait, as_json=as_json)
