"""Questions and orders about datasets: sizes before a load, drift, pins. No I/O, see :mod:`._dialects_base`."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Literal, TypedDict, cast
from urllib.parse import quote

from airflow_preheat import _client
from airflow_preheat._client import Call
from airflow_preheat._dialects_base import Dialect, Talk
from airflow_preheat._endpoint import Endpoint
from airflow_preheat.exceptions import PreheatRequestError, PreheatVersionUnknownError
from airflow_preheat.jobs import JobSpec, Tally

LISTING_SECONDS = 600
"""How long the coordinator may list a dataset for an answer; more than that it refuses."""


class Estimate(TypedDict):
    """The fields of the answer to ``POST /v1/estimates`` that the provider reads."""

    objects: int
    bytes: int
    fits: bool
    seconds: float | None
    datasetVersion: str


class Drift(TypedDict):
    """The answer to ``GET /v1/drift``, as far as the provider reads it."""

    drift: bool
    pinned: bool
    version: str
    originVersion: str
    changed: int
    added: int
    deleted: int
    unchanged: Tally


class Pin(TypedDict):
    """A path that is bound to a dataset version."""

    id: str
    path: str
    version: str


def estimate(endpoint: Endpoint, dialect: Dialect, spec: JobSpec) -> Talk[Estimate]:
    """Ask what a load would take; nothing is loaded."""
    call = _call(endpoint, dialect, "POST", "/v1/estimates", lists=True, body=spec.as_json())
    return cast("Estimate", _client.decode(endpoint, call, (yield call)))


def drift(endpoint: Endpoint, dialect: Dialect, path: str) -> Talk[Drift]:
    """Ask how a dataset differs at the under store from what was pinned or listed.

    Raises:
        PreheatVersionUnknownError: no load that is known has listed it.
    """
    call = _call(endpoint, dialect, "GET", "/v1/drift", lists=True, query={"path": path, "limit": "0"})
    reply = yield call
    if reply.status == HTTPStatus.NOT_FOUND:
        raise PreheatVersionUnknownError(str(_client.refusal(endpoint, call, reply)))
    return cast("Drift", _client.decode(endpoint, call, reply))


def pin(endpoint: Endpoint, dialect: Dialect, path: str, version: str | None) -> Talk[Pin]:
    """Bind a path to a dataset version that a load has listed; the last one by default."""
    body = {"path": path} | ({"version": version} if version else {})
    call = _call(endpoint, dialect, "POST", "/v1/pins", body=body)
    return cast("Pin", _client.decode(endpoint, call, (yield call)))


def unpin(endpoint: Endpoint, dialect: Dialect, pin_id: str) -> Talk[None]:
    """Let go of a pin; one that is gone already is no error."""
    call = _call(endpoint, dialect, "DELETE", f"/v1/pins/{quote(pin_id, safe='')}")
    reply = yield call
    if reply.status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_FOUND):
        _client.decode(endpoint, call, reply)


def _call(
    endpoint: Endpoint,
    dialect: Dialect,
    method: Literal["GET", "POST", "DELETE"],
    path: str,
    *,
    lists: bool = False,
    body: dict[str, Any] | None = None,
    query: dict[str, str] | None = None,
) -> Call:
    """Return a request, which may take long if the coordinator lists a dataset for it.

    Raises:
        PreheatRequestError: the coordinator is an Alluxio, which does not know it.
    """
    if dialect.name != "preheat":
        raise PreheatRequestError(
            f"The Airflow connection {endpoint.conn_id!r} leads to an Alluxio, which has no {path.split('/')[2]}."
        )
    timeout = {"timeout": str(LISTING_SECONDS)} if lists else {}
    wait = float(LISTING_SECONDS) if lists else 0.0
    return Call(method=method, path=path, query=(query or {}) | timeout, body=body, wait=wait)
