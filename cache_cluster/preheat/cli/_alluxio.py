"""``preheat job load``: Alluxio's command with its words and exit codes, for scripts that were written for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer

from preheat.cli._errors import show_error
from preheat.cli._options import (
    DEFAULT_COORDINATOR,
    DEFAULTS,
    Bandwidth,
    BatchSize,
    Coordinator,
    FileFilter,
    Replicas,
    SkipIfExists,
    Verify,
)
from preheat.cli._progress import follow
from preheat.client import Client, JobReport
from preheat.errors import JobNotFound, PreheatError
from preheat.jobs import JobOptions, JobSpec, JobState, Priority

_SUBMIT_FAILED = 255
"""Alluxio's -1."""
_NOT_FOUND = 254
"""Alluxio's -2."""


class ReportFormat(StrEnum):
    """How a progress report is written."""

    TEXT = "TEXT"
    JSON = "JSON"


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a load job is known by."""

    path: str = ""
    index: str = ""

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.path or self.index


def _deadline(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a time. Write for example 2030-01-31T06:00:00+01:00.") from error
    if moment.tzinfo is None:
        raise typer.BadParameter(f"{text!r} has no offset. Write for example 2030-01-31T06:00:00+01:00, or …Z.")
    return moment.timestamp()


def job_load(
    *,
    positional: Annotated[str | None, typer.Argument(metavar="[PATH]", show_default=False)] = None,
    path: Annotated[str | None, typer.Option(help="What to load, e.g. s3://bucket/prefix/.")] = None,
    index_file: Annotated[
        str | None, typer.Option(metavar="PATH", help="A file, e.g. s3://bucket/list.txt, that names what to load.")
    ] = None,
    submit: Annotated[bool, typer.Option("--submit", help="Submit a load job for the path.")] = False,
    progress: Annotated[bool, typer.Option("--progress", help="Print the progress of the path's job.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the path's job.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="[submit] Follow the job; exit code 0 only if it SUCCEEDED.")
    ] = False,
    replicas: Replicas = DEFAULTS.replicas,
    verify: Verify = DEFAULTS.verify,
    skip_if_exists: SkipIfExists = DEFAULTS.skip_if_exists,
    metadata_only: Annotated[
        bool, typer.Option("--metadata-only", help="[submit] Make sizes and versions known; fetch nothing.")
    ] = False,
    _partial_listing: Annotated[
        bool, typer.Option("--partial-listing", help="[submit] Changes nothing: listing is always streamed.")
    ] = False,
    bandwidth: Bandwidth = None,
    batch_size: BatchSize = DEFAULTS.batch_size,
    file_filter_regx: FileFilter = None,
    priority: Annotated[
        Priority, typer.Option(case_sensitive=False, help="[submit] Which job goes first where several wait.")
    ] = DEFAULTS.priority,
    deadline: Annotated[
        float | None,
        typer.Option(parser=_deadline, metavar="TIME", help="[submit] Fail if it has not ended by then (ISO 8601)."),
    ] = None,
    report_format: Annotated[
        ReportFormat, typer.Option("--format", case_sensitive=False, help="[progress] How to print it.")
    ] = ReportFormat.TEXT,
    verbose: Annotated[bool, typer.Option("--verbose", help="[progress] Failed files too.")] = False,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
) -> None:
    """Submit a load job, show its progress, or stop it. The job is known by its path or its index file."""
    source = _source(positional, path, index_file)
    if [submit, progress, stop].count(True) != 1:
        raise typer.BadParameter("Must have one of submit / stop / progress")
    options = JobOptions(
        replicas=replicas,
        batch_size=batch_size,
        skip_if_exists=skip_if_exists,
        verify=verify,
        bandwidth=bandwidth,
        file_filter_regex=file_filter_regx,
        load_metadata_only=metadata_only,
        priority=priority,
        deadline=deadline,
    )
    with Client.from_environment(coordinator) as client:
        if progress:
            _print_progress(client, source, report_format, verbose=verbose)
        elif stop:
            _stop(client, source)
        else:
            job = _submit(client, source, options)
            if wait and follow(client, job).state is not JobState.SUCCEEDED:
                raise typer.Exit(1)


def _source(positional: str | None, option: str | None, index_file: str | None) -> Source:
    paths = [path for path in (positional, option) if path]
    if len(paths) + bool(index_file) != 1:
        raise typer.BadParameter("Give one path, as PATH or with --path, or an --index-file.")
    if paths and "*" in paths[0]:
        raise typer.BadParameter("Load does not support wildcard path. Use a prefix and --file-filter-regx.")
    return Source(path=paths[0]) if paths else Source(index=index_file or "")


def _submit(client: Client, source: Source, options: JobOptions) -> JobReport:
    spec = JobSpec(paths=(source.path,) if source.path else (), index=source.index, options=options)
    try:
        job = client.submit(spec)
    except PreheatError as error:
        typer.echo(f"Failed to submit load job {source.name}: {error.message}")
        show_error(error)
        raise typer.Exit(_SUBMIT_FAILED) from error
    if job.attached:
        typer.echo(f"Load already running for path '{source.name}' ")
    else:
        typer.echo(f"Load '{source.name}' is successfully submitted. JobId: {job.id}")
    return job


def _print_progress(client: Client, source: Source, report_format: ReportFormat, *, verbose: bool) -> None:
    try:
        report = client.load_report(source.path, index=source.index, report_format=report_format, verbose=verbose)
    except JobNotFound as error:
        typer.echo(f"Load for path '{source.name}' cannot be found.")
        raise typer.Exit(_NOT_FOUND) from error
    if report_format is ReportFormat.TEXT:
        typer.echo(f"Progress for loading path '{source.name}':")
    typer.echo(report.removesuffix("\n"))


def _stop(client: Client, source: Source) -> None:
    name = source.name
    if client.stop_load(source.path, index=source.index):
        typer.echo(f"Load '{name}' is successfully stopped.")
    else:
        typer.echo(f"Cannot find load job for path {name}, it might have already been stopped or finished")
