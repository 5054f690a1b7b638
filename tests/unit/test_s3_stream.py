"""Ranges that threads read from plain HTTP endpoints of S3: what a server can do to them."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, closing, suppress

import pytest
from botocore.credentials import Credentials

from preheat.errors import (
    AccessDenied,
    ObjectNotFound,
    OriginThrottled,
    OriginUnavailable,
    PreheatError,
    StoreFull,
    VersionChanged,
)
from preheat.paths import UfsPath
from preheat.ufs import Span, UfsSettings
from preheat.ufs.s3._channel import _BUFFER_BYTES
from preheat.ufs.s3._client import S3Connection
from preheat.ufs.s3._gets import GetRequests
from preheat.ufs.s3._stream import S3Streams
from preheat.versions import ObjectInfo

PATH = UfsPath.parse("s3://bucket/dir/a b.bin")
BODY = bytes(range(256)) * (3 * _BUFFER_BYTES // 256) + b"the last bytes"
INFO = ObjectInfo(key=PATH.key, size=len(BODY), etag="e1", last_modified=0.0)
OTHER_HEADERS = {"last": b"Connection: close\r\n", "chunked": b"Transfer-Encoding: chunked\r\n"}


class RangeServer:
    """Serves the ranges of one body; each request takes the next of the faults, if there is one left."""

    def __init__(self, *faults: str) -> None:
        self.faults = list(faults)
        self.ranges: list[tuple[int, int]] = []
        self.connections = 0
        self.silent = asyncio.Event()
        self._serving: set[asyncio.Task[None]] = set()

    async def end(self) -> None:
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(asyncio.create_task(self.serve(reader, writer)))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError), closing(writer):
            while await self._answer(await reader.readuntil(b"\r\n\r\n"), writer):
                pass
            if self.silent.is_set():
                await reader.read()  # until the client gives up

    async def _answer(self, request: bytes, writer: asyncio.StreamWriter) -> bool:
        wanted = re.search(rb"\r\nrange:bytes=(\d+)-(\d+)\r\n", request)
        assert wanted is not None
        start, end = int(wanted[1]), int(wanted[2]) + 1
        self.ranges.append((start, end))
        fault = self.faults.pop(0) if self.faults else ""
        status = {"404": b"404 Not Found", "403": b"403 Forbidden", "503": b"503 Slow Down", "500": b"500 Oops"}
        if fault in status:
            code = b"<Code>SlowDown</Code>" if fault == "503" else b"<Code>AccessDenied</Code>" * (fault == "403")
            head = b"HTTP/1.1 %s\r\nRetry-After: 3\r\nContent-Length: %d\r\n\r\n" % (status[fault], len(code))
            writer.write(head + code)
            return True
        etag, body = (b"e2" if fault == "changed" else b"e1"), BODY[start:end]
        span = b"%d-%d" % ((start + 1, end) if fault == "elsewhere" else (start, end - 1))
        writer.write(
            b'HTTP/1.1 206 Partial Content\r\nETag: "%s"\r\nLast-Modified: Sat, 21 Nov 2026 08:00:00 GMT\r\n%s'
            b"Content-Range: bytes %s/%d\r\nContent-Length: %d\r\n\r\n"
            % (etag, OTHER_HEADERS.get(fault, b""), span, len(BODY), len(body))
        )
        writer.write(body[: len(body) // 2] if fault in {"short", "silent"} else body)
        writer.write(b"surplus" if fault == "long" else b"")
        await writer.drain()
        if fault == "silent":
            self.silent.set()
        return fault not in {"short", "silent", "last"}


@asynccontextmanager
async def streams_to(server: RangeServer, *, read_seconds: float = 5.0) -> AsyncIterator[S3Streams]:
    listening = await asyncio.start_server(server.accept, "127.0.0.1", 0)
    endpoint = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    credentials = Credentials("key", "secret")
    connection = S3Connection(client=None, credentials=credentials, endpoint=endpoint, region="us-east-1")
    streams = S3Streams(GetRequests(connection), endpoint, UfsSettings(read_seconds=read_seconds))
    try:
        async with asyncio.timeout(20):
            yield streams
    finally:
        streams.close()
        listening.close()
        await server.end()


class Sink:
    """Collects what is poured."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.began = threading.Event()

    def __call__(self, data: memoryview) -> None:
        self.pieces.append(bytes(data))
        self.began.set()

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


async def pour(streams: S3Streams, sink: Sink, start: int = 0, end: int = len(BODY)) -> bool:
    return await streams.pour(PATH, Span(info=INFO, start=start, end=end), sink)


def spans(starts: Iterable[int]) -> list[tuple[int, int]]:
    return [(start, len(BODY)) for start in starts]


