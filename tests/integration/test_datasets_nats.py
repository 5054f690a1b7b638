"""Declared datasets on a real nats-server: two coordinators, their restarts, a changed origin and a lost worker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from preheat.coordinator import Coordinator
from preheat.coordinator._cached import MemoryCachedListing
from preheat.datasets import ConditionType, Dataset, Phase, Preload, Record
from preheat.engine import Engine, connect
from preheat.jobs import Job, JobState
from preheat.settings import CoordinatorSettings, DatasetSettings, EngineSettings
from preheat.ufs import MemoryUnderStore
from testbed.nats import NatsServer
from tests.unit.memory_cluster import SETTINGS, Worker

PATH = "s3://b/data/"
FILES = 30
SOON = DatasetSettings(tick_seconds=0.05, settle_seconds=0.2, retry_seconds=0.2, look_seconds=0.3, look_pause_factor=1)
SECONDS = 20.0


class Declared:
    """Two coordinators with an engine's connection each, and two workers."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._engines: list[Engine] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.origin = MemoryUnderStore()
        self.workers: list[Worker] = []
        self.coordinators: list[Coordinator] = []

    async def start(self) -> None:
        engine = await self._connect()
        self.workers = [Worker(number, engine, self.origin) for number in range(2)]  # type: ignore[arg-type]
        for worker in self.workers:
            self._tasks[worker.settings.id] = asyncio.create_task(worker.run())
        await self.start_coordinators()

    async def start_coordinators(self) -> None:
        stores = {f"http://{worker.settings.id}": worker.store for worker in self.workers}
        self.coordinators = []
        for name in ("coordinator-0", "coordinator-1"):
            settings = CoordinatorSettings(id=name, scheduler=SETTINGS, datasets=SOON)
            engine = await self._connect()
            coordinator = Coordinator(settings, engine=engine, ufs=self.origin, cached=MemoryCachedListing(stores))
            self._tasks[name] = asyncio.create_task(coordinator.run())
            await coordinator.wait_loaded()
            self.coordinators.append(coordinator)

    async def kill(self, name: str) -> None:
        task = self._tasks.pop(name)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def stop(self) -> None:
        for name in list(self._tasks):
            await self.kill(name)
        for engine in self._engines:
            await engine.close()

    async def until(self, fulfilled: Callable[[Record], bool]) -> Record:
        """Return the dataset once both coordinators know it so."""
        async with asyncio.timeout(SECONDS):
            while True:
                records = [await coordinator.datasets.get("images") for coordinator in self.coordinators]
                if all(map(fulfilled, records)):
                    return records[0]
                await asyncio.sleep(0.02)

    def jobs(self) -> list[Job]:
        return [known.job for known in self.coordinators[1].service.list()]

    def cached(self, number: int) -> bool:
        return any(worker.store.lookup(f"{PATH}{number:04d}") for worker in self.workers)

    async def _connect(self) -> Engine:
        self._engines.append(await connect(EngineSettings(url=self._url), name=f"test-{len(self._engines)}"))
        return self._engines[-1]


@pytest.fixture
async def declared(tmp_path: Path) -> AsyncIterator[Declared]:
    with NatsServer(tmp_path) as server:
        running = Declared(server.url)
        for number in range(FILES):
            running.origin.write(f"{PATH}{number:04d}", b"first")
        await running.start()
        try:
            yield running
        finally:
            await running.stop()


def loaded(record: Record) -> bool:
    return record.phase is Phase.LOADED


async def test_it_is_loaded_once_and_kept_loaded(declared: Declared):
    await declared.coordinators[0].datasets.declare(
        Dataset(name="images", path=PATH, freshness="always-check", preload=Preload(enabled=True))
    )
    first = (await declared.until(loaded)).loaded
    assert first
    assert sorted(job.spec.options.load_metadata_only for job in declared.jobs()) == [False, True]
    assert all(declared.cached(number) for number in range(FILES))

    for name in ("coordinator-0", "coordinator-1"):
        await declared.kill(name)
    await declared.start_coordinators()
    record = await declared.until(lambda record: record.look is not None)  # both have had their turn
    assert (record.loaded, len(declared.jobs())) == (first, 2)

    declared.origin.write(f"{PATH}{FILES:04d}", b"second")
    record = await declared.until(lambda record: record.loaded is not None and record.loaded.at > first.at)
    assert record.loaded
    assert declared.cached(FILES)
    assert (record.loaded.version != first.version, len(declared.jobs())) == (True, 3)
    drifted = record.condition(ConditionType.DRIFTED)
    assert drifted
    assert (drifted.status, drifted.since > first.at) == (False, True)

    lost = declared.workers.pop()
    await declared.kill(lost.settings.id)
    await declared.until(lambda record: record.holds(ConditionType.COPIES_LOST))
    record = await declared.until(lambda record: loaded(record) and not record.holds(ConditionType.COPIES_LOST))
    assert all(declared.cached(number) for number in range(FILES + 1))
    assert [job.state for job in declared.jobs()] == [JobState.SUCCEEDED] * 4

    mounts = declared.coordinators[1].mounts
    assert mounts.rule("images")
    await declared.coordinators[1].datasets.remove("images")
    async with asyncio.timeout(SECONDS):
        while any(coordinator.datasets.view.values() for coordinator in declared.coordinators) or mounts.rule("images"):
            await asyncio.sleep(0.02)
    assert len(declared.jobs()) == 4
