"""Request bodies that are read as they come: paced by their reader, bounded, and never taken for requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial

import aiohttp
import pytest
import uvloop

from preheat.errors import Forbidden, PreheatError
from preheat.worker.port import Intake, Parts, Server, ServerSettings
from preheat.worker.port._http import Answer, Request, problem_answer

SECONDS = 10.0
SETTINGS = ServerSettings(linger_seconds=0.3)


@dataclass
class Uploads:
    """Takes bodies at ``/up``, refuses them at ``/no``, and echoes what a head said at the end of its body."""

    bodies: list[bytes] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def intake(self, method: str, target: str) -> Intake:
        kinds = {"PUT": Intake.STREAMED, "POST": Intake.HELD}
        return kinds.get(method, Intake.REFUSED)

    def problem(self, error: PreheatError, request: Request | None) -> Answer:
        return problem_answer(error)

    def answer_now(self, request: Request) -> Parts | None:
        if request.target == "/no":
            raise Forbidden("No.")
        if request.method == "PUT":
            return None
        return (Answer(body=request.body or b"hello").encode(head_only=False, keep_alive=request.keep_alive),)

    async def answer(self, request: Request) -> bytes:
        assert request.stream is not None
        self.begun.set()
        await self.gate.wait()
        if request.target == "/never":
            raise Forbidden("Not a byte.")
        body = b"".join([piece async for piece in request.stream])
        self.bodies.append(body)
        assert request.length in (None, len(body))
        text = f"{len(body)} {request.headers.get('x-role', '')}"
        return Answer(body=text.encode()).encode(head_only=False, keep_alive=request.keep_alive)


class Raw:
    """A client that writes what a test says."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def put(self, body: bytes = b"", *headers: str, target: str = "/up", version: str = "1.1") -> None:
        lines = [f"PUT {target} HTTP/{version}", "Host: w", *(headers or [f"Content-Length: {len(body)}"])]
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    async def head(self) -> tuple[int, dict[str, str]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        return int(lines[0].split()[1]), dict(line.lower().split(": ", 1) for line in lines[1:] if line)

    async def response(self) -> tuple[int, bytes]:
        status, headers = await self.head()
        return status, await self.reader.readexactly(int(headers["content-length"]))


@asynccontextmanager
async def serving(uploads: Uploads, settings: ServerSettings = SETTINGS) -> AsyncIterator[Raw]:
    async with Server(uploads, settings=settings) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
        try:
            async with asyncio.timeout(SECONDS):
                yield Raw(reader, writer)
        finally:
            writer.transport.abort()


def chunked(*chunks: bytes, trailer: bytes = b"") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + trailer + b"\r\n"


async def test_bodies_come_whole_and_in_order_between_other_requests() -> None:
    uploads = Uploads()
    large = bytes(range(256)) * 8192
    async with serving(uploads) as raw:
        raw.put(b"small")
        raw.put()
        raw.put(b"", "X-Role: no-length-at-all")
        raw.writer.write(b"GET / HTTP/1.1\r\nHost: w\r\n\r\n")
        raw.put(chunked(b"a", b"bc" * 1000, large), "Transfer-Encoding: chunked")
        raw.put(large)
        raw.writer.write(b"GET / HTTP/1.1\r\nHost: w\r\nConnection: close\r\n\r\n")
        assert [await raw.response() for _ in range(7)] == [
            (200, b"5 "),
            (200, b"0 "),
            (200, b"0 no-length-at-all"),
            (200, b"hello"),
            (200, b"2099153 "),
            (200, b"2097152 "),
            (200, b"hello"),
        ]
        assert await raw.reader.read() == b""
    assert uploads.bodies == [b"small", b"", b"", b"a" + b"bc" * 1000 + large, large]


async def test_a_reader_that_falls_behind_stops_the_sender() -> None:
    uploads = Uploads()
    uploads.gate.clear()
    body = bytes(64 << 20)
    async with serving(uploads) as raw:
        raw.put(body)
        await uploads.begun.wait()
        sending = asyncio.create_task(raw.writer.drain())
        left, seen = len(body), len(body) + 1
        while left < seen:  # until no more goes out for twenty turns
            seen = left
            for _ in range(20):
                await asyncio.sleep(0.001)
            left = raw.writer.transport.get_write_buffer_size()
        assert left > 32 << 20  # neither here nor, in megabytes, in the kernel
        uploads.gate.set()
        await sending
        assert await raw.response() == (200, b"67108864 ")


async def test_a_client_that_waits_for_its_turn_is_told() -> None:
    uploads = Uploads()
    async with serving(uploads) as raw:
        for method in (b"PUT", b"POST"):
            raw.writer.write(method + b" /up HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 4\r\n\r\n")
            assert (await raw.head())[0] == 100
            raw.writer.write(b"data")
            assert (await raw.response())[0] == 200
        raw.put(b"data", "Expect: 100-continue", "Content-Length: 4")  # it did not wait
        assert (await raw.response())[0] == 200
        raw.put(b"", "Expect: 100-continue", "Content-Length: 4", version="1.0")
        raw.writer.write(b"data")
        assert (await raw.response())[0] == 200  # HTTP/1.0 knows no interim answer


@pytest.mark.parametrize("target", ["/no", "/never"])
async def test_a_refused_body_is_not_asked_for_and_ends_the_connection(target: str) -> None:
    async with serving(Uploads()) as raw:
        raw.put(b"", "Expect: 100-continue", "Content-Length: 1000", target=target)
        status, headers = await raw.head()
        assert (status, headers["connection"]) == (403, "close")
        await raw.reader.readexactly(int(headers["content-length"]))
        assert await raw.reader.read() == b""


@pytest.mark.parametrize("target", ["/no", "/never"])
async def test_who_sends_a_refused_body_all_the_same_reads_why(target: str) -> None:
    """And nothing of the body is answered as a request."""
    smuggled = b"GET / HTTP/1.1\r\nHost: w\r\n\r\n"
    async with serving(Uploads()) as raw:
        raw.put(b"", f"Content-Length: {8 << 20}", target=target)
        status, headers = await raw.head()
        assert status == 403
        with suppress(ConnectionError):
            for _ in range(64):
                raw.writer.write(smuggled * 1000)
                await raw.writer.drain()
        await raw.reader.readexactly(int(headers["content-length"]))
        with suppress(ConnectionResetError):
            assert await raw.reader.read() == b""


async def test_a_refused_body_that_has_arrived_does_not_cost_the_connection() -> None:
    async with serving(Uploads()) as raw:
        for _ in range(2):
            raw.put(b"all of it", target="/never")
            assert (await raw.response())[0] == 403
        raw.put(b"x")
        assert await raw.response() == (200, b"1 ")


@pytest.mark.parametrize("headers", ["Content-Length: 10", "Transfer-Encoding: chunked"])
async def test_a_body_that_ends_early_is_no_upload(headers: str) -> None:
    uploads = Uploads()
    async with serving(uploads) as raw:
        raw.put(b"4\r\ndata", headers)
        raw.writer.write_eof()
        assert (await raw.response())[0] == 400
        assert await raw.reader.read() == b""
    assert uploads.bodies == []


@pytest.mark.parametrize("sent", [b"", b"some"])
async def test_a_sender_that_stalls_is_closed(sent: bytes) -> None:
    uploads = Uploads()
    async with serving(uploads, replace(SETTINGS, stall_seconds=0.1)) as raw:
        raw.put(sent, "Content-Length: 10")
        with suppress(ConnectionResetError):
            assert await raw.reader.read() == b""
    assert uploads.bodies == []


async def test_a_reader_may_be_slower_than_a_sender_may_stall() -> None:
    uploads = Uploads()
    uploads.gate.clear()
    quick = ServerSettings(head_seconds=0.1, idle_seconds=0.1, stall_seconds=0.1, linger_seconds=0.1)
    async with serving(uploads, quick) as raw:
        raw.put(b"data")
        await uploads.begun.wait()
        await asyncio.sleep(0.3)
        uploads.gate.set()
        assert await raw.response() == (200, b"4 ")


HIDDEN = b"GET / HTTP/1.1\r\nHost: w\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (chunked() + HIDDEN, ["Content-Length: 4", CHUNKED]),
        (chunked() + HIDDEN, [CHUNKED, "Content-Length: 4"]),
        (chunked() + HIDDEN, ["Transfer-Encoding: gzip, chunked"]),
        (chunked() + HIDDEN, ["Transfer-Encoding: gzip", CHUNKED]),
        (chunked() + HIDDEN, [CHUNKED, CHUNKED]),
        (chunked() + HIDDEN, ["Transfer-Encoding: chunked, identity"]),
        (chunked() + HIDDEN, ["Transfer-Encoding: xchunked"]),
        (chunked() + HIDDEN, ["Transfer-Encoding : chunked"]),
        (HIDDEN, ["Content-Length: 0", f"Content-Length: {len(HIDDEN)}"]),
        (HIDDEN, [f"Content-Length: +{len(HIDDEN)}"]),
        (b"-1\r\n\r\n" + HIDDEN, [CHUNKED]),
        (b"1 0\r\n\r\n" + HIDDEN, [CHUNKED]),
        (b"fffffffffffffffff\r\n\r\n" + HIDDEN, [CHUNKED]),
        (b"1\r\nabc0\r\n\r\n" + HIDDEN, [CHUNKED]),
        (b"1\na\n0\n\n" + HIDDEN, [CHUNKED]),
        (b"1;" + b"x" * 300_000, [CHUNKED]),
        (HIDDEN, ["Connection: Upgrade", "Upgrade: h2c", f"Content-Length: {len(HIDDEN)}"]),
        (chunked(HIDDEN), ["Connection: Upgrade", "Upgrade: h2c", CHUNKED]),
        (chunked(b"a")[:-2] + b"X: " + b"x" * 300_000, [CHUNKED]),
        (chunked(b"a")[:-2] + b"X: y\r\n" * 10_000 + b"\r\n", [CHUNKED]),
    ],
)
async def test_what_cannot_be_understood_is_refused_once_and_closed(body: bytes, headers: list[str]) -> None:
    uploads = Uploads()
    async with serving(uploads) as raw:
        raw.put(body, *headers)
        assert (await raw.response())[0] in (400, 431)
        with suppress(ConnectionResetError):
            assert await raw.reader.read() == b""
    assert uploads.bodies == []


