"""The native API's look at the cluster: workers, placement, health."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from preheat.api._answers import PlacementView, WorkerList, WorkerView
from preheat.coordinator import Coordinator
from preheat.errors import NoLiveWorker, WorkerNotFound


class Health(BaseModel):
    """The process lives."""

    status: str = "ok"


class Readiness(Health):
    """Jobs can be done."""

    workers: list[str]


def cluster_router(coordinator: Coordinator) -> APIRouter:
    """Return the routes of the cluster."""
    router = APIRouter(tags=["cluster"])
    router.include_router(_workers_router(coordinator))
    cluster = coordinator.cluster

    @router.get("/placement")
    async def placement() -> PlacementView:
        """Return the placement map."""
        return PlacementView.of(cluster.placement)

    @router.get("/healthz")
    async def healthz() -> Health:
        """Say that the process lives."""
        return Health()

    @router.get("/readyz")
    async def readyz(
        workers: Annotated[int, Query(ge=0, description="How many must be live; with 0, only requests are taken.")] = 1,
    ) -> Readiness:
        """Say whether jobs can be done: workers are live, and the engine answered when this process started."""
        live = [heartbeat.id for heartbeat in cluster.live()]
        if len(live) < workers:
            raise NoLiveWorker("No worker is live." if not live else f"{len(live)} of {workers} workers are live.")
        return Readiness(workers=live)

    return router


def _workers_router(coordinator: Coordinator) -> APIRouter:
    router = APIRouter(prefix="/workers")
    cluster = coordinator.cluster

    @router.get("")
    async def workers() -> WorkerList:
        """List the workers known."""
        return WorkerList(epoch=cluster.placement.epoch, workers=_views(coordinator))

    @router.post("/{worker_id}/drain")
    async def drain(worker_id: str) -> WorkerView:
        """Ask a worker to hand its batches over and take no more; `leaving` shows soon that it does."""
        await cluster.set_drained(worker_id, drained=True)
        return _view(coordinator, worker_id)

    @router.delete("/{worker_id}/drain")
    async def undrain(worker_id: str) -> WorkerView:
        """Ask a drained worker to take part again."""
        await cluster.set_drained(worker_id, drained=False)
        return _view(coordinator, worker_id)

    return router


def _views(coordinator: Coordinator) -> list[WorkerView]:
    live = {heartbeat.id for heartbeat in coordinator.cluster.live()}
    unfinished = coordinator.service.unfinished_batches()
    return [
        WorkerView.of(heartbeat, live=heartbeat.id in live, unfinished=unfinished[heartbeat.id])
        for heartbeat in coordinator.cluster.workers()
    ]


def _view(coordinator: Coordinator, worker_id: str) -> WorkerView:
    view = next((view for view in _views(coordinator) if view.id == worker_id), None)
    if view is None:
        raise WorkerNotFound(f"There is no worker {worker_id!r} any more.")
    return view
