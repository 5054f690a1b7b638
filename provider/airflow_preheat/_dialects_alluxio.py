"""Alluxio's coordinator: dialect B, ``/api/v1/master`` of 3.3 to 3.5, and dialect C, ``/api/v1/load`` from 3.6 on.

They follow the public documentation; where that leaves an answer open, every form is taken that its sources have.
An Alluxio knows no waiters and no fences: who cancels, stops the job for everybody. A submit is safe to repeat,
because there is one load job for a path: the second one finds the first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from airflow_preheat import _client
from airflow_preheat._client import Call, Reply
from airflow_preheat._dialects_base import Talk
from airflow_preheat._dialects_reports import is_missing, read_json, read_progress, read_row
from airflow_preheat._endpoint import DialectName, Endpoint
from airflow_preheat.exceptions import (
    PreheatError,
    PreheatJobNotFoundError,
    PreheatRequestError,
    PreheatUnavailableError,
)
from airflow_preheat.jobs import ENDED, Claim, Job, JobSpec, as_bytes

_ACCEPT = {"Accept": "application/json, text/plain;q=0.9, */*;q=0.8"}
_OPTIONS = ("replicas", "batchSize", "skipIfExists", "verify", "bandwidth", "fileFilterRegex")
_BUSY = "too many jobs running"
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class AlluxioJobs:
    """Dialect B: a job is known by its path."""

    endpoint: Endpoint
    name: DialectName = "alluxio-3.3"
    long_poll: bool = False
    fences: bool = False
    in_order: bool = False
    events: bool = False

    def check(self) -> Talk[bool]:
        """Return whether the coordinator lists its load jobs in this dialect."""
        reply = yield _call("GET", "/api/v1/master/list_job", query={"job-type": "LOAD"})
        return reply.status == HTTPStatus.OK and read_json(reply.body) is not None

    def submit(self, spec: JobSpec, *_: object, **__: object) -> Talk[Job]:
        """Submit a load of one path; a stopped one goes on, one that runs is joined."""
        options = _options(spec, self.name)
        words = {name: json.dumps(value) if isinstance(value, bool) else str(value) for name, value in options}
        path = _one_path(spec, self.name)
        if "fileFilterRegex" in words:
            words["fileFilterRegx"] = words.pop("fileFilterRegex")
        call = _call("POST", "/api/v1/master/submit_job/load", body={"path": path, "options": words})
        reply = yield call
        answer = _checked(self.endpoint, call, reply)
        job = yield from self._progress(path)
        job["attached"] = "already running" in answer.lower()
        return job

    def get_job(self, job_id: str, **_: object) -> Talk[Job]:
        """Read a path's job, at once."""
        return self._progress(job_id)

    def last_load(self, path: str) -> Talk[Job | None]:
        """Read the last load job of a path; ``None`` if there is none."""
        return (yield from _or_none(self._progress(path)))

    def claim(self, claim: Claim) -> Talk[Job]:
        """Read the job: there is nothing to claim."""
        return self._progress(claim.job_id)

    def renew(self, claim: Claim) -> Talk[Job]:
        """Read the job: there is nothing to renew."""
        return self._progress(claim.job_id)

    def cancel(self, claim: Claim) -> Talk[Job]:
        """Stop the job."""
        return self.stop(claim.job_id)

    def stop(self, job_id: str) -> Talk[Job]:
        """Stop a path's job; nothing changes if it has ended."""
        call = _call("POST", "/api/v1/master/stop_job/load", body={"path": job_id})
        reply = yield call
        if reply.status >= HTTPStatus.BAD_REQUEST and not is_missing(_text(reply)):
            raise _refusal(self.endpoint, call, reply)
        return (yield from self._progress(job_id))

    def _progress(self, path: str) -> Talk[Job]:
        # A GET with a body, as documented.
        body = {"path": path, "format": "JSON", "verbose": "true"}
        call = _call("GET", "/api/v1/master/progress_job/load", body=body)
        reply = yield call
        answer = _checked(self.endpoint, call, reply)
        if "Job State:" not in answer and is_missing(answer):
            raise PreheatJobNotFoundError(f"Alluxio at {self.endpoint.url} knows no load of {path}.")
        return read_progress(reply.body).as_job(job_id=path, paths=[path], url=self.endpoint.url)


