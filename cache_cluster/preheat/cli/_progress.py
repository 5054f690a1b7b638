"""Following a job: a progress bar on stderr until it ended."""

from __future__ import annotations

import time

from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column

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
            task = bar.add_task(escape(job.paths[0]), files="", size="", failed="", total=None)
            _show(bar, task, job)
            while not job.state.ended:
                job = _next(client, job)
                _show(bar, task, job)
    except KeyboardInterrupt:
        status_console().print(f"The job goes on. See: preheat job stat {job.id}", soft_wrap=True)
        raise
    return job


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


def _progress_bar() -> Progress:
    whole = Column(no_wrap=True)
    return Progress(
        TextColumn("[bold]{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", max_width=32)),
        BarColumn(bar_width=None),
        TaskProgressColumn(table_column=whole),
        TextColumn("{task.fields[files]}", table_column=whole),
        TextColumn("{task.fields[size]}", table_column=whole),
        TransferSpeedColumn(table_column=whole),
        TimeRemainingColumn(table_column=whole),
        TextColumn("[red]{task.fields[failed]}", table_column=whole),
        console=status_console(),
        expand=True,
    )


def _show(bar: Progress, task: TaskID, job: JobReport) -> None:
    done = job.loaded + job.skipped + job.failed
    files = f"{done.files}/{job.listed.files}{'' if job.listing_done else '+'} files"
    bar.update(
        task,
        completed=done.bytes,
        total=job.listed.bytes if job.listing_done else None,
        size=human_size(done.bytes),
        files=files if job.state is not JobState.VERIFYING else f"verifying {job.listed.files} files",
        failed=f"{job.failed.files} failed" if job.failed.files else "",
    )
