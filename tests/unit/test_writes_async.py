"""Writes that are acknowledged when workers hold them, and what becomes of them."""

from __future__ import annotations

import asyncio
import hashlib
import random
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from preheat.coordinator import _persist
from preheat.errors import Conflict, InvalidRequest, NoLiveWorker, OriginUnavailable, Unavailable, VersionChanged
from preheat.jobs import JobState
from preheat.store import DiskStore, MemoryStore
from preheat.ufs import MemoryUnderStore
from preheat.worker._actions import Actions
from preheat.worker._copies import Copies
from preheat.worker._executor import BatchExecutor
from preheat.worker._pending import PendingTable
from preheat.worker.writes import Staging, _claims
from preheat.worker.writes._held import ORPHAN_SECONDS, HeldCopies
from preheat.writes import HELD_PREFIX, PendingWrite, held_name
from tests.unit.memory_cluster import Cluster
from tests.unit.writing_workers import MIB, Group, at, pieces, working

BODIES = [b"", b"x", random.Random(1).randbytes(9 * MIB)]


class GatedUnderStore(MemoryUnderStore):
    """Writes wait, or fail, when they are told to."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.putting = asyncio.Event()
        self.fails = False
        self.reads_first = False
        """Whether a write waits with all of its bytes, or before the first."""

    async def put(self, path, chunks, *, size, **how):
        if self.reads_first:
            chunks = pieces(b"".join([bytes(chunk) async for chunk in chunks]))
        self.putting.set()
        await self.gate.wait()
        if self.fails:
            raise OriginUnavailable("down")
        return await super().put(path, chunks, size=size, **how)

    def close_gate(self) -> None:
        self.gate, self.putting = asyncio.Event(), asyncio.Event()


@pytest.fixture
async def group(tmp_path: Path) -> AsyncIterator[Group]:
    async with working(tmp_path, 3, origin=GatedUnderStore()) as group:
        yield group


def held(group: Group) -> dict[str, list[str]]:
    """Return by worker what it holds."""
    found = {worker.id: [item.path for item in worker.store.scan(HELD_PREFIX)] for worker in group.workers}
    return {worker: names for worker, names in found.items() if names}


async def reads(group: Group, key: str) -> set[bytes | None]:
    return set(await asyncio.gather(*(worker.read(key) for worker in group.workers)))


async def listed(group: Group, prefix: str = "fast/") -> list[str]:
    found = [await worker.reads.list(at(prefix), after="", limit=100) for worker in group.workers]
    assert all(keys == found[0] for keys in found)
    return [info.key for info in found[0]]


@pytest.mark.parametrize("number", range(len(BODIES)))
async def test_what_is_acknowledged_is_held_read_listed_and_persisted(tmp_path: Path, number: int):
    body = BODIES[number]
    stores = [DiskStore(tmp_path / f"s{number}", capacity=256 * MIB) for number in range(3)]
    async with working(tmp_path, 3, stores=[*stores]) as group:
        group.origin.write("s3://b/fast/k", b"before")
        assert await reads(group, "fast/k") == {b"before"}
        writer = group.other("fast/k")
        etag = await writer.put("fast/k", body)
        assert etag == hashlib.md5(body).hexdigest()
        assert len(held(group)) == 2
        assert group.owner("fast/k").id in held(group)
        assert await group.content("fast/k") == b"before"
        assert await reads(group, "fast/k") == {body}
        assert {(await worker.reads.stat(at("fast/k")))[0].etag for worker in group.workers} == {etag}
        assert await listed(group) == ["fast/k"]
        async with aiohttp.ClientSession() as http:
            for worker in group.workers:
                async with http.get(f"{worker.url}/v1/data/s3/b/fast/k", headers={"Range": "bytes=-3"}) as answer:
                    assert (answer.status, await answer.read()) == (
                        (206, body[-3:]) if body else (416, await answer.read())
                    )

        assert await writer.writes.persist(at("fast/k"))
        assert await group.content("fast/k") == body
        assert held(group) == {}
        assert await reads(group, "fast/k") == {body}
        assert not await writer.writes.persist(at("fast/k"))
        assert await listed(group) == ["fast/k"]
    for store in stores:
        store.close()


async def test_a_reader_of_what_is_being_persisted_gets_all_of_it(group: Group):
    await group.workers[0].put("fast/k", BODIES[2])
    opened = [await worker.reads.open(at("fast/k")) for worker in group.workers if list(worker.store.scan(HELD_PREFIX))]
    readers = [read.pages(0, read.info.size) for read in opened]
    begun = [await anext(reader) for reader in readers]
    assert await group.workers[0].writes.persist(at("fast/k"))
    for first, reader in zip(begun, readers, strict=True):
        assert first + b"".join([page async for page in reader]) == BODIES[2]
    assert held(group) == {}


async def test_the_loss_of_a_holder_loses_nothing(group: Group):
    bodies = {f"fast/{number}": f"body {number}".encode() for number in range(12)}
    for number, (key, body) in enumerate(bodies.items()):
        await group.workers[number % 3].put(key, body)
    await group.kill(group.workers[0])  # with its disk
    for key, body in bodies.items():
        assert await reads(group, key) == {body}
    assert await listed(group) == sorted(bodies)
    for key, body in bodies.items():
        assert await group.workers[0].writes.persist(at(key))
        assert await group.content(key) == body


async def test_a_holder_that_is_restarted_still_has_what_it_held(tmp_path: Path):
    stores = [DiskStore(tmp_path / f"s{number}", capacity=64 * MIB) for number in range(2)]
    async with working(tmp_path, 2, stores=[*stores]) as group:
        await group.workers[0].put("fast/k", b"body")
        for worker in list(group.workers):
            await group.kill(worker)
        for store in stores:
            store.close()
        stores = [DiskStore(tmp_path / f"s{number}", capacity=64 * MIB) for number in range(2)]
        for number, store in enumerate(stores):
            await group.add(store, number=number)
        assert await reads(group, "fast/k") == {b"body"}
        assert await group.workers[1].writes.persist(at("fast/k"))
        assert await group.content("fast/k") == b"body"
    for store in stores:
        store.close()


async def test_what_is_held_outlives_kill_9(tmp_path: Path):
    store = DiskStore(tmp_path / "store", capacity=64 * MIB)
    with await Staging(tmp_path / "staging").receive(pieces(b"body")) as body:
        await HeldCopies(store, PendingTable(), worker_id="worker-0").keep(held_name("1", "s3://b/k"), body)
    shutil.copytree(tmp_path / "store", tmp_path / "found")  # as it stands on the disk
    store.close()
    found = DiskStore(tmp_path / "found", capacity=64 * MIB)
    assert [found.read(item) for item in found.scan(HELD_PREFIX)] == [b"body"]
    assert found.pins() == (HELD_PREFIX,)
    found.close()


async def test_nothing_that_is_done_to_cached_objects_touches_what_is_pending(tmp_path: Path):
    stores = [MemoryStore(capacity=3 * MIB) for _ in range(2)]
    async with working(tmp_path, 2, stores=[*stores]) as group:
        group.origin.write("s3://b/fast/k", b"before")
        await group.workers[0].put("fast/k", bytes(MIB))
        for worker in group.workers:
            await worker.reads.fetch(at("fast/k"), info=None, job_id="job")  # it lists, and loads, what the origin has
            worker.store.delete(str(at("fast/k")))
            for number in range(8):
                group.origin.write(f"s3://b/data/{number}", bytes(MIB))
                await worker.read(f"data/{number}")
        assert await reads(group, "fast/k") == {bytes(MIB)}
        await group.workers[0].reads.fetch(at("fast/k"), info=None, job_id="job")
        assert await group.workers[1].writes.persist(at("fast/k"))
        assert await reads(group, "fast/k") == {bytes(MIB)}


@pytest.mark.parametrize("uploaded", [True, False])
async def test_a_write_during_the_last_ones_upload_is_neither_lost_nor_taken_for_it(group: Group, uploaded: bool):
    assert isinstance(group.origin, GatedUnderStore)
    group.origin.reads_first = uploaded
    await group.workers[0].put("fast/k", b"first")
    group.origin.close_gate()
    persisting = asyncio.create_task(group.workers[1].writes.persist(at("fast/k")))
    await group.origin.putting.wait()
    second = await group.workers[2].put("fast/k", b"second")
    assert await reads(group, "fast/k") == {b"second"}
    again = asyncio.create_task(group.workers[0].writes.persist(at("fast/k")))  # has to wait for the first
    group.origin.gate.set()
    assert await persisting is uploaded
    assert await again
    assert await group.content("fast/k") == b"second"
    assert await reads(group, "fast/k") == {b"second"}
    assert {(await worker.reads.stat(at("fast/k")))[0].etag for worker in group.workers} == {second}
    assert held(group) == {}


async def test_a_worker_that_dies_while_it_persists_leaves_it_to_another(group: Group, monkeypatch: pytest.MonkeyPatch):
    assert isinstance(group.origin, GatedUnderStore)
    monkeypatch.setattr(_claims, "_LEASE_SECONDS", 0.3)
    await group.workers[0].put("fast/k", b"body")
    group.origin.close_gate()
    victim = group.workers[1]
    persisting = asyncio.create_task(victim.writes.persist(at("fast/k")))
    await group.origin.putting.wait()
    await group.kill(victim)
    group.origin.gate.set()
    await asyncio.gather(persisting, return_exceptions=True)
    assert await reads(group, "fast/k") == {b"body"}
    assert await group.workers[0].writes.persist(at("fast/k"))
    assert await group.content("fast/k") == b"body"
    assert held(group) == {}


async def test_an_upload_whose_claim_cannot_be_kept_ends(group: Group, monkeypatch: pytest.MonkeyPatch):
    assert isinstance(group.origin, GatedUnderStore)
    monkeypatch.setattr(_claims, "_LEASE_SECONDS", 0.2)
    monkeypatch.setattr(_claims, "_SAFE_SECONDS", 0.1)
    await group.workers[0].put("fast/k", b"body")
    group.origin.close_gate()
    persisting = asyncio.create_task(group.workers[1].writes.persist(at("fast/k")))
    await group.origin.putting.wait()
    group.workers[1].engine.dead = True
    with pytest.raises(Unavailable, match="claim"):
        await persisting
    group.origin.gate.set()
    assert await group.content("fast/k") is None


async def test_removals_and_copies_of_what_is_pending(group: Group):
    group.origin.write("s3://b/fast/k", b"before")
    await group.workers[0].put("fast/k", b"pending")
    await group.workers[1].writes.copy(at("fast/k"), at("copied"))
    assert await group.content("copied") == b"pending"
    assert await group.workers[2].writes.delete(at("fast/k"))
    assert await reads(group, "fast/k") == {None}
    assert await group.content("fast/k") is None
    assert (held(group), await listed(group)) == ({}, [])
    assert not await group.workers[0].writes.persist(at("fast/k"))


async def test_conditions_are_those_of_the_pending_version(group: Group):
    group.origin.write("s3://b/fast/k", b"before")
    with pytest.raises(VersionChanged):
        await group.workers[0].put("fast/k", b"1", if_none_match=True)
    first = await group.workers[0].put("fast/k", b"1", if_match=hashlib.md5(b"before").hexdigest())
    with pytest.raises(VersionChanged):
        await group.workers[1].put("fast/k", b"2", if_match=hashlib.md5(b"before").hexdigest())
    tries = [group.workers[number % 3].put("fast/k", b"3" * number, if_match=first) for number in range(6)]
    done = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(result, str) for result in done) == 1
    assert sum(isinstance(result, VersionChanged) for result in done) == 5
    assert len(held(group)) == 2


async def test_where_too_few_workers_can_hold_it_the_under_store_gets_it_at_once(group: Group):
    for _ in range(2):
        await group.kill(group.workers[0])
    await group.workers[0].put("fast/k", b"body")
    assert (await group.content("fast/k"), held(group)) == (b"body", {})
    with pytest.raises(NoLiveWorker, match="2 workers"):
        await group.workers[0].put("fast/tmp/k", b"body")


async def test_a_full_page_store_makes_writes_go_through(tmp_path: Path):
    async with working(tmp_path, 2, stores=[MemoryStore(capacity=2 * MIB), MemoryStore(capacity=2 * MIB)]) as group:
        for number in range(5):
            await group.workers[0].put(f"fast/{number}", bytes(600_000))
        at_origin = [number for number in range(5) if await group.content(f"fast/{number}")]
        assert 0 < len(at_origin) < 5
        for number in range(5):
            assert await reads(group, f"fast/{number}") == {bytes(600_000)}


async def test_temporary_objects_are_never_persisted(group: Group):
    await group.workers[0].put("fast/tmp/k", b"body")
    assert not await group.workers[1].writes.persist(at("fast/tmp/k"))
    assert await reads(group, "fast/tmp/k") == {b"body"}
    assert await listed(group, "fast/tmp/") == ["fast/tmp/k"]
    assert await group.content("fast/tmp/k") is None
    assert await group.workers[2].writes.delete(at("fast/tmp/k"))
    assert (await reads(group, "fast/tmp/k"), held(group)) == ({None}, {})


async def test_uploads_in_parts_are_pending_too(group: Group):
    writes = group.workers[0].writes
    upload = await writes.create_upload(at("fast/k"))
    parts = [
        (number, await writes.upload_part(at("fast/k"), upload, number, pieces(b"x" * 2000), size=2000))
        for number in (1, 2)
    ]
    info = await writes.complete_upload(at("fast/k"), upload, parts)
    digest = hashlib.md5(b"".join(bytes.fromhex(etag) for _, etag in parts)).hexdigest()
    assert info.etag == f"{digest}-2"
    assert (await group.content("fast/k"), await reads(group, "fast/k")) == (None, {b"x" * 4000})


async def test_what_is_held_is_what_was_acknowledged_and_stays(group: Group):
    worker, name = group.workers[0].writes, held_name("id", str(at("fast/k")))
    right = hashlib.md5(b"right").hexdigest()
    with pytest.raises(InvalidRequest, match="MD5"):
        await worker.hold(at("fast/k"), "id", pieces(b"wrong"), etag=right, size=5)
    assert not held(group)
    await worker.hold(at("fast/k"), "id", pieces(b"right"), etag=right, size=5)
    with pytest.raises(Conflict, match="held here already"):
        await worker.hold(at("fast/k"), "id", pieces(b"wrong"), etag="other-1", size=5)
    assert group.workers[0].store.read(group.workers[0].store.lookup(name)) == b"right"


async def test_what_belongs_to_no_record_is_dropped_after_a_day(group: Group):
    worker = group.workers[0]
    await worker.put("fast/k", b"body")
    name = held_name("0" * 32, str(at("fast/k")))
    with worker.store.writer(name, etag="e", size=1, last_modified=0) as writer:
        writer.append(b"x")
        writer.commit()
    table = worker.writes._own._pending_log.table
    before = {name for names in held(group).values() for name in names}
    assert HeldCopies(worker.store, table, worker_id=worker.id).drop_orphans() == 0

    def later() -> float:
        return time.time() + ORPHAN_SECONDS + 60

    assert HeldCopies(worker.store, table, worker_id=worker.id, clock=later).drop_orphans() == 1
    assert before - {name for names in held(group).values() for name in names} == {name}


def executing(cluster: Cluster, group: Group) -> None:
    """Have the cluster's workers persist by those of the group, which have the same names."""
    for worker, node in zip(cluster.workers, group.workers, strict=True):
        copies = Copies(ufs=cluster.origin, store=worker.store)
        actions = Actions(
            worker.settings.id, store=worker.store, reads=worker.reads, copies=copies, persist=node.writes.persist
        )
        worker.executor = BatchExecutor(
            engine=worker.engine, actions=actions, controls=worker.controls, settings=worker.settings
        )