async def test_the_old_protocol_has_no_chunks() -> None:
    async with serving(Uploads()) as raw:
        raw.put(chunked(b"a"), CHUNKED, version="1.0")
        assert (await raw.response())[0] == 400


async def test_a_trailer_changes_nothing_of_the_head() -> None:
    async with serving(Uploads()) as raw:
        raw.put(chunked(b"a", trailer=b"X-Role: admin\r\n"), "X-Role: guest", CHUNKED)
        assert await raw.response() == (200, b"1 guest")


async def test_a_stopping_server_lets_an_upload_end() -> None:
    uploads = Uploads()
    async with Server(uploads, settings=SETTINGS) as server, aiohttp.ClientSession() as session:

        async def body() -> AsyncIterator[bytes]:
            yield b"one"
            await uploads.begun.wait()
            stopping.append(asyncio.create_task(server.stop()))
            await asyncio.sleep(0)
            yield b"two"

        stopping: list[asyncio.Task[None]] = []
        async with asyncio.timeout(SECONDS), session.put(f"{server.url}/up", data=body()) as response:
            assert (response.status, await response.read()) == (200, b"6 ")
        await asyncio.gather(*stopping)
    assert uploads.bodies == [b"onetwo"]


@pytest.mark.parametrize(
    "scenario",
    [
        test_bodies_come_whole_and_in_order_between_other_requests,
        test_a_reader_that_falls_behind_stops_the_sender,
        test_a_client_that_waits_for_its_turn_is_told,
        partial(test_who_sends_a_refused_body_all_the_same_reads_why, "/never"),
        partial(test_a_body_that_ends_early_is_no_upload, "Content-Length: 10"),
        test_a_stopping_server_lets_an_upload_end,
    ],
)
def test_the_same_on_uvloop(scenario: Callable[[], Awaitable[None]]) -> None:
    """Workers run on uvloop, whose transports are not asyncio's."""

    async def run() -> None:
        await scenario()

    uvloop.run(run())
