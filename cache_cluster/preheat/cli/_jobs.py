"""``preheat load`` and ``preheat job``: submitting jobs and following them."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from preheat.cli._alluxio import job_load
from preheat.cli._errors import JsonFlag, parse_live_bandwidth
from preheat.cli._estimate import DryRun, show_estimate
from preheat.cli._fs import free
from preheat.cli._job_options import IndexFile, load_spec, takes_job_options
from preheat.cli._options import DEFAULT_COORDINATOR, Coordinator
from preheat.cli._outcome import Wait, conclude
from preheat.cli._output import print_json, print_table, shown_time
from preheat.cli._stat import render_job
from preheat.client import Client, JobReport
from preheat.jobs import JobOptions, JobState, JobType, Priority
from preheat.units import human_size

_MAX_LISTED = 1000
JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("load")(load)
    jobs = typer.Typer(no_args_is_help=True, help="Submit jobs, follow and change them.")
    jobs.command("load")(job_load)
    jobs.command("free", hidden=True)(free)
    jobs.command("ls")(list_jobs)
    jobs.command("list", hidden=True)(list_jobs)
    jobs.command("stat")(stat)
    jobs.command("set")(change)
    jobs.command("cancel")(cancel)
    jobs.command("retry")(retry)
    app.add_typer(jobs, name="job")


@takes_job_options()
def load(
    path: Annotated[str | None, typer.Argument(help="What to load, e.g. s3://bucket/prefix/.")] = None,
    *,
    index_file: IndexFile = None,
    options: JobOptions,
    wait: Wait = True,
    dry_run: DryRun = False,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
    as_json: JsonFlag = False,
) -> None:
    """Load a path into the cache and wait until it is there. Exit code 0 only if the job SUCCEEDED."""
    spec = load_spec(path, index_file, options)
    with Client.from_environment(coordinator) as client:
        if dry_run:
            show_estimate(client, spec, as_json=as_json)
        else:
            conclude(client, client.submit(spec), wait=wait, as_json=as_json)


def list_jobs(
    *,
    state: Annotated[
        JobState | None, typer.Option("--state", "--job-state", case_sensitive=False, help="Only jobs in this state.")
    ] = None,
    job_type: Annotated[
        JobType | None, typer.Option("--type", "--job-type", case_sensitive=False, help="Only jobs of this type.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=_MAX_LISTED, help="How many, the newest first.")] = 50,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
    as_json: JsonFlag = False,
) -> None:
    """List the jobs, newest first."""
    with Client.from_environment(coordinator) as client:
        page = client.jobs(state=state, job_type=job_type, limit=limit)
    if as_json:
        print_json(page)
        return
    headers = ("ID", "NAME", "STATUS", "FILES", "BYTES", "FAILED", "PRIORITY", "SUBMITTED", "PATHS")
    print_table(headers, (_row(job) for job in page.jobs))


def stat(
    job_id: JobId,
    *,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Options, what each worker did, and failed files too.")
    ] = False,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
    as_json: JsonFlag = False,
) -> None:
    """Show a job."""
    with Client.from_environment(coordinator) as client:
        job = client.job(job_id)
        tasks = client.tasks(job_id) if verbose else ()
    if as_json:
        print_json(msgspec.to_builtins(job) | {"tasks": tasks} if verbose else job)
        return
    typer.echo(render_job(job, tasks, verbose=verbose))
    if verbose and job.failures:
        rows = ((each.path, human_size(each.size), each.code, each.message) for each in job.failures)
        print_table(("FAILED", "SIZE", "CODE", "MESSAGE"), rows)


def change(
    job_id: JobId,
    *,
    bandwidth: Annotated[
        int | None,
        typer.Option(parser=parse_live_bandwidth, metavar="RATE", help="Per worker and second, or `unlimited`."),
    ] = None,
    priority: Annotated[
        Priority | None, typer.Option(case_sensitive=False, help="Which job goes first where several wait.")
    ] = None,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
    as_json: JsonFlag = False,
) -> None:
    """Change a job while it runs."""
    if bandwidth is None and priority is None:
        raise typer.BadParameter("Give --bandwidth, --priority or both.")
    with Client.from_environment(coordinator) as client:
        job = client.change(job_id, bandwidth=bandwidth, priority=priority)
    if as_json:
        print_json(job)
        return
    if bandwidth is not None:
        rate = f"{human_size(bandwidth)}/s" if bandwidth else "unlimited"
        typer.echo(f"Job {job.id}: the bandwidth of each worker is {rate} now.")
    if priority is not None:
        typer.echo(f"Job {job.id}: the priority of the batches to come is {priority} now.")


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


def retry(
    job_id: JobId, *, wait: Wait = True, coordinator: Coordinator = DEFAULT_COORDINATOR, as_json: JsonFlag = False
) -> None:
    """Do only the files that failed in a job, and wait. Exit code 0 only if the new job SUCCEEDED."""
    with Client.from_environment(coordinator) as client:
        conclude(client, client.retry(job_id), wait=wait, as_json=as_json)


def _row(job: JobReport) -> tuple[str, ...]:
    return (
        job.id,
        job.type.capitalize(),
        job.state,
        str(job.listed.files),
        human_size(job.listed.bytes),
        str(job.failed.files),
        job.options.priority,
        shown_time(job.submitted_at),
        job.index or ",".join(job.paths),
    )
