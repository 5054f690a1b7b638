"""A live progress bar for each preload job, from the coordinator's own account of it."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

from preheat.client import Client, JobReport


class JobProgress:
    """Shows the jobs of one coordinator; a context manager."""

    def __init__(self, *, client: Client, console: Console) -> None:
        self._client = client
        self._bars: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[files]}/{task.fields[listed]} files"),
            DownloadColumn(binary_units=True),
            TextColumn("{task.fields[state]:<9}"),
            console=console,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def update(self) -> None:
        """Ask the coordinator for the jobs and redraw."""
        for job in reversed(self._client.jobs().jobs):
            self._show(job)

    def _show(self, job: JobReport) -> None:
        done = job.loaded + job.skipped
        if job.id not in self._bars:
            self._bars[job.id] = self._progress.add_task(", ".join(job.paths), total=None, state="", files=0, listed=0)
        self._progress.update(
            self._bars[job.id],
            completed=done.bytes,
            total=job.listed.bytes,
            files=done.files,
            listed=job.listed.files,
            state=job.state,
        )
