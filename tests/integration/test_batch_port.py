"""Batch reads on real sockets: bodies that are taken and bodies that are refused, and answers that go out in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest

from preheat.access import Grant, Role, Token, parse_prefix
from preheat.batch_read import BATCH, Frame, FrameDecoder, Order, Read, encode_batch
from preheat.engine import MemoryEngine
from preheat.store import MemoryStore
from preheat.tokens import TokenStore
from preheat.ufs import MemoryUnderStore
from preheat.worker._reads import ReadService
from preheat.worker.port._access import Authorizer, following_tokens
from preheat.worker.port._server import DataServer, ServerSettings

SECONDS = 10.0
EMPTY = b'{"reads": []}'


@pytest.fixture
def origin() -> MemoryUnderStore:
    return MemoryUnderStore()


@asynccontextmanager
async def serving(
    origin: MemoryUnderStore, settings: ServerSettings | None = None, authorizer: Authorizer | None = None
) -> AsyncIterator[tuple[DataServer, ReadService]]:
    reads = ReadService(MemoryStore(capacity=64 << 20), origin)
    async with DataServer(reads, settings=settings, authorizer=authorizer) as server:
        yield server, reads
    await reads.close()


@pytest.fixture
async def server(origin: MemoryUnderStore) -> AsyncIterator[DataServer]:
    async with serving(origin) as (server, _):
        yield server


@asynccontextmanager
async def connected(server: DataServer) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    try:
        async with asyncio.timeout(SECONDS):
            yield reader, writer
    finally:
        writer.transport.abort()


def post(body: bytes, *headers: str, target: str = BATCH, method: str = "POST") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: worker", *(headers or [f"Content-Length: {len(body)}"])]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def head_of(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    return int(lines[0].split()[1]), dict(line.lower().split(": ", 1) for line in lines[1:] if line)


async def body_of(reader: asyncio.StreamReader) -> bytes:
    status, headers = await head_of(reader)
    assert status == 200
    return await reader.readexactly(int(headers["content-length"]))


async def frames_of(reader: asyncio.StreamReader, reads: int) -> list[Frame]:
    status, headers = await head_of(reader)
    assert (status, headers["transfer-encoding"]) == (200, "chunked")
    assert headers["content-type"] == "application/vnd.preheat.batch"
    decoder, frames = FrameDecoder(reads), []
    while size := int(await reader.readline(), 16):
        frames += decoder.feed((await reader.readexactly(size + 2))[:-2])
    assert await reader.readline() == b"\r\n"
    return frames


def written(origin: MemoryUnderStore, count: int, size: int = 10) -> list[Read]:
    reads = [Read(f"s3://b/{number}") for number in range(count)]
    for number, read in enumerate(reads):
        origin.write(read.path, number.to_bytes(4, "big") * (size // 4))
    return reads


async def test_a_batch_is_answered_between_two_other_requests(server: DataServer, origin: MemoryUnderStore) -> None:
    reads = written(origin, 300, 8)
    get = b"GET /v1/data/s3/b/7 HTTP/1.1\r\nHost: worker\r\n\r\n"
    async with connected(server) as (reader, writer):
        for _ in ("missed", "hit"):
            writer.write(get + post(encode_batch(reads, Order.ASKED)) + get)
            assert await body_of(reader) == bytes(3) + b"\7" + bytes(3) + b"\7"
            frames = await frames_of(reader, 300)
            assert [frame.body[:4] for frame in frames] == [number.to_bytes(4, "big") for number in range(300)]
            assert await body_of(reader) == bytes(3) + b"\7" + bytes(3) + b"\7"


async def test_a_body_longer_than_a_head_may_be_comes_in_pieces(server: DataServer, origin: MemoryUnderStore) -> None:
    reads = written(origin, 30) * 100
    request = post(encode_batch(reads, Order.ASKED))
    assert len(request) > 2 * ServerSettings().max_head_bytes
    async with connected(server) as (reader, writer):
        for start in range(0, len(request), 5000):
            writer.write(request[start : start + 5000])
            await writer.drain()
            await asyncio.sleep(0)
        assert len(await frames_of(reader, 3000)) == 3000


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (post(b"[]"), 400),
        (post(b'{"reads": [{"path": "s3://b/k", "range": 1}]}'), 400),
        (post(b"GET /v1/stats HTTP/1.1\r\nHost: worker\r\n\r\n"), 400),
        (post(b"x" * 2000, "Content-Length: 2000000"), 413),
        (post(b"d\r\n" + EMPTY + b"\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), 400),
        (post(EMPTY, "Content-Length: 13", "Transfer-Encoding: chunked"), 400),
        (post(EMPTY, "Content-Length: 13", "Content-Length: 13"), 400),
        (post(EMPTY, "Content-Length: -13"), 400),
        (post(EMPTY, target="/v1/load?path=s3://b/"), 400),
        (post(EMPTY, target=BATCH + "?x"), 400),
        (post(EMPTY, target="/v1/data/s3/b/k", method="GET"), 400),
        (post(EMPTY, method="PUT"), 400),
        (post(b"", method="GET"), 405),
    ],
)
async def test_what_is_no_batch_is_refused_once(origin: MemoryUnderStore, request_bytes: bytes, status: int) -> None:
    """A body is never taken for a request."""
    async with serving(origin, ServerSettings(max_body_bytes=1_000_000)) as (server, _), connected(server) as wire:
        reader, writer = wire
        writer.write(request_bytes)
        writer.write_eof()
        found, headers = await head_of(reader)
        assert found == status
        assert headers["content-type"] == "application/problem+json"
        assert headers.get("allow", "post") == "post"
        assert len(await reader.read()) == int(headers["content-length"])


async def test_a_batch_of_nothing_is_answered_with_nothing(server: DataServer) -> None:
    async with connected(server) as (reader, writer):
        writer.write(post(EMPTY) * 2)
        for _ in range(2):
            assert await frames_of(reader, 0) == []


async def test_a_body_that_looks_like_a_request_is_none(server: DataServer, origin: MemoryUnderStore) -> None:
    """Even if it comes by itself, and names an object that is cached."""
    reads = written(origin, 1)
    smuggled = b"GET /v1/data/s3/b/0 HTTP/1.1\r\nHost: worker\r\n\r\n"
    async with connected(server) as (reader, writer):
        writer.write(post(encode_batch(reads, Order.ASKED)))
        await frames_of(reader, 1)
        writer.write(post(b"", f"Content-Length: {len(smuggled)}"))
        for _ in range(20):  # turns in which the head is read
            await asyncio.sleep(0)
        writer.write(smuggled)
        writer.write_eof()
        status, headers = await head_of(reader)
        assert status == 400
        assert len(await reader.read()) == int(headers["content-length"])


async def test_a_body_that_does_not_come_ends_the_connection(origin: MemoryUnderStore) -> None:
    settings = ServerSettings(head_seconds=0.2, idle_seconds=SECONDS)
    async with serving(origin, settings) as (server, _), connected(server) as (reader, writer):
        writer.write(post(b'{"reads"', "Content-Length: 100"))
        with suppress(ConnectionResetError):
            assert await reader.read() == b""


async def test_a_client_that_does_not_read_stops_the_reading(origin: MemoryUnderStore) -> None:
    reads = written(origin, 32, 1 << 20)
    body = encode_batch(reads * 100, Order.ASKED)
    async with serving(origin) as (server, service), connected(server) as (reader, writer):
        writer.write(post(encode_batch(reads, Order.ASKED)))
        assert len(await frames_of(reader, 32)) == 32
        writer.write(post(body))
        status, _ = await head_of(reader)
        for _ in range(50):  # turns of the loop in which it could go on
            await asyncio.sleep(0.002)
        assert status == 200
        assert service.counters.hits < 64


async def test_tokens_hold_for_each_path(origin: MemoryUnderStore) -> None:
    reads = [Read("s3://b/mine/k"), Read("s3://b/theirs/k")]
    for read in reads:
        origin.write(read.path, b"body")
    engine, authorizer = MemoryEngine(), Authorizer()
    tokens = TokenStore(engine)
    async with following_tokens(authorizer, engine), serving(origin, authorizer=authorizer) as (server, _):
        wanted = {
            (Role.READ,): [200, 200],
            (Role.SUBMIT, "s3://b/mine/"): [200, 403],
            (Role.READ, "s3://b/theirs/", "s3://b/mine/k"): [200, 200],
            (Role.READ, "s3://other/"): [403, 403],
        }
        for (role, *prefixes), statuses in wanted.items():
            grant = Grant(role=role, prefixes=tuple(map(parse_prefix, prefixes)))
            token = (await tokens.create(grant=grant))[1]
            for _ in ("missed", "hit"):
                assert [frame.status for frame in await asked(server, reads, token)] == statuses
        with pytest.raises(aiohttp.ClientResponseError, match="401"):
            await asked(server, reads, Token.new())


async def test_a_body_is_not_held_for_who_may_not_ask(origin: MemoryUnderStore) -> None:
    engine, authorizer = MemoryEngine(), Authorizer()
    tokens = TokenStore(engine)
    async with following_tokens(authorizer, engine), serving(origin, authorizer=authorizer) as (server, _):
        token = (await tokens.create(grant=Grant(role=Role.READ)))[1]
        assert await asked(server, [], token) == []  # the tokens are known
        for lines in ([], [f"Authorization: Bearer {Token.new().text}"], ["Expect: 100-continue"]):
            async with connected(server) as (reader, writer):
                writer.write(post(b"", "Content-Length: 4000000", *lines))
                assert (await head_of(reader))[0] == 401


async def asked(server: DataServer, reads: Sequence[Read], token: Token) -> list[Frame]:
    headers = {"Authorization": f"Bearer {token.text}"}
    async with aiohttp.ClientSession(headers=headers, raise_for_status=True) as session:
        for _ in range(20):  # turns in which a new token becomes known
            await asyncio.sleep(0)
        async with session.post(server.url + BATCH, data=encode_batch(reads, Order.ASKED)) as response:
            return FrameDecoder(len(reads)).feed(await response.read())


async def test_a_stopping_server_lets_a_batch_end(origin: MemoryUnderStore) -> None:
    reads = written(origin, 50, 4096) * 40
    async with serving(origin) as (server, _), connected(server) as (reader, writer):
        writer.write(post(encode_batch(reads, Order.READY)))
        await reader.readuntil(b"HTTP/1.1 200")
        stopping = asyncio.create_task(server.stop())
        rest = await reader.read()
        await stopping
    assert rest.endswith(b"\r\n0\r\n\r\n")
    assert len(rest) > 2000 * 4096
