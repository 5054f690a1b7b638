"""The data port on real sockets: what goes over the wire, in order, within limits, and never mixed."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from pathlib import Path

import aiohttp
import pytest
import uvloop

from preheat.errors import VersionChanged
from preheat.paths import UfsPath
from preheat.store import PAGE_SIZE, CachedObject, MemoryStore
from preheat.ufs import Download, FileUnderStore, MemoryUnderStore, UnderStore
from preheat.worker._reads import ReadService
from preheat.worker.port._server import DataServer, ServerSettings

SECONDS = 10.0


class CountingOrigin(MemoryUnderStore):
    """An under store whose reads can be held back, and then their bodies."""

    def __init__(self) -> None:
        super().__init__(page_size=2)
        self.reads = 0
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def get(self, path: UfsPath, *, etag: str | None = None, start: int = 0, end: int | None = None) -> Download:
        self.reads += 1
        self.begun.set()
        await self.gate.wait()
        return await super().get(path, etag=etag, start=start, end=end)


@dataclass(frozen=True, kw_only=True)
class Worker:
    """What a test needs of a data port that serves."""

    server: DataServer
    reads: ReadService
    store: MemoryStore
    port: int

    def url(self, uri: str) -> str:
        return f"{self.server.url}/v1/data/{UfsPath.parse(uri).url_path}"


@asynccontextmanager
async def serving(
    origin: UnderStore, *, capacity: int = 64 << 20, settings: ServerSettings | None = None
) -> AsyncIterator[Worker]:
    store = MemoryStore(capacity=capacity)
    reads = ReadService(store, origin)
    server = DataServer(reads, settings=settings)
    port = await server.start()
    try:
        yield Worker(server=server, reads=reads, store=store, port=port)
    finally:
        await server.stop()
        await reads.close()


@pytest.fixture
async def origin() -> CountingOrigin:
    return CountingOrigin()


@pytest.fixture
async def worker(origin: CountingOrigin) -> AsyncIterator[Worker]:
    async with serving(origin) as worker:
        yield worker


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS), auto_decompress=False) as session:
        yield session


class Raw:
    """A client that writes what a test says, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, text: str) -> None:
        self.writer.write(text.encode())

    def get(self, target: str, *headers: str, method: str = "GET", version: str = "1.1") -> None:
        lines = [f"{method} {target} HTTP/{version}", "Host: worker", *headers]
        self.send("\r\n".join(lines) + "\r\n\r\n")

    async def head(self) -> tuple[int, dict[str, str]]:
        async with asyncio.timeout(SECONDS):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split()[1]), headers

    async def response(self) -> tuple[int, bytes]:
        status, headers = await self.head()
        async with asyncio.timeout(SECONDS):
            return status, await self.reader.readexactly(int(headers["content-length"]))

    async def rest(self) -> bytes:
        async with asyncio.timeout(SECONDS):
            return await self.reader.read()


@asynccontextmanager
async def connected(worker: Worker, *, limit: int = 1 << 16) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port, limit=limit)
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()


async def test_a_miss_then_a_hit(worker: Worker, origin: CountingOrigin, http: aiohttp.ClientSession) -> None:
    info = origin.write("s3://b/dir/ü x.bin", b"some data")
    url = worker.url("s3://b/dir/ü x.bin")
    for cache in ("miss", "hit"):
        async with http.get(url) as response:
            assert (response.status, await response.read()) == (200, b"some data")
            assert response.headers["ETag"] == f'"{info.etag}"'
            assert response.headers["X-Preheat-Cache"] == cache
            assert response.headers["Accept-Ranges"] == "bytes"
            assert response.headers["Last-Modified"].endswith(" GMT")
    assert origin.reads == 1


