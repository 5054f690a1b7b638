"""The native API under /v1."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from preheat.api._answers import Failure, JobList, JobView, JobViews
from preheat.api._cluster import cluster_router
from preheat.api._datasets import datasets_router
from preheat.api._estimates import estimates_router
from preheat.api._events import EventHub, events_router
from preheat.api._held import held_router
from preheat.api._inventories import inventories_router
from preheat.api._mounts import mounts_router
from preheat.api._problems import refuse_unknown_query
from preheat.api._quotas import quotas_router
from preheat.api._receipts import receipts_router
from preheat.api._schemas import MAX_INT, Change, Claim, Duration, NewClaim, Submit
from preheat.api._tasks import tasks_router
from preheat.api._tracing import trace_of
from preheat.api._ttls import ttls_router
from preheat.api._warmth import warmth_router
from preheat.coordinator import Coordinator, JobService, KnownJob
from preheat.jobs import JobState, JobType

_MAX_WAIT_SECONDS = 60
_MAX_PAGE = 1000
Key = Annotated[str | None, Header(max_length=256, description="Makes a repeated submit return the first one's job.")]


def native_router(coordinator: Coordinator, *, views: JobViews, hub: EventHub) -> APIRouter:
    """Return the routes of the native API."""
    router = APIRouter(prefix="/v1", dependencies=[Depends(refuse_unknown_query)])
    router.include_router(_submit_routes(coordinator.service, views))
    router.include_router(_job_routes(coordinator.service, views))
    router.include_router(_change_routes(coordinator.service, views))
    router.include_router(tasks_router(coordinator.service))
    router.include_router(receipts_router(coordinator))
    router.include_router(estimates_router(coordinator))
    router.include_router(events_router(coordinator, hub))
    router.include_router(cluster_router(coordinator))
    router.include_router(datasets_router(coordinator))
    router.include_router(quotas_router(coordinator))
    router.include_router(inventories_router(coordinator))
    router.include_router(mounts_router(coordinator))
    router.include_router(ttls_router(coordinator))
    router.include_router(held_router(coordinator))
    router.include_router(warmth_router(coordinator))
    return router


def _submit_routes(service: JobService, views: JobViews) -> APIRouter:
    router = APIRouter(prefix="/jobs", tags=["jobs"])

    @router.post("", status_code=201, response_model=JobView, responses={200: {"model": JobView}})
    async def submit(body: Submit, request: Request, idempotency_key: Key = None) -> Response:
        """Submit a job; 200 instead of 201 if it attached to one that was there."""
        known = await service.submit(
            body.to_spec(),
            idempotency_key=idempotency_key,
            claim=body.to_claim(),
            trace=trace_of(request).trace_id,
        )
        return _json(views.json(known), status=200 if known.attached else 201)

    @router.post("/{job_id}/retry", status_code=201, response_model=JobView, responses={200: {"model": JobView}})
    async def retry_job(job_id: str) -> Response:
        """Submit a job of only the files that failed in this one; 200 if such a job runs already."""
        known = await service.retry(job_id)
        return _json(views.json(known), status=200 if known.attached else 201)

    return router


def _job_routes(service: JobService, views: JobViews) -> APIRouter:
    router = APIRouter(prefix="/jobs", tags=["jobs"])

    @router.get("")
    async def list_jobs(
        state: Annotated[list[JobState] | None, Query(description="Only jobs in these states.")] = None,
        job_type: Annotated[list[JobType] | None, Query(alias="type", description="Only jobs of these types.")] = None,
        path: Annotated[str, Query(max_length=2000, description="Only jobs that name exactly this path.")] = "",
        limit: Annotated[int, Query(ge=1, le=_MAX_PAGE)] = 50,
        cursor: Annotated[str, Query(max_length=64, description="`next` of the page before.")] = "",
    ) -> JobList:
        """List jobs, newest first."""
        jobs = service.list(states=frozenset(state) if state else None)
        jobs = [known for known in jobs if not job_type or known.job.spec.type in job_type]
        jobs = [known for known in jobs if not path or path in known.job.spec.paths]
        page = jobs[(start := _start(jobs, cursor)) : start + limit]
        more = start + limit < len(jobs)
        return JobList(jobs=[views.view(known) for known in page], next=page[-1].job.id if more else None)

    @router.get("/{job_id}", response_model=JobView)
    async def get_job(
        job_id: str,
        wait: Annotated[Duration, Query(ge=0, le=_MAX_WAIT_SECONDS, description="At most so long.")] = 0.0,
        after: Annotated[int | None, Query(ge=0, le=MAX_INT, description="A revision.")] = None,
        hot_in_order: Annotated[int | None, Query(alias="hotInOrder", ge=1, le=MAX_INT, description="So many.")] = None,
    ) -> Response:
        """Return a job; with ``wait``, once it ended, its revision is past ``after`` or so many are hot in order."""
        if not wait:
            return _json(views.json(await service.get(job_id)))
        after = 0 if after is None and hot_in_order is None else after
        return _json(views.json(await service.wait(job_id, after=after, seconds=wait, hot_in_order=hot_in_order)))

    @router.get(
        "/{job_id}/failures",
        response_class=StreamingResponse,
        responses={200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}},
    )
    async def failures(job_id: str) -> StreamingResponse:
        """Stream every failed file as one JSON object per line."""
        await service.get(job_id)
        lines = (
            Failure.of(failed).model_dump_json(by_alias=True) + "\n"
            async for chunk in service.failures(job_id)
            for failed in chunk
        )
        return StreamingResponse(lines, media_type="application/x-ndjson")

    return router


def _change_routes(service: JobService, views: JobViews) -> APIRouter:
    router = APIRouter(prefix="/jobs", tags=["jobs"])

    @router.patch("/{job_id}", response_model=JobView)
    async def change_job(job_id: str, body: Change) -> Response:
        """Change the bandwidth or the priority of a job while it runs."""
        if "bandwidth" in body.model_fields_set:
            known = await service.set_bandwidth(job_id, body.bandwidth)
        if body.priority is not None:
            known = await service.set_priority(job_id, body.priority)
        return _json(views.json(known))

    @router.post("/{job_id}/claim", response_model=JobView)
    async def claim_job(job_id: str, body: NewClaim) -> Response:
        """Wait for a job in a waiter's name; what its earlier fences cancel from now on is ignored."""
        return _json(views.json(await service.claim(job_id, body.to_claim())))

    @router.post("/{job_id}/renew", response_model=JobView)
    async def renew_claim(job_id: str, body: Claim) -> Response:
        """Wait on: the lease of the claim begins anew."""
        return _json(views.json(await service.renew(job_id, body.waiter, body.fence)))

    @router.post("/{job_id}/cancel", response_model=JobView)
    async def cancel_job(job_id: str, body: Claim) -> Response:
        """Leave a job; after the grace time it stops if nobody else waits for it."""
        return _json(views.json(await service.cancel(job_id, body.waiter, body.fence)))

    @router.post("/{job_id}/stop", response_model=JobView)
    async def stop_job(job_id: str) -> Response:
        """Stop a job."""
        return _json(views.json(await service.stop(job_id)))

    return router


def _start(jobs: list[KnownJob], cursor: str) -> int:
    """Return where the page after a cursor begins."""
    return next((number for number, known in enumerate(jobs, start=1) if known.job.id == cursor), 0)


def _json(content: bytes, *, status: int = 200) -> Response:
    return Response(content, status_code=status, media_type="application/json")
