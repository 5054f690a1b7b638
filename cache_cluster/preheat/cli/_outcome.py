"""How commands end that submit a job: they follow it, or name it and leave."""

from __future__ import annotations

from typing import Annotated

import typer

from preheat.cli._output import print_json
from preheat.cli._progress import follow
from preheat.client import Client, Count, JobReport
from preheat.jobs import JobState, JobType
from preheat.units import human_duration, human_size

Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Follow the job to its end; exit code 0 only if it SUCCEEDED.")
]
VERBS = {
    JobType.LOAD: "hot",
    JobType.FREE: "freed",
    JobType.COPY: "copied",
    JobType.MOVE: "moved",
    JobType.REPLICATE: "replicated",
    JobType.REBALANCE: "in their places",
    JobType.PERSIST: "persisted",
}


def conclude(client: Client, job: JobReport, *, wait: bool = True, as_json: bool = False) -> None:
    """Print how a submitted job ended, or where to follow it.

    Raises:
        typer.Exit: with code 1, if it was followed and did not succeed.
    """
    ended = follow(client, job) if wait else job
    if as_json:
        print_json(ended)
    else:
        typer.echo(summary(ended) if wait else _started(ended))
    if wait and ended.state is not JobState.SUCCEEDED:
        raise typer.Exit(1)


def summary(job: JobReport) -> str:
    """Return how a job ended, in a few lines."""
    is_free = job.type is JobType.FREE  # what that skips is not freed, and the reason says why
    done = job.loaded if is_free else job.loaded + job.skipped
    outcome = f"{job.state}: {count(done)} {VERBS[job.type]}"
    if (job.skipped.files and not is_free) or job.type is JobType.LOAD:
        outcome += f" ({job.skipped.files} of them before)"
    outcome += f", {job.failed.files} failed"
    if job.started_at and job.finished_at:
        outcome += f", in {human_duration((job.finished_at - job.started_at).total_seconds())}"
    help_line = "" if job.state is JobState.SUCCEEDED else f"See: preheat job stat -v {job.id}"
    return "\n".join(line for line in (outcome, job.reason, help_line) if line)


def count(number: Count) -> str:
    """Return files and bytes as people read them."""
    return f"{number.files} {'file' if number.files == 1 else 'files'}, {human_size(number.bytes)}"


def _started(job: JobReport) -> str:
    kind = job.type.capitalize()
    return f"{kind} is already running. JobId: {job.id}" if job.attached else f"{kind} submitted. JobId: {job.id}"
