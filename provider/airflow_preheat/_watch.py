"""Waiting for a job to end: every decision of it, without I/O and without a clock.

The loops that ask the coordinator (``wait_for_job`` of the two hooks) differ in ``await`` only.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, NotRequired, TypedDict

from airflow_preheat.exceptions import PreheatError, PreheatJobNotFoundError, PreheatUnavailableError
from airflow_preheat.jobs import ENDED, Claim, Job, JobSummary, explain, summarize

Status = Literal[
    "succeeded",
    "ready",
    "late",
    "cancelled",
    "failed",
    "unmet",
    "stopped",
    "deadline",
    "lost",
    "abandoned",
    "unavailable",
    "error",
]

AFTER_CANCEL = "It goes on if others wait for it (not so with an Alluxio), and is stopped in a few seconds if not."
"""What becomes of a cancelled job."""
_MIN_GAP = 1.0
"""Seconds between two polls, in case that a coordinator answers at once and not when the job ends."""
_MAX_GAP = 15.0
"""Seconds between two attempts to reach a coordinator that is away."""
_DOUBLINGS = 4
"""After so many misses it is as long."""
_RENEWALS = 3
"""How often a lease is renewed before it runs out, at least."""


class JobEvent(TypedDict):
    """How the wait ended; the payload of the trigger's event.

    ``ready``: the first files are hot that were waited for, and the job goes on. ``unmet``: they cannot become so any
    more, and it goes on. ``late``: it will not have ended by the deadline; who wants to hear of that waits on
    afterwards. ``lost``: the coordinator does not know the job. ``abandoned``: it was stopped as if nobody waited.
    """

    status: Status
    job_id: str
    message: str
    job: JobSummary | None
    deadline: NotRequired[float]
    """With ``late``, until when to wait on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobWait:
    """Which job to wait for, in whose name and how long: plain values, since a trigger is stored with them.

    Times are seconds since the epoch: the wait may go on in another process. None of them is secret.
    """

    job_id: str
    waiter: str
    """The task instance, in whose name the job is claimed."""
    preheat_conn_id: str
    deadline: float
    poll_interval: float
    """Seconds between two looks at a job that has not ended; its end is noticed at once."""
    outage_tolerance: float
    """Seconds that the coordinator may be away, e.g. for a restart, before the wait is given up."""
    cancel_on_kill: bool
    """Whether to cancel the job if a user ends the task that waits."""
    not_before: float = 0.0
    """When a trigger may fire at the earliest. Airflow's scheduler fails a task whose trigger fires before its
    worker has reported that it deferred (apache/airflow#71580)."""
    first: int | None = None
    """How many files from the start of the job's order have to be hot; ``None`` waits for the job's end."""
    tell_late: bool = False
    """Whether to end the wait, for the time being, when the job turns out to be late."""
    lease: float | None = None
    """Seconds after which a job is stopped for which nobody gives a sign of life; ``None`` lets it go on."""

    def claim(self) -> Claim:
        """Return a new claim on the job: one for each process that waits.

        A job that is to go on whatever becomes of the task is claimed without a lease.
        """
        goes_on = self.first is not None or not self.cancel_on_kill
        return Claim(job_id=self.job_id, waiter=self.waiter, lease=None if goes_on else self.lease)


