"""The short way of a plain read: it is taken, and its answers are those of the long way, byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preheat.access import Grant, Role, Token
from preheat.engine import MemoryEngine
from preheat.paths import UfsPath
from preheat.store import PAGE_SIZE, MemoryStore
from preheat.tokens import TokenStore
from preheat.ufs import MemoryUnderStore
from preheat.worker._reads import ReadService
from preheat.worker.port import _hits
from preheat.worker.port._access import Authorizer, following_tokens
from preheat.worker.port._connection import Connection
from preheat.worker.port._endpoints import Endpoints
from preheat.worker.port._hits import Hits
from preheat.worker.port._limits import ServerSettings

SECONDS = 10.0
BODY = bytes(range(40))
LARGE = b"l" * (PAGE_SIZE + 1)
OBJECTS = {"s3://b/k": BODY, "s3://b/p/ü x": b"in the prefix", "s3://b/empty": b"", "s3://b/large": LARGE}
TOKEN = Token(id="any", secret="a" * 43)
BOUND = Token(id="bound", secret="b" * 43)
ETAG = MemoryUnderStore().write("s3://b/k", BODY).etag


class Recorder(asyncio.Transport):
    """Keeps what is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.closing = self.ended = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        """Nothing is read here."""

    resume_reading = pause_reading


@dataclass(frozen=True, kw_only=True)
class Port:
    """A data port without its sockets."""

    reads: ReadService
    authorizer: Authorizer
    tokens: TokenStore
    store: MemoryStore
    hits: Hits = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hits", Hits(self.reads, self.authorizer))

    async def answers(self, *pieces: bytes) -> tuple[bytes, bool, bool]:
        """Return what a client that sends these pieces gets, but for the dates, and how its connection is left."""
        transport = Recorder()
        endpoints = Endpoints(self.reads)
        connection = Connection(
            endpoints,
            ServerSettings(),
            authorizer=self.authorizer,
            hits=self.hits,
            opened=lambda _: None,
            closed=lambda _: None,
        )
        connection.connection_made(transport)
        for piece in pieces:
            connection.data_received(piece)
            async with asyncio.timeout(SECONDS):
                while connection.busy and not transport.closing and not transport.ended:
                    await asyncio.sleep(0)
        return re.sub(rb"\r\nDate: [^\r]*", b"", transport.sent), transport.closing, transport.ended


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Port]:
    origin, store, engine = MemoryUnderStore(), MemoryStore(capacity=16 << 20), MemoryEngine()
    reads, authorizer, tokens = ReadService(store, origin), Authorizer(), TokenStore(engine)
    for uri, data in OBJECTS.items():
        origin.write(uri, data)
        await reads.fetch(UfsPath.parse(uri), info=None)
    async with following_tokens(authorizer, engine):
        for token, grant in (
            (TOKEN, Grant(role=Role.READ)),
            (BOUND, Grant(role=Role.SUBMIT, prefixes=("s3://b/p/",))),
        ):
            await tokens._put(token.record(grant=grant, created_at=0.0))
        request = plain("/v1/data/s3/b/k")
        port = Port(reads=reads, authorizer=authorizer, tokens=tokens, store=store)
        async with asyncio.timeout(SECONDS):
            while port.hits.answer(request) is None:
                await asyncio.sleep(0)
        yield port
    await reads.close()


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    async with running() as port:
        yield port


def plain(target: str, *lines: str, token: Token = TOKEN) -> bytes:
    return "\r\n".join(
        [f"GET {target} HTTP/1.1", "Host: w", f"Authorization: Bearer {token.text}", *lines, "", ""]
    ).encode()


