"""The coordinator's API as values: what to send, what an answer means, whether to try again. No I/O.

:mod:`airflow_preheat.hooks` sends these with requests, :mod:`airflow_preheat.async_hooks` with aiohttp.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from math import ceil
from typing import Any, Literal
from urllib.parse import quote

from airflow_preheat._endpoint import Endpoint
from airflow_preheat.exceptions import (
    PreheatError,
    PreheatJobNotFoundError,
    PreheatRequestError,
    PreheatUnavailableError,
    PreheatUnreachableError,
)
from airflow_preheat.jobs import Claim, JobSpec

MAX_WAIT = 60.0
"""Seconds that the coordinator lets a request wait at most."""
UNTIL_ENDED = 2**31 - 1
"""A revision that no job reaches: a request that waits for a later one is answered when the job ends."""

_RETRY_DELAYS = (0.25, 0.5, 1.0, 2.0)
_UNAVAILABLE = frozenset({429, 502, 503, 504})
_NOT_THE_REQUEST = frozenset({408, 409, 412, 425})
"""Client errors that another attempt may not meet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One request to the coordinator."""

    method: Literal["GET", "POST", "DELETE"]
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    """Whether sending it twice has the effect of sending it once."""
    wait: float = 0.0
    """Seconds that it asks the coordinator to wait before it answers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What came back."""

    status: int
    reason: str
    body: bytes


def submit(spec: JobSpec, idempotency_key: str | None, claim: Claim | None = None) -> Call:
    """Submit a job, and claim it in the same step; it may be repeated only with an idempotency key."""
    headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
    body = spec.as_json() | (claim.as_json() if claim else {})
    return Call(method="POST", path="/v1/jobs", body=body, headers=headers, repeatable=bool(idempotency_key))


def get_job(job_id: str, *, wait: float, after: int | None, first: int | None = None) -> Call:
    """Read a job; with ``wait``, once it ended, has a revision after ``after``, or its ``first`` files are decided."""
    seconds = ceil(min(wait, MAX_WAIT))
    query = {"wait": str(seconds)} if seconds > 0 else {}
    if seconds > 0 and after is not None:
        query["after"] = str(after)
    if seconds > 0 and first is not None:
        query["hotInOrder"] = str(first)
    return Call(method="GET", path=_job_path(job_id), query=query, wait=seconds)


def claim_job(claim: Claim) -> Call:
    """Wait for a job from now on, in the place of the waiter's earlier process."""
    return Call(method="POST", path=f"{_job_path(claim.job_id)}/claim", body=claim.as_json())


def renew_claim(claim: Claim) -> Call:
    """Wait on: the claim's lease begins anew."""
    return Call(method="POST", path=f"{_job_path(claim.job_id)}/renew", body=claim.names())


def cancel_job(claim: Claim) -> Call:
    """Wait for a job no longer; nothing changes if another process of the waiter has claimed it since."""
    return Call(method="POST", path=f"{_job_path(claim.job_id)}/cancel", body=claim.names())


def stop_job(job_id: str) -> Call:
    """Stop a job, whoever waits for it; stopping one that has ended changes nothing."""
    return Call(method="POST", path=f"{_job_path(job_id)}/stop")


def list_jobs(*, state: str | None, limit: int, cursor: str | None) -> Call:
    """Read one page of jobs, the newest first."""
    query = {"limit": str(limit), "state": state, "cursor": cursor}
    return Call(
        method="GET",
        path="/v1/jobs",
        query={name: value for name, value in query.items() if value is not None},
    )


def list_workers() -> Call:
    """Read the workers and the epoch of their placement."""
    return Call(method="GET", path="/v1/workers")


def headers(endpoint: Endpoint, call: Call) -> dict[str, str]:
    """Return the headers of a request, the token among them."""
    authorization = {"Authorization": f"Bearer {endpoint.token}"} if endpoint.token else {}
    return {"Accept": "application/json", **authorization, **call.headers}


