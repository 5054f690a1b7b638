"""``preheat fs distributedLoad``: Alluxio's older command, with the lines that scripts look for."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from preheat.cli._job_options import takes_job_options
from preheat.cli._options import DEFAULT_COORDINATOR, Coordinator
from preheat.cli._progress import follow
from preheat.client import Client, JobReport
from preheat.jobs import JobOptions, JobSpec, JobState


def register(files: typer.Typer) -> None:
    """Add the command."""
    files.command("distributedLoad")(distributed_load)


@takes_job_options("batch_size", "bandwidth", "priority", "deadline", "file_filter_regex", "skip_if_exists")
def distributed_load(
    path: Annotated[str, typer.Argument(metavar="PATH", help="What to load; with --index a file that names it.")],
    *,
    replication: Annotated[int, typer.Option(min=1, help="Workers that hold each file.")] = 1,
    index: Annotated[bool, typer.Option("--index", help="PATH is a file of the under store, one path a line.")] = False,
    is_async: Annotated[bool, typer.Option("--async", help="Do not wait for the end.")] = False,
    _active_jobs: Annotated[
        int, typer.Option("--active-jobs", min=1, help="Changes nothing: one job loads everything.")
    ] = 3000,
    options: JobOptions,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
) -> None:
    """Load a path into the cache, as `preheat load` does. Exit code 0 only if no file failed."""
    spec = JobSpec(
        paths=() if index else (path,),
        index=path if index else "",
        options=replace(options, replicas=replication),
    )
    if is_async:
        typer.echo("Entering async submission mode.")
    typer.echo("Please wait for command submission to finish..")
    with Client.from_environment(coordinator) as client:
        job = client.submit(spec)
        if is_async:
            typer.echo(f"Submitted distLoad job successfully, jobControlId = {job.id}")
            return
        typer.echo(f"Submitted successfully, jobControlId = {job.id}")
        typer.echo("Waiting for the command to finish ...")
        job = follow(client, job)
    _print_end(job, path)
    if job.state is not JobState.SUCCEEDED:
        raise typer.Exit(1)


def _print_end(job: JobReport, path: str) -> None:
    typer.echo("Get command status information below:")
    if job.state is JobState.SUCCEEDED:
        typer.echo(f"Successfully loaded path {path}")
    for failed in job.failures:
        typer.echo(f"Failed to load path {failed.path}: {failed.message}")
    if job.state is not JobState.SUCCEEDED and not job.failures:
        typer.echo(f"Failed to load path {path}: {job.reason}")
    done = job.loaded.files + job.skipped.files
    typer.echo(f"Total completed file count is {done}, failed file count is {job.failed.files}")
    typer.echo(f"Finished running the command, jobControlId = {job.id}")
