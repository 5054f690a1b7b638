"""``preheat fs``: files, in Alluxio's words. Here is what a job does with them."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from preheat.cli import _fs_data, _fs_listing, _fs_load, _fs_pins, _fs_quotas, _fs_ttls, _fs_warmth
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
    files = typer.Typer(no_args_is_help=True, help="List, read, copy, move, delete, pin and free files.")
    _fs_listing.register(files)
    _fs_data.register(files)
    files.command("cp")(copy)
    files.command("mv")(move)
    files.command("free")(free)
    _fs_load.register(files)
    files.command("setReplication")(set_replication)
    files.command("rebalance")(rebalance)
    files.command("persist")(persist)
    _fs_ttls.register(files)
    _fs_quotas.register(files)
    _fs_pins.register(files)
    _fs_warmth.register(files)
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


@takes_job_options(*_LIMITS)
def rebalance(
    path: Cached,
    *,
    options: JobOptions,
    wait: Wait = True,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
    as_json: JsonFlag = False,
) -> None:
    """Move what is cached below a path to the workers that own it now, after workers joined.

    Each file keeps its number of copies: the new ones are made, from worker to worker, before the old ones go.
    """
    spec = JobSpec(type=JobType.REBALANCE, paths=(path,), options=options)
    _run(spec, coordinator, wait=wait, as_json=as_json)


@takes_job_options(*_LIMITS, "max_failed_files")
def persist(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file, or all below it: s3://bucket/prefix/.")],
    *,
    options: JobOptions,
    wait: Wait = True,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
    as_json: JsonFlag = False,
) -> None:
    """Give the under store now what was written to the cache alone; the coordinators do so by themselves, too."""
    spec = JobSpec(type=JobType.PERSIST, paths=(path,), options=options)
    _run(spec, coordinator, wait=wait, as_json=as_json)


def _run(spec: JobSpec, coordinator: str, *, wait: bool, as_json: bool) -> None:
    with Client.from_environment(coordinator) as client:
        conclude(client, client.submit(spec), wait=wait, as_json=as_json)
