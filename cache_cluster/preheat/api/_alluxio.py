"""Alluxio's dialect B: ``/api/v1/master/{submit,progress,stop}_job/load`` and ``list_job``.

What the public documentation leaves open, and what we chose, stands in docs/reference/alluxio-compatibility.md.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Self

from fastapi import APIRouter, Depends, Query
from fastapi.responses import PlainTextResponse
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from preheat.api._alluxio_fields import AlluxioOptions, Boolean
from preheat.api._problems import refuse_unknown_query
from preheat.api._report import json_report, text_report
from preheat.coordinator import JobService, KnownJob
from preheat.errors import InvalidRequest, JobNotFound
from preheat.jobs import Job, JobSpec, JobState, JobType

_FORMATS = ("TEXT", "JSON")
_TEXT_TOO: dict[str, Any] = {"content": {"text/plain": {"schema": {"type": "string"}}}}


class LoadRef(BaseModel):
    """What identifies a load job: its path, or its index file."""

    model_config = ConfigDict(extra="forbid")

    path: str | None = None
    index_file: str | None = Field(None, validation_alias=AliasChoices("indexFile", "index"))

    @model_validator(mode="after")
    def _one_name(self) -> Self:
        if bool(self.path) is bool(self.index_file):
            raise ValueError("Give either path or indexFile")
        return self

    @property
    def name(self) -> str:
        """What messages call the job."""
        return self.path or self.index_file or ""

    def to_spec(self) -> JobSpec:
        """Return a job of the same identity."""
        return JobSpec(paths=(self.path,) if self.path else (), index=self.index_file or "")


class SubmitLoad(LoadRef):
    """Body of ``submit_job/load``."""

    options: AlluxioOptions = AlluxioOptions.model_validate({})

    def to_spec(self) -> JobSpec:
        """Return the job as the coordinator takes it."""
        ref = super().to_spec()
        return JobSpec(paths=ref.paths, index=ref.index, options=self.options.to_options())


class ProgressRef(LoadRef):
    """Body of ``progress_job/load``, which is a GET."""

    format: str = "TEXT"
    verbose: Boolean = False


def alluxio_router(service: JobService) -> APIRouter:
    """Return the routes of dialect B."""
    router = APIRouter(prefix="/api/v1/master", tags=["alluxio"], dependencies=[Depends(refuse_unknown_query)])

    @router.post("/submit_job/load")
    async def submit(body: SubmitLoad) -> dict[str, Any]:
        known = await service.submit(body.to_spec())
        if known.attached and body.options.bandwidth is not None:  # as Alluxio's updateJob does
            await service.set_bandwidth(known.job.id, body.options.bandwidth)
        return _submitted(known, body.name)

    @router.get("/progress_job/load", response_model=None, responses={200: _TEXT_TOO})
    async def progress(
        body: ProgressRef | None = None,
        path: Annotated[str | None, Query()] = None,
        index_file: Annotated[str | None, Query(alias="indexFile")] = None,
        report_format: Annotated[str, Query(alias="format")] = "TEXT",
        verbose: Annotated[bool, Query()] = False,  # noqa: FBT002 - a query parameter
    ) -> PlainTextResponse | dict[str, Any]:
        if body is None:
            body = _progress_ref(path=path, indexFile=index_file, format=report_format, verbose=verbose)
        return await _report(service, body)

    @router.post("/stop_job/load")
    async def stop(body: LoadRef) -> dict[str, Any]:
        known = await service.find(body.to_spec())
        if known is None or known.job.state.ended:
            message = f"Cannot find load job for path {body.name}, it might have already been stopped or finished"
            return {"success": False, "path": body.name, "message": message}
        await service.stop(known.job.id)
        return {"success": True, "path": body.name, "message": f"Load '{body.name}' is successfully stopped."}

    @router.get("/list_job")
    @router.post("/list_job")
    async def list_job(
        job_type: Annotated[str, Query(alias="job-type")] = "ALL",
        job_state: Annotated[str, Query(alias="job-state")] = "ALL",
    ) -> dict[str, Any]:
        wanted = _wanted("job-type", job_type, [kind.upper() for kind in JobType])
        state = _wanted("job-state", job_state, list(JobState))
        jobs = (known.job for known in service.list(states=frozenset({JobState(state)}) if state else None))
        return {"results": [_row(job) for job in jobs if wanted in (None, job.spec.type.upper())]}

    return router


def _submitted(known: KnownJob, name: str) -> dict[str, Any]:
    if known.attached:
        message = f"Load already running for path '{name}' "
    else:
        message = f"Load '{name}' is successfully submitted. JobId: {known.job.id}"
    return {"success": True, "jobId": known.job.id, "path": name, "message": message}


def _progress_ref(**fields: Any) -> ProgressRef:
    if not (fields["path"] or fields["indexFile"]):
        raise InvalidRequest("path is missing.", remedy='Send {"path": "s3://…"} as body, or ?path=…')
    if fields["path"] and fields["indexFile"]:
        raise InvalidRequest("Give either path or indexFile.")
    return ProgressRef(**fields)


async def _report(service: JobService, ref: ProgressRef) -> PlainTextResponse | dict[str, Any]:
    shape = ref.format.upper()
    if shape not in _FORMATS:
        raise InvalidRequest(f"format={ref.format[:40]!r} is not known.", remedy=f"Write {' or '.join(_FORMATS)}.")
    known = await service.find(ref.to_spec())
    if known is None:
        raise JobNotFound(f"Load for path '{ref.name}' cannot be found.")
    bandwidth = service.bandwidth(known.job)
    if shape == "JSON":
        return json_report(known.job, bandwidth=bandwidth, verbose=ref.verbose)
    return PlainTextResponse(text_report(known.job, bandwidth=bandwidth, verbose=ref.verbose))


def _wanted(name: str, text: str, known: list[str]) -> str | None:
    """Return which of the known values is meant; none for ALL."""
    value = text.upper()
    if value not in (*known, "ALL"):
        raise InvalidRequest(f"{name}={text[:40]!r} is not known.", remedy=f"Write one of {', '.join(known)}.")
    return None if value == "ALL" else value


def _row(job: Job) -> dict[str, Any]:
    row = {
        "id": job.id,
        "type": job.spec.type.upper(),
        "path": ",".join(job.spec.paths),
        "indexFile": job.spec.index,
        "destination": job.spec.destination,
        "state": job.state,
        "startTime": iso_time(job.started_at),
        "endTime": iso_time(job.finished_at),
    }
    return {key: value for key, value in row.items() if value}


def iso_time(seconds: float | None) -> str | None:
    """Return a time as the dialects write it."""
    return None if seconds is None else datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="milliseconds")
