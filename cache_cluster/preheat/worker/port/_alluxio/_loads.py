"""Load jobs as Alluxio's clients ask a worker for them (dialect A).

A load is forwarded to a coordinator, in dialect B. The answers are those of Alluxio's ``HttpLoadService``: status 200,
``text/plain``, JSON. What differs on purpose stands in docs/reference/alluxio-compatibility.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from preheat.errors import InvalidRequest, JobNotFound, PreheatError
from preheat.worker._coordinators import ControlPlane
from preheat.worker.port import _http as http

_API = "/api/v1/master"
_NOT_OPTIONS = {"path", "opType", "verbose", "progressFormat"}
_FORMATS = ("TEXT", "JSON")
_NO_JOB = "NONE"
_NO_LIMIT = re.compile(r"-\d+|0+")


class _Reply(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What dialect B answers to a submit or a stop."""

    success: bool
    job_id: str = _NO_JOB
    message: str


class Operation(StrEnum):
    """What to do about a path's load job."""

    SUBMIT = "submit"
    STOP = "stop"
    PROGRESS = "progress"


class Loads:
    """Answers ``/v1/load``.

    Args:
        control: finds coordinators.
    """

    def __init__(self, control: ControlPlane) -> None:
        self._control = control

    async def load(self, fields: Mapping[str, str], *, authorization: str | None = None) -> http.Answer:
        """Submit or stop the load job of a path, or report its progress.

        Raises:
            InvalidRequest: ``path`` or ``opType`` is missing, or no such operation or format exists.
        """
        path = fields.get("path", "")
        if not path:
            raise InvalidRequest("The parameter path is missing.", remedy="Add ?path=s3://BUCKET/PREFIX/.")
        match _operation(fields):
            case Operation.SUBMIT:
                answer = await self._submit(path, fields, authorization)
            case Operation.STOP:
                answer = await self._stop(path, authorization)
            case Operation.PROGRESS:
                answer = await self._progress(path, fields, authorization)
        return http.Answer(body=msgspec.json.encode(answer), content_type="text/plain")

    async def _submit(self, path: str, fields: Mapping[str, str], authorization: str | None) -> dict[str, Any]:
        body = {"path": path, "options": _options(fields)}
        try:
            reply = await self._control.ask("POST", f"{_API}/submit_job/load", json=body, authorization=authorization)
        except PreheatError as error:
            message = f"Failed to submit load job {path}: {error}"
            return {"success": False, "jobId": _NO_JOB, "path": path, "message": message}
        known = msgspec.json.decode(reply, type=_Reply)
        return {"success": known.success, "jobId": known.job_id, "path": path, "message": f"{known.message}\n"}

    async def _stop(self, path: str, authorization: str | None) -> dict[str, Any]:
        try:
            reply = await self._control.ask(
                "POST", f"{_API}/stop_job/load", json={"path": path}, authorization=authorization
            )
        except PreheatError as error:
            return {"success": False, "path": path, "message": f"Failed to stop load job {path}: {error}"}
        stopped = msgspec.json.decode(reply, type=_Reply)
        return {"success": stopped.success, "path": path, "message": f"{stopped.message}\n"}

    async def _progress(self, path: str, fields: Mapping[str, str], authorization: str | None) -> dict[str, Any]:
        verbose = str(fields.get("verbose", "").lower() == "true").lower()
        params = {"path": path, "format": _format(fields), "verbose": verbose}
        try:
            reply = await self._control.ask(
                "GET", f"{_API}/progress_job/load", params=params, authorization=authorization
            )
        except JobNotFound:
            message = f"Load for path '{path}' cannot be found."
            return {"success": False, "jobState": "STOPPED", "path": path, "message": message, "respProperties": {}}
        except PreheatError as error:
            message = f"Failed to get progress for load job {path}: {error}"
            return {"success": False, "path": path, "message": message, "respProperties": {}}
        return _shown_progress(path, reply.decode())


def _operation(fields: Mapping[str, str]) -> Operation:
    text = fields.get("opType", "")
    try:
        return Operation(text.lower())
    except ValueError as error:
        names = ", ".join(Operation)
        raise InvalidRequest(f"opType={text[:40]!r} is no operation.", remedy=f"Write one of {names}.") from error


def _format(fields: Mapping[str, str]) -> str:
    text = fields.get("progressFormat") or "TEXT"
    if text not in _FORMATS:
        raise InvalidRequest(f"progressFormat={text[:40]!r} is no format.", remedy="Write TEXT or JSON.")
    return text


def _options(fields: Mapping[str, str]) -> dict[str, str]:
    """Return a submit's options; Alluxio ignores empty ones, and a bandwidth that is not positive."""
    options = {name: value for name, value in fields.items() if name not in _NOT_OPTIONS and value}
    if _NO_LIMIT.fullmatch(options.get("bandwidth", "")):
        del options["bandwidth"]
    return options


def _shown_progress(path: str, report: str) -> dict[str, Any]:
    message = f"Progress for loading path '{path}':\n{report}"
    properties = _properties(message)
    shown: dict[str, Any] = {"path": path, "message": message, "respProperties": properties}
    return {"jobState": properties["Job State"], **shown} if "Job State" in properties else shown


def _properties(report: str) -> dict[str, str]:
    """Split each line at its colons and keep the first two parts, as Alluxio does: a value ends at its next colon."""
    rows = (row.rstrip(":").split(":") for row in report.split("\n"))
    return {row[0].strip(): row[1].strip() for row in rows if len(row) > 1}
