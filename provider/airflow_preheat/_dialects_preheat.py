"""The native API."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

from airflow_preheat import _client
from airflow_preheat._client import Call
from airflow_preheat._dialects_base import Talk
from airflow_preheat._endpoint import DialectName, Endpoint
from airflow_preheat.jobs import Claim, Job, JobSpec


@dataclass(frozen=True, slots=True)
class PreheatDialect:
    """The coordinator's own API."""

    endpoint: Endpoint
    name: DialectName = "preheat"
    long_poll: bool = True
    fences: bool = True
    in_order: bool = True
    events: bool = True

    def check(self) -> Talk[bool]:
        """Return whether a Preheat coordinator answers; that needs no token."""
        reply = yield Call(method="GET", path="/v1/healthz")
        health = _client.json_object(reply.body) or {}
        return reply.status == HTTPStatus.OK and health.get("status") == "ok"

    def submit(self, spec: JobSpec, idempotency_key: str | None, claim: Claim | None = None) -> Talk[Job]:
        """Submit a job, or attach to the same one if it runs; claim it in the same step."""
        return self._ask(_client.submit(spec, idempotency_key, claim))

    def get_job(self, job_id: str, *, wait: float, after: int | None, first: int | None = None) -> Talk[Job]:
        """Read a job."""
        return self._ask(_client.get_job(job_id, wait=wait, after=after, first=first))

    def last_load(self, path: str) -> Talk[Job | None]:
        """Read the last load job that names a path; ``None`` if there is none."""
        call = Call(method="GET", path="/v1/jobs", query={"type": "load", "path": path, "limit": "1"})
        reply = yield call
        jobs = cast("list[Job]", _client.decode(self.endpoint, call, reply)["jobs"])
        if jobs and jobs[0]["state"] == "SUCCEEDED":  # a list leaves receipts out
            return (yield from self.get_job(jobs[0]["id"], wait=0.0, after=None))
        return jobs[0] if jobs else None

    def claim(self, claim: Claim) -> Talk[Job]:
        """Wait for a job from now on, in the place of the waiter's earlier process."""
        return self._ask(_client.claim_job(claim))

    def renew(self, claim: Claim) -> Talk[Job]:
        """Let a claim's lease begin anew, and read the job."""
        return self._ask(_client.renew_claim(claim))

    def cancel(self, claim: Claim) -> Talk[Job]:
        """Wait for a job no longer."""
        return self._ask(_client.cancel_job(claim))

    def stop(self, job_id: str) -> Talk[Job]:
        """Stop a job, whoever waits for it."""
        return self._ask(_client.stop_job(job_id))

    def _ask(self, call: Call) -> Talk[Job]:
        reply = yield call
        return cast("Job", _client.decode(self.endpoint, call, reply))
