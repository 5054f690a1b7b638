"""The worker process: the page store, the data port, the batches, and a heartbeat that says so."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import replace

import msgspec
import uvloop

from preheat.engine import Bucket, Engine, connect
from preheat.errors import EngineUnavailable
from preheat.jobs import JobControl
from preheat.logs import configure_logging, get_logger
from preheat.registry import Heartbeat
from preheat.settings import WorkerSettings
from preheat.store import DiskStore, PageStore
from preheat.ufs import UnderStores
from preheat.views import BucketView
from preheat.worker._executor import BatchExecutor
from preheat.worker._reads import ReadService
from preheat.worker._server import DataServer, ServerSettings

log = get_logger("worker")


def run_worker(settings: WorkerSettings) -> None:
    """Run a worker until SIGINT or SIGTERM.

    Raises:
        StoreInUse: another process has ``settings.data_dir`` open.
        EngineUnavailable: NATS does not answer.
    """
    configure_logging()
    uvloop.run(_serve(settings))


async def _serve(settings: WorkerSettings) -> None:
    stopping = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
    store = DiskStore(settings.data_dir, capacity=settings.capacity)
    ufs = UnderStores()
    reads = ReadService(store, ufs)
    server = DataServer(reads, host=settings.host, port=settings.port, settings=ServerSettings())
    try:
        await server.start()  # reads need neither the engine nor a coordinator
        engine = await connect(settings.engine, name=settings.id)
        try:
            await _work(settings, engine, store, reads, stopping)
        finally:
            await engine.close()
    finally:
        await server.stop()
        await reads.close()
        await ufs.close()
        store.close()


async def _work(
    settings: WorkerSettings, engine: Engine, store: PageStore, reads: ReadService, stopping: asyncio.Event
) -> None:
    """Execute batches until asked to stop; then leave the placement map, and let the batches in work end."""
    controls = BucketView(engine, Bucket.CONTROLS, JobControl)
    executor = BatchExecutor(engine=engine, store=store, reads=reads, controls=controls, settings=settings)
    heart = Heart(settings, engine, store, executor)
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(controls.follow())
        beating = tasks.create_task(heart.beat())
        executing = tasks.create_task(executor.run())
        log.info("The worker serves.", action="serving", worker=settings.id, url=heart.url)
        await stopping.wait()
        beating.cancel()
        await heart.leave()
        executing.cancel()
        following.cancel()


class Heart:
    """Tells the coordinators every few seconds that this worker is there, and how full it is."""

    def __init__(self, settings: WorkerSettings, engine: Engine, store: PageStore, executor: BatchExecutor) -> None:
        self._settings = settings
        self._engine = engine
        self._store = store
        self._executor = executor
        self._started_at = time.time()
        self.url = settings.public_url or f"http://{settings.host}:{settings.port}"

    async def beat(self) -> None:
        """Send heartbeats until cancelled."""
        while True:
            try:
                await self._send(self._heartbeat())
            except EngineUnavailable as error:
                log.warning("A heartbeat was not taken.", action="heartbeat_failed", error=str(error))
            await asyncio.sleep(self._settings.heartbeat_seconds)

    async def leave(self) -> None:
        """Say that this worker stops, so that its share moves at once and not after a timeout."""
        try:
            await self._send(replace(self._heartbeat(), leaving=True))
        except EngineUnavailable as error:
            log.warning("The engine is away; leaving unannounced.", action="leave_failed", error=str(error))

    async def _send(self, heartbeat: Heartbeat) -> None:
        await self._engine.put(Bucket.WORKERS, heartbeat.id, msgspec.json.encode(heartbeat))

    def _heartbeat(self) -> Heartbeat:
        usage = self._store.usage()
        return Heartbeat(
            id=self._settings.id,
            url=self.url,
            capacity=usage.capacity,
            used=usage.used,
            objects=usage.objects,
            active_batches=self._executor.active,
            pool_size=self._settings.concurrent_batches,
            load_average=os.getloadavg(),
            started_at=self._started_at,
        )
