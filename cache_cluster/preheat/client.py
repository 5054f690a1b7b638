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

from preheat.errors import CoordinatorUnreachable, InvalidRequest, PreheatError, from_problem
from preheat.jobs import Action, JobSpec, JobState, JobType, Priority
from preheat.settings import COORDINATOR_PORT, is_loopback

DEFAULT_URL = f"http://127.0.0.1:{COORDINATOR_PORT}"
_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 30.0

T = TypeVar("T")


class Count(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Files and their bytes."""

    files: int = 0
    bytes: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(files=self.files + other.files, bytes=self.bytes + other.bytes)


class Options(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A job's options as the coordinator filled them in."""

    replicas: int = 1
    batch_size: int = 200
    skip_if_exists: bool = True
    verify: bool = False
    bandwidth: int | None = None
    """Bytes per second and worker."""
    file_filter_regex: str | None = None
    min_hot_fraction: float | None = None
    max_failed_files: int | None = None
    deadline: datetime | None = None
    priority: Priority = Priority.NORMAL
    load_metadata_only: bool = False


class Failure(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One object that failed."""

    path: str
    size: int
    code: str
    message: str


class JobReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A job as ``GET /v1/jobs/{id}`` describes it."""

    id: str
    type: JobType
    paths: tuple[str, ...]
    index: str | None = None
    destination: str | None = None
    options: Options = Options()
    state: JobState
    listed: Count = Count()
    loaded: Count = Count()
    skipped: Count = Count()
    failed: Count = Count()
    remaining: Count = Count()
    in_flight: int = 0
    """Bytes of the remaining ones that the workers have fetched so far."""
    verified: Count | None = None
    hot_fraction: float = 0.0
    dataset_version: str | None = None
    listing_done: bool = False
    failures: tuple[Failure, ...] = ()
    reason: str = ""
    submitted_at: datetime
    queue_position: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    revision: int = 0
    url: str = ""
    attached: bool = False


class JobPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some jobs, newest first, and the cursor of the next page."""

    jobs: tuple[JobReport, ...] = ()
    next: str | None = None


class TaskReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What one worker did in one pass of a job."""

    worker: str
    action: Action
    status: JobState
    open_batches: int = 0
    batches: int = 0
    done: Count = Count()
    skipped: Count = Count()
    failed: int = 0
    error: str = ""


class TaskPage(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks of a job."""

    tasks: tuple[TaskReport, ...] = ()


class StopReport(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to :meth:`Client.stop_load`."""

    success: bool


class WorkerReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A worker as ``GET /v1/workers`` describes it."""

    id: str
    url: str
    zone: str = ""
    live: bool
    leaving: bool = False
    """It is drained or stopping: it takes no more batches."""
    capacity: int
    used: int = 0
    objects: int = 0
    active_batches: int = 0
    pool_size: int = 0
    unfinished_batches: int = 0
    load_average: tuple[float, ...] = ()
    started_at: datetime | None = None

    @property
    def state(self) -> str:
        """``live``, ``draining``, ``drained``, or ``lost`` if it fell silent."""
        if self.leaving:
            return "draining" if self.active_batches or self.unfinished_batches else "drained"
        return "live" if self.live else "lost"


class WorkerPage(msgspec.Struct, frozen=True, kw_only=True):
    """The workers at one epoch."""

    epoch: int
    workers: tuple[WorkerReport, ...] = ()


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
        """Return a client that shows ``PREHEAT_TOKEN`` and trusts ``PREHEAT_CA_FILE``, where these are set."""
        ca_file = os.environ.get("PREHEAT_CA_FILE") or os.environ.get("REQUESTS_CA_BUNDLE", "")
        return cls(url, token=os.environ.get("PREHEAT_TOKEN", ""), ca_file=ca_file, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def submit(self, spec: JobSpec, *, idempotency_key: str = "") -> JobReport:
        """Submit a job; ``attached`` in the answer tells that one of the same type and paths runs already."""
        options = {name: value for name, value in _camel(spec.options).items() if value is not None}
        if spec.options.deadline is not None:
            options["deadline"] = datetime.fromtimestamp(spec.options.deadline, tz=UTC).isoformat()
        body = {"type": spec.type, "options": options}
        body |= {"index": spec.index} if spec.index else {"paths": list(spec.paths)}
        if spec.destination:
            body["destination"] = spec.destination
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return _decode(self._request("POST", "/v1/jobs", json=body, headers=headers), JobReport)

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
