"""The native API under /v1."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse

from preheat.api._schemas import Change, Claim, Failure, JobList, JobView, PlacementView, Submit, WorkerList, WorkerView
from preheat.coordinator import Coordinator
from preheat.errors import NoLiveWorker
from preheat.jobs import JobState

_MAX_WAIT_SECONDS = 60
_MAX_PAGE = 1000


def native_router(coordinator: Coordinator, *, base_url: str) -> APIRouter:
    """Return the routes of the native API."""
    router = APIRouter(prefix="/v1")
    router.include_router(_job_routes(coordinator, base_url))
    router.include_router(_cluster_routes(coordinator))
    return router


def _job_routes(coordinator: Coordinator, base_url: str) -> APIRouter:
    router = APIRouter(prefix="/jobs", tags=["jobs"])
    service = coordinator.service

    @router.post("", status_code=201, responses={200: {"model": JobView}})
    async def submit(
        body: Submit,
        response: Response,
        idempotency_key: Annotated[str | None, Header(max_length=256)] = None,
    ) -> JobView:
        """Submit a job; 200 instead of 201 if it attached to one that was there."""
        known = await service.submit(body.to_spec(), idempotency_key=idempotency_key)
        response.status_code = 200 if known.attached else 201
        return JobView.of(known, base_url=base_url)

    @router.get("")
    async def list_jobs(
        state: Annotated[list[JobState] | None, Query()] = None,
        limit: Annotated[int, Query(ge=1, le=_MAX_PAGE)] = 50,
        cursor: Annotated[str, Query(max_length=64, description="`next` of the page before.")] = "",
    ) -> JobList:
        """List jobs, newest first."""
        jobs = service.list(states=frozenset(state) if state else None)
        ids = [known.job.id for known in jobs]
        start = ids.index(cursor) + 1 if cursor in ids else 0
        page = jobs[start : start + limit]
        return JobList(
            jobs=[JobView.of(known, base_url=base_url) for known in page],
            next=page[-1].job.id if start + limit < len(jobs) else None,
        )

    @router.get("/{job_id}")
    async def get_job(
        job_id: str,
        wait: Annotated[float, Query(ge=0, le=_MAX_WAIT_SECONDS, description="Seconds.")] = 0,
        after: Annotated[int, Query(ge=0, description="A revision.")] = 0,
    ) -> JobView:
        """Return a job; with ``wait``, once its revision is past ``after`` or it ended."""
        known = await service.wait(job_id, after=after, seconds=wait) if wait else await service.get(job_id)
        return JobView.of(known, base_url=base_url)

    @router.patch("/{job_id}")
    async def change_job(job_id: str, body: Change) -> JobView:
        """Change the bandwidth of a job while it runs."""
        return JobView.of(await service.set_bandwidth(job_id, body.bandwidth), base_url=base_url)

    @router.get("/{job_id}/failures", response_class=StreamingResponse)
    async def failures(job_id: str) -> StreamingResponse:
        """Stream every failed file as one JSON object per line."""
        await service.get(job_id)
        lines = (
            Failure.of(failed).model_dump_json(by_alias=True) + "\n"
            async for chunk in service.failures(job_id)
            for failed in chunk
        )
        return StreamingResponse(lines, media_type="application/x-ndjson")

    @router.post("/{job_id}/retry", status_code=201)
    async def retry_job(job_id: str) -> JobView:
        """Submit a job of only the files that failed in this one."""
        return JobView.of(await service.retry(job_id), base_url=base_url)

    @router.post("/{job_id}/claim")
    async def claim_job(job_id: str, body: Claim) -> JobView:
        """Wait for a job in a waiter's name; what its earlier fences cancel from now on is ignored."""
        return JobView.of(await service.claim(job_id, body.waiter, body.fence), base_url=base_url)

    @router.post("/{job_id}/cancel")
    async def cancel_job(job_id: str, body: Claim) -> JobView:
        """Leave a job; after the grace time it stops if nobody else waits for it."""
        return JobView.of(await service.cancel(job_id, body.waiter, body.fence), base_url=base_url)

    @router.post("/{job_id}/stop")
    async def stop_job(job_id: str) -> JobView:
        """Stop a job."""
        return JobView.of(await service.stop(job_id), base_url=base_url)

    return router


def _cluster_routes(coordinator: Coordinator) -> APIRouter:
    router = APIRouter(tags=["cluster"])
    cluster = coordinator.cluster

    @router.get("/workers")
    async def workers() -> WorkerList:
        """List the workers known."""
        live = {heartbeat.id for heartbeat in cluster.live()}
        unfinished = coordinator.service.unfinished_batches()
        views = [
            WorkerView.of(heartbeat, live=heartbeat.id in live, unfinished=unfinished[heartbeat.id])
            for heartbeat in cluster.workers()
        ]
        return WorkerList(epoch=cluster.placement.epoch, workers=views)

    @router.get("/placement")
    async def placement() -> PlacementView:
        """Return the placement map."""
        return PlacementView.of(cluster.placement)

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Say that the process lives."""
        return {"status": "ok"}

    @router.get("/readyz")
    async def readyz() -> dict[str, object]:
        """Say whether jobs can be done: a worker is live, and the engine answered when this process started."""
        live = [heartbeat.id for heartbeat in cluster.live()]
        if not live:
            raise NoLiveWorker("No worker is live.")
        return {"status": "ok", "workers": live}

    return router