async def test_ranges_come_whole_over_kept_connections() -> None:
    server = RangeServer()
    async with streams_to(server) as streams:
        for start, end in ((0, len(BODY)), (5, 6), (_BUFFER_BYTES, 2 * _BUFFER_BYTES), (7, len(BODY) - 1)):
            sink = Sink()
            assert await pour(streams, sink, start, end)
            assert sink.body == BODY[start:end]
            assert max(map(len, sink.pieces)) <= _BUFFER_BYTES
        assert server.connections == 1
        sinks = [Sink() for _ in range(20)]
        assert all(await asyncio.gather(*(pour(streams, sink) for sink in sinks)))
        assert {sink.body for sink in sinks} == {BODY}
        assert server.connections <= 16


@pytest.mark.parametrize("fault", ["short", "last"])
async def test_a_connection_that_breaks_costs_what_it_had_not_brought(fault: str) -> None:
    server = RangeServer(fault, fault)
    async with streams_to(server) as streams:
        sink = Sink()
        assert await pour(streams, sink)
        assert sink.body == BODY
        again = Sink()
        assert await pour(streams, again)
        assert again.body == BODY
    if fault == "short":
        assert server.ranges == spans([0, _BUFFER_BYTES, 2 * _BUFFER_BYTES, 0])


async def test_a_connection_that_breaks_again_and_again_is_an_outage() -> None:
    server = RangeServer(*["short"] * 4)
    async with streams_to(server) as streams:
        with pytest.raises(OriginUnavailable, match="in the middle of the body"):
            await pour(streams, Sink())
    assert len(server.ranges) == 3


async def test_bytes_beyond_the_range_belong_to_nobody() -> None:
    server = RangeServer("long", "long")
    async with streams_to(server) as streams:
        for _ in range(3):
            sink = Sink()
            if await pour(streams, sink, 0, 100):
                assert sink.body == BODY[:100]
            else:
                assert not sink.body


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("changed", VersionChanged),
        ("404", ObjectNotFound),
        ("403", AccessDenied),
        ("503", OriginThrottled),
    ],
)
async def test_a_refusal_is_asked_for_once(fault: str, error: type[PreheatError]) -> None:
    server = RangeServer(fault)
    async with streams_to(server) as streams:
        sink = Sink()
        with pytest.raises(error, match=r"a b\.bin") as raised:
            await pour(streams, sink)
        assert not sink.body
        assert len(server.ranges) == 1
        if isinstance(raised.value, OriginThrottled):
            assert raised.value.retry_after == 3.0
        assert await pour(streams, sink)


@pytest.mark.parametrize("fault", ["503", "404", "500", "elsewhere"])
async def test_a_refusal_of_the_rest_is_an_outage(fault: str) -> None:
    server = RangeServer("short", fault)
    async with streams_to(server) as streams:
        with pytest.raises((OriginUnavailable, ObjectNotFound)) as raised:
            await pour(streams, Sink())
    assert not isinstance(raised.value, OriginThrottled)  # which would mean that nothing came


@pytest.mark.parametrize("fault", ["500", "elsewhere"])
async def test_what_is_unusual_is_left_to_the_other_client(fault: str) -> None:
    async with streams_to(RangeServer(fault)) as streams:
        sink = Sink()
        assert not await pour(streams, sink)
        assert not sink.body


async def test_an_endpoint_that_is_not_understood_is_asked_once() -> None:
    server = RangeServer("chunked")
    async with streams_to(server) as streams:
        assert [await pour(streams, Sink()) for _ in range(3)] == [False] * 3
    assert len(server.ranges) == 1


async def test_nobody_listens() -> None:
    async with streams_to(RangeServer()) as streams:
        streams._requests.port = 1
        assert not await pour(streams, Sink())


async def test_a_silent_server_is_an_outage() -> None:
    async with streams_to(RangeServer("silent"), read_seconds=0.1) as streams:
        with pytest.raises(OriginUnavailable, match="does not answer"):
            await pour(streams, Sink())


async def test_a_cancelled_range_ends_its_thread_first() -> None:
    server = RangeServer("silent")
    async with streams_to(server) as streams:
        sink = Sink()
        pouring = asyncio.create_task(pour(streams, sink))
        await server.silent.wait()
        await asyncio.to_thread(sink.began.wait, 5)
        pouring.cancel()
        done, _ = await asyncio.wait({pouring}, timeout=2)  # less than a read may take
        assert done
        with pytest.raises(asyncio.CancelledError):
            await pouring
        came = len(sink.body)
        assert 0 < came < len(BODY)
        again = Sink()
        assert await pour(streams, again)
        assert (len(sink.body), again.body == BODY) == (came, True)


async def test_what_the_sink_raises_is_raised() -> None:
    def full(_data: memoryview) -> None:
        raise StoreFull("No room.")

    async with streams_to(RangeServer()) as streams:
        with pytest.raises(StoreFull, match="No room"):
            await streams.pour(PATH, Span(info=INFO, start=0, end=len(BODY)), full)
