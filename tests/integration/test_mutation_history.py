"""Objects of a real S3 server change while they are read: the short form of the history of the unit tests."""

from __future__ import annotations

import asyncio
import time

from preheat.inventory import Inventory
from preheat.mounts import Freshness, Mount
from preheat.paths import UfsPath
from preheat.store import MemoryStore
from preheat.ufs import S3UnderStore
from tests.conftest import Bucket
from tests.unit.freshness_worker import Worker
from tests.unit.mutation_history import History, Truth

STEPS = 300
AT_ONCE = 6
MAX_AGE = 0.3


async def test_a_history_at_a_real_server(s3_environment: dict[str, str], bucket: Bucket) -> None:
    origin = S3UnderStore()
    worker = Worker(origin=origin, store=MemoryStore(capacity=4 << 20), clock=time.time)

    async def put(uri: str, body: bytes) -> None:
        await asyncio.to_thread(bucket.put, UfsPath.parse(uri).key, body)

    async def remove(uri: str) -> None:
        await asyncio.to_thread(bucket.delete, UfsPath.parse(uri).key)

    truth = Truth(clock=time.time)
    history = History(0, worker.reads, worker.store, truth, put=put, remove=remove, bucket=bucket.name, max_age=MAX_AGE)

    async def pin() -> Inventory:
        inventory = await worker.list(bucket.uri("pinned/"))
        await worker.pin(inventory)
        return inventory

    async def age() -> None:
        await asyncio.sleep(history.random.random() * MAX_AGE / 2)

    async with asyncio.timeout(60), worker.policies.following(worker.engine):
        await worker.mount(
            Mount(name="age", path=bucket.uri("age/"), freshness=Freshness.MAX_AGE, max_age=MAX_AGE),
            Mount(name="always", path=bucket.uri("always/"), freshness=Freshness.ALWAYS_CHECK),
        )
        await history.begin(pin)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(history.go_on(STEPS // AT_ONCE, age=age, outage=lambda: None))
    await worker.reads.close()
    await origin.close()
    for directory in ("never", "age", "always", "pinned"):
        assert history.seen[directory, "read"] > 0, history.seen
    assert worker.count("checksChanged")[0] > 0
