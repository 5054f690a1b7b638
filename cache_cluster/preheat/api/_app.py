"""The coordinator process: the coordinator's tasks, and uvicorn serving the API around them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
import uvloop
from fastapi import FastAPI

from preheat import __version__
from preheat.api._alluxio import alluxio_router
from preheat.api._alluxio_rest import alluxio_rest_router
from preheat.api._metrics import metrics_route
from preheat.api._native import native_router
from preheat.api._pages import pages_router
from preheat.api._problems import install
from preheat.coordinator import Coordinator
from preheat.engine import connect
from preheat.logs import configure_logging, get_logger
from preheat.settings import CoordinatorSettings
from preheat.ufs import UnderStores

log = get_logger("coordinator")


def create_app(coordinator: Coordinator, settings: CoordinatorSettings) -> FastAPI:
    """Return the API of a coordinator."""
    app = FastAPI(
        title="Preheat coordinator",
        version=__version__,
        description="Preload datasets into the cache and know when they are warm.",
    )
    install(app)
    app.include_router(native_router(coordinator, base_url=settings.url))
    app.include_router(alluxio_router(coordinator.service))
    app.include_router(alluxio_rest_router(coordinator.service))
    app.include_router(pages_router(coordinator))
    app.add_api_route("/metrics", metrics_route(coordinator), include_in_schema=False)
    return app


def run_coordinator(settings: CoordinatorSettings) -> None:
    """Run a coordinator until SIGINT or SIGTERM."""
    configure_logging()
    uvloop.run(_serve(settings))


async def _serve(settings: CoordinatorSettings) -> None:
    engine = await connect(settings.engine, name=settings.id)
    ufs = UnderStores()
    coordinator = Coordinator(settings, engine=engine, ufs=ufs)
    config = uvicorn.Config(
        create_app(coordinator, settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=2,
    )
    try:
        async with _running(coordinator):
            log.info("The coordinator serves.", action="serving", url=settings.url)
            await uvicorn.Server(config).serve()
    finally:
        await ufs.close()
        await engine.close()


@asynccontextmanager
async def _running(coordinator: Coordinator) -> AsyncIterator[None]:
    """Run the coordinator's tasks around the block; when they fail, so does the block."""
    async with asyncio.TaskGroup() as tasks:
        work = tasks.create_task(coordinator.run())
        await coordinator.wait_loaded()
        yield
        work.cancel()
