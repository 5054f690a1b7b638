"""The read side of a worker on the in-memory twins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from preheat.errors import CorruptPage, ObjectNotFound, OriginUnavailable, StoreFull, Unavailable, VersionChanged
from preheat.paths import UfsPath
from preheat.store import PAGE_SIZE, CachedObject, MemoryStore
from preheat.store._memory import _Held
from preheat.ufs import Download, MemoryUnderStore
from preheat.versions import ObjectInfo
from preheat.worker._reads import OpenedRead, ReadService

URI = "s3://b/k"
PATH = UfsPath.parse(URI)


class GatedOrigin(MemoryUnderStore):
    """An under store whose downloads wait at a gate after their first chunk."""

    def __init__(self) -> None:
        super().__init__(chunk_bytes=4)
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()

    async def get(self, path: UfsPath, *, etag: str | None = None, start: int = 0, end: int | None = None) -> Download:
        download = await super().get(path, etag=etag, start=start, end=end)
        self.begun.set()
        return Download(info=download.info, start=download.start, end=download.end, chunks=self._gated(download.chunks))

    async def _gated(self, chunks: AsyncIterator[memoryview]) -> AsyncIterator[memoryview]:
        async for chunk in chunks:
            yield chunk
            await self.gate.wait()


@pytest.fixture
def origin() -> MemoryUnderStore:
    return MemoryUnderStore()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(capacity=16 << 20)


@pytest.fixture
def reads(store: MemoryStore, origin: MemoryUnderStore) -> ReadService:
    return ReadService(store, origin)


async def body(opened: OpenedRead, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([bytes(page) async for page in opened.pages(start, opened.info.size if end is None else end)])


def flip_bit(store: MemoryStore, position: int) -> None:
    held = store._held[URI]
    data = bytearray(held.data)
    data[position] ^= 1
    store._held[URI] = _Held(item=held.item, data=bytes(data))


async def test_a_miss_is_filled_and_then_a_hit(reads: ReadService, origin: MemoryUnderStore) -> None:
    info = origin.write(URI, b"hello")
    first = await reads.open(PATH)
    assert (first.hit, first.info, await body(first)) == (False, info, b"hello")
    second = await reads.open(PATH)
    assert (second.hit, await body(second, 1, 3)) == (True, b"el")
    counters = reads.stats()
    assert (counters["hits"], counters["misses"], counters["originReads"], counters["originBytes"]) == (1, 1, 1, 5)
    assert (counters["hitBytes"], counters["missBytes"], counters["loadReads"]) == (2, 5, 0)


async def test_a_large_object_comes_in_pages(reads: ReadService, origin: MemoryUnderStore) -> None:
    data = bytes(range(256)) * (3 * PAGE_SIZE // 256) + b"end"
    origin.write(URI, data)
    opened = await reads.open(PATH)
    pages = [bytes(page) async for page in opened.pages(100, len(data))]
    assert [len(page) for page in pages] == [PAGE_SIZE - 100, PAGE_SIZE, PAGE_SIZE, 3]
    assert b"".join(pages) == data[100:]


async def test_what_is_missing_at_the_origin_is_not_found(reads: ReadService, origin: MemoryUnderStore) -> None:
    origin.write("s3://b/other", b"")
    with pytest.raises(ObjectNotFound):
        await reads.open(PATH)
    assert reads.counters.misses == 0


async def test_a_cached_object_is_served_though_the_origin_changed(
    reads: ReadService, origin: MemoryUnderStore
) -> None:
    old = origin.write(URI, b"old")
    await reads.open(PATH)
    origin.write(URI, b"newer")
    opened = await reads.open(PATH)
    assert (opened.hit, opened.info.etag, await body(opened)) == (True, old.etag, b"old")


async def test_the_version_that_is_asked_for_replaces_the_cached_one(
    reads: ReadService, origin: MemoryUnderStore, store: MemoryStore
) -> None:
    old = origin.write(URI, b"old")
    await reads.open(PATH)
    new = origin.write(URI, b"newer")
    opened = await reads.open(PATH, (new.etag,))
    assert (opened.hit, await body(opened)) == (False, b"newer")
    with pytest.raises(VersionChanged):
        await reads.open(PATH, (old.etag,))
    cached = store.lookup(URI)
    assert cached is not None
    assert cached.etag == new.etag


async def test_a_version_that_nobody_has_leaves_the_cached_one_alone(
    reads: ReadService, origin: MemoryUnderStore
) -> None:
    origin.write(URI, b"old")
    await reads.open(PATH)
    with pytest.raises(VersionChanged):
        await reads.open(PATH, ("no such etag",))
    with pytest.raises(VersionChanged):
        await reads.open(PATH, ())
    assert (await reads.open(PATH)).hit


async def test_any_of_several_versions_will_do(reads: ReadService, origin: MemoryUnderStore) -> None:
    info = origin.write(URI, b"data")
    opened = await reads.open(PATH, ("x", info.etag))
    assert await body(opened) == b"data"
    with pytest.raises(VersionChanged):
        await reads.open(PATH, ("x", "y"))


async def test_a_body_that_began_as_one_version_never_ends_as_another(
    reads: ReadService, origin: MemoryUnderStore
) -> None:
    origin.write(URI, b"a" * (2 * PAGE_SIZE))
    await reads.fetch(PATH, info=None)
    opened = await reads.open(PATH)
    pages = opened.pages(0, opened.info.size)
    assert await anext(pages) == b"a" * PAGE_SIZE
    new = origin.write(URI, b"b" * (2 * PAGE_SIZE))
    await reads.fetch(PATH, info=new)
    with pytest.raises(VersionChanged):
        await anext(pages)


async def test_a_corrupt_copy_is_fetched_again(
    reads: ReadService, origin: MemoryUnderStore, store: MemoryStore
) -> None:
    data = b"a" * (2 * PAGE_SIZE)
    origin.write(URI, data)
    await reads.fetch(PATH, info=None)
    opened = await reads.open(PATH)
    flip_bit(store, PAGE_SIZE + 7)
    assert await body(opened) == data
    assert (reads.counters.origin_reads, reads.stats()["corrupt"]) == (2, 1)


async def test_a_copy_that_stays_corrupt_is_not_fetched_forever(origin: MemoryUnderStore) -> None:
    class RottingStore(MemoryStore):
        def read(self, item: CachedObject, start: int = 0, end: int | None = None) -> bytes:
            flip_bit(self, 0)
            return super().read(item, start, end)

    reads = ReadService(RottingStore(capacity=1 << 20), origin)
    origin.write(URI, b"data")
    opened = await reads.open(PATH)
    with pytest.raises(CorruptPage):
        await body(opened)
    assert reads.counters.origin_reads == 2


async def test_a_copy_that_is_gone_at_the_origin_ends_the_read(
    reads: ReadService, origin: MemoryUnderStore, store: MemoryStore
) -> None:
    origin.write(URI, b"a" * (2 * PAGE_SIZE))
    await reads.fetch(PATH, info=None)
    opened = await reads.open(PATH)
    pages = opened.pages(0, opened.info.size)
    await anext(pages)
    store.delete(URI)
    origin.remove(URI)
    with pytest.raises(ObjectNotFound):
        await anext(pages)


async def test_a_hundred_readers_of_a_cold_object_cause_one_read(store: MemoryStore) -> None:
    origin = GatedOrigin()
    origin.write(URI, b"cold data")
    reads = ReadService(store, origin)
    readers = [asyncio.create_task(reads.open(PATH)) for _ in range(100)]
    await origin.begun.wait()
    origin.gate.set()
    assert {await body(opened) for opened in await asyncio.gather(*readers)} == {b"cold data"}
    assert (reads.counters.origin_reads, reads.counters.misses) == (1, 100)


async def test_a_reader_who_leaves_does_not_stop_the_fill(store: MemoryStore) -> None:
    origin = GatedOrigin()
    origin.write(URI, b"cold data")
    reads = ReadService(store, origin)
    leaver, stayer = (asyncio.create_task(reads.open(PATH)) for _ in range(2))
    await origin.begun.wait()
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    origin.gate.set()
    assert await body(await stayer) == b"cold data"
    assert reads.counters.origin_reads == 1


async def test_readers_of_two_versions_each_get_their_own_or_an_error(store: MemoryStore) -> None:
    origin = GatedOrigin()
    old = origin.write(URI, b"old data")
    reads = ReadService(store, origin)
    first = asyncio.create_task(reads.open(PATH, (old.etag,)))
    await origin.begun.wait()
    new = origin.write(URI, b"new data!")
    second = asyncio.create_task(reads.open(PATH, (new.etag,)))
    anyone = asyncio.create_task(reads.open(PATH))
    origin.gate.set()
    assert (await second).info.etag == new.etag
    assert await body(await second) == b"new data!"
    assert (await first).info.etag == old.etag
    assert (await anyone).info.etag in {old.etag, new.etag}


async def test_a_failed_fill_of_another_version_is_not_my_failure(store: MemoryStore) -> None:
    origin = GatedOrigin()
    info = origin.write(URI, b"data")
    origin.gate.set()
    reads = ReadService(store, origin)
    wrong = asyncio.create_task(reads.open(PATH, ("wrong",)))
    right = asyncio.create_task(reads.open(PATH))
    with pytest.raises(VersionChanged):
        await wrong
    assert (await right).info == info


async def test_a_job_fetches_exactly_what_was_listed(reads: ReadService, origin: MemoryUnderStore) -> None:
    info = origin.write(URI, b"data")
    item = await reads.fetch(PATH, info=info, job_id="job-1")
    assert (item.etag, item.size, item.job_id) == (info.etag, 4, "job-1")
    assert (reads.counters.load_reads, reads.counters.origin_reads) == (1, 1)
    for listed in (
        ObjectInfo(key="k", size=5, etag=info.etag, last_modified=0),
        ObjectInfo(key="k", size=4, etag="other", last_modified=0),
    ):
        with pytest.raises(VersionChanged):
            await reads.fetch(PATH, info=listed)


async def test_a_throttle_is_paid_for_each_chunk(store: MemoryStore) -> None:
    origin = MemoryUnderStore(chunk_bytes=4)
    info = origin.write(URI, b"0123456789")
    paid: list[int] = []

    async def throttle(size: int) -> None:
        paid.append(size)

    await ReadService(store, origin).fetch(PATH, info=info, job_id="job", throttle=throttle)
    assert paid == [4, 4, 2]


async def test_a_reader_who_waits_lifts_the_throttle(store: MemoryStore) -> None:
    origin = MemoryUnderStore(chunk_bytes=4)
    info = origin.write(URI, b"0123456789")
    reads = ReadService(store, origin)
    throttled, go_on = asyncio.Event(), asyncio.Event()
    paid: list[int] = []

    async def throttle(size: int) -> None:
        paid.append(size)
        throttled.set()
        await go_on.wait()

    job = asyncio.create_task(reads.fetch(PATH, info=info, job_id="job", throttle=throttle))
    await throttled.wait()
    reader = asyncio.create_task(reads.open(PATH))
    await asyncio.sleep(0)
    go_on.set()
    assert await body(await reader) == b"0123456789"
    await job
    assert paid == [4]
    assert reads.counters.origin_reads == 1


async def test_what_does_not_fit_is_read_through(origin: MemoryUnderStore) -> None:
    data = bytes(range(256)) * 64
    info = origin.write(URI, data)
    reads = ReadService(MemoryStore(capacity=1000), origin)
    with pytest.raises(StoreFull):
        await reads.fetch(PATH, info=info)
    opened = await reads.open(PATH)
    assert (opened.hit, await body(opened)) == (False, data)
    assert await body(opened, 10, 300) == data[10:300]
    with pytest.raises(VersionChanged):
        await reads.open(PATH, ("other",))


async def test_a_read_through_is_pinned_too(origin: MemoryUnderStore) -> None:
    origin.write(URI, b"a" * 2000)
    reads = ReadService(MemoryStore(capacity=1000), origin)
    opened = await reads.open(PATH)
    origin.write(URI, b"b" * 2000)
    with pytest.raises(VersionChanged):
        await body(opened)


async def test_a_silent_origin_fails_the_read(store: MemoryStore) -> None:
    origin = GatedOrigin()
    origin.write(URI, b"more data")
    reads = ReadService(store, origin, stall_seconds=0.01)
    with pytest.raises(OriginUnavailable, match=r"0\.01 s"):
        await body(await reads.open(PATH))
    assert store.lookup(URI) is None


async def test_stop_breaks_off_what_is_under_way(store: MemoryStore) -> None:
    origin = GatedOrigin()
    origin.write(URI, b"more data")
    reads = ReadService(store, origin)
    running = asyncio.create_task(body(await reads.open(PATH)))
    not_begun = [asyncio.create_task(reads.open(UfsPath.parse("s3://b/other"))) for _ in range(2)]
    await asyncio.sleep(0)
    await reads.close()
    for task in (running, *not_begun):
        with pytest.raises(Unavailable):
            await task
    with pytest.raises(Unavailable):
        await reads.fetch(PATH, info=None)


async def test_stat_asks_the_cache_first_and_fills_nothing(reads: ReadService, origin: MemoryUnderStore) -> None:
    info = origin.write(URI, b"data")
    assert await reads.stat(PATH) == (info, False)
    with pytest.raises(VersionChanged):
        await reads.stat(PATH, ("other",))
    await reads.open(PATH)
    assert await reads.stat(PATH) == (info, True)
    assert (reads.counters.origin_stats, reads.counters.origin_reads) == (2, 1)


async def test_a_listing_is_cut_at_its_limit(reads: ReadService) -> None:
    origin = MemoryUnderStore(page_size=2)
    infos = [origin.write(f"s3://b/d/{number}", b"x") for number in range(5)]
    reads = ReadService(MemoryStore(capacity=1), origin)
    root = UfsPath.parse("s3://b/d/")
    assert await reads.list(root, after="", limit=3) == infos[:3]
    assert await reads.list(root, after="d/2", limit=3) == infos[3:]


def test_the_cached_version_must_be_one_of_those_accepted(reads: ReadService, store: MemoryStore) -> None:
    assert reads.servable(URI) is None
    with store.writer(URI, etag="e", size=1, last_modified=0) as writer:
        writer.append(b"x")
        item: CachedObject = writer.commit()
    assert reads.servable(URI) == item
    assert reads.servable(URI, ("e", "f")) == item
    assert reads.servable(URI, ("f",)) is None
    assert reads.servable(URI, ()) is None