@pytest.mark.parametrize("cached", [True, False])
async def test_ranges_and_conditions(
    worker: Worker, origin: CountingOrigin, http: aiohttp.ClientSession, *, cached: bool
) -> None:
    info = origin.write("s3://b/k", b"0123456789")
    if cached:
        await worker.reads.fetch(UfsPath.parse("s3://b/k"), info=None)
    url = worker.url("s3://b/k")
    tag = f'"{info.etag}"'
    for headers, status, body in (
        ({"Range": "bytes=2-4"}, 206, b"234"),
        ({"Range": "bytes=-3"}, 206, b"789"),
        ({"Range": "bytes=x"}, 200, b"0123456789"),
        ({"If-Match": tag, "Range": "bytes=9-"}, 206, b"9"),
        ({"If-None-Match": tag}, 304, b""),
        ({"If-None-Match": '"x"'}, 200, b"0123456789"),
    ):
        if not cached:
            worker.store.delete("s3://b/k")
        async with http.get(url, headers=headers) as response:
            assert (response.status, await response.read()) == (status, body)
            assert response.headers["X-Preheat-Cache"] == ("hit" if cached else "miss")
    async with http.get(url, headers={"Range": "bytes=10-"}) as response:
        assert response.status == 416
        assert response.headers["Content-Range"] == "bytes */10"
    async with http.get(url, headers={"If-Match": '"other"'}) as response:
        assert (response.status, (await response.json())["code"]) == (412, "version_changed")


async def test_head_tells_without_filling(worker: Worker, origin: CountingOrigin, http: aiohttp.ClientSession) -> None:
    info = origin.write("s3://b/k", b"0123456789")
    url = worker.url("s3://b/k")
    async with http.head(url) as response:
        assert (response.status, response.headers["Content-Length"]) == (200, "10")
        assert (response.headers["ETag"], response.headers["X-Preheat-Cache"]) == (f'"{info.etag}"', "miss")
    assert origin.reads == 0
    await worker.reads.fetch(UfsPath.parse("s3://b/k"), info=None)
    async with http.head(url, headers={"Range": "bytes=1-2"}) as response:
        assert (response.status, response.headers["X-Preheat-Cache"]) == (206, "hit")
        assert response.headers["Content-Length"] == "2"
    async with http.head(worker.url("s3://b/none")) as response:
        assert (response.status, await response.read()) == (404, b"")


async def test_an_empty_object(worker: Worker, origin: CountingOrigin, http: aiohttp.ClientSession) -> None:
    origin.write("s3://b/empty", b"")
    for _ in range(2):
        async with http.get(worker.url("s3://b/empty")) as response:
            assert (response.status, await response.read()) == (200, b"")
            assert response.headers["Content-Length"] == "0"


async def test_a_large_object_whole_and_in_part(
    worker: Worker, origin: CountingOrigin, http: aiohttp.ClientSession
) -> None:
    data = bytes(range(256)) * (5 * PAGE_SIZE // 256) + b"tail"
    origin.write("s3://b/large", data)
    for headers, expected in (
        ({}, data),
        ({}, data),
        ({"Range": "bytes=1048000-4000000"}, data[1048000:4000001]),
        ({"Range": "bytes=-5"}, data[-5:]),
    ):
        async with http.get(worker.url("s3://b/large"), headers=headers) as response:
            assert await response.read() == expected
    assert worker.reads.counters.origin_reads == 1


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("/v1/data/s3/b/missing", 404, "object_not_found"),
        ("/v1/data/s3/nobucket/k", 404, "bucket_not_found"),
        ("/v1/data/ftp/b/k", 400, "invalid_path"),
        ("/v1/data/file//tmp/../etc/passwd", 400, "invalid_path"),
        ("/v1/data/file//%2e%2e/etc/passwd", 400, "invalid_path"),
        ("/v1/data/file//etc/passwd", 403, "access_denied"),
        ("/v1/stat?path=file:///etc/passwd", 403, "access_denied"),
        ("/v1/list?path=file:///etc/", 403, "access_denied"),
        ("/v1/stat", 400, "invalid_request"),
        ("/v1/list?path=s3://b/&limit=0", 400, "invalid_request"),
        ("/v1/unknown", 404, "not_found"),
        ("/", 404, "not_found"),
    ],
)
async def test_bad_requests_are_problems(
    worker: Worker, origin: CountingOrigin, target: str, status: int, code: str
) -> None:
    origin.write("s3://b/k", b"x")
    async with connected(worker) as raw:
        raw.get(target)
        answered, headers = await raw.head()
        assert (answered, headers["content-type"]) == (status, "application/problem+json")
        assert json.loads(await raw.reader.readexactly(int(headers["content-length"])))["code"] == code
        raw.get("/v1/healthz")  # and the connection lives on
        assert (await raw.response())[0] == 200


