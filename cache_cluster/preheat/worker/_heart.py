"""The heartbeat of a worker: that it is there, where, and how full it is."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace

import msgspec

from preheat.engine import Bucket, Engine
from preheat.errors import EngineUnavailable
from preheat.logs import get_logger
from preheat.registry import Heartbeat, WorkerControl
from preheat.settings import WorkerSettings
from preheat.store import PageStore
from preheat.views import BucketView
from preheat.worker._executor import BatchExecutor
from preheat.worker._readiness import Readiness

log = get_logger("worker")


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
        s3_url: str = "",
        readiness: Readiness | None = None,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._store = store
        self._executor = executor
        self._orders = orders
        self._started_at = time.time()
        self.url = settings.url
        self.s3_url = s3_url
        self._readiness = readiness or Readiness()

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
            await self._send(replace(self._heartbeat(), leaving=True, stopped=True))
        except EngineUnavailable as error:
            log.warning("The engine is away; leaving unannounced.", action="leave_failed", error=str(error))

    async def _send(self, heartbeat: Heartbeat) -> None:
        await self._engine.put(Bucket.WORKERS, heartbeat.id, msgspec.json.encode(heartbeat))
        self._readiness.joined(leaving=heartbeat.leaving)

    def _heartbeat(self) -> Heartbeat:
        usage, asked = self._store.usage(), self._orders.get(self._settings.id)
        return Heartbeat(
            id=self._settings.id,
            url=self.url,
            s3_url=self.s3_url,
            capacity=usage.capacity,
            used=usage.used,
            objects=usage.objects,
            active_batches=self._executor.active,
            pool_size=self._settings.concurrent_batches,
            load_average=os.getloadavg(),
            started_at=self._started_at,
            zone=self._settings.zone,
            transfers=dict(self._executor.transfers),
            leaving=bool(asked and asked[0].concerns(self._started_at)),
        )
