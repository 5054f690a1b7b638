"""``preheat job load``: Alluxio's command with its words and exit codes, for scripts that were written for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer

from preheat.cli._errors import show_error
from preheat.cli._job_options import IndexFile, takes_job_options
from preheat.cli._options import DEFAULT_COORDINATOR, Coordinator
from preheat.cli._progress import follow
from preheat.client import Client, JobReport
from preheat.errors import JobNotFound, PreheatError
from preheat.jobs import JobOptions, JobSpec, JobState

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


@takes_job_options()
def job_load(
    *,
    positional: Annotated[str | None, typer.Argument(metavar="[PATH]", show_default=False)] = None,
    path: Annotated[str | None, typer.Option(help="What to load, e.g. s3://bucket/prefix/.")] = None,
    index_file: IndexFile = None,
    submit: Annotated[bool, typer.Option("--submit", help="Submit a load job for the path.")] = False,
    progress: Annotated[bool, typer.Option("--progress", help="Print the progress of the path's job.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the path's job.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="[submit] Follow the job; exit code 0 only if it SUCCEEDED.")
    ] = False,
    _partial_listing: Annotated[
        bool, typer.Option("--partial-listing", help="[submit] Changes nothing: listing is always streamed.")
    ] = False,
    options: JobOptions,
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