async def test_list_stat_and_stats(worker: Worker, origin: CountingOrigin, http: aiohttp.ClientSession) -> None:
    infos = [origin.write(f"s3://b/d/{number}", b"x" * number) for number in range(1, 6)]
    listed, after = [], ""
    while after is not None:
        params = {"path": "s3://b/d/", "limit": "2", "after": after}
        async with http.get(f"{worker.server.url}/v1/list", params=params) as response:
            page = await response.json()
        listed += page["objects"]
        after = page["next"]
    assert listed == [
        {"key": info.key, "size": info.size, "etag": info.etag, "lastModified": info.last_modified} for info in infos
    ]
    for cached in (False, True):
        async with http.get(f"{worker.server.url}/v1/stat", params={"path": "s3://b/d/3"}) as response:
            assert await response.json() == {**listed[2], "cached": cached}
        await worker.reads.open(UfsPath.parse("s3://b/d/3"))
    async with http.get(f"{worker.server.url}/v1/stats") as response:
        stats = await response.json()
    assert (stats["originLists"], stats["originStats"], stats["originReads"], stats["hits"]) == (3, 1, 1, 1)
    assert set(stats) == {
        "hits", "misses", "hitBytes", "missBytes", "originReads", "loadReads", "originBytes", "originLists",
        "originStats", "originErrors", "originCorrupt", "originThrottled", "peerReads", "peerBytes", "readThrough",
        "corrupt", "evicted", "damaged", "failedDirectories", "checks", "checksChanged", "checksGone", "drifted",
        "metadataHits", "forwardedReads", "forwardedBytes", "forwardUnreachable", "forwardSilent", "forwardBroken",
        "forwardRefused", "forwardChanged",
    }  # fmt: skip


@pytest.mark.parametrize("limit", [1, 2, 100])
@pytest.mark.parametrize("path", ["s3://b", "s3://b/", "s3://b/d", "s3://b/d/", "s3://b/d/1", "s3://b/e", "s3://c/"])
async def test_what_is_cached_is_listed_as_the_under_store_would(
    worker: Worker, origin: CountingOrigin, http: aiohttp.ClientSession, path: str, limit: int
) -> None:
    held = ["s3://b/a", "s3://b/d", "s3://b/d/", "s3://b/d/1", "s3://b/d/1/x y%", "s3://b/d/\U0001f600", "s3://b/d0"]
    for uri in [*held, "s3://c/other"]:
        origin.write(uri, b"" if uri.endswith("/") else uri.encode())
        await worker.reads.fetch(UfsPath.parse(uri), info=None)
    listed, after = [], ""
    while after is not None:
        params = {"path": path, "limit": str(limit), "after": after}
        async with http.get(f"{worker.server.url}/v1/cached", params=params) as response:
            page = await response.json()
        assert len(page["objects"]) <= limit
        listed += page["objects"]
        after = page["next"]
    expected = [info async for infos in origin.list(UfsPath.parse(path)) for info in infos]
    assert listed == [
        {"key": info.key, "size": info.size, "etag": info.etag, "lastModified": info.last_modified, "job": ""}
        for info in expected
    ]


async def test_pipelined_requests_are_answered_in_order(worker: Worker, origin: CountingOrigin) -> None:
    """Hits that could be answered at once wait for the misses before them."""
    for number in range(20):
        origin.write(f"s3://b/{number}", f"body {number}".encode() * 10)
    for number in range(0, 20, 2):
        await worker.reads.fetch(UfsPath.parse(f"s3://b/{number}"), info=None)
    async with connected(worker) as raw:
        for number in range(20):
            raw.get(f"/v1/data/s3/b/{number}")
        raw.get("/v1/unknown")
        raw.get("/v1/healthz", "Connection: close")
        bodies = [(await raw.response())[1] for _ in range(20)]
        assert bodies == [f"body {number}".encode() * 10 for number in range(20)]
        assert [(await raw.response())[0] for _ in range(2)] == [404, 200]
        assert await raw.rest() == b""


async def test_a_slow_client_stops_the_server_from_reading_on(worker: Worker, origin: CountingOrigin) -> None:
    """A hundred pipelined pages are not piled up in memory for a client that reads none of them."""
    origin.write("s3://b/page", b"p" * PAGE_SIZE)
    await worker.reads.fetch(UfsPath.parse("s3://b/page"), info=None)
    async with connected(worker) as raw:
        raw.writer.transport.pause_reading()
        for _ in range(100):
            raw.get("/v1/data/s3/b/page")
        await raw.writer.drain()
        async with aiohttp.ClientSession() as other, asyncio.timeout(SECONDS):
            for _ in range(20):
                async with other.get(f"{worker.server.url}/v1/healthz") as response:
                    assert response.status == 200
        assert 1 <= worker.reads.counters.hits <= 2  # neither here nor, in megabytes, in the kernel
        raw.writer.transport.resume_reading()
        for _ in range(100):
            assert await raw.response() == (200, b"p" * PAGE_SIZE)


