"""Alluxio's dialect C: ``/api/v1/load`` as a resource (Enterprise AI 3.6 and later).

What the public documentation leaves open, and what we chose, stands in docs/reference/alluxio-compatibility.md.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator

from preheat.api._alluxio import iso_time
from preheat.api._alluxio_fields import AlluxioOptions, Boolean
from preheat.api._problems import refuse_unknown_query
from preheat.coordinator import JobService, KnownJob
from preheat.errors import InvalidRequest, JobNotFound
from preheat.jobs import Job, JobOptions, JobSpec, JobState, JobType

_SYNC_SECONDS = 600.0
_JSON: dict[str, Any] = {"content": {"application/json": {"schema": {"type": "object"}}}}
"""Alluxio's answers to what is not there, or is there already, are no problems as our own API's are."""
_NEVER = 1 << 60
_NOT_FOUND = {"status": "No job found..."}
Alias = Annotated[str, Field(min_length=1, max_length=256)]


class RestOptions(AlluxioOptions):
    """Options of ``POST /api/v1/load``."""

    sync: Boolean = Field(default=False, description="Answer when the job has ended, at most 10 minutes later.")
    load_policy: Literal["IF_CHANGED"] | None = Field(
        None, alias="loadPolicy", description="Fetch again only what changed: the same as skipIfExists."
    )

    def to_options(self) -> JobOptions:
        """Return the options as the coordinator takes them."""
        options = super().to_options()
        return replace(options, skip_if_exists=True) if self.load_policy else options


class RestRef(BaseModel):
    """Body of ``DELETE /api/v1/load``: what identifies the job."""

    model_config = ConfigDict(extra="forbid")

    id: str | None = None
    alias: str | None = None
    paths: list[str] = Field(default_factory=list, max_length=1000)
    index: str | None = None

    @model_validator(mode="after")
    def _one_name(self) -> Self:
        if [bool(name) for name in (self.id, self.alias, self.paths, self.index)].count(True) != 1:
            raise ValueError("Give one of id, alias, paths and index")
        return self


class RestSubmit(BaseModel):
    """Body of ``POST /api/v1/load``."""

    model_config = ConfigDict(extra="forbid")

    paths: list[str] = Field(default_factory=list, max_length=1000)
    index: str | None = None
    alias: Alias | None = None
    options: RestOptions = RestOptions.model_validate({})

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.paths) is bool(self.index):
            raise ValueError("Give either paths or index")
        return self

    def to_spec(self) -> JobSpec:
        """Return the job as the coordinator takes it; without an alias it gets a random one."""
        return JobSpec(
            paths=tuple(dict.fromkeys(self.paths)),
            index=self.index or "",
            alias=self.alias or f"load-{secrets.token_hex(4)}",
            options=self.options.to_options(),
        )


def alluxio_rest_router(service: JobService) -> APIRouter:
    """Return the routes of dialect C."""
    router = APIRouter(prefix="/api/v1/load", tags=["alluxio"], dependencies=[Depends(refuse_unknown_query)])

    @router.post("", response_model=None, responses={409: _JSON})
    async def submit(body: RestSubmit) -> JSONResponse:
        spec = body.to_spec()
        holder = _by_alias(service, spec.alias)
        if holder and not holder.job.state.ended and holder.job.spec.identity != spec.identity:
            status = f"The alias {spec.alias!r} is that of the running job {holder.job.id}."
            return JSONResponse({"status": status}, status_code=409)
        known = await service.submit(spec)
        if body.options.sync:
            known = await service.wait(known.job.id, after=_NEVER, seconds=_SYNC_SECONDS)
            return JSONResponse(_row(service, known.job))
        return _submitted(known)

    @router.get("", response_model=None, responses={404: _JSON})
    async def get(
        job_id: Annotated[str | None, Query(alias="id")] = None, alias: Annotated[str | None, Query()] = None
    ) -> JSONResponse:
        if job_id is None and alias is None:
            loads = (known.job for known in service.list() if known.job.spec.type is JobType.LOAD)
            return JSONResponse({"results": [_row(service, job) for job in loads]})
        known = await _find(service, _ref(job_id, alias))
        return JSONResponse(_row(service, known.job)) if known else JSONResponse(_NOT_FOUND, status_code=404)

    @router.delete("", response_model=None, responses={404: _JSON})
    async def stop(
        body: RestRef | None = None,
        job_id: Annotated[str | None, Query(alias="id")] = None,
        alias: Annotated[str | None, Query()] = None,
    ) -> JSONResponse:
        known = await _find(service, body or _ref(job_id, alias))
        if known is None:
            return JSONResponse(_NOT_FOUND, status_code=404)
        return JSONResponse(_row(service, (await service.stop(known.job.id)).job))

    return router


def _ref(job_id: str | None, alias: str | None) -> RestRef:
    if bool(job_id) is bool(alias):
        raise InvalidRequest("Give either id or alias.")
    return RestRef(id=job_id, alias=alias)


async def _find(service: JobService, ref: RestRef) -> KnownJob | None:
    if ref.alias:
        return _by_alias(service, ref.alias)
    if not ref.id:
        return await service.find(JobSpec(paths=tuple(dict.fromkeys(ref.paths)), index=ref.index or ""))
    try:
        return await service.get(ref.id)
    except JobNotFound:
        return None


def _by_alias(service: JobService, alias: str) -> KnownJob | None:
    """Return the latest job of this alias."""
    return next((known for known in service.list() if known.job.spec.alias == alias), None)


def _submitted(known: KnownJob) -> JSONResponse:
    """Name the job; 409 with the same answer if it ran already, as 3.6 does."""
    answer = {"id": known.job.id, "jobId": known.job.id, "alias": known.job.spec.alias}
    return JSONResponse(answer, status_code=409 if known.attached else 200)


def _row(service: JobService, job: Job) -> dict[str, Any]:
    """Return a job with Alluxio's field names; empty values are left out, as the documentation says."""
    load, options, started = job.work, job.spec.options, job.started_at or job.submitted_at
    row = {
        "id": job.id,
        "alias": job.spec.alias,
        "startTime": iso_time(started),
        "state": job.state,
        "runningState": "LOADING" if job.state is JobState.RUNNING else "",
        "errorMessage": {item.path: item.message for item in job.failures},
        "failedFileListPath": f"/v1/jobs/{job.id}/failures" if load.failed.objects else "",
        "reason": job.reason,
        "paths": list(job.spec.paths),
        "index": job.spec.index,
        "skipIfExists": options.skip_if_exists,
        "loadMetadataOnly": options.load_metadata_only,
        "verify": options.verify,
        "bandwidth": service.bandwidth(job),
        "timeElapsedMilliseconds": round(((job.finished_at or time.time()) - started) * 1000),
        "loadedBytes": 0 if options.load_metadata_only else load.done.bytes,
        "skippedBytes": load.skipped.bytes,
        "totalBytes": load.listed.bytes,
        "loadedNonEmptyFiles": load.done.objects,
        "failedFiles": load.failed.objects,
        "scannedFiles": load.listed.objects,
    }
    return {key: value for key, value in row.items() if value}
