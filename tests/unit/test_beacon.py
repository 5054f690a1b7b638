"""How workers learn of a coordinator."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from preheat.coordinator._beacon import send_beacons
from preheat.engine import Bucket
from preheat.registry import Beacon
from preheat.settings import CoordinatorSettings
from tests.unit.memory_cluster import Cluster

PEOPLE, SERVICE = "https://preheat.example", "http://preheat-coordinator:19999"


@pytest.mark.parametrize(("cluster_url", "told"), [("", PEOPLE), (SERVICE, SERVICE)])
async def test_workers_are_told_the_url_for_them(cluster_url: str, told: str):
    engine = Cluster().engine
    settings = CoordinatorSettings(public_url=PEOPLE, cluster_url=cluster_url)
    sending = asyncio.create_task(send_beacons(engine, settings))
    async with asyncio.timeout(10):
        async for change in engine.watch(Bucket.COORDINATORS):
            if change and change.value:
                assert msgspec.json.decode(change.value, type=Beacon).url == told
                break
    sending.cancel()
    await asyncio.wait({sending})