@dataclass(frozen=True, slots=True)
class AlluxioLoads:
    """Dialect C: a job is known by its id or, where a version tells none, by its alias."""

    endpoint: Endpoint
    name: DialectName = "alluxio-3.6"
    long_poll: bool = False
    fences: bool = False
    in_order: bool = False
    events: bool = False

    def check(self) -> Talk[bool]:
        """Return whether the coordinator lists its load jobs in this dialect."""
        reply = yield _call("GET", _LOAD)
        return reply.status == HTTPStatus.OK and _rows(reply) is not None

    def submit(self, spec: JobSpec, *_: object, **__: object) -> Talk[Job]:
        """Submit a load; a stopped one goes on, one that runs is joined."""
        options = dict(_options(spec, self.name))
        call = _call("POST", _LOAD, body={"paths": list(spec.paths), "options": options})
        reply = yield call
        attached = reply.status == HTTPStatus.CONFLICT
        if not attached:
            _checked(self.endpoint, call, reply)
        name = _job_name(reply)
        # A 409 of 3.6 names the job that runs; that of later versions does not, and neither may a success.
        job = yield from (self._read(name) if name else self._find(spec.paths))
        job["attached"] = attached
        return job

    def get_job(self, job_id: str, **_: object) -> Talk[Job]:
        """Read a job, at once."""
        return self._read(job_id)

    def last_load(self, path: str) -> Talk[Job | None]:
        """Read the last load job of a path; ``None`` if there is none."""
        return (yield from _or_none(self._find([path])))

    def claim(self, claim: Claim) -> Talk[Job]:
        """Read the job: there is nothing to claim."""
        return self._read(claim.job_id)

    def renew(self, claim: Claim) -> Talk[Job]:
        """Read the job: there is nothing to renew."""
        return self._read(claim.job_id)

    def cancel(self, claim: Claim) -> Talk[Job]:
        """Stop the job."""
        return self.stop(claim.job_id)

    def stop(self, job_id: str) -> Talk[Job]:
        """Stop a job; nothing changes if it has ended."""
        job = yield from self._read(job_id)
        if job["state"] in ENDED:
            return job
        # The documentation has a body without its fields: by what it was submitted with, or by what it is called.
        for body in ({_key(job_id): job_id}, {"paths": job["paths"]}):
            call = _call("DELETE", _LOAD, body=body)
            reply = yield call
            if reply.status != HTTPStatus.BAD_REQUEST:
                break
        _checked(self.endpoint, call, reply)
        return (yield from self._read(job_id))

    def _read(self, job_id: str) -> Talk[Job]:
        call = _call("GET", _LOAD, query={_key(job_id): job_id})
        reply = yield call
        _checked(self.endpoint, call, reply)
        document = _client.json_object(reply.body) or {}
        candidates = [document] if "state" in document else _rows(reply) or []
        for row in candidates:
            if len(candidates) == 1 or row.get(_key(job_id)) == job_id:
                return self._job(row, job_id)
        raise PreheatJobNotFoundError(f"Alluxio at {self.endpoint.url} knows no load job {job_id}.")

    def _find(self, paths: Sequence[str]) -> Talk[Job]:
        """Read the job of some paths: the one that goes on, or else the newest."""
        call = _call("GET", _LOAD)
        reply = yield call
        _checked(self.endpoint, call, reply)
        rows = [row for row in _rows(reply) or [] if sorted(row.get("paths", [])) == sorted(paths)]
        if not rows:
            raise PreheatJobNotFoundError(f"Alluxio at {self.endpoint.url} lists no load of {', '.join(paths)}.")
        row = max(rows, key=lambda row: (row.get("state") not in ENDED, str(row.get("startTime"))))
        return self._job(row, str(row.get("id") or row.get("alias")))

    def _job(self, row: Mapping[str, Any], job_id: str) -> Job:
        return read_row(row).as_job(job_id=job_id, paths=row.get("paths") or [job_id], url=self.endpoint.url)


_LOAD = "/api/v1/load"


def _or_none(talk: Talk[Job]) -> Talk[Job | None]:
    try:
        return (yield from talk)
    except PreheatJobNotFoundError:
        return None


def _call(method: Any, path: str, **fields: Any) -> Call:
    return Call(method=method, path=path, headers=_ACCEPT, **fields)


def _one_path(spec: JobSpec, dialect: str) -> str:
    if len(spec.paths) != 1:
        raise PreheatRequestError(
            f"path has {len(spec.paths)} elements; with dialect={dialect} a job has one. Map the task over them, "
            "by PreloadOperator.partial(…).expand(path=[…])."
        )
    return spec.paths[0]


def _options(spec: JobSpec, dialect: str) -> Iterator[tuple[str, Any]]:
    """Yield the options by their names at Alluxio, and refuse what it cannot do."""
    if spec.type != "load":
        raise PreheatRequestError(f"An Alluxio (dialect={dialect}) takes jobs that load, not type={spec.type}.")
    if spec.index is not None:
        raise PreheatRequestError(
            f"index is not for an Alluxio (dialect={dialect}): it is not known in which order one loads. Give "
            "the paths as path, one task for each."
        )
    given = {name: value for name, value in spec.options.items() if value is not None}
    for name in given.keys() - set(_OPTIONS):
        raise PreheatRequestError(f"{name} is not for an Alluxio (dialect={dialect}). Leave it out.")
    for name, value in given.items():
        yield name, as_bytes(name, value) if name == "bandwidth" else value


def _checked(endpoint: Endpoint, call: Call, reply: Reply) -> str:
    """Return an answer's text, if it is none that refuses: an Alluxio also refuses with 200."""
    document = read_json(reply.body)
    success = document.get("success", True) if isinstance(document, dict) else document
    if reply.status >= HTTPStatus.MULTIPLE_CHOICES or str(success).lower() == "false":
        raise _refusal(endpoint, call, reply)
    return _text(reply)


def _refusal(endpoint: Endpoint, call: Call, reply: Reply) -> PreheatError:
    error = _client.refusal(endpoint, call, reply)
    if is_missing(_text(reply)):
        return PreheatJobNotFoundError(str(error))
    if _BUSY in str(error).lower():
        return PreheatUnavailableError(str(error))
    return error


def _text(reply: Reply) -> str:
    return reply.body.decode(errors="replace")


def _rows(reply: Reply) -> list[dict[str, Any]] | None:
    rows = (_client.json_object(reply.body) or {}).get("results")
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else None


def _job_name(reply: Reply) -> str | None:
    """Return what a submit's answer calls the job: an id, or else an alias."""
    document = _client.json_object(reply.body) or {}
    names = [document.get(key) for key in ("id", "jobId", "job_id")]
    found = _UUID.search(_text(reply))
    return next((str(name) for name in (*names, found and found[0], document.get("alias")) if name), None)


def _key(job_id: str) -> str:
    return "id" if _UUID.fullmatch(job_id) else "alias"
