"""``preheat job load``: Alluxio's command with its words and exit codes, for scripts that were written for it."""

from __future__ import annotations

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
from preheat.jobs import JobOptions, JobSpec, JobState

_SUBMIT_FAILED = 255
"""Alluxio's -1."""
_NOT_FOUND = 254
"""Alluxio's -2."""


class ReportFormat(StrEnum):
    """How a progress report is written."""

    TEXT = "TEXT"
    JSON = "JSON"


def job_load(
    *,
    positional: Annotated[str | None, typer.Argument(metavar="[PATH]", show_default=False)] = None,
    path: Annotated[str | None, typer.Option(help="What to load, e.g. s3://bucket/prefix/.")] = None,
    submit: Annotated[bool, typer.Option("--submit", help="Submit a load job for the path.")] = False,
    progress: Annotated[bool, typer.Option("--progress", help="Print the progress of the path's job.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the path's job.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="[submit] Follow the job; exit code 0 only if it SUCCEEDED.")
    ] = False,
    replicas: Replicas = DEFAULTS.replicas,
    verify: Verify = DEFAULTS.verify,
    skip_if_exists: SkipIfExists = DEFAULTS.skip_if_exists,
    bandwidth: Bandwidth = None,
    batch_size: BatchSize = DEFAULTS.batch_size,
    file_filter_regx: FileFilter = None,
    report_format: Annotated[
        ReportFormat, typer.Option("--format", case_sensitive=False, help="[progress] How to print it.")
    ] = ReportFormat.TEXT,
    verbose: Annotated[bool, typer.Option("--verbose", help="[progress] Failed files too.")] = False,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
) -> None:
    """Submit a load job, show its progress, or stop it. The job is known by its path."""
    wanted = _one_path(positional, path)
    if [submit, progress, stop].count(True) != 1:
        raise typer.BadParameter("Must have one of submit / stop / progress")
    with Client.from_environment(coordinator) as client:
        if progress:
            _print_progress(client, wanted, report_format, verbose=verbose)
        elif stop:
            _stop(client, wanted)
        else:
            options = JobOptions(
                replicas=replicas,
                batch_size=batch_size,
                skip_if_exists=skip_if_exists,
                verify=verify,
                bandwidth=bandwidth,
                file_filter_regex=file_filter_regx,
            )
            job = _submit(client, wanted, options)
            if wait and follow(client, job).state is not JobState.SUCCEEDED:
                raise typer.Exit(1)


def _one_path(positional: str | None, option: str | None) -> str:
    given = [path for path in (positional, option) if path]
    if len(given) != 1:
        raise typer.BadParameter("Give one path, as PATH or with --path.")
    if "*" in given[0]:
        raise typer.BadParameter("Load does not support wildcard path. Use a prefix and --file-filter-regx.")
    return given[0]


def _submit(client: Client, path: str, options: JobOptions) -> JobReport:
    try:
        job = client.submit(JobSpec(paths=(path,), options=options))
    except PreheatError as error:
        typer.echo(f"Failed to submit load job {path}: {error.message}")
        show_error(error)
        raise typer.Exit(_SUBMIT_FAILED) from error
    if job.attached:
        typer.echo(f"Load already running for path '{path}' ")
    else:
        typer.echo(f"Load '{path}' is successfully submitted. JobId: {job.id}")
    return job


def _print_progress(client: Client, path: str, report_format: ReportFormat, *, verbose: bool) -> None:
    try:
        report = client.load_report(path, report_format=report_format, verbose=verbose)
    except JobNotFound as error:
        typer.echo(f"Load for path '{path}' cannot be found.")
        raise typer.Exit(_NOT_FOUND) from error
    if report_format is ReportFormat.TEXT:
        typer.echo(f"Progress for loading path '{path}':")
    typer.echo(report.removesuffix("\n"))


def _stop(client: Client, path: str) -> None:
    if client.stop_load(path):
        typer.echo(f"Load '{path}' is successfully stopped.")
    else:
        message = f"Cannot find load job for path {path}, it might have already been stopped or finished"
        typer.echo(message)
