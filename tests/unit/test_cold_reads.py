"""Reads of what is not cached: bodies follow the fill, ranges need not wait for it, a failing store is no error."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preheat.errors import OriginUnavailable, StoreError, StoreFull, VersionChanged
from preheat.paths import UfsPath
from preheat.store import PAGE_SIZE, CachedObject, MemoryStore
from preheat.store._writer import Writer
from preheat.ufs import Download, MemoryUnderStore
from preheat.versions import ObjectInfo
from preheat.worker._freshness import Wish
from preheat.worker._ranges import Asked, RangeReads, resolve
from preheat.worker._reads import OpenedRead, ReadService
from preheat.worker.fills import _transfers
from preheat.worker.fills._following import Arrivals
from preheat.worker.fills._pieces import FOR_READERS
from preheat.worker.port._server import DataServer

URI = "s3://b/k"
PATH = UfsPath.parse(URI)
DATA = random.Random("cold").randbytes(10 * PAGE_SIZE + 17)
HUGE = random.Random("huge").randbytes(40 * PAGE_SIZE)


class GatedOrigin(MemoryUnderStore):
    """Requests for bytes behind the first piece wait at a gate; all are noted."""

    def __init__(self) -> None:
        super().__init__(chunk_bytes=PAGE_SIZE)
        self.asked: list[tuple[int, int | None]] = []
        self.gate = asyncio.Event()
        self.held = range(PAGE_SIZE, 1 << 40)

    async def get(self, path: UfsPath, *, etag: str | None = None, start: int = 0, end: int | None = None) -> Download:
        self.asked.append((start, end))
        if start in self.held:
            await self.gate.wait()
        return await super().get(path, etag=etag, start=start, end=end)


@pytest.fixture
def origin() -> GatedOrigin:
    return GatedOrigin()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(capacity=1 << 30)


@pytest.fixture
async def reads(store: MemoryStore, origin: GatedOrigin) -> AsyncIterator[ReadService]:
    async with asyncio.timeout(20):
        reads = ReadService(store, origin)
        yield reads
        await reads.close()


async def body(opened: OpenedRead, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([bytes(page) async for page in opened.pages(start, opened.info.size if end is None else end)])


async def read_range(reads: ReadService, start: int, end: int | None, etag: str | None = None) -> bytes:
    opened = await reads.open(PATH, etag and (etag,), asked=(start, end))
    return await body(opened, *resolve((start, end), opened.info.size))


async def filled(reads: ReadService) -> CachedObject:
    """Wait for the end of the fill under way."""
    while reads._fills.under_way(PATH):
        await asyncio.sleep(0)
    item = reads.lookup(URI)
    assert item is not None
    return item


async def test_the_first_bytes_come_before_the_last_are_there(
    reads: ReadService, origin: GatedOrigin, store: MemoryStore
) -> None:
    info = origin.write(URI, DATA)
    opened = await reads.open(PATH)
    pages = opened.pages(0, len(DATA))
    assert (opened.info, opened.hit, await anext(pages)) == (info, False, DATA[:PAGE_SIZE])
    assert store.lookup(URI) is None
    origin.gate.set()
    assert b"".join([bytes(page) async for page in pages]) == DATA[PAGE_SIZE:]
    assert store.read(await filled(reads)) == DATA
    counters = reads.stats()
    assert (counters["misses"], counters["originReads"], counters["missBytes"]) == (1, 1, len(DATA))


async def test_several_readers_follow_one_fill_from_where_they_are(reads: ReadService, origin: GatedOrigin) -> None:
    origin.write(URI, DATA)
    early = await reads.open(PATH)
    ahead = early.pages(0, len(DATA))
    await anext(ahead)
    late = [asyncio.create_task(body(await reads.open(PATH))) for _ in range(3)]
    origin.gate.set()
    assert {await task for task in late} == {DATA}
    assert b"".join([bytes(page) async for page in ahead]) == DATA[PAGE_SIZE:]
    assert reads.counters.origin_reads == 1


async def test_a_fill_goes_on_when_its_reader_leaves_in_the_midst(
    reads: ReadService, origin: GatedOrigin, store: MemoryStore
) -> None:
    origin.write(URI, DATA)
    pages = (await reads.open(PATH)).pages(0, len(DATA))
    await anext(pages)
    reader = asyncio.create_task(anext(pages))
    await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    origin.gate.set()
    assert store.read(await filled(reads)) == DATA
    assert reads.counters.origin_reads == 1


async def test_a_body_that_cannot_go_on_breaks_off(reads: ReadService, origin: GatedOrigin, store: MemoryStore) -> None:
    origin.write(URI, DATA)
    pages = (await reads.open(PATH)).pages(0, len(DATA))
    assert await anext(pages) == DATA[:PAGE_SIZE]
    origin.write(URI, bytes(len(DATA)))
    origin.gate.set()
    with pytest.raises(VersionChanged):
        await anext(pages)
    assert store.lookup(URI) is None


async def test_an_origin_that_falls_silent_ends_the_body(store: MemoryStore, origin: GatedOrigin) -> None:
    origin.write(URI, DATA)
    reads = ReadService(store, origin, stall_seconds=0.05)
    opened = await reads.open(PATH)
    with pytest.raises(OriginUnavailable, match=r"nothing for 0\.05 s"):
        await body(opened)


async def test_a_store_that_fills_up_under_way_is_read_past(origin: GatedOrigin) -> None:
    origin.write(URI, DATA)
    origin.gate.set()
    reads = ReadService(MemoryStore(capacity=PAGE_SIZE), origin)
    opened = await reads.open(PATH)
    assert await body(opened) == DATA
    assert reads.stats()["readThrough"] == 1


class BrokenDisk(MemoryStore):
    """Takes some bytes, then reports errors; what it has cannot be read back."""

    def writer(self, path: str, **announced: Any) -> Writer:
        writer = super().writer(path, **announced)
        append, written = writer.append, 0

        def failing(data: bytes | memoryview, *, part: int = 0) -> None:
            nonlocal written
            written += len(data)
            if written > PAGE_SIZE:
                raise StoreError("Input/output error.")
            append(data, part=part)

        writer.append = failing  # type: ignore[method-assign]
        return writer

    def read(self, item: CachedObject, start: int = 0, end: int | None = None) -> bytes:
        raise StoreError("Input/output error.")


async def test_a_disk_that_breaks_under_way_is_read_past(
    origin: GatedOrigin, capsys: pytest.CaptureFixture[str]
) -> None:
    origin.write(URI, DATA)
    origin.gate.set()
    reads = ReadService(BrokenDisk(capacity=1 << 30), origin)
    for _ in range(3):
        opened = await reads.open(PATH)
        assert (opened.hit, await body(opened)) == (False, DATA)
    assert reads.stats()["readThrough"] == 3
    assert capsys.readouterr().out.count("read_through") <= 1  # it is said once a minute


async def test_a_hit_that_the_disk_cannot_read_comes_from_the_origin(origin: GatedOrigin) -> None:
    reads = ReadService(BrokenDisk(capacity=1 << 30), origin)
    origin.write(URI, b"small")
    await reads.fetch(PATH, info=None)
    async with DataServer(reads) as server:
        answer = await get(server, "")
    assert (b"200 OK" in answer, answer.endswith(b"\r\n\r\nsmall")) == (True, True)
    assert reads.stats()["readThrough"] == 1


async def get(server: DataServer, headers: str) -> bytes:
    port = int(server.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET /v1/data/s3/b/k HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n".encode())
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()
        await writer.wait_closed()


async def test_the_head_goes_out_while_the_fill_is_under_way(reads: ReadService, origin: GatedOrigin) -> None:
    origin.write(URI, DATA)
    async with DataServer(reads) as server:
        port = int(server.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2 * PAGE_SIZE)
        writer.write(b"GET /v1/data/s3/b/k HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert f"Content-Length: {len(DATA)}\r\n".encode() in head
        assert await reader.readexactly(PAGE_SIZE) == DATA[:PAGE_SIZE]
        origin.gate.set()
        assert await reader.readexactly(len(DATA) - PAGE_SIZE) == DATA[PAGE_SIZE:]
        writer.close()
        await writer.wait_closed()


async def test_the_end_of_a_huge_object_is_read_alone(
    reads: ReadService, origin: GatedOrigin, store: MemoryStore
) -> None:
    origin.held = range(0)
    origin.write(URI, HUGE)
    for _ in range(3):
        assert await read_range(reads, len(HUGE) - 100, None) == HUGE[-100:]
        assert await read_range(reads, -100, None) == HUGE[-100:]
    assert origin.asked == [(len(HUGE) - 100, None), (len(HUGE) - 100, len(HUGE))] * 3
    assert (store.lookup(URI), reads.counters.origin_stats) == (None, 0)


async def test_a_suffix_of_an_object_nobody_knows_takes_a_look_at_its_size(
    reads: ReadService, origin: GatedOrigin
) -> None:
    origin.held = range(0)
    origin.write(URI, HUGE)
    assert await read_range(reads, -100, None) == HUGE[-100:]
    assert reads.counters.origin_stats == 1


async def test_an_object_is_filled_when_a_quarter_of_it_was_read_in_ranges(
    reads: ReadService, origin: GatedOrigin, store: MemoryStore
) -> None:
    origin.held = range(0)
    info = origin.write(URI, HUGE)
    step = len(HUGE) // 8
    assert await read_range(reads, 4 * step, 5 * step) == HUGE[4 * step : 5 * step]
    assert not reads._fills.under_way(PATH)
    assert await read_range(reads, 5 * step, 6 * step, info.etag) == HUGE[5 * step : 6 * step]
    assert origin.asked[1] == (5 * step, 5 * step + PAGE_SIZE)  # the range comes first
    assert store.read(await filled(reads)) == HUGE
    assert reads.counters.origin_reads == 2
    assert reads.counters.origin_bytes == len(HUGE) + step


async def test_a_range_does_not_wait_for_what_the_fill_brings_before(reads: ReadService, origin: GatedOrigin) -> None:
    origin.held = range(PAGE_SIZE, 30 * PAGE_SIZE)
    origin.write(URI, HUGE)
    pages = (await reads.open(PATH)).pages(0, len(HUGE))
    await anext(pages)
    assert await read_range(reads, 10, 20) == HUGE[10:20]  # it is there
    assert await read_range(reads, 39 * PAGE_SIZE, 40 * PAGE_SIZE) == HUGE[39 * PAGE_SIZE :]
    assert (39 * PAGE_SIZE, 40 * PAGE_SIZE) in origin.asked
    origin.gate.set()
    assert b"".join([bytes(page) async for page in pages]) == HUGE[PAGE_SIZE:]


@pytest.mark.parametrize(("soon", "at_once"), [(60.0, 2), (0.0, 4)])
async def test_more_is_fetched_at_once_where_the_first_pieces_do_not_come_soon(
    reads: ReadService, origin: GatedOrigin, monkeypatch: pytest.MonkeyPatch, soon: float, at_once: int
) -> None:
    monkeypatch.setattr(_transfers, "_SOON_SECONDS", soon)
    origin.write(URI, HUGE)
    pages = (await reads.open(PATH)).pages(0, len(HUGE))
    await anext(pages)
    while len(origin.asked) < 1 + at_once:
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    starts = [PAGE_SIZE, *range(8 * PAGE_SIZE, 40 * PAGE_SIZE, 8 * PAGE_SIZE)]
    assert [start for start, _ in origin.asked[1:]] == starts[:at_once]
    origin.gate.set()
    assert b"".join([bytes(page) async for page in pages]) == HUGE[PAGE_SIZE:]


async def test_a_small_object_is_filled_with_its_first_range(
    reads: ReadService, origin: GatedOrigin, store: MemoryStore
) -> None:
    info = origin.write(URI, DATA[:1000])
    await reads.stat(PATH)  # as fsspec does, which needs the size
    assert await read_range(reads, 900, 1000, info.etag) == DATA[900:1000]
    assert (await reads.open(PATH, asked=(0, 10))).hit
    assert reads.counters.origin_reads == 1


async def test_a_small_object_of_unknown_size_too(reads: ReadService, origin: GatedOrigin, store: MemoryStore) -> None:
    origin.write(URI, DATA[:1000])
    assert await read_range(reads, 900, 1000) == DATA[900:1000]
    assert store.read(await filled(reads)) == DATA[:1000]


@pytest.mark.parametrize("known", [True, False])
async def test_a_range_behind_the_end_is_told_the_size(reads: ReadService, origin: GatedOrigin, known: bool) -> None:
    origin.gate.set()
    origin.write(URI, DATA[:1000])
    if known:
        await reads.stat(PATH)
    async with DataServer(reads) as server:
        answer = await get(server, "Range: bytes=5000000-\r\n")
    assert b"416" in answer.split(b"\r\n")[0]
    assert b"Content-Range: bytes */1000\r\n" in answer


async def test_an_empty_object(reads: ReadService, origin: GatedOrigin, store: MemoryStore) -> None:
    origin.write(URI, b"")
    assert await body(await reads.open(PATH)) == b""
    assert (await filled(reads)).size == 0


async def test_a_version_that_is_not_the_one_on_its_way_is_read_directly(
    reads: ReadService, origin: GatedOrigin
) -> None:
    old = origin.write(URI, DATA)
    pages = (await reads.open(PATH, (old.etag,))).pages(0, len(DATA))
    await anext(pages)
    origin.held = range(PAGE_SIZE, len(DATA) - 1)
    new = origin.write(URI, HUGE)
    assert await body(await reads.open(PATH, (new.etag,))) == HUGE
    origin.gate.set()
    with pytest.raises(VersionChanged):
        await anext(pages)


async def test_only_what_is_cached(reads: ReadService, origin: GatedOrigin) -> None:
    origin.write(URI, b"data")
    async with DataServer(reads) as server:
        absent = await get(server, "Cache-Control: only-if-cached\r\n")
        assert (b"504" in absent.split(b"\r\n")[0], origin.asked) == (True, [])
        await reads.fetch(PATH, info=None)
        assert (await get(server, "Cache-Control: Only-If-Cached\r\n")).endswith(b"\r\n\r\ndata")
        assert b"504" in (await get(server, 'Cache-Control: only-if-cached\r\nIf-Match: "other"\r\n')).split(b"\r\n")[0]


async def test_a_copy_that_goes_bad_is_not_fetched_for_those_who_want_the_cached_one(
    reads: ReadService, origin: GatedOrigin, store: MemoryStore
) -> None:
    origin.gate.set()
    origin.write(URI, DATA)
    await reads.fetch(PATH, info=None)
    opened = await reads.open(PATH, wish=Wish(only_cached=True))
    pages = opened.pages(0, len(DATA))
    await anext(pages)
    store.delete(URI)
    asked = list(origin.asked)
    with pytest.raises(FileNotFoundError):
        await anext(pages)
    assert origin.asked == asked


@given(
    size=st.integers(0, 40 << 20),
    asked=st.none() | st.tuples(st.integers(0, 40 << 20), st.none() | st.integers(0, 40 << 20)),
)
def test_pieces_are_the_object(size: int, asked: Asked | None) -> None:
    pieces = FOR_READERS.led_by(*asked) if asked else FOR_READERS
    start, end = pieces.first
    if start >= size:  # then the fill begins at the front
        return
    others = list(pieces.others(size))
    whole = sorted([(start, min(end, size)), *others])
    assert [start for start, _ in whole[1:]] == [end for _, end in whole[:-1]]
    assert (whole[0][0], whole[-1][1]) == (0, size)
    assert all(start % PAGE_SIZE == 0 and end - start <= pieces.other_bytes for start, end in whole)
    if asked and others and asked[1] and asked[1] > end:
        assert others[0][0] == min(end, size) % size


def test_arrivals_know_how_far_the_bytes_go() -> None:
    arrivals = Arrivals()
    arrivals.ask(0, 100)
    arrivals.ask(200, 300)
    arrivals.ask(100, 200)
    arrivals.add(200, 50)
    arrivals.add(0, 100)
    assert [arrivals.until(start) for start in (0, 99, 100, 199, 200, 249, 250, 300)] == [
        100, 100, 100, 199, 250, 250, 250, 300
    ]  # fmt: skip
    arrivals.add(100, 100)
    assert [arrivals.until(start) for start in (0, 150)] == [250, 250]
    assert [arrivals.expects(position) for position in (0, 250, 299, 300)] == [True, True, True, False]
    arrivals.ask(300, 8 * PAGE_SIZE)
    assert [arrivals.expects(position) for position in (300, 299 + PAGE_SIZE, 300 + PAGE_SIZE)] == [True, True, False]


async def test_who_waits_for_a_byte_hears_of_it_and_of_the_end_alone() -> None:
    arrivals = Arrivals()
    arrivals.ask(0, 100)
    arrivals.ask(100, 200)
    waiting = [asyncio.create_task(arrivals.more(position)) for position in (0, 50, 100, 150)]
    await asyncio.sleep(0)
    heard: list[list[bool]] = []
    for tell in (lambda: arrivals.add(100, 50), lambda: arrivals.add(0, 60), arrivals.end):
        tell()
        await asyncio.sleep(0)
        heard.append([task.done() for task in waiting])
    assert heard == [[False, False, True, False], [True, True, True, False], [True] * 4]


async def test_a_reader_who_leaves_does_not_wake_the_others() -> None:
    arrivals = Arrivals()
    arrivals.ask(0, 100)
    leaving, staying = (asyncio.create_task(arrivals.more(0)) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait({leaving})
    assert not staying.done()
    arrivals.add(0, 1)
    await staying


def test_range_reads_forget_what_is_old() -> None:
    ranges = RangeReads()
    for number in range(5000):
        ranges.learn(str(number), ObjectInfo(key="k", size=1, etag="e", last_modified=0))
    assert ranges.info("0", None) is None
    assert ranges.info("4999", None) is not None
    assert ranges.info("4999", "other") is None


def test_what_was_read_of_an_older_version_does_not_count() -> None:
    ranges = RangeReads()
    old, new = (ObjectInfo(key="k", size=100 << 20, etag=etag, last_modified=0) for etag in ("old", "new"))
    ranges.learn("u", old, 24 << 20)
    assert ranges.is_worth_filling("u", (0, 1 << 20))
    assert not ranges.is_worth_filling("u", (0, 1000))
    ranges.learn("u", new, 1)
    assert not ranges.is_worth_filling("u", (0, 1 << 20))


async def test_store_full_is_raised_to_jobs(origin: GatedOrigin) -> None:
    origin.gate.set()
    info = origin.write(URI, DATA)
    with pytest.raises(StoreFull):
        await ReadService(MemoryStore(capacity=1000), origin).fetch(PATH, info=info, job_id="job")