async def test_answers_go_out_whole_though_the_kernel_takes_them_in_pieces(origin: CountingOrigin) -> None:
    """Pipelined bodies of a page and of several, to a client that reads little at a time."""
    sizes = [PAGE_SIZE // 3, 2 * PAGE_SIZE + 7, 100, PAGE_SIZE] * 3
    bodies = [random.Random(number).randbytes(size) for number, size in enumerate(sizes)]
    async with serving(origin, settings=ServerSettings(send_buffer_bytes=64 << 10)) as worker:
        for number, body in enumerate(bodies):
            origin.write(f"s3://b/{number}", body)
            await worker.reads.fetch(UfsPath.parse(f"s3://b/{number}"), info=None)
        async with connected(worker, limit=4096) as raw:
            for number in range(len(bodies)):
                raw.get(f"/v1/data/s3/b/{number}")
            for body in bodies:
                assert await raw.response() == (200, body)
            counters = worker.reads.counters
            assert (counters.hits, counters.hit_bytes) == (len(bodies), sum(sizes))


async def test_a_client_that_leaves_in_the_midst_of_a_body_is_forgotten(worker: Worker, origin: CountingOrigin) -> None:
    origin.write("s3://b/large", b"x" * (32 << 20))
    await worker.reads.fetch(UfsPath.parse("s3://b/large"), info=None)
    async with connected(worker) as raw:
        raw.get("/v1/data/s3/b/large")
        await raw.head()
    await asyncio.wait_for(worker.server._all_closed.wait(), SECONDS)
    assert 0 < worker.reads.counters.hit_bytes < 32 << 20


async def test_a_request_may_arrive_byte_by_byte(worker: Worker, origin: CountingOrigin) -> None:
    origin.write("s3://b/k", b"data")
    async with connected(worker) as raw:
        for character in "GET /v1/data/s3/b/k HTTP/1.1\r\nHost: x\r\nRange: bytes=1-2\r\n\r\n":
            raw.send(character)
            await raw.writer.drain()
            await asyncio.sleep(0)
        assert await raw.response() == (206, b"at")


async def test_http_1_0_and_close(worker: Worker, origin: CountingOrigin) -> None:
    origin.write("s3://b/k", b"data")
    for version, headers in (("1.0", ()), ("1.1", ("Connection: close",))):
        async with connected(worker) as raw:
            raw.get("/v1/data/s3/b/k", *headers, version=version)
            assert (await raw.rest()).endswith(b"Connection: close\r\n\r\ndata")
    async with connected(worker) as raw:
        for _ in range(2):
            raw.get("/v1/data/s3/b/k", "Connection: keep-alive", version="1.0")
            assert await raw.response() == (200, b"data")


async def test_a_client_that_shut_its_side_is_answered(worker: Worker, origin: CountingOrigin) -> None:
    origin.write("s3://b/k", b"data")
    origin.gate.clear()
    async with connected(worker) as raw:
        raw.get("/v1/data/s3/b/k")
        raw.writer.write_eof()
        await origin.begun.wait()
        origin.gate.set()
        assert (await raw.rest()).endswith(b"data")


SMUGGLER = "GET /v1/data/s3/b/k HTTP/1.1\r\nHost: x\r\n"
SMUGGLED = "GET /v1/healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("POST /v1/data/s3/b/k HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 400),
        ("GET /v1/data/s3/b/k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (f"{SMUGGLER}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}", 400),
        (f"{SMUGGLER}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n{SMUGGLED}", 400),
        (f"{SMUGGLER}Content-Length: 0\r\nContent-Length: {len(SMUGGLED)}\r\n\r\n{SMUGGLED}", 400),
        (f"{SMUGGLER}Content-Length : {len(SMUGGLED)}\r\n\r\n{SMUGGLED}", 400),
        (f"{SMUGGLER}X-Folded: a\r\n Content-Length: 0\r\n\r\n{SMUGGLED}", 400),
        (f"{SMUGGLER}X-Return: a\rContent-Length: 0\r\n\r\n{SMUGGLED}", 400),
        (f"{SMUGGLER}X-Newline: a\nContent-Length: 0\r\n\r\n{SMUGGLED}", 400),
        ("nonsense\r\n\r\n", 400),
        ("GET /v1/data/s3/b/" + "k" * 20_000 + " HTTP/1.1\r\n\r\n", 431),
        ("GET / HTTP/1.1\r\n" + "X-Header: value\r\n" * 2000 + "\r\n", 431),
        ("GET / HTTP/1.1\r\nX-Endless: " + "x" * 1_000_000, 431),
    ],
)
async def test_what_is_refused_is_told_and_closed(worker: Worker, text: str, status: int) -> None:
    async with connected(worker) as raw:
        raw.get("/v1/healthz")
        raw.send(text)
        assert (await raw.response())[0] == 200
        assert (await raw.response())[0] == status
        assert await raw.rest() == b""


