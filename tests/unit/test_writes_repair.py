"""What is held when workers are lost, leave, or come back without their disks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from preheat.engine import Bucket
from preheat.keys import key_of
from preheat.store import MemoryStore
from preheat.writes import HELD_PREFIX, PendingWrite
from tests.unit.writing_workers import MIB, MOUNTS, Group, Worker, at, working

WAIT = 60.0
KEYS = ("fast/k", "fast/tmp/k")
BODY = bytes(2 * MIB) + b"end"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def group(tmp_path: Path, clock: Clock) -> AsyncIterator[Group]:
    async with working(tmp_path, 4) as group:
        for worker in group.workers:
            worker.writes._own.repair._clock = clock
        await look(group)
        yield group


async def look(group: Group) -> None:
    for worker in list(group.workers):
        await worker.writes._own.repair.look()


async def record(group: Group, key: str) -> PendingWrite:
    """Return what the engine has once all workers know it."""
    entry = await group.engine.get(Bucket.PENDING, key_of(str(at(key))))
    assert entry is not None
    assert entry.value is not None
    write = msgspec.json.decode(entry.value, type=PendingWrite)
    async with asyncio.timeout(5):
        while any(worker.writes._own.repair._table.get(write.path) != write for worker in group.workers):
            await asyncio.sleep(0)
    return write


async def holders(group: Group, key: str) -> tuple[str, ...]:
    """Return who holds it as the record says, which is who does."""
    write = await record(group, key)
    found = {worker.id for worker in group.workers if worker.store.lookup(write.held_name)}
    assert found == {worker.id for worker in group.workers if worker.id in write.holders}
    return write.holders


async def mount(group: Group, *, write_replicas: int) -> None:
    changed = replace(MOUNTS[2], write_replicas=write_replicas)
    await group.engine.put(Bucket.MOUNTS, changed.name, msgspec.json.encode(changed))
    async with asyncio.timeout(5):
        while any(worker.policies.mounts.of(changed.path) != changed for worker in group.workers):
            await asyncio.sleep(0)


def named(group: Group, worker_id: str) -> Worker:
    return next(worker for worker in group.workers if worker.id == worker_id)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("lost", [0, 1])
async def test_a_lost_copy_is_made_anew(group: Group, clock: Clock, key: str, lost: int):
    await group.workers[0].put(key, BODY)
    before = await holders(group, key)
    await group.kill(named(group, before[lost]))
    await look(group)
    clock.now += WAIT / 2
    await look(group)
    assert await holders(group, key) == before, "it may come back"
    clock.now += WAIT / 2
    await look(group)
    after = await holders(group, key)
    assert len(after) == 2
    assert before[lost] not in after
    await group.kill(named(group, before[1 - lost]))
    assert {await worker.read(key) for worker in group.workers} == {BODY}
    clock.now += WAIT
    await look(group)
    clock.now += WAIT
    await look(group)
    assert len(await holders(group, key)) == 2
    if key == "fast/k":
        assert await group.workers[0].writes.persist(at(key))
        assert await group.content(key) == BODY
        assert not any(list(worker.store.scan(HELD_PREFIX)) for worker in group.workers)


async def test_the_second_holder_does_what_the_first_does_not(group: Group, clock: Clock):
    await mount(group, write_replicas=3)
    await group.workers[0].put("fast/k", BODY)
    first, second, third = await holders(group, "fast/k")
    await group.kill(named(group, third))
    worker = named(group, second)
    await worker.writes._own.repair.look()
    clock.now += WAIT
    await worker.writes._own.repair.look()
    assert await holders(group, "fast/k") == (first, second, third)
    clock.now += WAIT
    await worker.writes._own.repair.look()
    assert len(set(await holders(group, "fast/k")) - {third}) == 3


async def test_one_that_is_back_in_time_costs_nothing(group: Group, clock: Clock):
    await group.workers[0].put("fast/k", BODY)
    before = await holders(group, "fast/k")
    worker = named(group, before[1])
    await group.kill(worker)
    await look(group)
    await group.add(worker.store, number=int(worker.id[-1]))
    clock.now += 2 * WAIT
    await look(group)
    assert await holders(group, "fast/k") == before


async def test_a_holder_that_lost_its_disk_gets_it_back(group: Group):
    await group.workers[0].put("fast/k", BODY)
    before = await holders(group, "fast/k")
    await group.kill(named(group, before[0]))
    await group.add(MemoryStore(capacity=64 * MIB), number=int(before[0][-1]))
    await named(group, before[0]).writes._own.repair.look()
    assert await holders(group, "fast/k") == before
    await group.kill(named(group, before[1]))
    assert {await worker.read("fast/k") for worker in group.workers} == {BODY}


async def test_what_a_leaving_worker_alone_holds_is_copied(group: Group, clock: Clock):
    await mount(group, write_replicas=1)
    await group.workers[0].put("fast/tmp/k", BODY)
    (holder,) = await holders(group, "fast/tmp/k")
    group.members = tuple(member for member in group.members if member.id != holder)
    await look(group)
    clock.now += WAIT
    await look(group)
    (kept,) = (await record(group, "fast/tmp/k")).holders[-1:]
    assert kept != holder
    await group.kill(named(group, holder))
    assert {await worker.read("fast/tmp/k") for worker in group.workers} == {BODY}


async def test_nothing_is_looked_at_while_nobody_comes_or_goes(group: Group, monkeypatch: pytest.MonkeyPatch):
    await group.workers[0].put("fast/k", BODY)
    await look(group)
    table = group.workers[0].writes._own.repair._table
    monkeypatch.setattr(type(table), "writes", lambda _: pytest.fail("it was looked at"))
    await look(group)
