"""A small synchronous client of the coordinator's REST API (``docs/reference/rest-api.md``).

Answers are typed; errors come back as the :mod:`preheat.errors` that the coordinator raised.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlsplit

import msgspec
import requests

from preheat import tracing
from preheat.errors import CoordinatorUnreachable, InvalidRequest, NotFound, PreheatError, from_problem
from preheat.jobs import JobSpec, JobState, JobType, Priority
from preheat.paths import UfsPath
from preheat.reports import (
    Cost,
    Count,
    DriftReport,
    EstimateReport,
    Failure,
    JobPage,
    JobReport,
    Options,
    PinPage,
    PinReport,
    StopReport,
    TaskPage,
    TaskReport,
    WarmthReport,
    WorkerEstimateReport,
    WorkerPage,
    WorkerReport,
)
from preheat.settings import COORDINATOR_PORT, is_loopback
from preheat.token_files import own_token

__all__ = [
    "DEFAULT_URL",
    "Client",
    "Cost",
    "Count",
    "DriftReport",
    "EstimateReport",
    "Failure",
    "JobPage",
    "JobReport",
    "Options",
    "PinReport",
    "TaskReport",
    "WarmthReport",
    "WorkerEstimateReport",
    "WorkerPage",
    "WorkerReport",
]

DEFAULT_URL = f"http://127.0.0.1:{COORDINATOR_PORT}"
_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 30.0

T = TypeVar("T")


class Client:
    """Talks to one coordinator (or, for :meth:`check_health`, to one worker). Use as a context manager."""

    def __init__(self, url: str, *, token: str = "", ca_file: str = "", timeout: float = _ANSWER_SECONDS) -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise InvalidRequest(f"coordinator={url!r} is not an http:// URL.", remedy=f"Write {DEFAULT_URL}, say.")
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._session = requests.Session()
        # A proxy cannot reach this machine's loopback, and .netrc must not replace the token.
        self._session.trust_env = not is_loopback(urlsplit(url).hostname or "")
        if ca_file and not Path(ca_file).exists():
            raise InvalidRequest(f"The CA file {ca_file} does not exist.", remedy="Correct --ca or PREHEAT_CA_FILE.")
        self._ca_file = ca_file or None
        if token:
            self._session.headers["Authorization"] = f"Bearer {token}"

    @classmethod
    def from_environment(cls, url: str, *, timeout: float = _ANSWER_SECONDS) -> Self:
        """Return a client with the token that the environment has, which trusts ``PREHEAT_CA_FILE`` if it is set.

        Its requests belong to the trace that ``TRACEPARENT`` and ``TRACESTATE`` name.
        """
        ca_file = os.environ.get("PREHEAT_CA_FILE") or os.environ.get("REQUESTS_CA_BUNDLE", "")
        client = cls(url, token=own_token(), ca_file=ca_file, timeout=timeout)
        if trace := tracing.from_environment(os.environ):
            client._session.headers.update(trace.headers)
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def submit(self, spec: JobSpec, *, idempotency_key: str = "") -> JobReport:
        """Submit a job; ``attached`` in the answer tells that one of the same type and paths runs already."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return _decode(self._request("POST", "/v1/jobs", json=_body(spec), headers=headers), JobReport)

    def estimate(self, spec: JobSpec, *, timeout: float = 600.0) -> EstimateReport:
        """Return what a load would do, without doing it; the listing may take ``timeout`` seconds.

        Raises:
            DeadlineExceeded: it took longer.
        """
        params = {"timeout": f"{timeout:.3f}"}
        answer = self._request("POST", "/v1/estimates", params=params, json=_body(spec), extra_seconds=timeout)
        return _decode(answer, EstimateReport)

    def job(self, job_id: str, *, wait: float = 0, after: int = 0) -> JobReport:
        """Return a job: at once, or within ``wait`` seconds as soon as its revision exceeds ``after``."""
        params = {"wait": wait, "after": after} if wait else {}
        path = f"/v1/jobs/{quote(job_id, safe='')}"
        return _decode(self._request("GET", path, params=params, extra_seconds=wait), JobReport)

    def tasks(self, job_id: str) -> tuple[TaskReport, ...]:
        """Return what each worker did for a job, by pass."""
        return _decode(self._request("GET", f"/v1/jobs/{quote(job_id, safe='')}/tasks"), TaskPage).tasks

    def change(self, job_id: str, *, bandwidth: int | None = None, priority: Priority | None = None) -> JobReport:
        """Change a job while it runs; a bandwidth of 0 lifts the limit, None changes nothing."""
        body: dict[str, Any] = {} if bandwidth is None else {"bandwidth": bandwidth or None}
        if priority is not None:
            body["priority"] = priority
        return _decode(self._request("PATCH", f"/v1/jobs/{quote(job_id, safe='')}", json=body), JobReport)

    def jobs(
        self,
        *,
        state: JobState | None = None,
        job_type: JobType | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> JobPage:
        """Return one page of the jobs, newest first."""
        params = {"state": state, "type": job_type, "limit": limit, "cursor": cursor}
        return _decode(self._request("GET", "/v1/jobs", params=params), JobPage)

    def retry(self, job_id: str) -> JobReport:
        """Submit a job of only the files that failed in another."""
        return _decode(self._request("POST", f"/v1/jobs/{quote(job_id, safe='')}/retry"), JobReport)

    def stop(self, job_id: str) -> JobReport:
        """Stop a job and return it; one that ended stays as it is."""
        return _decode(self._request("POST", f"/v1/jobs/{quote(job_id, safe='')}/stop"), JobReport)

    def load_report(
        self, path: str = "", *, index: str = "", report_format: str = "TEXT", verbose: bool = False
    ) -> str:
        """Return Alluxio's progress report of the latest load job of a path or an index file, in TEXT or JSON.

        Raises:
            JobNotFound: there is no such job.
        """
        params = {**_load_ref(path, index), "format": report_format, "verbose": str(verbose).lower()}
        response = self._request("GET", "/api/v1/master/progress_job/load", params=params)
        if report_format == "TEXT" and "json" in response.headers.get("Content-Type", ""):
            return _decode(response, str)
        return response.text

    def stop_load(self, path: str = "", *, index: str = "") -> bool:
        """Stop the load job of a path or an index file; false if none was running."""
        response = self._request("POST", "/api/v1/master/stop_job/load", json=_load_ref(path, index))
        return _decode(response, StopReport).success

    def pins(self) -> PinPage:
        """Return the paths that are bound to a dataset version."""
        return _decode(self._request("GET", "/v1/pins"), PinPage)

    def pin(self, path: str, *, job: str = "", version: str = "") -> PinReport:
        """Bind a path to the dataset version of a finished load: by default of the last one.

        Raises:
            Conflict: no inventory tells what that version is.
        """
        body = {"path": path, "job": job, "version": version}
        return _decode(self._request("POST", "/v1/pins", json=body), PinReport)

    def unpin(self, path: str) -> PinReport:
        """Remove the pin of a path and return it.

        Raises:
            NotFound: the path is not pinned.
        """
        wanted = str(UfsPath.parse(path))
        found = next((pin for pin in self.pins().pins if pin.path == wanted), None)
        if found is None:
            raise NotFound(f"path={wanted!r} is not pinned.", remedy="List the pins with `preheat fs pins`.")
        self._request("DELETE", f"/v1/pins/{quote(found.id, safe='')}")
        return found

    def drift(self, path: str, *, limit: int = 20, timeout: float = 600.0) -> DriftReport:
        """Compare a path with its pinned version, or else with its last load; the listing may take ``timeout`` seconds.

        Raises:
            NotFound: no load that is known has listed it.
            DeadlineExceeded: it took longer.
        """
        params: dict[str, Any] = {"path": path, "limit": limit, "timeout": f"{timeout:.3f}"}
        return _decode(self._request("GET", "/v1/drift", params=params, extra_seconds=timeout), DriftReport)

    def warmth(self, path: str, *, version: str = "", timeout: float = 60.0) -> WarmthReport:
        """Count how much of a path is hot now: of a dataset version, or else of the pinned one or the last listed.

        Raises:
            Conflict: no inventory tells what that version is.
            DeadlineExceeded: it took longer than ``timeout`` seconds.
        """
        params = {"path": path, "timeout": f"{timeout:.3f}"} | ({"version": version} if version else {})
        return _decode(self._request("GET", "/v1/warmth", params=params, extra_seconds=timeout), WarmthReport)

    def workers(self) -> WorkerPage:
        """Return the workers."""
        return _decode(self._request("GET", "/v1/workers"), WorkerPage)

    def drain(self, worker_id: str) -> WorkerReport:
        """Ask a worker to hand its batches over and take no more; it goes on serving reads."""
        return _decode(self._request("POST", f"/v1/workers/{quote(worker_id, safe='')}/drain"), WorkerReport)

    def undrain(self, worker_id: str) -> WorkerReport:
        """Ask a drained worker to take part again."""
        return _decode(self._request("DELETE", f"/v1/workers/{quote(worker_id, safe='')}/drain"), WorkerReport)

    def check_ready(self) -> None:
        """Return if the coordinator is ready; the error says what is missing."""
        self._request("GET", "/v1/readyz")

    def check_health(self) -> None:
        """Return if the process answers."""
        self._request("GET", "/v1/healthz")

    def _request(self, method: str, path: str, *, extra_seconds: float = 0, **request: Any) -> requests.Response:
        deadlines = (min(_CONNECT_SECONDS, self._timeout), self._timeout + extra_seconds)
        try:
            response = self._session.request(
                method, self.url + path, timeout=deadlines, verify=self._ca_file, **request
            )
        except requests.RequestException as error:
            raise CoordinatorUnreachable(f"No coordinator answers at {self.url} ({_cause(error)}).") from error
        if not response.ok:
            raise _error(response)
        return response


def _body(spec: JobSpec) -> dict[str, Any]:
    options = {name: value for name, value in _camel(spec.options).items() if value is not None}
    if spec.options.deadline is not None:
        options["deadline"] = datetime.fromtimestamp(spec.options.deadline, tz=UTC).isoformat()
    body: dict[str, Any] = {"type": spec.type, "options": options}
    body |= {"index": spec.index} if spec.index else {"paths": list(spec.paths)}
    return body | ({"destination": spec.destination} if spec.destination else {})


def _load_ref(path: str, index: str) -> dict[str, str]:
    return {"indexFile": index} if index else {"path": path}


def _decode(response: requests.Response, answer: type[T]) -> T:
    try:
        return msgspec.json.decode(response.content, type=answer)
    except msgspec.DecodeError as error:
        raise PreheatError(
            f"{response.url} does not answer as a Preheat coordinator does: {error}.",
            remedy="Check the URL, and that the coordinator has this client's version.",
        ) from error


def _error(response: requests.Response) -> PreheatError:
    try:
        problem = msgspec.json.decode(response.content, type=dict[str, Any])
    except msgspec.DecodeError:
        return PreheatError(
            f"{response.url} answered {response.status_code} {response.reason}.",
            remedy="Check that the URL is a Preheat coordinator's.",
        )
    return from_problem(problem, response.status_code)


def _camel(value: Any) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(value)
    return {_camel_name(name): item for name, item in fields.items()}


def _camel_name(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _cause(error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout):
        return "timed out"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not trusted; name its authority with --ca or PREHEAT_CA_FILE"
    return "connection refused" if "refused" in str(error) else type(error).__name__
