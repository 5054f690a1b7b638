"""A coordinator's beacon: how the workers learn whom they can ask."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import msgspec

from preheat.engine import Bucket, Engine
from preheat.errors import EngineUnavailable
from preheat.logs import get_logger
from preheat.registry import Beacon
from preheat.settings import CoordinatorSettings

log = get_logger("coordinator")
_EVERY_SECONDS = 5.0
_WITHDRAW_SECONDS = 1.0


async def send_beacons(engine: Engine, settings: CoordinatorSettings) -> None:
    """Announce a coordinator until cancelled; then withdraw it, so that no worker asks it in vain."""
    url = settings.cluster_url or settings.url
    beacon = msgspec.json.encode(Beacon(id=settings.id, url=url, started_at=time.time()))
    try:
        while True:
            await _send(engine, settings.id, beacon)
            await asyncio.sleep(_EVERY_SECONDS)
    finally:
        with suppress(EngineUnavailable, TimeoutError):  # it expires by itself
            async with asyncio.timeout(_WITHDRAW_SECONDS):
                await engine.delete(Bucket.COORDINATORS, settings.id)


async def _send(engine: Engine, coordinator_id: str, beacon: bytes) -> None:
    try:
        await engine.put(Bucket.COORDINATORS, coordinator_id, beacon)
    except EngineUnavailable as error:
        log.warning("A beacon was not taken.", action="beacon_failed", error=str(error))
