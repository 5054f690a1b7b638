"""How a coordinator wants to be spoken to. No I/O: a :data:`Talk` yields requests and is sent their answers.

So one description serves both hooks, of which one sends with requests and the other with aiohttp.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol, TypeAlias, TypeVar

from airflow_preheat._client import Call, Reply
from airflow_preheat._endpoint import DialectName
from airflow_preheat.jobs import Claim, Job, JobSpec

T = TypeVar("T")
Talk: TypeAlias = Generator[Call, Reply, T]
"""A conversation: it yields a request, is sent the answer, and so on, and returns what it was about."""


class Dialect(Protocol):
    """What a task asks of a coordinator, in the words of its API."""

    @property
    def name(self) -> DialectName:
        """What the Airflow connection calls it."""

    @property
    def long_poll(self) -> bool:
        """Whether the coordinator answers ``get_job`` with ``wait`` when the job ends, and not at once."""

    @property
    def fences(self) -> bool:
        """Whether it tells a waiter's present process from an earlier one, so that a stale ``cancel`` does nothing."""

    @property
    def in_order(self) -> bool:
        """Whether it says how many files are hot from the start of a job's order on."""

    @property
    def events(self) -> bool:
        """Whether it tells of all jobs in one stream, in its native form."""

    def check(self) -> Talk[bool]:
        """Return whether the coordinator speaks this dialect."""

    def submit(self, spec: JobSpec, idempotency_key: str | None, claim: Claim | None = None) -> Talk[Job]:
        """Submit a job, or attach to the same one if it runs; claim it in the same step where that can be done."""

    def get_job(self, job_id: str, *, wait: float, after: int | None, first: int | None = None) -> Talk[Job]:
        """Read a job."""

    def last_load(self, path: str) -> Talk[Job | None]:
        """Read the last load job of a path; ``None`` if there is none."""

    def claim(self, claim: Claim) -> Talk[Job]:
        """Wait for a job from now on, in the place of the waiter's earlier process."""

    def renew(self, claim: Claim) -> Talk[Job]:
        """Let a claim's lease begin anew, and read the job."""

    def cancel(self, claim: Claim) -> Talk[Job]:
        """Wait for a job no longer."""

    def stop(self, job_id: str) -> Talk[Job]:
        """Stop a job, whoever waits for it."""
