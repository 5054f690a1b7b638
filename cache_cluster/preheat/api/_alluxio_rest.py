"""Alluxio's dialect C: ``/api/v1/load`` as a resource (Enterprise AI 3.6 and later).

What the public documentation leaves open, and what we chose, stands in docs/reference/alluxio-compatibility.md.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from preheat.api._alluxio import Boolean
from preheat.coordinator import JobService, KnownJob
from preheat.errors import InvalidRequest, JobNotFound
from preheat.jobs import Job, JobSpec, JobState, LoadOptions

_SYNC_SECONDS = 600.0


class RestOptions(BaseModel):
    """Options of ``POST /api/v1/load``."""

    model_config = ConfigDict(extra="forbid")

    batch_size: int = Field(200, alias="batchSize")
    file_filter_regex: str | None = Field(None, alias="fileFilterRegex")
    replicas: int = 1
    skip_if_exists: Boolean = Field(default=False, alias="skipIfExists")
    verify: Boolean = False
    sync: Boolean = Field(default=False, description="Answer when the job has ended, at most 10 minutes later.")


class RestSubmit(BaseModel):
    """Body of ``POST /api/v1/load``."""

    model_config = ConfigDict(extra="forbid")

    paths: list[str] = Field(default_factory=list)
    index: str | None = None
    options: RestOptions = RestOptions.model_validate({})

    def to_spec(self) -> JobSpec:
        """Return the job as the coordinator takes it.

        Raises:
            InvalidRequest: there are no paths, or an index file.
        """
        if self.index is not None:
            raise InvalidRequest("index is not available yet.", remedy="Send paths.")
        if not self.paths:
            raise InvalidRequest("paths is missing.", remedy='Send {"paths": ["s3://…"]}.')
        options = self.options.model_dump(exclude={"sync"})
        return JobSpec(paths=tuple(dict.fromkeys(self.paths)), options=LoadOptions(**options))


class RestRef(BaseModel):
    """Body of ``DELETE /api/v1/load``: the job's id, or its paths."""

    id: str | None = None
    paths: list[str] = Field(default_factory=list)


def alluxio_rest_router(service: JobService) -> APIRouter:
    """Return the routes of dialect C."""
    router = APIRouter(prefix="/api/v1/load", tags=["alluxio"])

    @router.post("", response_model=None)
    async def submit(body: RestSubmit) -> JSONResponse:
        known = await service.submit(body.to_spec())
        if body.options.sync:
            known = await service.wait(known.job.id, after=known.revision + (1 << 60), seconds=_SYNC_SECONDS)
            return JSONResponse(_row(known.job))
        return JSONResponse({"jobId": known.job.id}, status_code=409 if known.attached else 200)

    @router.get("", response_model=None)
    async def get(job_id: Annotated[str | None, Query(alias="id")] = None) -> JSONResponse:
        if job_id is None:
            return JSONResponse({"results": [_row(known.job) for known in service.list()]})
        try:
            return JSONResponse(_row((await service.get(job_id)).job))
        except JobNotFound:
            return JSONResponse({"status": "No job found..."}, status_code=404)

    @router.delete("", response_model=None)
    async def stop(body: RestRef) -> JSONResponse:
        known = await _find(service, body)
        if known is None:
            return JSONResponse({"status": "No job found..."}, status_code=404)
        return JSONResponse(_row((await service.stop(known.job.id)).job))

    return router


async def _find(service: JobService, ref: RestRef) -> KnownJob | None:
    if ref.id is None and not ref.paths:
        raise InvalidRequest("id is missing.", remedy='Send {"id": "…"} or {"paths": ["s3://…"]}.')
    if ref.id is None:
        return service.find(JobSpec(paths=tuple(ref.paths)))
    try:
        return await service.get(ref.id)
    except JobNotFound:
        return None


def _row(job: Job) -> dict[str, Any]:
    """Return a job with Alluxio's field names; empty values are left out, as the documentation says."""
    load, started = job.load, job.started_at or job.submitted_at
    ended = job.finished_at or datetime.now(tz=UTC).timestamp()
    row = {
        "id": job.id,
        "startTime": datetime.fromtimestamp(started, tz=UTC).isoformat(timespec="milliseconds"),
        "state": job.state,
        "runningState": "LOADING" if job.state is JobState.RUNNING else "",
        "errorMessage": {item.path: item.message for item in job.failures},
        "paths": list(job.spec.paths),
        "skipIfExists": job.spec.options.skip_if_exists,
        "verify": job.spec.options.verify,
        "bandwidth": job.spec.options.bandwidth,
        "timeElapsedMilliseconds": round((ended - started) * 1000),
        "loadedBytes": load.done.bytes,
        "skippedBytes": load.skipped.bytes,
        "totalBytes": load.listed.bytes,
        "loadedNonEmptyFiles": load.done.objects,
        "failedFiles": load.failed.objects,
        "scannedFiles": load.listed.objects,
    }
    return {key: value for key, value in row.items() if value}
