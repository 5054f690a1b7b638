"""Inventories on the engine: what load jobs leave, over takeovers too, what is read of them, and what is kept."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from preheat.coordinator import _draft
from preheat.coordinator._catalog import Page
from preheat.coordinator._inventory import InventoryWriter, inventory_id
from preheat.engine import Bucket, Engine, Entry, MemoryEngine
from preheat.errors import Conflict, EngineUnavailable, NotFound
from preheat.inventories import Inventories
from preheat.inventory import block_key
from preheat.jobs import Action, Job, JobSpec, JobState
from preheat.paths import UfsPath
from preheat.ufs import MemoryUnderStore
from preheat.versions import DatasetVersion, ObjectInfo
from tests.unit.memory_cluster import Cluster, load

PATH = "s3://b/data/"


@asynccontextmanager
async def following(engine: Engine, **settings: int) -> AsyncIterator[Inventories]:
    inventories = Inventories(engine, **settings)
    task = asyncio.create_task(inventories.follow())
    await inventories.wait_loaded()
    yield inventories
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_draft, "BLOCK_OBJECTS", 5)


async def listed(origin: MemoryUnderStore, uri: str, after: str = "") -> list[ObjectInfo]:
    return [item async for page in origin.list(UfsPath.parse(uri), after=after) for item in page]


async def loaded(cluster: Cluster, *paths: str, state: JobState = JobState.SUCCEEDED, **options: object) -> Job:
    known = await cluster.coordinator.service.submit(load(*paths, **options))
    assert await cluster.ended(known.job.id) is state
    return (await cluster.coordinator.service.get(known.job.id)).job


@pytest.mark.parametrize("metadata_only", [False, True])
async def test_a_load_leaves_what_it_listed(cluster: Cluster, metadata_only: bool, small_blocks: None):
    cluster.fill(113)
    job = await loaded(cluster, PATH, load_metadata_only=metadata_only)
    async with following(cluster.engine) as inventories:
        known = inventories.covering(f"{PATH}0007")
        assert known is not None
        assert (known.path, known.version, known.job_id) == (PATH, f"sha256:{job.work.version}", job.id)
        assert (known.objects, known.bytes, known.listed_at) == (113, job.work.listed.bytes, job.started_at)
        objects = await inventories.objects(known, UfsPath.parse(PATH), limit=1000)
        assert objects == await listed(cluster.origin, PATH)
        assert len(known.first_keys) == 23


async def test_what_is_listed_in_part_leaves_none(cluster: Cluster):
    cluster.fill(9)
    cluster.origin.write("s3://b/index", b"data/\n")
    await loaded(cluster, PATH, file_filter_regex=".*")
    known = await cluster.coordinator.service.submit(JobSpec(index="s3://b/index"))
    await cluster.ended(known.job.id)
    job = await loaded(cluster, PATH, "s3://b/data/0003", "s3://b/", batch_size=2)
    kept = cluster.coordinator.inventories.list()
    assert {item.path: (item.objects, item.job_id) for item in kept} == {
        PATH: (9, job.id),
        "s3://b/data/0003": (1, job.id),
        "s3://b/": (10, job.id),
    }
    version = DatasetVersion()
    version.update(await listed(cluster.origin, "s3://b/data/0003"))
    assert next(item.version for item in kept if item.objects == 1) == str(version)


async def test_of_too_many_objects_none_is_kept_and_the_report_says_so():
    cluster = Cluster()
    scheduler = replace(cluster.coordinator._settings.scheduler, inventory_objects=19)
    cluster.coordinator = cluster.new_coordinator("coordinator-0", scheduler)
    await cluster.start_all()
    cluster.fill(20)
    job = await loaded(cluster, PATH)
    assert job.reason.startswith(f"No inventory is kept of {PATH}: it has over 19 objects, or ")
    assert cluster.coordinator.inventories.list() == []
    assert blocks_in(cluster.engine) == []
    assert (await loaded(cluster, "s3://b/data/0001")).reason == ""
    await cluster.stop_all()


async def test_what_is_written_to_while_it_is_listed_is_not_kept(cluster: Cluster):
    cluster.fill(3)
    await cluster.pause_workers()
    known = await cluster.coordinator.service.submit(load(PATH, "s3://b/data/0001"))
    await cluster.coordinator.service.wait(known.job.id, after=known.revision + 2, seconds=5)
    async with following(cluster.engine) as inventories:  # as a worker does that has just written an object
        assert inventories.covering(PATH) is None
        await inventories.forget_listings(f"{PATH}0002")
    cluster.resume_workers()
    assert await cluster.ended(known.job.id) is JobState.SUCCEEDED
    job = (await cluster.coordinator.service.get(known.job.id)).job
    assert f"No inventory is kept of {PATH}:" in job.reason
    assert [item.path for item in cluster.coordinator.inventories.list()] == ["s3://b/data/0001"]
    assert len(blocks_in(cluster.engine)) == 1


async def test_a_failed_load_leaves_nothing(cluster: Cluster):
    cluster.fill(3)
    await cluster.pause_workers()
    known = await cluster.coordinator.service.submit(load())
    await cluster.coordinator.service.wait(known.job.id, after=known.revision + 2, seconds=5)
    await cluster.coordinator.service.stop(known.job.id)
    assert len(blocks_in(cluster.engine)) == 1
    await cluster.coordinator.inventories.collect(time.time())
    assert blocks_in(cluster.engine) == []
    assert cluster.coordinator.inventories.list() == []


async def test_the_last_one_is_kept_and_those_that_are_pinned(cluster: Cluster):
    cluster.fill(3)
    upkeep, pins = cluster.coordinator.inventories, cluster.coordinator.pins
    first = await loaded(cluster)
    (pin, _) = await pins.pin(PATH)
    jobs = [await loaded(cluster) for _ in range(2)]
    now = time.time()
    await upkeep.collect(now)
    assert [item.job_id for item in upkeep.list()] == [jobs[1].id, first.id]
    assert len(blocks_in(cluster.engine)) == 3  # whoever had begun to read goes on for a minute
    await upkeep.collect(now + 61)
    assert sorted(blocks_in(cluster.engine)) == sorted(block_key(inventory_id(job, 0), 0) for job in (first, jobs[1]))
    with pytest.raises(Conflict, match="is pinned"):
        await upkeep.remove(inventory_id(first, 0))
    await pins.unpin(pin.id)
    for later in (62, 124):
        await upkeep.collect(now + later)
    assert [item.job_id for item in upkeep.list()] == [jobs[1].id]
    await upkeep.remove(inventory_id(jobs[1], 0))
    assert upkeep.list() == []
    with pytest.raises(NotFound):
        await upkeep.remove(inventory_id(jobs[1], 0))
    await upkeep.collect(time.time() + 61)
    assert blocks_in(cluster.engine) == []
    assert [entry async for entry in state(cluster.engine, Bucket.INVENTORIES)] == []


def blocks_in(engine: MemoryEngine) -> list[str]:
    return [key for key, entry in engine._values[Bucket.INVENTORY_BLOCKS].items() if entry.value is not None]


async def state(engine: Engine, bucket: Bucket) -> AsyncIterator[Entry]:
    async for entry in engine.watch(bucket):
        if entry is None:
            return
        if entry.value is not None:
            yield entry


class Owners:
    """Owners of one job that die and are replaced, on an under store that changes behind the cursor meanwhile."""

    def __init__(self, origin: MemoryUnderStore, paths: tuple[str, ...]) -> None:
        self.engine = MemoryEngine()
        self.origin = origin
        self.job = Job(id="job", spec=JobSpec(paths=paths), submitted_at=1.0)
        self.inventories = Inventories(self.engine)
        self.writer = self.new_writer()
        self.replaced = (self.writer, self.job)

    def new_writer(self) -> InventoryWriter:
        return InventoryWriter(self.engine, self.inventories, most=1000)

    def save(self, **progress: object) -> None:
        self.job = replace(self.job, work=replace(self.job.work, **progress))  # type: ignore[arg-type]

    def replace_writer(self) -> None:
        self.replaced = (self.writer, self.job)
        self.writer = self.new_writer()

    async def haunt(self) -> bool:
        """Let an owner go on that was replaced without knowing it; true if it was not refused."""
        writer, job = self.replaced
        if job.work.listing_done:
            return False
        try:
            await writer.add(job, Action.FETCH, await self.next_page(job))
        except Conflict:
            return False
        return True

    async def next_page(self, job: Job) -> Page | None:
        path = UfsPath.parse(job.spec.paths[job.work.path_index])
        objects = await anext(aiter(self.origin.list(path, after=job.work.cursor)), None)
        return Page(root="s3://b/", objects=objects, cursor=objects[-1].key) if objects else None

    async def step(self, *, die: bool) -> bool:
        """List one page, or the end of a path; false at the end of the job."""
        await self.writer.begin(self.job)
        work, spec = self.job.work, self.job.spec
        if work.listing_done:
            return False
        page = await self.next_page(self.job)
        try:
            await self.writer.add(self.job, Action.FETCH, page)
        except Conflict:
            die = True
        if die:
            self.replace_writer()
        elif page:
            version = DatasetVersion(work.version)
            version.update(page.objects)
            self.save(cursor=page.cursor, version=version.state)
        else:
            last = work.path_index + 1 == len(spec.paths)
            self.save(path_index=work.path_index + 1, cursor="", listing_done=last)
        return True


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    st.integers(0, 40),
    st.integers(1, 12),
    st.lists(st.sampled_from(["go on", "die", "die and lose the next", "be replaced", "haunt"]), max_size=40),
    st.booleans(),
)
@example(6, 6, ["die and lose the next", "go on", "be replaced"], False)  # nobody writes the second block again
async def test_whoever_takes_a_listing_over_leaves_the_whole_inventory(
    small_blocks: None, count: int, page_size: int, fates: list[str], two_paths: bool
):
    origin = MemoryUnderStore(page_size=page_size)
    for number in range(count):
        origin.write(f"{PATH}{number:03d}", b"x" * number)
    origin.write("s3://b/other")
    owners = Owners(origin, (PATH, "s3://b/other") if two_paths else (PATH,))
    haunted = False
    for fate in [*fates, *["go on"] * 100]:
        if fate == "haunt" and not two_paths:  # with several, the job has no version to compare what they left with
            haunted |= await owners.haunt()
        elif fate in {"haunt", "be replaced"}:
            owners.replace_writer()
        elif not await owners.step(die=fate.startswith("die")):
            break
        if fate == "die and lose the next":
            behind = await listed(origin, PATH, owners.job.work.cursor)
            if behind and not owners.job.work.path_index:
                origin.remove(f"s3://b/{behind[0].key}")
    expected = await listed(origin, PATH)
    version = DatasetVersion()
    version.update(expected)
    note = await owners.new_writer().conclude(owners.job, JobState.SUCCEEDED, "")
    assert haunted or not note
    async with following(owners.engine) as inventories:
        known = inventories.covering(PATH)
        if known is None:
            assert PATH in note
            return
        assert (known.version, known.objects) == (str(version), len(expected))
        assert known.bytes == sum(item.size for item in expected)
        assert await inventories.objects(known, UfsPath.parse(PATH), limit=100) == expected
    kept = {inventory_id(owners.job, number) for number in range(len(owners.job.spec.paths))}
    assert {key.partition(".")[0] for key in blocks_in(owners.engine)} == kept


async def test_an_owner_that_was_replaced_is_refused(small_blocks: None):
    origin = MemoryUnderStore(page_size=3)
    for number in range(20):
        origin.write(f"{PATH}{number:03d}")
    owners = Owners(origin, (PATH,))
    await owners.step(die=False)
    replaced, owners.writer = owners.writer, owners.new_writer()
    await owners.step(die=False)
    with pytest.raises(Conflict):
        await replaced.add(owners.job, Action.FETCH, await owners.next_page(owners.job))


async def test_a_job_whose_beginning_is_not_written_leaves_none(small_blocks: None):
    """Such as one that began under a coordinator of an earlier version."""
    origin = MemoryUnderStore(page_size=3)
    for number in range(9):
        origin.write(f"{PATH}{number:03d}")
    owners = Owners(origin, (PATH,))
    owners.save(cursor="data/003", version="ab" * 32)
    while await owners.step(die=False):
        pass
    assert "No inventory is kept" in await owners.writer.conclude(owners.job, JobState.SUCCEEDED, "")
    assert blocks_in(owners.engine) == []


class RacingEngine(MemoryEngine):
    """Lets somebody else be faster, once, than the next change of an inventory's record."""

    def __init__(self) -> None:
        super().__init__()
        self.first: Callable[[], Awaitable[object]] | None = None

    async def put(self, bucket: Bucket, key: str, value: bytes, *, revision: int | None = None) -> int:
        first, self.first = (None, self.first) if bucket is not Bucket.INVENTORIES else (self.first, None)
        if first:
            await first()
        return await super().put(bucket, key, value, revision=revision)


