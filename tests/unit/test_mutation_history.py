"""Whatever happens at the under store, no read returns bytes that do not belong to the version that it reports."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from preheat.errors import OriginUnavailable
from preheat.inventory import Inventory
from preheat.mounts import Freshness, Mount
from preheat.paths import UfsPath
from preheat.store import MemoryStore
from preheat.ufs import Download
from preheat.versions import ObjectInfo
from preheat.worker import _ranges
from tests.unit.freshness_worker import Origin, Worker
from tests.unit.mutation_history import MAX_AGE, History, Truth

STEPS = 160
AT_ONCE = 8
SEEDS = range(20)


class SlowOrigin(Origin):
    """An under store that lets others go between all that it does, and is away now and then."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)

    async def stat(self, path: UfsPath) -> ObjectInfo:
        await self.pause()
        info = await super().stat(path)
        await self.pause()
        return info

    async def get(self, path: UfsPath, *, etag: str | None = None, start: int = 0, end: int | None = None) -> Download:
        await self.pause()
        download = await super().get(path, etag=etag, start=start, end=end)
        await self.pause()
        return Download(info=download.info, start=download.start, end=download.end, chunks=self._cut(download.chunks))

    async def pause(self) -> None:
        for _ in range(self._random.randrange(10)):
            await asyncio.sleep(0)

    async def _cut(self, chunks: AsyncIterator[memoryview]) -> AsyncIterator[memoryview]:
        async for chunk in chunks:
            middle = self._random.randrange(len(chunk) + 1)
            yield chunk[:middle]
            await self.pause()
            if self.away:
                raise OriginUnavailable("It went away.")
            yield chunk[middle:]


async def run(seed: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Counter[str], dict[str, int]]:
    """Return what was seen in one history."""
    origin = SlowOrigin(seed)
    worker = Worker(origin=origin, store=MemoryStore(capacity=4 << 20))
    monkeypatch.setattr(time, "time", worker.clock)
    truth = Truth(clock=worker.clock)

    async def put(uri: str, body: bytes) -> None:
        origin.write(uri, body)

    async def remove(uri: str) -> None:
        origin.remove(uri)

    history = History(seed, worker.reads, worker.store, truth, put=put, remove=remove)

    async def pin() -> Inventory:
        inventory = await worker.list("s3://b/pinned/")
        await worker.pin(inventory)
        return inventory

    async def age() -> None:
        worker.clock.seconds += history.random.choice([0.5, 1, 4, MAX_AGE])
        await origin.pause()

    def outage() -> None:
        origin.away = not origin.away and history.random.random() < 0.5

    async with asyncio.timeout(60), worker.policies.following(worker.engine):
        await worker.mount(
            Mount(name="age", path="s3://b/age/", freshness=Freshness.MAX_AGE, max_age=MAX_AGE),
            Mount(name="always", path="s3://b/always/", freshness=Freshness.ALWAYS_CHECK),
        )
        await history.begin(pin)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(history.go_on(STEPS // AT_ONCE, age=age, outage=outage))
    await worker.reads.close()
    return history.seen, worker.reads.stats()


async def test_histories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ranges, "_SMALL", 1000)  # ranges of the others are read by themselves
    seen, stats = Counter[str](), Counter[str]()
    for seed in SEEDS:
        try:
            history_seen, history_stats = await run(seed, monkeypatch)
        except BaseExceptionGroup as errors:
            raise AssertionError(f"seed={seed}") from errors
        seen += history_seen
        stats += Counter(history_stats)
    for directory in ("never", "age", "always", "pinned"):
        assert seen[directory, "read"] > 20 * len(SEEDS) // 4, seen
    for directory in ("never", "age", "pinned"):
        assert seen[directory, "old"] > len(SEEDS) // 4, seen
    for code in ("object_not_found", "version_changed", "origin_unavailable"):
        assert seen["always", code] > 0, seen
    assert seen["short"] > len(SEEDS), seen
    for name in ("checksChanged", "checksGone", "drifted", "corrupt", "evicted", "hits"):
        assert stats[name] > 0, stats
