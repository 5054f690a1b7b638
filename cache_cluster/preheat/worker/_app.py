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
from preheat.registry import Heartbeat, WorkerControl
from preheat.settings import WorkerSettings
from preheat.store import DiskStore, Notes, PageStore
from preheat.ufs import UnderStores
from preheat.views import BucketView
from preheat.worker._actions import Actions
from preheat.worker._coordinators import ControlPlane
from preheat.worker._copies import Copies
from preheat.worker._executor import BatchExecutor
from preheat.worker._reads import ReadService
from preheat.worker.fills import Peers
from preheat.worker.port import AlluxioWorker, Authorizer, DataServer, ServerSettings, following_tokens

log = get_logger("worker")


def run_worker(settings: WorkerSettings) -> None:
    """Run a worker until SIGINT or SIGTERM.

    Raises:
        InvalidRequest: others reach its address without a token, or a file of the settings cannot be used.
        StoreInUse: another process has ``settings.data_dir`` open.
        EngineUnavailable: NATS does not answer.
    """
    settings.access.check_host(settings.host)
    configure_logging()
    uvloop.run(_serve(settings))


async def _serve(settings: WorkerSettings) -> None:
    stopping = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
    store = DiskStore(settings.data_dir, *settings.more_data_dirs, capacity=settings.capacity, settings=settings.store)
    ufs = UnderStores()
    notes = Notes(store.directories[0] / "notes.sqlite")
    control = ControlPlane(settings.tls)
    peers = Peers(settings.id, owners=control.owners, token=settings.access.token, tls=settings.tls)
    reads = ReadService(store, ufs, notes=notes, peers=peers)
    actions = Actions(settings.id, store=store, reads=reads, copies=Copies(ufs=ufs, store=store))
    authorizer = Authorizer() if settings.access.auth else None
    server = DataServer(
        reads,
        host=settings.host,
        port=settings.port,
        settings=ServerSettings(),
        alluxio=AlluxioWorker(control, url=settings.url),
        authorizer=authorizer,
        tls=settings.tls,
    )
    try:
        await server.start()  # reads need neither the engine nor a coordinator
        engine = await connect(settings.engine, name=settings.id)
        try:
            async with control.following(engine), following_tokens(authorizer, engine):
                await _work(settings, engine, store, actions, stopping)
        finally:
            await engine.close()
    finally:
        await server.stop()
        await reads.close()
        peers.close()
        await ufs.close()
        notes.close()
        store.close()


async def _work(
    settings: WorkerSettings, engine: Engine, store: PageStore, actions: Actions, stopping: asyncio.Event
) -> None:
    """Execute batches until asked to stop; then leave the placement map, and let the batches in work end."""
    controls = BucketView(engine, Bucket.CONTROLS, JobControl)
    executor = BatchExecutor(engine=engine, actions=actions, controls=controls, settings=settings)
    orders = BucketView(engine, Bucket.WORKER_CONTROLS, WorkerControl)
    heart = Heart(settings, engine=engine, store=store, executor=executor, orders=orders)
    async with asyncio.TaskGroup() as tasks:
        following = [tasks.create_task(view.follow()) for view in (controls, orders)]
        beating = tasks.create_task(heart.beat())
        executing = tasks.create_task(executor.run())
        log.info("The worker serves.", action="serving", worker=settings.id, url=heart.url)
        await stopping.wait()
        beating.cancel()
        await heart.leave()
        executing.cancel()
        for task in following:
            task.cancel()


class Heart:
    """Tells the coordinators every few seconds that this worker is there, and how full it is."""

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        engine: Engine,
        store: PageStore,
        executor: BatchExecutor,
        orders: BucketView[WorkerControl],
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._store = store
        self._executor = executor
        self._orders = orders
        self._started_at = time.time()
        self.url = settings.url

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
        usage, asked = self._store.usage(), self._orders.get(self._settings.id)
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
            zone=self._settings.zone,
            transfers=dict(self._executor.transfers),
            leaving=bool(asked and asked[0].drained),
        )
