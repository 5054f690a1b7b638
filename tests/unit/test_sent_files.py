"""Hits that are sent from their file, or from memory: the bytes are those that were verified, or are verified again."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from preheat.errors import CorruptPage
from preheat.paths import UfsPath
from preheat.store import BLOCK_SIZE, PAGE_SIZE, DiskStore, _verified
from preheat.store._catalog import Entry, Pack
from preheat.store._hot import HotBodies
from preheat.ufs import MemoryUnderStore
from preheat.worker._reads import ReadService
from preheat.worker.port._limits import ServerSettings
from preheat.worker.port._server import DataServer
from tests.unit.store_conformance import A, B, content, put

SECONDS = 20.0
SIZE = 100_000
BODY = content(SIZE)
SMALL = content(4000, 1)


class Clock:
    """The monotonic clock, as the test sets it."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Files prove something though they were written just now; time is what the test says."""
    clock = Clock()
    monkeypatch.setattr(_verified, "_SETTLED_NANOSECONDS", -(1 << 62))
    monkeypatch.setattr(_verified, "monotonic", clock)
    return clock


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskStore]:
    with closing(DiskStore(tmp_path / "store", capacity=64 << 20)) as store:
        yield store


def damage(directory: Path, body: bytes) -> None:
    """Change a byte of a packed object behind the store's back, at a time that its file tells from the last write."""
    [pack] = (directory / "store" / "packs").iterdir()
    before, data = pack.stat().st_ctime_ns, pack.read_bytes()
    place = data.index(body) + len(body) // 2
    with pack.open("r+b") as opened:
        opened.seek(place)
        opened.write(bytes([data[place] ^ 1]))
    while pack.stat().st_ctime_ns == before:
        os.utime(pack)


def test_what_was_verified_is_sent_from_its_file_until_that_is_written_to(
    store: DiskStore, tmp_path: Path, clock: Clock
) -> None:
    item = put(store, A, BODY)
    assert store.extent(item, 0, SIZE) is None
    assert store.read(item) == BODY
    extent = store.extent(item, 10, SIZE - 10)
    assert extent is not None
    assert os.pread(extent.file.descriptor, extent.size, extent.offset) == BODY[10:-10]
    damage(tmp_path, BODY)
    clock.now += 0.01
    assert store.extent(item, 0, SIZE) is None
    with pytest.raises(CorruptPage):
        store.read(item)
    assert store.usage().corrupt == 1


def test_what_was_verified_is_verified_again_after_a_while(store: DiskStore, clock: Clock) -> None:
    item = put(store, A, BODY)
    store.read(item)
    clock.now += 9
    assert store.extent(item, 0, SIZE) is not None
    clock.now += 2
    assert store.extent(item, 0, SIZE) is None
    store.read(item)
    assert store.extent(item, 0, SIZE) is not None


@pytest.mark.usefixtures("clock")
def test_only_the_present_version_and_enough_of_it_is_sent_from_a_file(store: DiskStore) -> None:
    old, other = put(store, A, BODY), put(store, B, SMALL)
    for item in (old, other):
        store.read(item)
    assert store.extent(other, 0, other.size) is None
    assert store.extent(old, 0, 100) is None
    new = put(store, A, BODY[::-1], "v2")
    assert store.extent(old, 0, SIZE) is None
    assert store.extent(new, 0, SIZE) is None


def test_a_file_that_was_just_written_proves_nothing(store: DiskStore) -> None:
    item = put(store, A, BODY)
    assert store.read(item) == BODY
    assert store.extent(item, 0, SIZE) is None


def test_small_objects_that_are_read_again_come_from_memory_and_are_verified_on_the_disk(
    store: DiskStore, tmp_path: Path
) -> None:
    item = put(store, A, SMALL)
    for _ in range(2):
        assert store.read_small([A]) == [(item, SMALL)]
    damage(tmp_path, SMALL)
    assert store.read_small([A]) == [(item, SMALL)]
    assert store.read(item, 5, 9) == SMALL[5:9]
    with pytest.raises(CorruptPage):
        store.verify(item)
    assert store.read_small([A]) == []
    newer = put(store, A, SMALL[::-1], "v2")
    assert store.read_small([A]) == [(newer, SMALL[::-1])]


def test_bodies_in_memory_are_bounded(store: DiskStore) -> None:
    item, hot = put(store, A, SMALL), HotBodies(limit=2 * len(SMALL))
    pack = Pack(number=1, size=0)
    entries = [
        Entry(item=item, sequence=number, pack=pack, ordinal=number, record=0, record_length=0) for number in range(5)
    ]
    for entry in entries:
        hot.keep(entry, SMALL)
        hot.keep(entry, SMALL)
    assert [entry.body for entry in entries] == [None, None, None, SMALL, SMALL]


def test_small_objects_are_read_up_to_a_limit(store: DiskStore) -> None:
    items = [put(store, f"{A}/{number}", content(BLOCK_SIZE, number)) for number in range(4)]
    found = store.read_small([item.path for item in items], BLOCK_SIZE + 1)
    assert [item for item, _ in found] == items[:2]


@asynccontextmanager
async def serving(store: DiskStore) -> AsyncIterator[tuple[DataServer, ReadService]]:
    origin = MemoryUnderStore()
    reads = ReadService(store, origin)
    for uri, body in ((A, BODY), (B, content(PAGE_SIZE, 2))):
        origin.write(uri, body)
        await reads.fetch(UfsPath.parse(uri), info=None)
    async with DataServer(reads, settings=ServerSettings(send_buffer_bytes=64 << 10)) as server:
        yield server, reads
    await reads.close()


def plain(uri: str, *lines: str) -> bytes:
    return "\r\n".join([f"GET /v1/data/{UfsPath.parse(uri).url_path} HTTP/1.1", "Host: w", *lines, "", ""]).encode()


async def body_of(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(SECONDS):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = next(line for line in head.split("\r\n") if line.startswith("content-length: "))
        return await reader.readexactly(int(length.partition(": ")[2]))


async def test_a_client_gets_the_same_bytes_each_time(store: DiskStore, tmp_path: Path, clock: Clock) -> None:
    async with serving(store) as (server, reads):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for count in range(1, 5):
            writer.write(plain(A))
            assert await body_of(reader) == BODY
            assert reads.counters.hits == count
            assert reads.counters.hit_bytes == count * SIZE
        writer.write(plain(A, f"Range: bytes=7-{SIZE - 8}"))
        assert await body_of(reader) == BODY[7:-7]
        damage(tmp_path, BODY)
        clock.now += 0.01
        writer.write(plain(A))
        assert await body_of(reader) == BODY
        assert store.usage().corrupt == 1
        writer.transport.abort()


@pytest.mark.usefixtures("clock")
async def test_a_client_that_reads_late_gets_all_of_it(store: DiskStore) -> None:
    expected = content(PAGE_SIZE, 2)
    async with serving(store) as (server, reads):
        with socket.socket() as late:
            late.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            late.connect(("127.0.0.1", server.port))
            reader, writer = await asyncio.open_connection(sock=late, limit=4096)
            for count in range(1, 4):
                writer.write(plain(B))
                async with asyncio.timeout(SECONDS):
                    while reads.counters.hits < count:  # it is answered before any of it is read
                        await asyncio.sleep(0)
                assert await body_of(reader) == expected
            assert reads.counters.hit_bytes == 3 * len(expected)
            writer.transport.abort()
