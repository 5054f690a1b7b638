"""Jobs with a bandwidth limit beside jobs without one, on one worker, in virtual time: minutes of waiting take none."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from unittest.mock import patch

import msgspec
import pytest

from preheat.engine import Bucket, MemoryEngine, Queue
from preheat.jobs import Action, Batch, JobControl, Priority
from preheat.paths import UfsPath
from preheat.ufs import Download, MemoryUnderStore
from preheat.versions import ObjectInfo
from preheat.worker import _limited
from preheat.worker._limited import _MOST_BATCHES, _ROOM, Lane, LimitedBatches, Permits, Work
from tests.faults import virtual_time
from tests.unit.memory_cluster import Worker

KIB, MIB = 1 << 10, 1 << 20
LATENCY = 0.02
ENTRIES = 10


class SlowOrigin(MemoryUnderStore):
    """Answers after a moment."""

    async def get(self, path: UfsPath, *, etag: str | None = None, start: int = 0, end: int | None = None) -> Download:
        await asyncio.sleep(LATENCY)
        return await super().get(path, etag=etag, start=start, end=end)


@dataclass
class Rig:
    """One worker, and batches for it."""

    engine: MemoryEngine = field(default_factory=MemoryEngine)
    origin: MemoryUnderStore = field(default_factory=SlowOrigin)
    ended: dict[str, float] = field(default_factory=dict)
    """When each batch's result was there, by the loop's clock."""
    uris: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        self.worker = Worker(0, self.engine, self.origin)

    async def give(
        self,
        job: str,
        number: int,
        *,
        size: int = 64 * KIB,
        bandwidth: int | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> str:
        """Queue a batch of ENTRIES objects and return its id."""
        batch_id = f"{job}-{number}"
        entries: list[ObjectInfo] = []
        for item in range(ENTRIES):
            self.uris[job].append(f"s3://b/{job}/{number:04d}-{item:04d}")
            entries.append(self.origin.write(self.uris[job][-1], bytes(size)))
        batch = Batch(
            id=batch_id, job_id=job, action=Action.FETCH, root="s3://b/", entries=tuple(entries), bandwidth=bandwidth
        )
        subject = f"{self.worker.settings.id}.{priority}.{job}.{batch_id}"
        await self.engine.publish(Queue.BATCHES, subject, msgspec.json.encode(batch))
        return batch_id

    async def control(self, job: str, control: JobControl) -> None:
        await self.engine.put(Bucket.CONTROLS, job, msgspec.json.encode(control))

    def fetched(self, job: str) -> int:
        """Return the bytes that a job has in the cache."""
        found = (self.worker.store.lookup(uri) for uri in self.uris[job])
        return sum(item.size for item in found if item)

    async def note_results(self) -> None:
        consumer = await self.engine.consume(Queue.RESULTS, ">", name="test", lease_seconds=60)
        while True:
            for lease in await consumer.pull(100, 60):
                await lease.ack()
                self.ended[lease.subject.split(".")[1]] = asyncio.get_running_loop().time()

    async def until(self, *batches: str, seconds: float = 600) -> float:
        """Wait for the results of batches and return when the last one came."""
        async with asyncio.timeout(seconds):
            while not self.ended.keys() >= set(batches):
                await asyncio.sleep(0.01)
        return max(self.ended[batch] for batch in batches)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        tasks = [asyncio.create_task(self.worker.run()), asyncio.create_task(self.note_results())]
        try:
            yield tasks[0]
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task


def played(test: Callable[[Rig], Awaitable[None]]) -> Callable[[], None]:
    """Run a test in virtual time."""

    def test_in_virtual_time() -> None:
        async def play() -> None:
            await test(Rig())

        virtual_time.run(play())

    test_in_virtual_time.__doc__ = test.__doc__
    return test_in_virtual_time


@played
async def test_an_unlimited_job_ends_while_limited_ones_wait_for_bytes(rig: Rig) -> None:
    for number in range(6):
        await rig.give("slow", number, bandwidth=8 * KIB)  # 80 s a batch
    quick = [await rig.give("quick", number) for number in range(4)]
    async with rig.running():
        assert await rig.until(*quick) < 5
        assert 0 < rig.fetched("slow") < 12 * 64 * KIB
        urgent = await rig.give("urgent", 0, priority=Priority.HIGH)
        begun = asyncio.get_running_loop().time()
        assert await rig.until(urgent) - begun < 1
        assert rig.worker.executor.active == 1
    assert rig.worker.executor.active == 0


@played
async def test_limited_jobs_progress_each_at_its_own_rate(rig: Rig) -> None:
    rates = {"low": 32 * KIB, "mid": 128 * KIB, "high": 4 * MIB}
    for number in range(20):
        for job, rate in rates.items():
            await rig.give(job, number, bandwidth=rate)
    async with rig.running():
        await asyncio.sleep(2)
        fetched = {job: rig.fetched(job) for job in rates}
        assert fetched["high"] == pytest.approx(2 * rates["high"], rel=0.15)
        await asyncio.sleep(58)
        for job in ("low", "mid"):
            assert rig.fetched(job) == pytest.approx(60 * rates[job], rel=0.15)


@played
async def test_a_high_limit_on_small_objects_is_reached(rig: Rig) -> None:
    rate, size = 2 * MIB, 4 * KIB  # 512 objects a second of 20 ms each: 11 at once
    batches = [await rig.give("small", number, size=size, bandwidth=rate) for number in range(60)]
    async with rig.running():
        seconds = await rig.until(*batches)
    assert 1 < seconds / (60 * ENTRIES * size / rate) < 1.6


@played
async def test_a_limit_that_is_lifted_in_the_middle_of_a_batch(rig: Rig) -> None:
    batches = [await rig.give("job", number, bandwidth=16 * KIB) for number in range(4)]
    async with rig.running():
        await asyncio.sleep(20)
        assert rig.fetched("job") == pytest.approx(20 * 16 * KIB, rel=0.3)
        await rig.control("job", JobControl(bandwidth=64 * KIB))
        before = rig.fetched("job")
        await asyncio.sleep(10)
        assert rig.fetched("job") - before == pytest.approx(10 * 64 * KIB, rel=0.2)
        await rig.control("job", JobControl(bandwidth=0))
        assert await rig.until(*batches) < 32


@played
async def test_a_limit_that_is_set_in_the_middle_of_a_batch(rig: Rig) -> None:
    slow = [await rig.give("slow", number, size=3 * MIB) for number in range(4)]
    async with rig.running():
        while not rig.worker.executor.transfers["slow"]:
            await asyncio.sleep(LATENCY / 4)
        await rig.control("slow", JobControl(bandwidth=64 * KIB))
        await asyncio.sleep(1)
        quick = [await rig.give("quick", number) for number in range(4)]
        begun = asyncio.get_running_loop().time()
        assert await rig.until(*quick) - begun < 1
        assert not set(slow) <= rig.ended.keys()
        await rig.control("slow", JobControl(stop=True))
        while rig.worker.executor.active:
            await asyncio.sleep(0.1)
        assert asyncio.get_running_loop().time() - begun < 3


@played
async def test_of_the_batches_that_wait_the_highest_priority_is_first(rig: Rig) -> None:
    for priority in reversed(Priority):
        for number in range(3):
            await rig.give(f"{priority}", number, priority=priority)
            await rig.give(f"limited-{priority}", number, priority=priority, bandwidth=256 * KIB)
    batches = [
        f"{kind}{priority}-{number}" for kind in ("", "limited-") for priority in Priority for number in range(3)
    ]
    async with rig.running():
        await rig.until(*batches)
    last = [max(rig.ended[f"{priority}-{number}"] for number in range(3)) for priority in Priority]
    assert last == sorted(last)


@played
async def test_more_limited_jobs_than_places_take_turns_by_priority(rig: Rig) -> None:
    for job in range(_MOST_BATCHES):
        for number in range(3):
            await rig.give(f"slow{job}", number, bandwidth=64 * KIB)  # 10 s a batch
    async with rig.running():
        await asyncio.sleep(1)
        later = await rig.give("later", 0, bandwidth=640 * KIB)
        urgent = await rig.give("urgent", 0, bandwidth=640 * KIB, priority=Priority.HIGH)
        assert await rig.until(urgent) < 12
        assert rig.worker.executor.active <= _MOST_BATCHES
        assert await rig.until(later) < 22


@played
async def test_a_line_that_is_too_long_leaves_the_rest_to_the_queue(rig: Rig) -> None:
    with patch.object(_limited, "_LINE_BYTES", 2000):  # one batch or two
        batches = [await rig.give("job", number, bandwidth=640 * KIB) for number in range(20)]
        async with rig.running():
            await rig.until("job-0")
            quick = await rig.give("quick", 0)
            begun = asyncio.get_running_loop().time()
            assert await rig.until(quick) - begun < 1
            assert await rig.until(*batches) == pytest.approx(20, rel=0.1)


@played
async def test_a_worker_that_stops_drains_limited_batches_too(rig: Rig) -> None:
    rig.worker.settings = replace(rig.worker.settings, drain_seconds=30)
    await rig.give("job", 0, bandwidth=64 * KIB)  # 10 s
    await rig.give("job", 1, bandwidth=64 * KIB)
    await rig.give("slower", 0, bandwidth=4 * KIB)  # 160 s: not within the drain
    async with rig.running() as worker:
        await asyncio.sleep(1)
        worker.cancel()
        asked_at = asyncio.get_running_loop().time()
        await asyncio.wait({worker})
        assert 8 < asyncio.get_running_loop().time() - asked_at < 31
        await asyncio.sleep(1)
    assert list(rig.ended) == ["job-0"]
    assert await rig.engine.peek(Queue.BATCHES, "worker-0.normal.slower.slower-0") is not None


async def test_a_lane_keeps_its_permit_for_some_small_entries_and_none_behind_a_large_one() -> None:
    shared = asyncio.Semaphore(1)
    permits = Permits(shared)
    lane, other = Lane(permits), Lane(permits)
    async with asyncio.timeout(5):
        await lane.begin(entry_of(4 * KIB))
        waiting = asyncio.create_task(other.begin(entry_of(MIB)))
        await asyncio.sleep(0)  # it stands in line
        for _ in range(3):
            await lane.begin(entry_of(4 * KIB))
        assert not waiting.done()
        await lane.begin(entry_of(MIB))  # the last one of this turn
        again = asyncio.create_task(lane.begin(entry_of(4 * KIB)))
        await waiting
        assert not again.done()
        other.leave()
        await again
        permits.step_aside(2)
        assert not shared.locked()
        await other.begin(entry_of(1))
        lane.leave()
        assert not shared.locked()
        other.leave()


def entry_of(size: int) -> ObjectInfo:
    return ObjectInfo(key="k", size=size, etag="e", last_modified=0.0)


def test_the_lanes_of_all_limited_batches_hold_little_memory() -> None:
    async def play() -> None:
        limited, lanes = LimitedBatches(64), []
        for job in range(_MOST_BATCHES):
            entry = ObjectInfo(key="k", size=4 * MIB, etag="e", last_modified=0.0)
            batch = Batch(id="b", job_id=f"{job}", action=Action.FETCH, root="s3://b/", entries=(entry,))
            work = Work(batch=batch, permits=Permits(asyncio.Semaphore(64)))
            limited.begin(work, 1 << 40)
            lanes.append(work)
        assert lanes[0].lanes == 8
        assert all(work.lanes for work in lanes)
        assert sum(work.lanes for work in lanes) * 4 * MIB < 1.3 * _ROOM
        for work in lanes:
            limited.end(work)
        again = Work(batch=lanes[0].batch, permits=Permits(asyncio.Semaphore(64)))
        limited.begin(again, 8 * MIB)
        assert again.lanes == 1  # what 8 MiB/s need of such objects
        limited.quicken("0", 1 << 40)
        assert again.lanes > 6

    asyncio.run(play())