@dataclass(kw_only=True, slots=True)
class JobWatch:
    """One process that waits for the end of one job: it claims the job, then polls it and renews the claim."""

    wait: JobWait
    claim: Claim
    random: Callable[[], float] = random.random
    """From 0 to 1: so that a thousand that wait do not ask all at the same moment."""
    claimed: bool = field(default=False, init=False)
    """Whether the coordinator has taken the claim; until then it is what to send."""
    _renew_at: float | None = field(default=None, init=False)
    _gap: float = field(default=_MIN_GAP, init=False)
    _misses: int = field(default=0, init=False)
    _away_since: float | None = field(default=None, init=False)
    _late: bool = field(default=False, init=False)

    def next_poll(self, now: float) -> float | None:
        """Return how many seconds the next request may wait for the job's end; ``None`` after the deadline."""
        left = self.wait.deadline - now
        if left <= 0:
            return None
        renewal = max(0.0, self._renew_at - now) if self._renew_at is not None else left
        return min(self.wait.poll_interval, left, renewal)

    def must_renew(self, now: float) -> bool:
        """Say whether the next request is to renew the claim."""
        return self._renew_at is not None and self._renew_at <= now

    def held(self, now: float) -> None:
        """Note that the coordinator has taken the claim, or its renewal."""
        if self.claim.lease is not None:
            self._renew_at = now + self.claim.lease / _RENEWALS * (1 + self.random()) / 2

    def pause(self, asked_at: float, now: float) -> float:
        """Return how long to sleep before the next request."""
        return max(0.0, min(self._gap - (now - asked_at), self.wait.deadline - now))

    def seen(self, job: Job, *, long_poll: bool) -> JobEvent | None:
        """Take an answer; return how the wait ended, if it did.

        Args:
            job: the answer.
            long_poll: whether the coordinator answers a poll when the job ends, and not at once.
        """
        if not long_poll:
            self._gap = self.wait.poll_interval
        else:
            self._gap = _MIN_GAP if self.claimed else 0.0  # the first poll follows the claim at once
        self.claimed = True
        self._away_since = None
        self._misses = 0
        return reached(job, self.wait.first) or (self._told_late(job) if self.wait.tell_late else None)

    def ends(self, job: Job) -> bool:
        """Say whether an answer would end the wait."""
        return reached(job, self.wait.first) is not None or (self.wait.tell_late and is_late(job, self.wait.deadline))

    def warning(self, job: Job) -> str | None:
        """Return what to say of an answer, if the job has turned late since the last one."""
        was_late, self._late = self._late, is_late(job, self.wait.deadline)
        return lateness(job, self.wait.deadline) if self._late and not was_late else None

    def _told_late(self, job: Job) -> JobEvent | None:
        deadline = self.wait.deadline
        if not is_late(job, deadline):
            return None
        message = lateness(job, deadline)
        return {"status": "late", "job_id": job["id"], "message": message, "job": summarize(job), "deadline": deadline}

    def missed(self, error: PreheatError, now: float) -> JobEvent | None:
        """Take a request's failure; return how the wait ended, if it did."""
        self._gap = min(_MAX_GAP, _MIN_GAP * 2 ** min(self._misses, _DOUBLINGS)) * (1 + self.random()) / 2
        self._misses += 1
        if not isinstance(error, PreheatUnavailableError):
            status: Status = "lost" if isinstance(error, PreheatJobNotFoundError) else "error"
            return self._without_job(status, str(error))
        if self._away_since is None:
            self._away_since = now
        away = now - self._away_since
        if away < self.wait.outage_tolerance:
            return None
        return self._without_job("unavailable", f"{error} Waited {away:.0f} s for it to come back.")

    def expired(self) -> JobEvent:
        """Return that the deadline has passed."""
        return self._without_job(
            "deadline", f"Preheat job {self.claim.job_id} had not ended by the task's deadline. {AFTER_CANCEL}"
        )

    def _without_job(self, status: Status, message: str) -> JobEvent:
        return {"status": status, "job_id": self.claim.job_id, "message": message, "job": None}


def is_late(job: Job, deadline: float) -> bool:
    """Say whether a running job is foreseen to end after its own deadline or another one."""
    forecast = job.get("forecast")
    if not forecast:
        return False
    finish = forecast["finishAt"]
    return forecast["late"] or (finish is not None and datetime.fromisoformat(finish).timestamp() > deadline)


def lateness(job: Job, deadline: float) -> str:
    """Return a sentence about a job that is late, with what to do."""
    forecast = job.get("forecast")
    finish = forecast["finishAt"] if forecast else None
    until = datetime.fromtimestamp(deadline, tz=UTC).isoformat(timespec="seconds")
    return (
        f"Preheat job {job['id']} is late: it will have ended at {finish or 'a time that is not known yet'}, and the "
        f"task waits until {until}. Raise its bandwidth or its priority while it runs: {job['url']}"
    )


def reached(job: Job, first: int | None = None) -> JobEvent | None:
    """Return how a wait ended, or ``None`` if it goes on: with the job, or when its ``first`` files are hot."""
    if first is not None and job.get("hotInOrder", 0) >= first:
        return {"status": "ready", "job_id": job["id"], "message": "", "job": summarize(job)}
    if job["state"] not in ENDED:
        return _unmet(job, first) if first is not None else None
    if job.get("abandoned"):
        return {"status": "abandoned", "job_id": job["id"], "message": _abandoned(job), "job": summarize(job)}
    statuses: dict[str, Status] = {"SUCCEEDED": "succeeded", "FAILED": "failed", "STOPPED": "stopped"}
    status = statuses[job["state"]]
    message = "" if status == "succeeded" else explain(job)
    if status == "succeeded" and first is not None and job["failed"]["files"]:  # it may have failures, but not there
        status, message = "failed", _gap(job, first)
    return {"status": status, "job_id": job["id"], "message": message, "job": summarize(job)}


def _unmet(job: Job, first: int) -> JobEvent | None:
    """Return that the first files cannot become hot any more, if so."""
    at_most = job.get("hotInOrderAtMost")
    if at_most is None or at_most >= first:
        return None
    message = (
        f"Preheat job {job['id']} goes on, but of the first {first} files that the task waits for only {at_most} can "
        f"become hot: the next one has failed, see {job['url']}. {AFTER_CANCEL}"
    )
    return {"status": "unmet", "job_id": job["id"], "message": message, "job": summarize(job)}


def _abandoned(job: Job) -> str:
    return (
        f"Preheat job {job['id']} was stopped before it had ended, as if this task waited no longer. {job['reason']} "
        "Was no triggerer alive for longer than the task's lease?"
    )


def _gap(job: Job, first: int) -> str:
    return (
        f"Preheat job {job['id']} succeeded with {job['failed']['files']} failed files, and only "
        f"{job.get('hotInOrder', 0)} files are hot from the start of their order on, of the first {first} that the "
        f"task waits for: the next one has failed, see {job['url']}"
    )