@pytest.mark.parametrize(
    ("request_", "body"),
    [
        (plain("/v1/data/s3/b/k"), BODY),
        (plain("/v1/data/s3a/b/k", "Accept: */*", "Connection: keep-alive"), BODY),
        (plain("/v1/data/s3/b/k", "Range: bytes=3-7"), BODY[3:8]),
        (plain("/v1/data/s3/b/k", "range: bytes=30-4000", "Accept: */*"), BODY[30:]),
        (plain("/v1/data/s3/b/p/%C3%BC%20x", token=BOUND), b"in the prefix"),
        (plain("/v1/data/s3/b/large", "Range: bytes=1-5"), b"lllll"),
        (plain("/v1/data/s3/b/empty"), b""),
        (plain("/v1/data/s3/b/k", f'If-Match: "{ETAG}"'), BODY),
        (plain("/v1/data/s3/b/k", f'If-Match: "other", "{ETAG}"', "Range: bytes=0-0"), BODY[:1]),
    ],
)
async def test_a_plain_read_takes_the_short_way(port: Port, request_: bytes, body: bytes) -> None:
    for _ in range(2):  # the header lines are judged, then known
        answer = port.hits.answer(request_)
        assert answer is not None
        assert answer[1] == body
    hits = port.reads.counters.hits
    assert (await port.answers(request_))[0].endswith(b"\r\n\r\n" + body)
    assert port.reads.counters.hits == hits + 1


@pytest.mark.parametrize(
    "request_",
    [
        plain("/v1/data/s3/b/large"),
        plain("/v1/data/s3/b/missing"),
        plain("/v1/data/s3/b/k", token=BOUND),
        plain("/v1/data/s3/b/k", token=Token(id="any", secret="x" * 43)),
        plain("/v1/data/s3/b/k?version=1"),
        plain("/v1/data/s3/b/k", "Range: bytes=7-3"),
        plain("/v1/data/s3/b/k", "Range: bytes=40-50"),
        plain("/v1/data/s3/b/k", "Range: bytes=0-1", "Range: bytes=2-3"),
        plain("/v1/data/s3/b/k", "Range: bytes=0-1", " 2"),
        plain("/v1/data/s3/b/k", 'If-Match: "other"'),
        plain("/v1/data/s3/b/k", f'If-Match: W/"{ETAG}"'),
        plain("/v1/data/s3/b/k", "Connection: close"),
        plain("/v1/data/s3/b/k", "Content-Length: 3") + b"abc",
        plain("/v1/data/s3/b/k") * 2,
        plain("/v1/data/s3/b/k")[:-2],
        b"GET /v1/data/s3/b/k HTTP/1.1\r\nA:b",
        b"GET /v1/data/s3/b/k HTTP/1.1\r\n\r\n",
        plain("/v1/data/s3/b/k").replace(b"HTTP/1.1", b"HTTP/1.0"),
        plain("/v1/data/s3/b/k").replace(b"GET", b"HEAD"),
        b"",
    ],
)
async def test_anything_else_takes_the_long_way(port: Port, request_: bytes) -> None:
    assert port.hits.answer(request_) is None


async def test_a_revoked_token_is_refused_though_its_lines_are_known(port: Port) -> None:
    request = plain("/v1/data/s3/b/k")
    assert port.hits.answer(request) is not None
    await port.tokens.revoke(TOKEN.id)
    async with asyncio.timeout(SECONDS):
        while port.hits.answer(request) is not None:
            await asyncio.sleep(0)
    assert (await port.answers(request))[0].startswith(b"HTTP/1.1 401 ")


async def test_what_is_remembered_is_bounded(port: Port) -> None:
    for number in range(3 * _hits._MAX_KNOWN):
        assert port.hits.answer(plain("/v1/data/s3/b/k", f"X-Request: {number}")) is not None
        assert len(port.hits._known) <= _hits._MAX_KNOWN
    assert port.hits.answer(plain("/v1/data/s3/b/k", f"X-Long: {'x' * _hits._MAX_LINES_BYTES}")) is None