async def test_other_methods_are_refused(worker: Worker, http: aiohttp.ClientSession) -> None:
    async with http.delete(f"{worker.server.url}/v1/data/s3/b/k") as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")


async def test_an_upgrade_is_not_taken_up(worker: Worker) -> None:
    async with connected(worker) as raw:
        raw.get("/v1/healthz", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: x")
        assert (await raw.response())[0] == 200


QUICK = ServerSettings(head_seconds=0.1, idle_seconds=0.1, stall_seconds=0.1, linger_seconds=0.1)


@pytest.mark.parametrize("sent", ["", "GET /v1/healthz HT", "GET /v1/healthz HTTP/1.1\r\nX: "])
async def test_a_silent_connection_is_closed(origin: CountingOrigin, sent: str) -> None:
    async with serving(origin, settings=QUICK) as worker, connected(worker) as raw:
        raw.send(sent)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(raw.reader.readexactly(1), SECONDS)


async def test_a_head_that_trickles_in_is_closed(origin: CountingOrigin) -> None:
    settings = replace(QUICK, idle_seconds=SECONDS)
    async with serving(origin, settings=settings) as worker, connected(worker) as raw:
        raw.send("GET / HTTP/1.1\r\n")
        closed = asyncio.ensure_future(raw.reader.read())
        async with asyncio.timeout(SECONDS):
            while not closed.done():
                raw.send("X: y\r\n")
                await asyncio.wait({closed}, timeout=0.02)
        await asyncio.gather(closed, return_exceptions=True)


async def test_a_client_that_does_not_read_is_closed(origin: CountingOrigin) -> None:
    origin.write("s3://b/large", b"x" * (32 << 20))
    settings = replace(QUICK, idle_seconds=SECONDS)
    async with serving(origin, settings=settings) as worker, connected(worker) as raw:
        raw.writer.transport.pause_reading()
        raw.get("/v1/data/s3/b/large")
        await asyncio.wait_for(worker.server._all_closed.wait(), SECONDS)


async def test_a_miss_may_take_longer_than_a_connection_may_idle(origin: CountingOrigin) -> None:
    origin.write("s3://b/k", b"data")
    origin.gate.clear()
    async with serving(origin, settings=QUICK) as worker, connected(worker) as raw:
        raw.get("/v1/data/s3/b/k")
        await origin.begun.wait()
        await asyncio.sleep(0.3)
        origin.gate.set()
        assert await raw.response() == (200, b"data")


async def test_a_hundred_readers_of_a_cold_object_cause_one_origin_read(
    worker: Worker, origin: CountingOrigin, http: aiohttp.ClientSession
) -> None:
    data = b"cold" * (1 << 19)
    origin.write("s3://b/cold", data)
    origin.gate.clear()

    async def read() -> bytes:
        async with http.get(worker.url("s3://b/cold")) as response:
            return await response.read()

    readers = [asyncio.create_task(read()) for _ in range(100)]
    await origin.begun.wait()
    origin.gate.set()
    assert set(await asyncio.gather(*readers)) == {data}
    assert (origin.reads, worker.reads.counters.origin_reads) == (2, 1)  # in two pieces


async def test_a_reader_who_hangs_up_does_not_waste_the_fill(worker: Worker, origin: CountingOrigin) -> None:
    origin.write("s3://b/k", b"data")
    origin.gate.clear()
    async with connected(worker) as raw:
        raw.get("/v1/data/s3/b/k")
        await origin.begun.wait()
    origin.gate.set()
    async with connected(worker) as raw:
        raw.get("/v1/data/s3/b/k")
        assert await raw.response() == (200, b"data")
    assert origin.reads == 1


async def test_an_object_replaced_at_the_origin(
    worker: Worker, origin: CountingOrigin, http: aiohttp.ClientSession
) -> None:
    """The rules of the contract: the cached version, or exactly the one that is asked for, or 412."""
    url = worker.url("s3://b/k")
    old = origin.write("s3://b/k", b"old")

    async def get(**headers: str) -> tuple[int, bytes]:
        async with http.get(
            url, headers={name.replace("_", "-"): value for name, value in headers.items()}
        ) as response:
            return response.status, await response.read()

    assert await get() == (200, b"old")
    new = origin.write("s3://b/k", b"newer")
    assert await get() == (200, b"old")
    assert await get(If_Match=f'"{old.etag}"') == (200, b"old")
    assert await get(If_Match=f'"{new.etag}"', Range="bytes=1-") == (206, b"ewer")
    assert await get() == (200, b"newer")
    assert (await get(If_Match=f'"{old.etag}"'))[0] == 412
    origin.remove("s3://b/k")
    assert await get() == (200, b"newer")


async def test_an_object_replaced_in_the_middle_of_a_body_breaks_the_connection(
    worker: Worker, origin: CountingOrigin
) -> None:
    size = 64 << 20
    origin.write("s3://b/k", b"a" * (size // 4))
    async with connected(worker) as raw:
        raw.get("/v1/data/s3/b/k")
        _, headers = await raw.head()
        new = origin.write("s3://b/k", b"b" * (size // 4))
        await worker.reads.fetch(UfsPath.parse("s3://b/k"), info=new)
        received = b""
        with suppress(ConnectionResetError):
            received = await raw.rest()
        assert len(received) < int(headers["content-length"])
        assert set(received) <= {ord("a")}


async def test_what_does_not_fit_is_served_all_the_same(origin: CountingOrigin, http: aiohttp.ClientSession) -> None:
    data = bytes(range(256)) * 8192
    origin.write("s3://b/k", data)
    async with serving(origin, capacity=1000) as worker:
        async with http.get(worker.url("s3://b/k")) as response:
            assert (response.headers["X-Preheat-Cache"], await response.read()) == ("miss", data)
        async with http.get(worker.url("s3://b/k"), headers={"Range": "bytes=100-2000"}) as response:
            assert await response.read() == data[100:2001]


class UnsteadyOrigin(MemoryUnderStore):
    """An under store whose bodies end early: the first one with an error, or each as if nothing were wrong."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__(chunk_bytes=100)
        self.error = error
        self.steady = False

    async def get(self, path: UfsPath, *, etag: str | None = None, start: int = 0, end: int | None = None) -> Download:
        download = await super().get(path, etag=etag, start=start, end=end)
        return download if self.steady else replace(download, chunks=self._cut(download.chunks))

    async def _cut(self, chunks: AsyncIterator[memoryview]) -> AsyncIterator[memoryview]:
        yield await anext(chunks)
        if self.error:
            self.steady = True
            raise self.error


async def test_an_object_that_changes_while_it_is_fetched_is_fetched_again(http: aiohttp.ClientSession) -> None:
    for headers, status in (({}, 200), ({"If-Match": '"{etag}"'}, 412)):
        origin = UnsteadyOrigin(VersionChanged("It changed."))
        info = origin.write("s3://b/k", b"x" * 1000)
        asked = {name: value.format(etag=info.etag) for name, value in headers.items()}
        async with serving(origin) as worker, http.get(worker.url("s3://b/k"), headers=asked) as response:
            assert response.status == status
            assert status != 200 or await response.read() == b"x" * 1000


async def test_a_body_that_is_short_breaks_the_connection() -> None:
    origin = UnsteadyOrigin()
    origin.write("s3://b/k", b"x" * 1000)
    async with serving(origin, capacity=10) as worker, connected(worker) as raw:
        raw.get("/v1/data/s3/b/k", "Range: bytes=0-499")
        received = b""
        with suppress(ConnectionResetError):
            received = await raw.rest()
        assert len(received.partition(b"\r\n\r\n")[2]) < 500


async def test_a_copy_that_went_bad_is_fetched_again(origin: CountingOrigin, http: aiohttp.ClientSession) -> None:
    class BadOnce(MemoryStore):
        bad = False

        def read(self, item: CachedObject, start: int = 0, end: int | None = None) -> bytes:
            if self.bad:
                self.bad = False
                held = self._held[item.path]
                self._held[item.path] = replace(held, data=b"?" + held.data[1:])
            return super().read(item, start, end)

    store = BadOnce(capacity=1 << 20)
    reads = ReadService(store, origin)
    origin.write("s3://b/k", b"data")
    async with DataServer(reads) as server:
        for bad, cache in ((False, "miss"), (False, "hit"), (True, "miss"), (False, "hit")):
            store.bad = bad
            async with http.get(f"{server.url}/v1/data/s3/b/k") as response:
                assert (await response.read(), response.headers["X-Preheat-Cache"]) == (b"data", cache)
    assert (origin.reads, reads.stats()["corrupt"]) == (2, 1)


async def test_files_are_served_below_the_roots_only(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "a.txt").write_bytes(b"public")
    (tmp_path / "opened.txt").write_bytes(b"private")
    origin = FileUnderStore()
    async with serving(origin, settings=ServerSettings(file_roots=(f"{tmp_path}/open",))) as worker:
        async with http.get(worker.url(f"file://{tmp_path}/open/a.txt")) as response:
            assert await response.read() == b"public"
        async with http.get(f"{worker.server.url}/v1/list", params={"path": f"file://{tmp_path}/open"}) as response:
            assert [item["size"] for item in (await response.json())["objects"]] == [6]
        for request in (
            worker.url(f"file://{tmp_path}/opened.txt"),
            f"{worker.server.url}/v1/list?path=file://{tmp_path}",
        ):
            async with http.get(request) as response:
                assert response.status == 403
        private = UfsPath.parse(f"file://{tmp_path}/opened.txt")
        await worker.reads.fetch(private, info=await origin.stat(private), job_id="job")
        async with http.get(worker.url(str(private))) as response:
            assert await response.read() == b"private"
        async with http.get(worker.url(str(private)), headers={"If-Match": '"another"'}) as response:
            assert response.status == 403


async def test_stop_lets_an_answer_end_and_takes_no_more(origin: CountingOrigin) -> None:
    origin.write("s3://b/k", b"data")
    origin.gate.clear()
    async with serving(origin) as worker, connected(worker) as raw, connected(worker) as idle:
        idle.get("/v1/healthz")
        await idle.response()
        raw.get("/v1/data/s3/b/k")
        await origin.begun.wait()
        stopping = asyncio.create_task(worker.server.stop())
        assert await idle.rest() == b""
        origin.gate.set()
        assert await raw.response() == (200, b"data")
        await asyncio.wait_for(stopping, SECONDS)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", worker.port)


async def test_stop_does_not_wait_for_ever(origin: CountingOrigin) -> None:
    origin.write("s3://b/k", b"data")
    origin.gate.clear()
    async with serving(origin, settings=replace(QUICK, drain_seconds=0.05)) as worker, connected(worker) as raw:
        raw.get("/v1/data/s3/b/k")
        await origin.begun.wait()
        await asyncio.wait_for(worker.server.stop(), SECONDS)
        origin.gate.set()


@pytest.mark.parametrize(
    "scenario",
    [
        test_pipelined_requests_are_answered_in_order,
        test_a_slow_client_stops_the_server_from_reading_on,
        test_a_client_that_shut_its_side_is_answered,
        test_answers_go_out_whole_though_the_kernel_takes_them_in_pieces,
        test_a_client_that_leaves_in_the_midst_of_a_body_is_forgotten,
        test_a_request_may_arrive_byte_by_byte,
        test_an_object_replaced_in_the_middle_of_a_body_breaks_the_connection,
        partial(test_what_is_refused_is_told_and_closed, text="nonsense\r\n\r\n" + "x" * 100_000, status=400),
    ],
)
def test_the_same_on_uvloop(scenario: Callable[..., Awaitable[None]]) -> None:
    """Workers run on uvloop, whose transports are not asyncio's."""

    async def run() -> None:
        origin = CountingOrigin()
        async with serving(origin) as worker:
            known = {"worker": worker, "origin": origin}
            await scenario(**{name: known[name] for name in signature(scenario).parameters if name in known})

    uvloop.run(run())
