"""The client that reads from plain HTTP endpoints of S3, against a server that says what it is told to."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, closing, suppress
from typing import Any

import pytest
import uvloop
from awscrt.checksums import crc32c, crc64nvme
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, ReadOnlyCredentials

from preheat.errors import (
    AccessDenied,
    BucketNotFound,
    InvalidRequest,
    ObjectNotFound,
    OriginCorrupt,
    OriginThrottled,
    OriginUnavailable,
    PreheatError,
    VersionChanged,
)
from preheat.paths import UfsPath
from preheat.ufs import Download, UfsSettings
from preheat.ufs.s3._client import S3Connection
from preheat.ufs.s3._gets import GetRequests
from preheat.ufs.s3._sign import Signer
from preheat.ufs.s3._wire import S3Wire

PATH = UfsPath.parse("s3://bucket/dir/a b.bin")
BODY = b"0123456789"
HEAD = b'HTTP/1.1 206 Partial Content\r\nETag: "e1"\r\nLast-Modified: Sat, 21 Nov 2026 08:00:00 GMT\r\n'
GOOD = HEAD + b"Content-Range: bytes 0-9/10\r\nContent-Length: 10\r\n\r\n" + BODY


class Server:
    """Answers each request with the next of its answers, the last one again and again."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = answers
        self.requests: list[bytes] = []
        self.connections = 0
        self.pieces = 1

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError), closing(writer):
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                answer = self._answers[min(len(self.requests), len(self._answers)) - 1]
                for start in range(0, len(answer), max(len(answer) // self.pieces, 1)):
                    writer.write(answer[start : start + max(len(answer) // self.pieces, 1)])
                    await writer.drain()
                if b"\r\nConnection: close" in answer:
                    break


def run(test: Callable[[], Coroutine[Any, Any, None]], *, loop: str = "uvloop") -> None:
    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(asyncio.wait_for(test(), 10))


@asynccontextmanager
async def wire_to(server: Server, *, read_seconds: float = 5.0) -> AsyncIterator[S3Wire]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    connection = S3Connection(
        client=None,
        credentials=Credentials("key", "secret", "token"),
        endpoint=f"http://127.0.0.1:{port}",
        region="us-east-1",
    )
    wire = S3Wire(GetRequests(connection), connection.endpoint, UfsSettings(read_seconds=read_seconds))
    try:
        yield wire
    finally:
        wire.close()
        listening.close()


def get(wire: S3Wire, start: int = 0, end: int = 10) -> Awaitable[Download | None]:
    return wire.get(PATH, etag="e1", start=start, end=end)


async def body(download: Download | None) -> bytes:
    assert download is not None
    return b"".join([bytes(chunk) async for chunk in download.chunks])


@pytest.mark.parametrize("token", ["", "a/token=="])
@pytest.mark.parametrize("key", ["plain", "dir/a b+c%.~_-é.bin"])
def test_signatures_are_botocores(monkeypatch: pytest.MonkeyPatch, key: str, token: str) -> None:
    now = 1_795_000_000.0
    url_path = "/" + UfsPath(scheme="s3", bucket="bucket", key=key).url_path.removeprefix("s3/")
    credentials = ReadOnlyCredentials("key", "secret", token or None)
    ours = Signer(host="h:1", region="eu-west-1").headers(url_path, credentials, now)
    stamp = re.search(r"x-amz-date:(\w+)\r\n", ours)
    assert stamp is not None
    request = AWSRequest("GET", f"http://h:1{url_path}")
    request.context.update(timestamp=stamp[1], payload_signing_enabled=True)
    monkeypatch.setattr(S3SigV4Auth, "payload", lambda *_: re.findall(r"sha256:(\w{64})", ours)[0])
    auth = S3SigV4Auth(Credentials("key", "secret", token or None), "s3", "eu-west-1")
    auth._modify_request_before_signing(request)
    signature = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    assert f"Signature={signature}\r\n" in ours


def test_what_requests_of_a_second_share_is_not_used_for_others() -> None:
    signer = Signer(host="h:1", region="eu-west-1")
    mine, other = ReadOnlyCredentials("key", "secret", None), ReadOnlyCredentials("key", "new secret", None)
    for now, credentials, checksum in [
        (1_795_000_000.0, mine, False),
        (1_795_000_000.9, mine, False),
        (1_795_000_000.9, mine, True),
        (1_795_000_000.9, other, True),
        (1_795_000_001.0, other, True),
        (1_795_100_000.0, other, True),
    ]:
        fresh = Signer(host="h:1", region="eu-west-1")
        for path in ("/b/1", "/b/2"):
            expected = fresh.headers(path, credentials, now, checksum=checksum)
            assert signer.headers(path, credentials, now, checksum=checksum) == expected


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("pieces", [1, 2, 7, 200])
def test_an_answer_in_pieces(pieces: int, loop: str) -> None:
    async def test() -> None:
        server = Server(GOOD)
        server.pieces = pieces
        async with wire_to(server) as wire:
            for _ in range(3):
                download = await get(wire)
                assert await body(download) == BODY
                assert download is not None
                assert (download.start, download.end) == (0, 10)
                assert (download.info.size, download.info.etag, download.info.key) == (10, "e1", "dir/a b.bin")
                assert download.info.last_modified == 1_795_248_000
        assert server.connections == 1
        assert server.requests[0].startswith(b"GET /bucket/dir/a%20b.bin HTTP/1.1\r\nhost:127.0.0.1:")
        assert b'\r\nif-match:"e1"\r\nrange:bytes=0-9\r\n' in server.requests[0]
        assert b"\r\nx-amz-security-token:token\r\n" in server.requests[0]

    run(test, loop=loop)


def test_a_large_buffer_is_used_again_but_not_while_somebody_reads_it() -> None:
    async def test() -> None:
        size = 2 << 20
        head = HEAD + b"Content-Range: bytes 0-%d/%d\r\nContent-Length: %d\r\n\r\n" % (size - 1, size, size)
        server = Server(*(head + digit * size for digit in (b"1", b"2", b"3")))
        async with wire_to(server) as wire:
            for number, digit in enumerate((b"1", b"2", b"3")):
                download = await get(wire, 0, size)
                assert download is not None
                kept = await anext(download.chunks)
                assert kept == digit * size
                if number:
                    kept.release()
                    assert await anext(download.chunks, None) is None
                    assert len(wire._buffers) == 1
                    continue
                assert await anext(download.chunks, None) is None
                assert wire._buffers == []
                first = kept
            assert first == b"1" * size

    run(test)


def test_a_range_that_ends_beyond_the_object() -> None:
    async def test() -> None:
        async with wire_to(Server(HEAD + b"Content-Range: bytes 5-9/10\r\nContent-Length: 5\r\n\r\n56789")) as wire:
            download = await get(wire, 5, 500)
            assert await body(download) == b"56789"
            assert download is not None
            assert (download.start, download.end, download.info.size) == (5, 10, 10)

    run(test)


@pytest.mark.parametrize(
    ("answer", "last"),
    [
        (b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno", False),
        (b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://elsewhere\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 20000\r\n\r\n" + bytes(20000), False),
        (GOOD[:-1], False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\n0123456789", True),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n", True),
        (HEAD + b"Content-Length: 10\r\nContent-Length: 9\r\n\r\n0123456789", True),
        (b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n", False),
        (HEAD + b"\r\n0123456789", True),
        (HEAD + b"Content-Length: 11\r\n\r\n01234567890", False),
        (HEAD + b"Content-Length: 20000\r\n\r\n" + bytes(20000), True),
        (GOOD + b"surplus", True),
        (b"HTTP/1.1 206 " + b"x" * 10_000, True),
        (b"not HTTP at all\r\n\r\n", True),
        (GOOD.replace(b"bytes 0-9/10", b"bytes 1-10/11"), False),
        (GOOD.replace(b"bytes 0-9/10", b"bytes 0-9/*"), False),
    ],
)
def test_what_is_no_plain_success_is_left_to_the_other_client(answer: bytes, last: bool) -> None:
    async def test() -> None:
        server = Server(answer, GOOD)
        async with wire_to(server, read_seconds=0.2) as wire:
            with suppress(OriginUnavailable):  # a body that is short on a connection that stays open
                assert await get(wire) is None
            again = await get(wire)
            assert (again is None) == last

    run(test)


REFUSAL = b"HTTP/1.1 %s\r\nRetry-After: 7\r\nContent-Length: %d\r\n\r\n%s"


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (b"404 Not Found", b"<Error><Code>NoSuchKey</Code></Error>", ObjectNotFound),
        (b"404 Not Found", b"<Error><Code>NoSuchBucket</Code></Error>", BucketNotFound),
        (b"403 Forbidden", b"<Error><Code>SignatureDoesNotMatch</Code></Error>", AccessDenied),
        (b"412 Precondition Failed", b"", VersionChanged),
        (b"416 Range Not Satisfiable", b"", InvalidRequest),
        (b"429 Too Many Requests", b"", OriginThrottled),
        (b"503 Slow Down", b"<Error><Code>SlowDown</Code></Error>", OriginThrottled),
    ],
)
def test_a_refusal_is_not_asked_for_again(status: bytes, body: bytes, error: type[PreheatError]) -> None:
    async def test() -> None:
        server = Server(REFUSAL % (status, len(body), body), GOOD)
        async with wire_to(server) as wire:
            with pytest.raises(error, match=rf"a b\.bin.*answered {status[:3].decode()}") as raised:
                await get(wire)
            assert await get(wire) is not None
            assert server.connections == 1
        if isinstance(raised.value, OriginThrottled):
            assert raised.value.retry_after == 7.0

    run(test)


def whole_answer(*headers: str, body: bytes = BODY) -> bytes:
    lines = "".join(f"{line}\r\n" for line in (*headers, f"Content-Length: {len(body)}"))
    return HEAD.replace(b"206 Partial Content", b"200 OK") + lines.encode() + b"\r\n" + body


CHECKSUMS = {
    "crc64nvme": base64.b64encode(crc64nvme(BODY).to_bytes(8, "big")).decode(),
    "crc32c": base64.b64encode(crc32c(BODY).to_bytes(4, "big")).decode(),
    "crc32": base64.b64encode(zlib.crc32(BODY).to_bytes(4, "big")).decode(),
    "sha256": base64.b64encode(hashlib.sha256(BODY).digest()).decode(),
    "sha1": base64.b64encode(hashlib.sha1(BODY).digest()).decode(),
}


@pytest.mark.parametrize("name", CHECKSUMS)
def test_a_whole_object_is_compared_with_the_checksum_that_s3_keeps(name: str) -> None:
    async def test() -> None:
        header = f"x-amz-checksum-{name}: {CHECKSUMS[name]}"
        server = Server(
            whole_answer(header, "x-amz-checksum-type: FULL_OBJECT"), whole_answer(header, body=b"0123456780")
        )
        async with wire_to(server) as wire:
            assert await body(await wire.get_whole(PATH, "e1", 10)) == BODY
            with pytest.raises(OriginCorrupt, match=rf"a b\.bin.*{name}"):
                await wire.get_whole(PATH, "e1", 10)
        assert b"\r\nx-amz-checksum-mode:ENABLED\r\n" in server.requests[0]
        assert b"SignedHeaders=host;x-amz-checksum-mode;x-amz-content-sha256;" in server.requests[0]
        assert b"\r\nrange:" not in server.requests[0]

    run(test)


@pytest.mark.parametrize(
    "headers",
    [
        ("x-amz-checksum-crc32c: AAAAAA==-2",),
        ("x-amz-checksum-crc32c: AAAAAA==", "x-amz-checksum-type: COMPOSITE"),
        ("x-amz-checksum-blake3: AAAAAA==",),
    ],
)
def test_a_checksum_that_says_nothing_of_the_bytes_is_passed_over(headers: tuple[str, ...]) -> None:
    async def test() -> None:
        async with wire_to(Server(whole_answer(*headers))) as wire:
            assert await body(await wire.get_whole(PATH, "e1", 10)) == BODY

    run(test)


def test_the_checksum_of_the_object_is_not_that_of_a_part() -> None:
    async def test() -> None:
        part = HEAD + b"Content-Range: bytes 0-9/20\r\nx-amz-checksum-crc32c: AAAAAA==\r\nContent-Length: 10\r\n\r\n"
        async with wire_to(Server(part + BODY)) as wire:
            assert await body(await get(wire)) == BODY

    run(test)


def test_an_object_that_grew_does_not_end_the_use_of_this_client() -> None:
    async def test() -> None:
        async with wire_to(Server(whole_answer(body=bytes(20_000)), GOOD)) as wire:
            assert await wire.get_whole(PATH, "e1", 10) is None
            assert await get(wire) is not None

    run(test)


def test_a_broken_connection_is_left_to_the_other_client() -> None:
    async def test() -> None:
        async with wire_to(Server(HEAD + b"Content-Length: 10\r\nConnection: close\r\n\r\n0123")) as wire:
            assert await get(wire) is None

    run(test)


def test_a_connection_that_the_server_closes_is_not_used_again() -> None:
    async def test() -> None:
        server = Server(GOOD.replace(b"Content-Length", b"Connection: close\r\nContent-Length"))
        async with wire_to(server) as wire:
            assert [await body(await get(wire)) for _ in range(2)] == [BODY, BODY]
        assert server.connections == 2

    run(test)


def test_a_silent_server_fails_the_read() -> None:
    async def test() -> None:
        async with wire_to(Server(GOOD[:-3]), read_seconds=0.05) as wire:
            with pytest.raises(OriginUnavailable, match="does not answer"):
                await get(wire)

    run(test)


def test_the_connection_of_a_cancelled_read_is_closed() -> None:
    async def test() -> None:
        server = Server(GOOD[:-3], GOOD)
        async with wire_to(server) as wire:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(get(wire), 0.05)
            assert await body(await get(wire)) == BODY
        assert server.connections == 2

    run(test)
