"""The native API's look at the cluster: workers, placement, health."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from preheat.api._answers import PlacementView, WorkerList, WorkerView
from preheat.coordinator import Coordinator
from preheat.errors import NoLiveWorker


class Health(BaseModel):
    """The process lives."""

    status: str = "ok"


class Readiness(Health):
    """Jobs can be done."""

    workers: list[str]


def cluster_router(coordinator: Coordinator) -> APIRouter:
    """Return the routes of the cluster."""
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
    async def healthz() -> Health:
        """Say that the process lives."""
        return Health()

    @router.get("/readyz")
    async def readyz() -> Readiness:
        """Say whether jobs can be done: a worker is live, and the engine answered when this process started."""
        live = [heartbeat.id for heartbeat in cluster.live()]
        if not live:
            raise NoLiveWorker("No worker is live.")
        return Readiness(workers=live)

    return router