@pytest.mark.parametrize("writer_is_first", [True, False])
async def test_a_write_at_the_moment_when_an_inventory_becomes_whole_is_never_overlooked(writer_is_first: bool):
    origin = MemoryUnderStore()
    origin.write(f"{PATH}0")
    owners = Owners(origin, (PATH,))
    owners.engine = engine = RacingEngine()
    owners.writer = owners.new_writer()
    while await owners.step(die=False):
        pass

    async with following(engine) as inventories:

        def conclude() -> Awaitable[str]:
            return owners.writer.conclude(owners.job, JobState.SUCCEEDED, "")

        def write() -> Awaitable[None]:
            return inventories.forget_listings(f"{PATH}0")

        engine.first, last = (write, conclude) if writer_is_first else (conclude, write)
        note = await last()
        assert inventories.covering(PATH) is None
        if writer_is_first:
            assert "No inventory is kept" in str(note)
            assert blocks_in(engine) == []
        else:
            (retired,) = inventories.coverage.inventories.values()
            assert retired.retired_at is not None
            await inventories.retire(retired, retired.retired_at + 1)
            assert inventories.coverage.inventories[retired.id] == retired


class CountingEngine(MemoryEngine):
    """Counts what is read, and yields while it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[str] = Counter()

    async def get(self, bucket: Bucket, key: str) -> Entry | None:
        self.reads[key] += 1
        await asyncio.sleep(0)
        return await super().get(bucket, key)


async def written(origin: MemoryUnderStore, path: str = "s3://b/") -> tuple[CountingEngine, Job]:
    owners = Owners(origin, (path,))
    owners.engine = CountingEngine()
    owners.writer = owners.new_writer()
    while await owners.step(die=False):
        pass
    await owners.writer.conclude(owners.job, JobState.SUCCEEDED, "")
    owners.engine.reads.clear()
    return owners.engine, owners.job


KEYS = st.sets(st.text("ab/é", min_size=1, max_size=4), min_size=1, max_size=30)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(KEYS, st.text("ab/é", max_size=4), st.text("ab/é", max_size=4), st.integers(1, 40))
async def test_an_inventory_lists_what_the_under_store_did(
    small_blocks: None, keys: set[str], below: str, after: str, limit: int
):
    origin = MemoryUnderStore(page_size=7)
    for key in keys:
        origin.write(f"s3://b/{key}", b"x")
    engine, _ = await written(origin)
    async with following(engine) as inventories:
        known = inventories.covering("s3://b/x")
        assert known is not None
        path = UfsPath.parse(f"s3://b/{below}")
        expected = await listed(origin, str(path), after)
        assert await inventories.objects(known, path, after=after, limit=limit) == expected[:limit]
        found = await inventories.find(known, path)
        assert (found is not None) is (below in keys)


async def test_blocks_are_read_once_and_few_are_kept(small_blocks: None):
    origin = MemoryUnderStore()
    for number in range(50):
        origin.write(f"s3://b/{number:02d}")
    engine, job = await written(origin)
    async with following(engine, cached_blocks=2) as inventories:
        known = inventories.covering("s3://b/07")
        assert known is not None

        async def find(*numbers: int) -> None:
            await asyncio.gather(
                *(inventories.find(known, UfsPath.parse(f"s3://b/{number:02d}")) for number in numbers)
            )

        await find(*range(5), *range(5))
        assert engine.reads == {block_key(inventory_id(job, 0), 0): 1}
        await find(5, 10, 6, 11)
        await find(5, 10)
        assert set(engine.reads.values()) == {1}
        await find(0)
        assert engine.reads[block_key(inventory_id(job, 0), 0)] == 2


async def test_a_block_that_is_gone_is_asked_for_again(small_blocks: None):
    origin = MemoryUnderStore()
    origin.write("s3://b/0")
    engine, job = await written(origin)
    key = block_key(inventory_id(job, 0), 0)
    kept = await engine.get(Bucket.INVENTORY_BLOCKS, key)
    assert kept is not None
    assert kept.value is not None
    async with following(engine) as inventories:
        known = inventories.covering("s3://b/0")
        assert known is not None
        await engine.delete(Bucket.INVENTORY_BLOCKS, key)
        with pytest.raises(EngineUnavailable):
            await inventories.find(known, UfsPath.parse("s3://b/0"))
        await engine.put(Bucket.INVENTORY_BLOCKS, key, kept.value)
        assert await inventories.find(known, UfsPath.parse("s3://b/0")) is not None


async def test_an_inventory_without_objects_has_none():
    engine, _ = await written(MemoryUnderStore(), "file:///nothing/")
    async with following(engine) as inventories:
        known = inventories.covering("file:///nothing/x")
        assert known is not None
        assert known.objects == 0
        assert await inventories.objects(known, UfsPath.parse("file:///nothing/"), limit=10) == []
        assert await inventories.find(known, UfsPath.parse("file:///nothing/x")) is None
