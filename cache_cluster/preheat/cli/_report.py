"""``preheat report jobservice``: what the job service does, in the layout of ``alluxio fsadmin report jobservice``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import typer

from preheat.cli._errors import JsonFlag
from preheat.cli._options import DEFAULT_COORDINATOR, Coordinator
from preheat.cli._output import print_json
from preheat.client import Client, JobReport, WorkerReport
from preheat.jobs import JobState

_SHOWN = 10
_FETCHED = 1000


class ServiceReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the report shows."""

    workers: tuple[WorkerReport, ...]
    statuses: dict[str, int]
    recent: tuple[JobReport, ...]
    failed: tuple[JobReport, ...]
    longest: tuple[JobReport, ...]


def register(app: typer.Typer) -> None:
    """Add the command."""
    reports = typer.Typer(no_args_is_help=True, help="Look at the whole cluster.")
    reports.command("jobservice")(jobservice)
    reports.callback()(lambda: None)  # else Typer makes a single command of the group
    app.add_typer(reports, name="report")


def jobservice(*, coordinator: Coordinator = DEFAULT_COORDINATOR, as_json: JsonFlag = False) -> None:
    """Show the workers' task pools, the jobs in each state, and the recent, failed and longest running ones."""
    with Client.from_environment(coordinator) as client:
        report = compose(client.jobs(limit=_FETCHED).jobs, client.workers().workers, now=datetime.now(tz=UTC))
    if as_json:
        print_json(report)
    else:
        typer.echo(render(report))


def compose(jobs: Sequence[JobReport], workers: Sequence[WorkerReport], *, now: datetime) -> ServiceReport:
    """Pick and order what the report shows; pure."""
    counts = Counter(job.state for job in jobs)
    recent = sorted(jobs, key=_changed_at, reverse=True)
    running = [job for job in jobs if not job.state.ended and job.started_at]
    return ServiceReport(
        workers=tuple(worker for worker in workers if worker.live or worker.leaving),
        statuses={state: counts[state] for state in JobState},
        recent=tuple(recent[:_SHOWN]),
        failed=tuple([job for job in recent if job.state is JobState.FAILED][:_SHOWN]),
        longest=tuple(sorted(running, key=lambda job: job.started_at or now)[:_SHOWN]),
    )


def render(report: ServiceReport) -> str:
    """Return the report as text; pure."""
    lines = [_worker_line(worker) for worker in report.workers] or ["No worker is live."]
    lines += ["", *(f"Status: {state:<10}Count: {count}" for state, count in report.statuses.items())]
    sections = (
        ("10 Most Recently Modified Jobs:", report.recent),
        ("10 Most Recently Failed Jobs:", report.failed),
        ("10 Longest Running Jobs:", report.longest),
    )
    for title, jobs in sections:
        lines += ["", title, *(_job_line(job) for job in jobs)]
    return "\n".join(lines)


def _worker_line(worker: WorkerReport) -> str:
    load = ", ".join(f"{value:.2f}" for value in worker.load_average)
    zone = f"     Zone: {worker.zone}" if worker.zone else ""
    state = "" if worker.live else f"     State: {worker.state}"
    return (
        f"Worker: {worker.id:<24}Task Pool Size: {worker.pool_size:<7}Unfinished Tasks: {worker.unfinished_batches:<7}"
        f"Active Tasks: {worker.active_batches:<7}Load Avg: {load}{zone}{state}"
    )


def _job_line(job: JobReport) -> str:
    moment = _changed_at(job).strftime("%m-%d-%Y %H:%M:%S:%f")[:-3]
    return f"Timestamp: {moment}       Id: {job.id}       Name: {job.type.capitalize():<20}Status: {job.state}"


def _changed_at(job: JobReport) -> datetime:
    return job.finished_at or job.started_at or job.submitted_at
