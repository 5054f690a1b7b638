"""Alluxio's dialect B: ``/api/v1/master/{submit,progress,stop}_job/load`` and ``list_job``.

What the public documentation leaves open, and what we chose, stands in docs/reference/alluxio-compatibility.md.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from preheat.api._report import json_report, text_report
from preheat.coordinator import JobService, KnownJob
from preheat.errors import InvalidRequest, JobNotFound
from preheat.jobs import JobSpec, JobState, LoadOptions
from preheat.units import parse_size

_TRUE, _FALSE = "true", "false"


def _boolean(value: Any) -> Any:
    """Accept Alluxio's string booleans."""
    return {_TRUE: True, _FALSE: False}.get(value.strip().lower(), value) if isinstance(value, str) else value


def _size(value: Any) -> Any:
    return parse_size(value, field="bandwidth") if isinstance(value, str) else value


Boolean = Annotated[bool, BeforeValidator(_boolean)]


class AlluxioOptions(BaseModel):
    """Options as the documentation spells them; values may be strings."""

    model_config = ConfigDict(extra="forbid")

    replicas: int = 1
    batch_size: int = Field(200, alias="batchSize")
    skip_if_exists: Boolean = Field(default=False, alias="skipIfExists")
    verify: Boolean = False
    bandwidth: Annotated[int | None, BeforeValidator(_size)] = None
    file_filter_regx: str | None = Field(None, alias="fileFilterRegx")
    file_filter_regex: str | None = Field(None, alias="fileFilterRegex")
    partial_listing: Boolean = Field(default=True, alias="partialListing", description="Listing is always streamed.")
    load_metadata_only: Boolean = Field(default=False, alias="loadMetadataOnly")

    def to_options(self) -> LoadOptions:
        """Return the options as the coordinator takes them."""
        if self.load_metadata_only:
            raise InvalidRequest("loadMetadataOnly=true is not available yet.", remedy="Leave it out.")
        return LoadOptions(
            replicas=self.replicas,
            batch_size=self.batch_size,
            skip_if_exists=self.skip_if_exists,
            verify=self.verify,
            bandwidth=self.bandwidth,
            file_filter_regex=self.file_filter_regx or self.file_filter_regex,
        )


class SubmitLoad(BaseModel):
    """Body of ``submit_job/load``."""

    model_config = ConfigDict(extra="forbid")

    path: str
    options: AlluxioOptions = AlluxioOptions()


class LoadRef(BaseModel):
    """Body of ``progress_job/load`` (with GET) and ``stop_job/load``."""

    path: str
    format: str = "TEXT"
    verbose: Boolean = False


def alluxio_router(service: JobService) -> APIRouter:
    """Return the routes of dialect B."""
    router = APIRouter(prefix="/api/v1/master", tags=["alluxio"])

    @router.post("/submit_job/load")
    async def submit(body: SubmitLoad) -> dict[str, Any]:
        spec = JobSpec(paths=(body.path,), options=body.options.to_options())
        known = await service.submit(spec)
        if known.attached and body.options.bandwidth is not None:  # as Alluxio's updateJob does
            await service.set_bandwidth(known.job.id, body.options.bandwidth)
        return _submitted(known, body.path)

    @router.get("/progress_job/load", response_model=None)
    async def progress(
        body: LoadRef | None = None,
        path: Annotated[str | None, Query()] = None,
        report_format: Annotated[str, Query(alias="format")] = "TEXT",
        verbose: Annotated[bool, Query()] = False,  # noqa: FBT002 - a query parameter
    ) -> PlainTextResponse | dict[str, Any]:
        ref = body or LoadRef(path=_required(path), format=report_format, verbose=verbose)
        job = _known(service, ref.path).job
        if ref.format.upper() == "JSON":
            return json_report(job, verbose=ref.verbose)
        return PlainTextResponse(text_report(job, verbose=ref.verbose))

    @router.post("/stop_job/load")
    async def stop(body: LoadRef) -> dict[str, Any]:
        known = service.find(JobSpec(paths=(body.path,)))
        if known is None or known.job.state.ended:
            message = f"Cannot find load job for path {body.path}, it might have already been stopped or finished"
            return {"success": False, "path": body.path, "message": message}
        await service.stop(known.job.id)
        return {"success": True, "path": body.path, "message": f"Load '{body.path}' is successfully stopped."}

    @router.api_route("/list_job", methods=["GET", "POST"])
    async def list_job(
        job_type: Annotated[str, Query(alias="job-type")] = "LOAD",
        job_state: Annotated[str, Query(alias="job-state")] = "ALL",
    ) -> dict[str, Any]:
        if job_type.upper() != "LOAD":
            raise InvalidRequest(f"job-type={job_type!r} is not known.", remedy="Write LOAD.")
        return {"results": [_row(known) for known in service.list(states=_states(job_state))]}

    return router


def _submitted(known: KnownJob, path: str) -> dict[str, Any]:
    if known.attached:
        message = f"Load already running for path '{path}' "
    else:
        message = f"Load '{path}' is successfully submitted. JobId: {known.job.id}"
    return {"success": True, "jobId": known.job.id, "path": path, "message": message}


def _known(service: JobService, path: str) -> KnownJob:
    known = service.find(JobSpec(paths=(path,)))
    if known is None:
        raise JobNotFound(f"Load for path '{path}' cannot be found.")
    return known


def _required(path: str | None) -> str:
    if path is None:
        raise InvalidRequest("path is missing.", remedy='Send {"path": "s3://…"} as body, or ?path=…')
    return path


def _states(text: str) -> frozenset[JobState] | None:
    if text.upper() == "ALL":
        return None
    try:
        return frozenset({JobState(text.upper())})
    except ValueError as error:
        names = ", ".join([*JobState, "ALL"])
        raise InvalidRequest(f"job-state={text!r} is not known.", remedy=f"Write one of {names}.") from error


def _row(known: KnownJob) -> dict[str, Any]:
    job = known.job
    return {
        "id": job.id,
        "type": "LOAD",
        "path": ",".join(job.spec.paths),
        "state": job.state,
        "startTime": job.started_at,
        "endTime": job.finished_at,
    }