async def test_coordinators_have_it_persisted_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_persist, "_LOOK_SECONDS", 0.1)
    monkeypatch.setattr(_persist, "_FIRST_PAUSE", 0.2)
    cluster = Cluster()
    cluster.origin = origin = GatedUnderStore()
    group = Group(tmp_path, origin, engine=cluster.engine)
    try:
        await group.mount()
        for number in range(2):
            await group.add(MemoryStore(capacity=64 * MIB), number=number)
        executing(cluster, group)
        cluster.coordinator = cluster.new_coordinator("coordinator-0")
        bodies = {f"fast/{number}": f"body {number}".encode() for number in range(10)}
        for key, body in bodies.items():
            await group.workers[0].put(key, body)
        await group.workers[0].put("fast/tmp/k", b"body")
        origin.fails = True
        await cluster.start_all()
        persistence, jobs = cluster.coordinator.persistence, cluster.coordinator.service
        await persistence.submit_due(jobs)
        await persistence.submit_due(jobs)
        (known,) = jobs.list()
        assert await cluster.ended(known.job.id) is JobState.FAILED
        assert (known.job.spec.type, known.job.spec.paths) == ("persist", ("s3://b/fast/",))
        assert await reads(group, "fast/7") == {b"body 7"}
        origin.fails = False
        async with asyncio.timeout(20):
            while len(held(group)) > 2 or any(len(names) > 1 for names in held(group).values()):
                await asyncio.sleep(0.05)
        for key, body in bodies.items():
            assert await group.content(key) == body
            assert await reads(group, key) == {body}
        assert await group.content("fast/tmp/k") is None
    finally:
        await cluster.stop_all()
        for worker in list(group.workers):
            await group.kill(worker)


