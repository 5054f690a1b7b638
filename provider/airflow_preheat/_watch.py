"""Waiting for a job to end: every decision of it, without I/O and without a clock.

The loops that ask the coordinator (``wait_for_job`` of the two hooks) differ in ``await`` only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypedDict

from airflow_preheat.exceptions import PreheatError, PreheatJobNotFoundError, PreheatUnavailableError
from airflow_preheat.jobs import ENDED, Job, JobSummary, explain, summarize

Status = Literal["succeeded", "failed", "stopped", "deadline", "lost", "unavailable", "error"]

_MIN_GAP = 1.0
"""Seconds between two polls, in case that a coordinator answers at once and not when the job ends."""


class JobEvent(TypedDict):
    """How the wait ended; the payload of the trigger's event."""

    status: Status
    job_id: str
    message: str
    job: JobSummary | None


@dataclass(kw_only=True, slots=True)
class JobWatch:
    """One wait for the end of one job. Times are seconds since the epoch: it may go on in another process."""

    job_id: str
    deadline: float
    poll_interval: float
    """Seconds between two looks at a job that has not ended; its end is noticed at once."""
    outage_tolerance: float
    """Seconds that the coordinator may be away, e.g. for a restart, before the wait is given up."""
    _away_since: float | None = field(default=None, init=False)

    def next_wait(self, now: float) -> float:
        """Return how long the next poll may take; nothing is left if it is not positive."""
        return min(self.poll_interval, self.deadline - now)

    def pause(self, polled_at: float, now: float) -> float:
        """Return how long to sleep before the next poll."""
        return max(0.0, min(_MIN_GAP - (now - polled_at), self.deadline - now))

    def seen(self, job: Job) -> JobEvent | None:
        """Take a poll's answer; return how the wait ended, if it did."""
        self._away_since = None
        return ended(job)

    def missed(self, error: PreheatError, now: float) -> JobEvent | None:
        """Take a poll's failure; return how the wait ended, if it did."""
        if not isinstance(error, PreheatUnavailableError):
            status: Status = "lost" if isinstance(error, PreheatJobNotFoundError) else "error"
            return self._without_job(status, str(error))
        if self._away_since is None:
            self._away_since = now
        away = now - self._away_since
        if away < self.outage_tolerance:
            return None
        return self._without_job("unavailable", f"{error} Waited {away:.0f} s for it to come back.")

    def expired(self) -> JobEvent:
        """Return that the deadline has passed."""
        return self._without_job("deadline", f"Preheat job {self.job_id} had not ended by the task's deadline.")

    def _without_job(self, status: Status, message: str) -> JobEvent:
        return {"status": status, "job_id": self.job_id, "message": message, "job": None}


def ended(job: Job) -> JobEvent | None:
    """Return how a job ended, or ``None`` if it has not."""
    if job["state"] not in ENDED:
        return None
    statuses: dict[str, Status] = {"SUCCEEDED": "succeeded", "FAILED": "failed", "STOPPED": "stopped"}
    status = statuses[job["state"]]
    message = "" if status == "succeeded" else explain(job)
    return {"status": status, "job_id": job["id"], "message": message, "job": summarize(job)}
