"""Inventories on a real nats-server: the largest blocks there can be, and an owner that was replaced."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from preheat.coordinator._catalog import Page
from preheat.coordinator._inventory import InventoryWriter, discard, inventory_id
from preheat.engine import Bucket, Engine, connect
from preheat.errors import Conflict
from preheat.inventories import Inventories
from preheat.inventory import BLOCK_OBJECTS, block_key
from preheat.jobs import Action, Job, JobSpec, JobState, Progress
from preheat.paths import UfsPath
from preheat.settings import EngineSettings
from preheat.versions import DatasetVersion, ObjectInfo
from testbed.nats import NatsServer

COUNT = BLOCK_OBJECTS + 1000
ROOT = "s3://b/"


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    with NatsServer(tmp_path) as server:
        engine = await connect(EngineSettings(url=server.url), name="test")
        yield engine
        await engine.close()


def longest_names() -> list[ObjectInfo]:
    """Return objects whose keys are as long as S3 allows, and do not compress well."""
    chance = random.Random(1)
    return [
        ObjectInfo(
            key=f"{number:08d}{chance.randbytes(508).hex()}", size=1 << 40, etag=f"{number:032x}", last_modified=1.0
        )
        for number in range(COUNT)
    ]


async def test_the_longest_keys_fit_and_a_replaced_owner_is_refused(engine: Engine):
    objects = longest_names()
    version = DatasetVersion()
    version.update(objects)
    inventories = Inventories(engine)
    following = asyncio.create_task(inventories.follow())
    await inventories.wait_loaded()
    job = Job(id="job", spec=JobSpec(paths=(ROOT,)), submitted_at=1.0)
    half = Page(root=ROOT, objects=objects[:3000])
    rest = Page(root=ROOT, objects=objects[3000:])
    replaced, owner = (InventoryWriter(engine, inventories, most=COUNT) for _ in range(2))
    await replaced.begin(job)
    await replaced.add(job, Action.FETCH, half)
    job = Job(id="job", spec=job.spec, submitted_at=1.0, work=Progress(cursor=objects[2999].key, version=version.state))
    await owner.add(job, Action.FETCH, rest)
    with pytest.raises(Conflict):
        await replaced.add(job, Action.FETCH, rest)
    await owner.add(job, Action.FETCH, None)
    assert await owner.conclude(job, JobState.SUCCEEDED, "") == ""
    entry = await engine.get(Bucket.INVENTORY_BLOCKS, block_key(inventory_id(job, 0), 0))
    assert entry is not None
    assert 2 << 20 < len(entry.value or b"") < 8 << 20
    known = inventories.covering(ROOT + objects[0].key)
    assert known is not None
    assert (known.objects, known.version) == (COUNT, str(version))
    assert await inventories.objects(known, UfsPath.parse(ROOT), limit=COUNT + 1) == objects
    await discard(engine, job)
    for number in range(2):
        assert await engine.get(Bucket.INVENTORY_BLOCKS, block_key(inventory_id(job, 0), number)) is None
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