def retry_delay(call: Call, attempt: int) -> float | None:
    """Return the seconds to wait after the failed attempt ``attempt`` (from 0), or ``None`` to give up."""
    return _RETRY_DELAYS[attempt] if call.repeatable and attempt < len(_RETRY_DELAYS) else None


def available(endpoint: Endpoint, call: Call, reply: Reply) -> Reply:
    """Return an answer that is not about the moment.

    Raises:
        PreheatUnavailableError: the coordinator cannot serve the request now; a later attempt may succeed.
    """
    if reply.status in _UNAVAILABLE:
        raise refusal(endpoint, call, reply)
    return reply


def decode(endpoint: Endpoint, call: Call, reply: Reply) -> dict[str, Any]:
    """Return the answer's JSON object.

    Raises:
        PreheatRequestError: the coordinator refused the request, or what answered is no coordinator.
        PreheatUnavailableError: it cannot serve the request now.
        PreheatJobNotFoundError: it does not know the job.
        PreheatError: any other error.
    """
    if reply.status >= HTTPStatus.BAD_REQUEST:
        raise refusal(endpoint, call, reply)
    document = json_object(reply.body)
    if document is None or reply.status >= HTTPStatus.MULTIPLE_CHOICES:
        raise PreheatRequestError(
            f"{call.method} {endpoint.url}{call.path} was answered with HTTP {reply.status} and without a "
            f"JSON object. Does the Airflow connection {endpoint.conn_id!r} lead to a Preheat coordinator?"
        )
    return document


def refusal(endpoint: Endpoint, call: Call, reply: Reply) -> PreheatError:
    """Return the error that an answer with a status from 400 on is."""
    # Only what a coordinator says is quoted: the page of a proxy may hold anything.
    document = json_object(reply.body) or {}
    message = _said(document) or (
        f"{call.method} {endpoint.url}{call.path} was answered with HTTP {reply.status} {reply.reason}."
    )
    if reply.status == HTTPStatus.UNAUTHORIZED:
        message += f" Put a valid token into the password of the Airflow connection {endpoint.conn_id!r}."
    return _error_type(reply.status, str(document.get("code")))(message)


def unreachable(endpoint: Endpoint, cause: Exception) -> PreheatUnreachableError:
    """Describe that no answer came at all."""
    certificate = ", and its CA certificate" if endpoint.url.startswith("https:") else ""
    # Where the certificate is on this machine is nobody's business: requests and ssl name the path.
    said = _root(cause).replace(endpoint.ca_cert or "\0", "the file of ca_cert")
    return PreheatUnreachableError(
        f"No Preheat coordinator answers at {endpoint.url} ({said}). Start one with `preheat up`, "
        f"or correct the Airflow connection {endpoint.conn_id!r}{certificate}."
    )


def shown(endpoint: Endpoint, cause: Exception) -> Exception | None:
    """Return a cause if its text, which is logged with the error, does not name the file of the CA certificate."""
    return None if endpoint.ca_cert and endpoint.ca_cert in _root(cause) else cause


def _job_path(job_id: str) -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}"


def json_object(body: bytes) -> dict[str, Any] | None:
    """Return a body's JSON object, or ``None`` if it is none."""
    try:
        document = json.loads(body)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _said(document: Mapping[str, Any]) -> str:
    """Return what an error document says: a problem of ours, or Alluxio's ``message`` or ``status``."""
    problem = " ".join(str(document[name]).strip() for name in ("detail", "remedy") if document.get(name))
    texts = (document.get(name) for name in ("message", "status"))
    return problem or next((text.strip() for text in texts if isinstance(text, str) and text.strip()), "")


def _error_type(status: int, code: str) -> type[PreheatError]:
    if code == "job_not_found":
        return PreheatJobNotFoundError
    if status in _UNAVAILABLE:
        return PreheatUnavailableError
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _NOT_THE_REQUEST:
        return PreheatError
    return PreheatRequestError


def _root(error: BaseException) -> str:
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    return str(error) or type(error).__name__
