"""How a coordinator wants to be spoken to. No I/O: a :data:`Talk` yields requests and is sent their answers.

So that one description serves both hooks, of which one sends with requests and the other with aiohttp.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol, TypeAlias, TypeVar, cast

from airflow_preheat import _client
from airflow_preheat._client import Call, Reply
from airflow_preheat._endpoint import DialectName, Endpoint
from airflow_preheat.exceptions import PreheatRequestError
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

    def check(self) -> Talk[bool]:
        """Return whether the coordinator speaks this dialect."""

    def submit(self, spec: JobSpec, idempotency_key: str | None) -> Talk[Job]:
        """Submit a job, or attach to the same one if it runs."""

    def get_job(self, job_id: str, *, wait: float, after: int | None) -> Talk[Job]:
        """Read a job."""

    def claim(self, claim: Claim) -> Talk[Job]:
        """Wait for a job from now on, in the place of the waiter's earlier process."""

    def cancel(self, claim: Claim) -> Talk[Job]:
        """Wait for a job no longer."""

    def stop(self, job_id: str) -> Talk[Job]:
        """Stop a job, whoever waits for it."""


@dataclass(frozen=True, slots=True)
class PreheatDialect:
    """The coordinator's own API."""

    endpoint: Endpoint
    name: DialectName = "preheat"
    long_poll: bool = True
    fences: bool = True

    def check(self) -> Talk[bool]:
        """Return whether a Preheat coordinator answers; that needs no token."""
        reply = yield Call(method="GET", path="/v1/healthz")
        health = _client.json_object(reply.body) or {}
        return reply.status == HTTPStatus.OK and health.get("status") == "ok"

    def submit(self, spec: JobSpec, idempotency_key: str | None) -> Talk[Job]:
        """Submit a job, or attach to the same one if it runs."""
        return self._ask(_client.submit(spec, idempotency_key))

    def get_job(self, job_id: str, *, wait: float, after: int | None) -> Talk[Job]:
        """Read a job."""
        return self._ask(_client.get_job(job_id, wait=wait, after=after))

    def claim(self, claim: Claim) -> Talk[Job]:
        """Wait for a job from now on, in the place of the waiter's earlier process."""
        return self._ask(_client.claim_job(claim))

    def cancel(self, claim: Claim) -> Talk[Job]:
        """Wait for a job no longer."""
        return self._ask(_client.cancel_job(claim))

    def stop(self, job_id: str) -> Talk[Job]:
        """Stop a job, whoever waits for it."""
        return self._ask(_client.stop_job(job_id))

    def _ask(self, call: Call) -> Talk[Job]:
        reply = yield call
        return cast("Job", _client.decode(self.endpoint, call, reply))


def choose(endpoint: Endpoint) -> Talk[Dialect]:
    """Return the dialect that the connection names; with ``auto``, the first one that the coordinator speaks.

    Raises:
        PreheatRequestError: it speaks none.
    """
    from airflow_preheat._dialects_alluxio import AlluxioJobs, AlluxioLoads  # noqa: PLC0415 - these import this module

    dialects: list[Dialect] = [PreheatDialect(endpoint), AlluxioLoads(endpoint), AlluxioJobs(endpoint)]
    for dialect in dialects:
        if endpoint.dialect == dialect.name:
            return dialect
        if endpoint.dialect == "auto" and (yield from dialect.check()):
            return dialect
    raise PreheatRequestError(
        f"What answers at {endpoint.url} is neither a Preheat coordinator nor an Alluxio of a version that is known. "
        f"Does the Airflow connection {endpoint.conn_id!r} lead to a Preheat coordinator? If it is an Alluxio, say "
        "which by the connection's dialect."
    )
