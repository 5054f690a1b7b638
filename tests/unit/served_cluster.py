"""The API of an in-memory cluster on a real socket: for streams, slow bodies and clients of other loops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn

from preheat.api import create_app
from preheat.api._server import GracefulServer
from preheat.settings import CoordinatorSettings
from tests.unit.memory_cluster import Cluster


@asynccontextmanager
async def serve(cluster: Cluster) -> AsyncIterator[str]:
    """Serve a cluster's API on a free port of the loopback, and yield its URL."""
    app = create_app(cluster.coordinator, CoordinatorSettings())
    config = uvicorn.Config(app, port=0, log_config=None, access_log=False, timeout_graceful_shutdown=5, lifespan="off")
    server = GracefulServer(config, end_waits=[app.state.hub.close, cluster.coordinator.jobs.release])
    serving = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(10):
            while not server.started:
                await asyncio.sleep(0.01)
        yield "http://{}:{}".format(*server.servers[0].sockets[0].getsockname())
    finally:
        server.should_exit = True
        await serving
