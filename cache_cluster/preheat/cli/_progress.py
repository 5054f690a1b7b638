"""Following a job: a progress bar on stderr until it ended."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from preheat.cli._output import status_console
from preheat.client import Client, JobReport
from preheat.errors import Unavailable
from preheat.jobs import JobState
from preheat.units import human_size

_POLL_SECONDS = 2.0
"""How long one request waits for news; the bar's clock moves meanwhile."""
_OUTAGE_SECONDS = 60.0
"""How long a coordinator may be away, e.g. while it is restarted, before we give up following."""
_RETRY_SECONDS = 0.5


def follow(client: Client, job: JobReport) -> JobReport:
    """Show a job's progress until it ended, and return it.

    There is no deadline for the whole: the coordinator fails a job that stalls.

    Raises:
        Unavailable: the coordinator stayed away for a minute. The job is not touched by that.
    """
    try:
        with _progress_bar() as bar:
            line = line_of(job)
            task = bar.add_task(escape(_name(job)), total=None, files="", size="", rate=None, failed="")
            while True:
                line = line_of(job, after=line)
                bar.update(
                    task,
                    completed=line.completed,
                    total=line.total,
                    files=line.files,
                    size=human_size(line.completed),
                    rate=line.rate,
                    failed=line.failed,
                )
                if job.state.ended:
                    return job
                job = _next(client, job)
    except KeyboardInterrupt:
        status_console().print(f"The job goes on. See: preheat job stat {job.id}", soft_wrap=True)
        raise


@dataclass(frozen=True, kw_only=True)
class Line:
    """What the bar shows of a job."""

    completed: int
    """Bytes done, skipped, failed, and fetched in batches that have not ended."""
    total: int | None
    """None until the listing ended."""
    files: str
    rate: float | None
    """Bytes per second over the whole job, once it ended; before, the bar measures."""
    failed: str


def line_of(job: JobReport, *, after: Line | None = None) -> Line:
    """Return what to show; no fewer bytes than ``after``, though a batch that is done again begins at zero; pure."""
    done = job.loaded + job.skipped + job.failed
    known = min(done.bytes + job.in_flight, job.listed.bytes)
    files = f"{done.files}/{job.listed.files}{'' if job.listing_done else '+'} files"
    if job.state is JobState.VERIFYING and job.verified:
        files = f"{job.verified.files}/{job.listed.files} verified"
    elif job.state is JobState.WAITING:
        files = f"waiting, number {job.queue_position or 1} in line"
    return Line(
        completed=max(known, after.completed if after else 0),
        total=job.listed.bytes if job.listing_done else None,
        files=files,
        rate=_mean_rate(job),
        failed=f"{job.failed.files} failed" if job.failed.files else "",
    )


def _mean_rate(job: JobReport) -> float | None:
    if job.started_at is None or job.finished_at is None:
        return None
    seconds = (job.finished_at - job.started_at).total_seconds()
    return job.loaded.bytes / seconds if seconds else None


def _name(job: JobReport) -> str:
    return job.index or (job.paths[0] if job.paths else job.id)


def _next(client: Client, job: JobReport) -> JobReport:
    """Return the job's next revision, over short outages of the coordinator."""
    deadline = time.monotonic() + _OUTAGE_SECONDS
    while True:
        try:
            return client.job(job.id, wait=_POLL_SECONDS, after=job.revision)
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)


class _RateColumn(ProgressColumn):
    """Bytes per second: of the last half minute, and in the end of the whole job."""

    def render(self, task: Task) -> Text:
        rate = task.fields["rate"] or task.speed
        return Text("" if rate is None else f"{human_size(rate)}/s", style="progress.data.speed")


def _progress_bar() -> Progress:
    whole = Column(no_wrap=True)
    return Progress(
        TextColumn("[bold]{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", max_width=32)),
        BarColumn(bar_width=None),
        TaskProgressColumn(table_column=whole),
        TextColumn("{task.fields[files]}", table_column=whole),
        TextColumn("{task.fields[size]}", table_column=whole),
        _RateColumn(table_column=whole),
        TimeRemainingColumn(table_column=whole),
        TextColumn("[red]{task.fields[failed]}", table_column=whole),
        console=status_console(),
        expand=True,
    )