LINES = (
    "Host: w", "Accept: */*", f"Authorization: Bearer {TOKEN.text}", f"Authorization: Bearer {BOUND.text}",
    "Authorization: Bearer nothing", f"authorization:  bearer {TOKEN.text} ", "Range: bytes=2-3", "range: bytes=5-",
    "Range: bytes=-3", "Range:bytes=0-1", "Range : bytes=0-1", "RANGE: bytes=0-1", "Range: bytes=0-1,4-5",
    "X-Range: bytes=0-1", "Xange: bytes=0-1", "ange: bytes=0-1", "A: Range: bytes=0-1", " Range: bytes=0-1",
    "\tfolded", f'If-Match: "{ETAG}"', 'If-Match: "other"', f'If-None-Match: "{ETAG}"', 'If-Range: "other"',
    "Connection: close", "Connection: keep-alive", "Connection: upgrade", "Upgrade: h2c", "Expect: 100-continue",
    "Content-Length: 0", "Content-Length: 4", "Transfer-Encoding: chunked", "no colon", ": no name", "A: b\nC: d",
    "A: b\rC: d", "A: \x00",
    "A: ü", "", "GET /v1/data/s3/b/k HTTP/1.1", "Range: bytes=39-40", "Range: bytes=40-41", "Range: bytes=3-2",
)  # fmt: skip
TARGETS = (
    "/v1/data/s3/b/k", "/v1/data/s3/b/p/%C3%BC%20x", "/v1/data/s3/b/p/ü%20x", "/v1/data/s3/b/empty",
    "/v1/data/s3/b/%6B", "/v1/data/s3n/b/k", "/v1/data/s3/b/k?a", "/v1/data/s3/b/k#a", "/v1/data/s3/b/missing",
    "/v1/data/s3/b/../b/k", "/v1/data/s3/b/%ff", "/v1/data/s3//k", "/v1/data/", "/v1/data/file//etc/passwd",
    "/v1/data/s3/b/k\x01", "/v1/data/s3/b/k\t", "/v1/data/s3/b/k HTTP/1.1", "/v1/healthz", "http://w/v1/data/s3/b/k",
)  # fmt: skip
METHODS = ("GET", "HEAD", "POST", "get", "GET ", "\r\nGET")
VERSIONS = ("HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/1.1 ", "http/1.1", "HTTP/1.1\nA: b")
ENDS = ("\r\n", "\r\n\r\n", "\n", "\r\nx", "\r\nGET /v1/healthz HTTP/1.1\r\n\r\n")
SIGNED = f"Authorization: Bearer {TOKEN.text}"


def head(
    *lines: str, method: str = "GET", target: str = TARGETS[0], version: str = "HTTP/1.1", end: str = "\r\n"
) -> bytes:
    return "\r\n".join([f"{method} {target} {version}", *lines, end]).encode()


async def check_both_ways(port: Port, request: bytes) -> None:
    """A request whose first byte arrives alone takes the long way."""
    long = await port.answers(*2 * (request[:1], request[1:]))
    assert await port.answers(request, request) == long, request


async def test_lines_mean_the_same_both_ways(port: Port) -> None:
    for first, second in itertools.product(LINES, LINES):
        await check_both_ways(port, head(SIGNED, first, second))
        await check_both_ways(port, head(first, second, SIGNED))


async def test_request_lines_mean_the_same_both_ways(port: Port) -> None:
    for method, target, version, end in itertools.product(METHODS, TARGETS, VERSIONS, ENDS):
        await check_both_ways(port, head(SIGNED, method=method, target=target, version=version, end=end))


@settings(deadline=None, max_examples=50)
@given(values=st.lists(st.text("bytes=0123456789-, \t\r\n:Range", max_size=16), min_size=20))
def test_any_range_means_the_same_both_ways(values: list[str]) -> None:
    async def check() -> None:
        async with running() as port:
            for value in values:
                await check_both_ways(port, head(SIGNED, f"Range: bytes={value}", "Accept: */*"))

    asyncio.run(check())
