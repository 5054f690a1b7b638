"""Waiting for a job to end: every decision of it, without I/O and without a clock.

The loops that ask the coordinator (``wait_for_job`` of the two hooks) differ in ``await`` only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypedDict

from airflow_preheat import _client
from airflow_preheat.exceptions import PreheatError, PreheatJobNotFoundError, PreheatUnavailableError
from airflow_preheat.jobs import ENDED, Claim, Job, JobSummary, explain, summarize

Status = Literal["succeeded", "failed", "stopped", "deadline", "lost", "unavailable", "error"]

AFTER_CANCEL = "It goes on if others wait for it, and is stopped in a few seconds if not."
"""What becomes of a cancelled job."""
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
    """One wait for the end of one job: it claims the job, then polls it.

    Times are seconds since the epoch: the wait may go on in another process.
    """

    claim: Claim
    deadline: float
    poll_interval: float
    """Seconds between two looks at a job that has not ended; its end is noticed at once."""
    outage_tolerance: float
    """Seconds that the coordinator may be away, e.g. for a restart, before the wait is given up."""
    _claimed: bool = field(default=False, init=False)
    _gap: float = field(default=_MIN_GAP, init=False)
    _away_since: float | None = field(default=None, init=False)

    def next_call(self, now: float) -> _client.Call | None:
        """Return what to ask the coordinator next, or ``None`` once the deadline has passed."""
        if (left := self.deadline - now) <= 0:
            return None
        if not self._claimed:
            return _client.claim_job(self.claim)
        return _client.get_job(self.claim.job_id, wait=min(self.poll_interval, left), after=_client.UNTIL_ENDED)

    def pause(self, asked_at: float, now: float) -> float:
        """Return how long to sleep before the next call."""
        return max(0.0, min(self._gap - (now - asked_at), self.deadline - now))

    def seen(self, job: Job) -> JobEvent | None:
        """Take a call's answer; return how the wait ended, if it did."""
        self._gap = _MIN_GAP if self._claimed else 0.0  # the first poll follows the claim at once
        self._claimed = True
        self._away_since = None
        return ended(job)

    def missed(self, error: PreheatError, now: float) -> JobEvent | None:
        """Take a call's failure; return how the wait ended, if it did."""
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
        return self._without_job(
            "deadline", f"Preheat job {self.claim.job_id} had not ended by the task's deadline. {AFTER_CANCEL}"
        )

    def _without_job(self, status: Status, message: str) -> JobEvent:
        return {"status": status, "job_id": self.claim.job_id, "message": message, "job": None}


def ended(job: Job) -> JobEvent | None:
    """Return how a job ended, or ``None`` if it has not."""
    if job["state"] not in ENDED:
        return None
    statuses: dict[str, Status] = {"SUCCEEDED": "succeeded", "FAILED": "failed", "STOPPED": "stopped"}
    status = statuses[job["state"]]
    message = "" if status == "succeeded" else explain(job)
    return {"status": status, "job_id": job["id"], "message": message, "job": summarize(job)}
