"""Fills of large objects, and what ends a fill, over the in-memory twins."""

from __future__ import annotations

import asyncio
import base64
import zlib
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from awscrt.checksums import crc64nvme

from preheat.errors import (
    OriginCorrupt,
    OriginThrottled,
    OriginUnavailable,
    PreheatError,
    StoreFull,
    Unavailable,
    VersionChanged,
)
from preheat.paths import UfsPath
from preheat.store import DiskStore, MemoryStore
from preheat.ufs import Checksum, Download, MemoryUnderStore
from preheat.versions import ObjectInfo
from preheat.worker._reads import ReadService
from preheat.worker.fills._origin import _MOST_REQUESTS
from preheat.worker.fills._pieces import FOR_JOBS
from preheat.worker.fills._transfers import _PIECES_IN_FLIGHT

_PART_BYTES = FOR_JOBS.other_bytes
URI = "s3://b/k"
PATH = UfsPath.parse(URI)
SIZE = 3 * _PART_BYTES + 17


def large(seed: int) -> bytes:
    return bytes([seed]) * _PART_BYTES + bytes(range(256)) * (2 * _PART_BYTES // 256) + b"the last bytes..."


class PartsOrigin(MemoryUnderStore):
    """Notes the ranges that are asked for; those after the first wait at a gate."""

    def __init__(self) -> None:
        super().__init__(chunk_bytes=_PART_BYTES)
        self.ranges: list[tuple[int, int | None]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = asyncio.Event()
        self.open = self.most_open = 0

    async def get(self, path: UfsPath, *, etag: str | None = None, start: int = 0, end: int | None = None) -> Download:
        self.ranges.append((start, end))
        if start:
            self.waiting.set()
            await self.gate.wait()
        download = await super().get(path, etag=etag, start=start, end=end)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        return Download(info=download.info, start=download.start, end=download.end, chunks=self._noted(download.chunks))

    async def _noted(self, chunks: AsyncIterator[memoryview]) -> AsyncIterator[memoryview]:
        async for chunk in chunks:
            yield chunk
        self.open -= 1


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(capacity=1 << 30)


@pytest.fixture
def origin() -> PartsOrigin:
    return PartsOrigin()


async def test_a_large_object_is_fetched_by_ranges_of_one_version(store: MemoryStore, origin: PartsOrigin) -> None:
    info = origin.write(URI, large(1))
    reads, paid = ReadService(store, origin), []

    async def throttle(size: int) -> None:
        paid.append(size)

    item = await reads.fetch(PATH, info=info, job_id="job", throttle=throttle)
    assert store.read(item) == large(1)
    assert sorted(origin.ranges) == [
        (0, _PART_BYTES), (_PART_BYTES, 2 * _PART_BYTES), (2 * _PART_BYTES, 3 * _PART_BYTES), (3 * _PART_BYTES, SIZE)
    ]  # fmt: skip
    assert sum(paid) == SIZE
    assert max(paid) <= _PART_BYTES
    assert (reads.counters.origin_reads, reads.counters.origin_bytes) == (1, SIZE)


async def test_the_parts_of_all_objects_share_their_places(store: MemoryStore, origin: PartsOrigin) -> None:
    reads = ReadService(store, origin)
    infos = [origin.write(f"{URI}{number}", large(number)) for number in range(5)]
    items = await asyncio.gather(*(reads.fetch(PATH.with_key(info.key), info=info, job_id="job") for info in infos))
    assert [store.read(item) == large(number) for number, item in enumerate(items)] == [True] * 5
    assert origin.most_open <= _PIECES_IN_FLIGHT


async def test_an_object_that_changes_between_its_parts_is_not_mixed(store: MemoryStore, origin: PartsOrigin) -> None:
    info = origin.write(URI, large(1))
    origin.gate.clear()
    fetching = asyncio.create_task(ReadService(store, origin).fetch(PATH, info=info, job_id="job"))
    await origin.waiting.wait()
    origin.write(URI, large(2))
    origin.gate.set()
    with pytest.raises(VersionChanged):
        await fetching
    assert store.lookup(URI) is None


async def test_a_large_object_that_does_not_fit(origin: PartsOrigin) -> None:
    info = origin.write(URI, large(1))
    with pytest.raises(StoreFull):
        await ReadService(MemoryStore(capacity=_PART_BYTES), origin).fetch(PATH, info=info, job_id="job")
    assert len(origin.ranges) == 1


async def test_a_part_that_stalls_fails_the_fill_and_those_who_wait(store: MemoryStore, origin: PartsOrigin) -> None:
    info = origin.write(URI, large(1))
    origin.gate.clear()
    reads = ReadService(store, origin, stall_seconds=0.2)
    job = asyncio.create_task(reads.fetch(PATH, info=info, job_id="job"))
    await origin.waiting.wait()
    reader = asyncio.create_task(reads.fetch(PATH, info=info))
    for task in (job, reader):
        with pytest.raises(OriginUnavailable, match=r"nothing for 0\.2 s"):
            await task
    assert not job.cancelling()
    origin.gate.set()
    assert store.read(await reads.fetch(PATH, info=info)) == large(1)


async def test_a_wait_for_bandwidth_is_no_stall(store: MemoryStore, origin: PartsOrigin) -> None:
    info = origin.write(URI, large(1))
    waits = 0

    async def throttle(size: int) -> None:
        nonlocal waits
        waits += 1
        await asyncio.sleep(0.6 if waits == 2 else 0)

    await ReadService(store, origin, stall_seconds=0.3).fetch(PATH, info=info, job_id="job", throttle=throttle)
    assert waits == 4


@pytest.mark.parametrize("ended", ["cancelled", "closed"])
async def test_a_job_that_is_broken_off_tells_who_waits(store: MemoryStore, origin: PartsOrigin, ended: str) -> None:
    info = origin.write(URI, large(1))
    origin.gate.clear()
    reads = ReadService(store, origin)
    job = asyncio.create_task(reads.fetch(PATH, info=info, job_id="job"))
    await origin.waiting.wait()
    reader = asyncio.create_task(reads.fetch(PATH, info=info))
    await asyncio.sleep(0)
    if ended == "cancelled":
        job.cancel()
    else:
        await reads.close()
    with pytest.raises(asyncio.CancelledError if ended == "cancelled" else Unavailable):
        await job
    with pytest.raises(Unavailable, match="stopping"):
        await reader
    assert store.lookup(URI) is None


async def test_what_a_reader_brought_is_flushed_soon(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("store")
    origin = MemoryUnderStore()
    origin.write(URI, b"data")

    class NotedStore(DiskStore):
        flushed = asyncio.Event()

        def flush(self) -> None:
            super().flush()
            self.flushed.set()

    store = NotedStore(directory, capacity=1 << 20)
    reads = ReadService(store, origin)
    await reads.open(PATH)
    await asyncio.wait_for(store.flushed.wait(), 5)
    assert not store._volumes[0]._holdings._unsaved
    await reads.close()
    store.close()


class BusyOrigin(MemoryUnderStore):
    """Refuses what its ``troubles`` say, one a request; counts how many are answered at once."""

    def __init__(self, *troubles: PreheatError) -> None:
        super().__init__()
        self.troubles = list(troubles)
        self.asked: list[tuple[str, float]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def get(self, path: UfsPath, *, etag: str | None = None, start: int = 0, end: int | None = None) -> Download:
        self.asked.append((path.key, asyncio.get_running_loop().time()))
        await self.gate.wait()
        if self.troubles:
            raise self.troubles.pop(0)
        return await super().get(path, etag=etag, start=start, end=end)


def slow_down(seconds: float = 0.0) -> OriginThrottled:
    return OriginThrottled("slow down", retry_after=seconds)


async def test_an_origin_that_asks_to_slow_down_is_obeyed_and_asked_again(store: MemoryStore) -> None:
    origin = BusyOrigin(slow_down(0.3), slow_down(), slow_down(0.01))
    info = origin.write(URI, b"data")
    reads = ReadService(store, origin)

    item = await reads.fetch(PATH, info=info, job_id="job")

    assert store.read(item) == b"data"
    times = [time for _, time in origin.asked]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert [pause >= least for pause, least in zip(pauses, (0.3, 0.2, 0.01), strict=True)] == [True] * 3
    counters = reads.counters
    assert (counters.origin_throttled, counters.origin_reads, counters.origin_errors) == (3, 1, 0)


async def test_after_a_refusal_fewer_are_asked_for_at_once(store: MemoryStore) -> None:
    origin = BusyOrigin(*[slow_down(0.2)] * 8)
    infos = [origin.write(f"{URI}{number}", b"data") for number in range(8)]
    reads = ReadService(store, origin)
    origin.gate.clear()
    loads = [asyncio.create_task(reads.fetch(PATH.with_key(info.key), info=info, job_id="j")) for info in infos]
    while len(origin.asked) < 8:
        await asyncio.sleep(0)
    origin.gate.set()
    while reads.counters.origin_throttled < 8:
        await asyncio.sleep(0)
    origin.gate.clear()
    while len(origin.asked) == 8:
        await asyncio.sleep(0.001)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(origin.asked) == 12  # half of the eight that were under way
    origin.gate.set()
    await asyncio.gather(*loads)


async def test_a_job_that_ends_does_not_wait_for_a_busy_origin(store: MemoryStore) -> None:
    origin = BusyOrigin(*[slow_down()] * 100)
    info = origin.write(URI, b"data")

    async def throttle(_size: int) -> None:
        raise Unavailable("The job that fetched it has ended.")

    with pytest.raises(Unavailable, match="has ended"):
        await ReadService(store, origin).fetch(PATH, info=info, job_id="job", throttle=throttle)
    assert len(origin.asked) == 1


async def test_a_reader_is_served_before_the_objects_of_jobs(store: MemoryStore) -> None:
    origin = BusyOrigin()
    infos = [origin.write(f"s3://b/{number:03}", b"data") for number in range(100)]
    wanted = origin.write("s3://b/wanted", b"data")
    origin.gate.clear()
    reads = ReadService(store, origin)
    loads = [asyncio.create_task(reads.fetch(PATH.with_key(info.key), info=info, job_id="j")) for info in infos]
    while len(origin.asked) < _MOST_REQUESTS:
        await asyncio.sleep(0)
    joined = asyncio.create_task(reads.fetch(PATH.with_key(infos[-1].key), info=infos[-1]))
    for _ in range(10):
        await asyncio.sleep(0)
    assert [key for key, _ in origin.asked[_MOST_REQUESTS:]] == ["099"]
    reader = asyncio.create_task(reads.fetch(PATH.with_key(wanted.key), info=wanted))
    for _ in range(10):
        await asyncio.sleep(0)
    assert [key for key, _ in origin.asked[_MOST_REQUESTS:]] == ["099", "wanted"]
    origin.gate.set()
    await asyncio.gather(*loads, reader, joined)
    assert len(origin.asked) == 101


@pytest.mark.parametrize(
    ("trouble", "errors", "corrupt"),
    [(OriginUnavailable("short body"), 1, 0), (OriginCorrupt("other bytes"), 0, 1), (VersionChanged("new"), 0, 0)],
)
async def test_what_goes_wrong_at_the_origin_is_counted(
    store: MemoryStore, trouble: PreheatError, errors: int, corrupt: int
) -> None:
    origin = BusyOrigin(trouble)
    info = origin.write(URI, b"data")
    reads = ReadService(store, origin)
    with pytest.raises(type(trouble)):
        await reads.fetch(PATH, info=info, job_id="job")
    assert (reads.counters.origin_errors, reads.counters.origin_corrupt) == (errors, corrupt)
    assert store.lookup(URI) is None


class ChecksummedOrigin(PartsOrigin):
    """Keeps a checksum of each object."""

    def __init__(self, checksum: Checksum | None) -> None:
        super().__init__()
        self.kept = checksum
        self.asked_for_checksums = 0

    async def get_whole(self, path: UfsPath, info: ObjectInfo) -> Download:
        return await self.get(path, etag=info.etag, start=0, end=info.size)

    async def checksum(self, path: UfsPath, info: ObjectInfo) -> Checksum | None:
        assert (path, info.size) == (PATH, SIZE)
        self.asked_for_checksums += 1
        return self.kept


def crc64(data: bytes) -> Checksum:
    return Checksum(name="crc64nvme", value=base64.b64encode(crc64nvme(data).to_bytes(8, "big")).decode())


@pytest.mark.parametrize(
    ("kept", "right"),
    [
        (crc64(large(1)), True),
        (crc64(large(2)), False),
        (Checksum(name="crc32", value=base64.b64encode(zlib.crc32(large(1)).to_bytes(4, "big")).decode()), True),
        (None, True),
    ],
)
async def test_the_pieces_of_a_load_are_compared_with_the_checksum_of_the_whole(
    store: MemoryStore, kept: Checksum | None, right: bool
) -> None:
    origin = ChecksummedOrigin(kept)
    info = origin.write(URI, large(1))
    reads = ReadService(store, origin)
    if right:
        assert store.read(await reads.fetch(PATH, info=info, job_id="job")) == large(1)
    else:
        with pytest.raises(OriginCorrupt, match="crc64nvme"):
            await reads.fetch(PATH, info=info, job_id="job")
        assert store.lookup(URI) is None
    assert (origin.asked_for_checksums, reads.counters.origin_corrupt) == (1, not right)