def test_what_is_late_to_be_heard_changes_nothing():
    def write(number: int) -> PendingWrite:
        return PendingWrite(path="s3://b/k", id=f"w{number}", etag="e", size=1, written_at=0.0, holders=("worker-0",))

    table = PendingTable()
    table.set("key", write(1), 5)
    table.set("key", write(2), 7)
    assert table.remove("key", 5) is None  # a removal of the first, whose answer came after the second
    assert table.get("s3://b/k") == write(2)
    assert not table.is_news("key", 6)
    assert table.remove("key", 8) == write(2)
    assert not table.is_news("key", 7)
    assert table.end("key", "w3") is None
    assert table.has_ended(write(3))


async def test_a_reader_that_is_behind_its_holders_is_told_to_read_again(group: Group):
    """They let go of the bytes as soon as they hear of a newer write; this reader's worker hears of it later."""
    await group.workers[0].put("fast/k", b"old")
    reader = next(worker for worker in group.workers if not list(worker.store.scan(HELD_PREFIX)))
    opened = await reader.reads.open(at("fast/k"))
    for worker in group.workers:
        for item in list(worker.store.scan(HELD_PREFIX)):
            worker.store.delete(item.path)
    writing = asyncio.create_task(group.workers[0].put("fast/k", b"new"))
    with pytest.raises(VersionChanged):
        [page async for page in opened.pages(0, 3)]
    await writing
    assert await reads(group, "fast/k") == {b"new"}
