"""``preheat load`` and ``preheat job``: submitting jobs and following them."""

from __future__ import annotations

from typing import Annotated

import typer

from preheat.cli._alluxio import job_load
from preheat.cli._errors import JsonFlag
from preheat.cli._options import (
    DEFAULT_COORDINATOR,
    DEFAULTS,
    Bandwidth,
    BatchSize,
    Coordinator,
    FileFilter,
    MaxFailedFiles,
    MinHotFraction,
    Replicas,
    SkipIfExists,
    Verify,
)
from preheat.cli._output import print_json, print_pairs, print_table, shown_time
from preheat.cli._progress import follow
from preheat.client import Client, Count, JobReport
from preheat.jobs import JobOptions, JobSpec, JobState
from preheat.units import human_duration, human_size

_MAX_LISTED = 1000
JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("load")(load)
    jobs = typer.Typer(no_args_is_help=True, help="Submit jobs and follow them.")
    jobs.command("load")(job_load)
    jobs.command("ls")(list_jobs)
    jobs.command("stat")(stat)
    jobs.command("cancel")(cancel)
    jobs.command("retry")(retry)
    app.add_typer(jobs, name="job")


def load(
    *,
    path: Annotated[str, typer.Argument(help="What to load, e.g. s3://bucket/prefix/.")],
    replicas: Replicas = DEFAULTS.replicas,
    verify: Verify = DEFAULTS.verify,
    skip_if_exists: SkipIfExists = DEFAULTS.skip_if_exists,
    bandwidth: Bandwidth = None,
    batch_size: BatchSize = DEFAULTS.batch_size,
    file_filter_regx: FileFilter = None,
    min_hot_fraction: MinHotFraction = None,
    max_failed_files: MaxFailedFiles = None,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
    as_json: JsonFlag = False,
) -> None:
    """Load a path into the cache and wait until it is there. Exit code 0 only if the job SUCCEEDED."""
    options = JobOptions(
        replicas=replicas,
        batch_size=batch_size,
        skip_if_exists=skip_if_exists,
        verify=verify,
        bandwidth=bandwidth,
        file_filter_regex=file_filter_regx,
        min_hot_fraction=min_hot_fraction,
        max_failed_files=max_failed_files,
    )
    with Client.from_environment(coordinator) as client:
        job = follow(client, client.submit(JobSpec(paths=(path,), options=options)))
    _conclude(job, as_json=as_json)


def list_jobs(
    *,
    state: Annotated[JobState | None, typer.Option(case_sensitive=False, help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=_MAX_LISTED, help="How many, the newest first.")] = 50,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
    as_json: JsonFlag = False,
) -> None:
    """List the jobs, newest first."""
    with Client.from_environment(coordinator) as client:
        page = client.jobs(state=state, limit=limit)
    if as_json:
        print_json(page)
        return
    print_table(
        ("ID", "TYPE", "STATE", "FILES", "BYTES", "FAILED", "SUBMITTED", "PATHS"),
        (
            (
                job.id,
                job.type,
                job.state,
                str(job.listed.files),
                human_size(job.listed.bytes),
                str(job.failed.files),
                shown_time(job.submitted_at),
                ",".join(job.paths),
            )
            for job in page.jobs
        ),
    )


def stat(
    job_id: JobId,
    *,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Options and failed files too.")] = False,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
    as_json: JsonFlag = False,
) -> None:
    """Show a job."""
    with Client.from_environment(coordinator) as client:
        job = client.job(job_id)
    if as_json:
        print_json(job)
        return
    print_pairs(describe(job, verbose=verbose))
    if verbose and job.failures:
        rows = ((each.path, human_size(each.size), each.code, each.message) for each in job.failures)
        print_table(("FAILED", "SIZE", "CODE", "MESSAGE"), rows)


def cancel(job_id: JobId, *, coordinator: Coordinator = DEFAULT_COORDINATOR, as_json: JsonFlag = False) -> None:
    """Stop a job. What is cached stays, and the next submit of its path skips it."""
    with Client.from_environment(coordinator) as client:
        before = client.job(job_id)
        job = client.stop(job_id)
    if as_json:
        print_json(job)
    elif before.state.ended:
        typer.echo(f"Job {job.id} ended before: {job.state}.")
    else:
        typer.echo(f"Job {job.id} is being stopped; it is {job.state} now.")


def retry(job_id: JobId, *, coordinator: Coordinator = DEFAULT_COORDINATOR, as_json: JsonFlag = False) -> None:
    """Load only the files that failed in a job, and wait. Exit code 0 only if the new job SUCCEEDED."""
    with Client.from_environment(coordinator) as client:
        job = follow(client, client.retry(job_id))
    _conclude(job, as_json=as_json)


def describe(job: JobReport, *, verbose: bool) -> list[tuple[str, str]]:
    """Return what ``preheat job stat`` tells of a job, as names and values."""
    pairs = [
        ("id", job.id),
        ("type", job.type),
        ("paths", " ".join(job.paths)),
        ("state", job.state),
        ("queue position", str(job.queue_position) if job.queue_position else ""),
        ("reason", job.reason),
        ("listed", _count(job.listed) + ("" if job.listing_done else ", and listing goes on")),
        ("loaded", _count(job.loaded)),
        ("skipped", _count(job.skipped)),
        ("failed", _count(job.failed)),
        ("remaining", _count(job.remaining)),
        ("verified", _count(job.verified) if job.verified else ""),
        ("hot", f"{job.hot_fraction:.1%}"),
        ("dataset version", job.dataset_version or ""),
        ("submitted", shown_time(job.submitted_at)),
        ("started", shown_time(job.started_at)),
        ("finished", shown_time(job.finished_at)),
        ("page", job.url),
    ]
    if verbose:
        pairs += [
            ("replicas", str(job.options.replicas)),
            ("batch size", str(job.options.batch_size)),
            ("skip if exists", str(job.options.skip_if_exists).lower()),
            ("verify", str(job.options.verify).lower()),
            ("bandwidth", f"{human_size(job.options.bandwidth)}/s" if job.options.bandwidth else "unlimited"),
            ("file filter", job.options.file_filter_regex or ""),
        ]
    return [(name, value) for name, value in pairs if value]


def _conclude(job: JobReport, *, as_json: bool) -> None:
    if as_json:
        print_json(job)
    else:
        typer.echo(summary(job))
    if job.state is not JobState.SUCCEEDED:
        raise typer.Exit(1)


def summary(job: JobReport) -> str:
    """Return how a job ended, in a few lines."""
    hot = job.loaded + job.skipped
    outcome = f"{job.state}: {_count(hot)} hot ({job.skipped.files} of them before), {job.failed.files} failed"
    if job.started_at and job.finished_at:
        outcome += f", in {human_duration((job.finished_at - job.started_at).total_seconds())}"
    help_line = "" if job.state is JobState.SUCCEEDED else f"See: preheat job stat -v {job.id}"
    return "\n".join(line for line in (outcome, job.reason, help_line) if line)


def _count(count: Count) -> str:
    return f"{count.files} files, {human_size(count.bytes)}"
