"""What S3UnderStore does with servers that misbehave as no shipped server can be made to: raw answers over TCP."""

from __future__ import annotations

import asyncio
import re
import threading
import traceback
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape

import pytest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from preheat.errors import AccessDenied, InvalidRequest, OriginUnavailable, VersionChanged
from preheat.paths import UfsPath
from preheat.ufs import Checksum, S3UnderStore, UfsSettings
from preheat.ufs._download import checked
from preheat.ufs.s3._client import S3Connection
from preheat.ufs.s3._errors import from_answer
from preheat.ufs.s3._listing import _BODY, _parsed, _scanned, answer_of, parse_page, plain_etag
from preheat.ufs.s3._write import part_size, put_in_parts
from preheat.versions import ObjectInfo
from tests.unit.ufs_conformance import chunks_of, content

PATH = UfsPath.parse("s3://bucket/x")
DATED = 'ETag: "e1"\r\nLast-Modified: Sat, 21 Nov 2026 04:11:38 GMT\r\nConnection: close\r\n'


def answer(status: str, headers: str = "", body: str = "", length: int | None = None) -> bytes:
    size = len(body.encode()) if length is None else length
    return f"HTTP/1.1 {status}\r\n{DATED}{headers}Content-Length: {size}\r\n\r\n{body}".encode()


@dataclass
class RawServer:
    """Sends the same bytes to every request but those that ``replies`` names, and remembers what was asked for."""

    reply: bytes = b""
    replies: dict[str, bytes] = field(default_factory=dict)
    """By what the request line has in it."""
    silent: bool = False
    requests: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            await self._answer(reader, writer)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        request = head.split(b"\r\n")[0].decode()
        self.requests.append(request)
        if self.silent:
            await reader.read()  # until the client gives up
        if b"100-continue" in head:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        await reader.readexactly(int(length[1]) if length else 0)
        writer.write(next((reply for part, reply in self.replies.items() if part in request), self.reply))
        await writer.drain()


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RawServer]:
    raw = RawServer()
    listener = await asyncio.start_server(raw.serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    async with listener:
        yield raw


@pytest.fixture
async def ufs(server: RawServer) -> AsyncIterator[S3UnderStore]:
    store = S3UnderStore(UfsSettings(connect_seconds=1, read_seconds=0.3, retries=1, retry_seconds=1))
    yield store
    await store.close()


@pytest.mark.parametrize("key", ["x", "a//x"])
async def test_a_body_that_ends_early_is_an_outage(server: RawServer, ufs: S3UnderStore, key: str) -> None:
    server.reply = answer("200 OK", body="only this", length=100)

    download = await ufs.get(PATH.with_key(key))

    assert download.info.size == 100
    with pytest.raises(OriginUnavailable, match=key):
        await content(download)


@pytest.mark.parametrize("key", ["x", "a//x"])
async def test_a_server_that_stays_silent_is_an_outage(server: RawServer, ufs: S3UnderStore, key: str) -> None:
    server.silent = True

    async with asyncio.timeout(10):
        with pytest.raises(OriginUnavailable, match="does not answer"):
            await ufs.get(PATH.with_key(key))
        with pytest.raises(OriginUnavailable, match="does not answer"):
            await ufs.put(PATH.with_key(key), chunks_of(b"x"), size=1)
        with pytest.raises(OriginUnavailable, match="does not answer"):
            await anext(aiter(ufs.list(PATH.with_key(key))))


@pytest.mark.parametrize("key", ["x", "a//x"])
async def test_a_server_that_ignores_the_condition_does_not_pass_another_version(
    server: RawServer, ufs: S3UnderStore, key: str
) -> None:
    server.reply = answer("200 OK", body="new bytes")

    with pytest.raises(VersionChanged, match="e1"):
        await ufs.get(PATH.with_key(key), etag="e0")


async def test_the_beginning_of_an_empty_object_is_empty(server: RawServer, ufs: S3UnderStore) -> None:
    server.reply = answer("416 Range Not Satisfiable")
    server.replies = {"HEAD": answer("200 OK")}

    download = await ufs.get(PATH, etag="e1", start=0, end=1 << 20)

    assert (download.start, download.end, download.info.etag) == (0, 0, "e1")
    assert await content(download) == b""
    with pytest.raises(InvalidRequest):
        await ufs.get(PATH, start=1, end=2)
    server.replies = {"HEAD": answer("200 OK", length=7)}  # written in between
    with pytest.raises(InvalidRequest):
        await ufs.get(PATH, start=0, end=2)


INFO = ObjectInfo(key="x", size=9 << 20, etag="e1", last_modified=0.0)


@pytest.mark.parametrize(
    ("reply", "checksum"),
    [
        (answer("200 OK", "x-amz-checksum-crc32c: AAAAAA==\r\n"), Checksum(name="crc32c", value="AAAAAA==")),
        (answer("200 OK", "x-amz-checksum-crc32c: AAAAAA==-2\r\n"), None),
        (answer("200 OK", "x-amz-checksum-crc32: AAAA\r\nx-amz-checksum-type: COMPOSITE\r\n"), None),
        (answer("200 OK"), None),
        (answer("412 Precondition Failed"), None),
    ],
)
async def test_the_checksum_of_a_large_object_is_asked_for(
    server: RawServer, ufs: S3UnderStore, reply: bytes, checksum: Checksum | None
) -> None:
    server.reply = reply

    assert await ufs.checksum(PATH, INFO) == checksum

    assert server.requests == ["HEAD /bucket/x HTTP/1.1"]


async def test_an_endpoint_without_checksums_is_not_asked_for_ever(server: RawServer, ufs: S3UnderStore) -> None:
    server.reply = answer("200 OK")

    for _ in range(20):
        assert await ufs.checksum(PATH, INFO) is None

    assert len(server.requests) == 16


@pytest.mark.parametrize("key", ["a//x", "/x", "x/", "./x", "a/../x", "x\ty"])
async def test_keys_are_asked_for_as_they_are_spelled(server: RawServer, ufs: S3UnderStore, key: str) -> None:
    server.reply, server.replies = answer("200 OK", body="bytes"), dict.fromkeys(("PUT", "DELETE"), answer("200 OK"))

    assert await content(await ufs.get(PATH.with_key(key))) == b"bytes"

    await ufs.put(PATH.with_key(key), chunks_of(b"bytes"), size=5)
    await ufs.delete(PATH.with_key(key))
    spelled = f"/bucket/{key.replace(chr(9), '%09')} HTTP/1.1"
    assert server.requests == [f"{method} {spelled}" for method in ("GET", "PUT", "HEAD", "DELETE")]


CREATED = answer("200 OK", body="<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
COMPLETED = answer("200 OK", body='<CompleteMultipartUploadResult><ETag>"e-2"</ETag></CompleteMultipartUploadResult>')
LARGE = bytes(12 << 20)


async def test_a_large_object_goes_in_parts(server: RawServer, ufs: S3UnderStore) -> None:
    server.reply, server.replies = answer("200 OK"), {"?uploads": CREATED, "POST /bucket/x?uploadId": COMPLETED}

    written = await ufs.put(PATH, chunks_of(LARGE), size=len(LARGE))

    assert (written.etag, written.size) == ("e-2", len(LARGE))
    assert sorted(server.requests) == [
        *("POST /bucket/x?uploadId=u HTTP/1.1", "POST /bucket/x?uploads HTTP/1.1"),
        *("PUT /bucket/x?uploadId=u&partNumber=1 HTTP/1.1", "PUT /bucket/x?uploadId=u&partNumber=2 HTTP/1.1"),
    ]


class HoldingClient:
    """In the place of a boto3 client: holds every part until it may go on."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()
        self.in_flight = 0

    def create_multipart_upload(self, **_query: object) -> dict[str, str]:
        return {"UploadId": "u"}

    def upload_part(self, **_query: object) -> dict[str, str]:
        self.in_flight += 1
        assert self.may_go_on.wait(10)
        return {"ETag": "e"}

    def complete_multipart_upload(self, **_query: object) -> dict[str, str]:
        return {"ETag": "e-9"}


async def test_a_slow_server_does_not_fill_the_memory() -> None:
    async def parts() -> AsyncIterator[bytes]:
        for number in range(9):
            taken.append(number)
            yield b"part"

    taken: list[int] = []
    client = HoldingClient()
    connection = S3Connection(client=client, credentials=Credentials("key", "secret"), endpoint="http://s", region="r")
    upload = asyncio.create_task(put_in_parts(connection, PATH, parts(), in_flight=2))
    async with asyncio.timeout(10):
        while client.in_flight < 2:
            await asyncio.sleep(0.001)
    for _ in range(100):
        await asyncio.sleep(0)

    assert len(taken) == 3
    client.may_go_on.set()
    assert await upload == "e-9"
    assert len(taken) == 9


@pytest.mark.parametrize("refused", ["partNumber=1", "partNumber=2", "POST /bucket/x?uploadId"])
@pytest.mark.parametrize("status", ["500 Internal Error", "403 Forbidden"])
async def test_an_upload_in_parts_that_fails_is_aborted_at_last(
    server: RawServer, ufs: S3UnderStore, refused: str, status: str
) -> None:
    server.reply, server.replies = answer("200 OK"), {refused: answer(status), "?uploads": CREATED}

    with pytest.raises(OriginUnavailable if "500" in status else AccessDenied, match=status[:3]):
        await ufs.put(PATH, chunks_of(LARGE), size=len(LARGE))

    assert server.requests[-1] == "DELETE /bucket/x?uploadId=u HTTP/1.1"


async def test_an_upload_that_the_server_forgot_is_an_outage_and_no_missing_object(
    server: RawServer, ufs: S3UnderStore
) -> None:
    forgotten = answer("404 Not Found", body="<Error><Code>NoSuchUpload</Code></Error>")
    server.reply, server.replies = forgotten, {"?uploads": CREATED}

    with pytest.raises(OriginUnavailable, match="forgotten"):
        await ufs.put(PATH, chunks_of(LARGE), size=len(LARGE))


@pytest.mark.parametrize("body", ["<html>Welcome</html>", ""])
async def test_an_endpoint_that_is_not_s3_takes_no_parts_and_copies(
    server: RawServer, ufs: S3UnderStore, body: str
) -> None:
    server.reply = answer("200 OK", body=body)

    with pytest.raises(OriginUnavailable):
        await ufs.put(PATH, chunks_of(LARGE), size=len(LARGE))
    with pytest.raises(OriginUnavailable):
        await ufs.copy(PATH, PATH.with_key("copy"), etag="e1")


async def test_an_object_that_is_too_large_for_one_copy_is_left_to_the_caller(
    server: RawServer, ufs: S3UnderStore
) -> None:
    server.reply = answer("200 OK", length=(5 << 30) + 1)

    assert await ufs.copy(PATH, PATH.with_key("copy"), etag="e1") is None

    assert server.requests == ["HEAD /bucket/x HTTP/1.1"]


def test_the_largest_object_has_ten_thousand_parts() -> None:
    assert part_size(5 << 40, 8 << 20) * 10_000 >= 5 << 40
    assert part_size(1, 8 << 20) == 8 << 20


async def test_server_errors_are_retried_and_then_an_outage(server: RawServer, ufs: S3UnderStore) -> None:
    server.reply = answer("503 Slow Down", body="<Error><Code>SlowDown</Code></Error>")

    # A listing's first request is not boto3's, which leaves the retries to it.
    for operation, requests in ((lambda: ufs.get(PATH), 2), (lambda: anext(aiter(ufs.list(PATH))), 3)):
        server.requests.clear()
        with pytest.raises(OriginUnavailable, match="503 SlowDown"):
            await operation()
        assert len(server.requests) == requests


async def test_a_refusal_never_quotes_the_answer(server: RawServer, ufs: S3UnderStore) -> None:
    secrets = "<AWSAccessKeyId>AKIA123</AWSAccessKeyId><SignatureProvided>5e1f</SignatureProvided>"
    server.reply = answer("403 Forbidden", body=f"<Error><Code>SignatureDoesNotMatch</Code>{secrets}</Error>")

    for operation in (lambda: ufs.get(PATH), lambda: anext(aiter(ufs.list(PATH)))):
        with pytest.raises(AccessDenied, match="403 SignatureDoesNotMatch") as refused:
            await operation()
        text = "".join(traceback.format_exception(refused.value))
        assert "AKIA123" not in text
        assert "5e1f" not in text


@pytest.mark.parametrize("body", ["<html>Welcome</html>", "not XML", ""])
async def test_an_endpoint_that_is_not_s3_is_an_outage(server: RawServer, ufs: S3UnderStore, body: str) -> None:
    server.reply = answer("200 OK", body=body)

    with pytest.raises(OriginUnavailable, match=r"the S3 endpoint 127\.0\.0\.1:\d+ (sent no S3 answer|answered 500)"):
        await anext(aiter(ufs.list(PATH)))


async def test_a_listing_out_of_order_is_an_error_and_not_a_hole(server: RawServer, ufs: S3UnderStore) -> None:
    server.reply = answer("200 OK", body=listing("a/b", "a-b"))

    with pytest.raises(OriginUnavailable, match="lists 'a-b' after 'a/b'"):
        await anext(aiter(ufs.list(PATH.with_key(""))))


@pytest.mark.parametrize("expected", [4, 6])
async def test_a_body_of_another_length_is_an_outage(expected: int) -> None:
    async def chunks() -> AsyncIterator[memoryview]:
        yield memoryview(b"12345")

    with pytest.raises(OriginUnavailable, match=f"5 bytes instead of {expected}"):
        _ = [chunk async for chunk in checked(PATH, chunks(), expected)]


def listing(*keys: str, namespace: str = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"', extra: str = "") -> str:
    contents = "".join(
        f"<Contents><Key>{key}</Key><LastModified>2026-11-21T04:11:38.000Z</LastModified>"
        f"<ETag>&quot;e&quot;</ETag><Size>7</Size></Contents>"
        for key in keys
    )
    return f"<?xml version='1.0'?><ListBucketResult{namespace}>{extra}{contents}</ListBucketResult>"


CHUNKED = "Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize("is_chunked", [True, False])
async def test_a_listing_over_plain_http_needs_no_boto3(server: RawServer, ufs: S3UnderStore, is_chunked: bool) -> None:
    body = listing("a", "b")
    chunked = f"HTTP/1.1 200 OK\r\n{CHUNKED}Connection: close\r\n\r\n{len(body):x}\r\n{body}\r\n0\r\n\r\n"
    server.reply = chunked.encode() if is_chunked else answer("200 OK", body=body)

    assert [item.key async for page in ufs.list(PATH.with_key("a~ü /&")) for item in page] == ["a", "b"]

    query = "encoding-type=url&list-type=2&max-keys=1000&prefix=a~%C3%BC%20%2F%26%2F"
    assert server.requests[-1] == f"GET /bucket?{query} HTTP/1.1"


@pytest.mark.parametrize(
    "reply",
    [
        answer("200 OK", body=listing("c"), length=10_000),
        answer("200 OK", body="<Error><Code>InternalError</Code></Error>"),
        answer("500 Internal Server Error"),
        b"nonsense\r\n\r\n",
        b"",
    ],
)
async def test_what_is_no_success_is_left_to_boto3(server: RawServer, ufs: S3UnderStore, reply: bytes) -> None:
    server.reply, server.replies = answer("200 OK", body=listing("a", "b")), {"?encoding-type=url&list-type": reply}

    assert [item.key async for page in ufs.list(PATH.with_key("x/")) for item in page] == ["a", "b"]
    assert len(server.requests) == 2


@pytest.mark.parametrize("namespace", ["", ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'])
def test_a_page_is_read_with_and_without_a_namespace(namespace: str) -> None:
    extra = "<CommonPrefixes><Prefix>a+b/</Prefix></CommonPrefixes>"

    page = parse_page(listing("x%41+y", namespace=namespace, extra=extra).encode())

    assert [(item.key, item.size, item.etag, item.last_modified) for item in page.objects] == [
        ("x%41+y", 7, "e", 1795234298.0)
    ]
    assert page.prefixes == ["a+b/"]


def test_a_page_is_decoded_if_it_says_that_it_is_encoded() -> None:
    page = parse_page(listing("x%2541+%01", extra="<EncodingType>url</EncodingType>").encode())

    assert [item.key for item in page.objects] == ["x%41 \x01"]


@pytest.mark.parametrize(
    ("extra", "token"),
    [
        ("<IsTruncated>true</IsTruncated><NextContinuationToken>t+&amp;1</NextContinuationToken>", "t+&1"),
        ("<IsTruncated>false</IsTruncated><NextContinuationToken>t</NextContinuationToken>", None),
        ("", None),
    ],
)
def test_where_the_next_page_begins_is_known_before_this_one_is_read(extra: str, token: str | None) -> None:
    assert answer_of(response(listing("x", extra=extra))).token == token


def test_a_truncated_listing_that_does_not_say_where_it_goes_on_is_no_listing() -> None:
    with pytest.raises(ValueError, match="where it goes on"):
        answer_of(response(listing("x", extra="<IsTruncated>true</IsTruncated>")))


def response(body: str) -> dict[str, Any]:
    return {_BODY: body.encode(), "ResponseMetadata": {"HTTPHeaders": {}}}


KEYS = st.lists(st.text(st.sampled_from("ab/&<>\"'% +é\u0301;#xlt"), min_size=1, max_size=12), max_size=4)


@given(keys=KEYS, prefixes=KEYS, encoded=st.booleans(), declared=st.booleans())
def test_a_plain_page_is_read_as_the_parser_reads_it(
    keys: list[str], prefixes: list[str], encoded: bool, declared: bool
) -> None:
    extra = "<EncodingType>url</EncodingType>" if encoded else ""
    extra += "".join(f"<CommonPrefixes><Prefix>{escape(prefix)}</Prefix></CommonPrefixes>" for prefix in prefixes)
    page = listing(*map(escape, keys), extra=extra)
    scanned = _scanned(page)
    if declared:
        page = page.replace("'1.0'", '"1.0" encoding="UTF-8"', 1).replace("&quot;", "&#34;")
    assert scanned == parse_page(page.encode()) == _parsed(page.encode())
    assert scanned is not None
    assert len(scanned.objects) == len(keys)


@pytest.mark.parametrize(
    ("tag", "key"), [("Contents", "<![CDATA[a<b]]>"), ("Contents", "a&#60;b"), ('Contents x="y"', "a&lt;b")]
)
def test_a_page_that_is_not_plain_goes_to_the_parser(tag: str, key: str) -> None:
    fields = "<LastModified>2026-11-21T04:11:38.000Z</LastModified><ETag>e</ETag><Size>7</Size>"
    page = parse_page(listing("a", extra=f"<{tag}><Key>{key}</Key>{fields}</Contents>").encode())
    assert sorted(item.key for item in page.objects) == ["a", "a<b"]


@pytest.mark.parametrize("size", [40, 200, 330])
def test_a_page_that_was_cut_off_is_no_page(size: int) -> None:
    whole = listing("a", "b").encode()
    assert size < len(whole)
    with pytest.raises((SyntaxError, ValueError)):
        parse_page(whole[:size])


@pytest.mark.parametrize("etag", ['"e"', "e", 'W/"e"'])
def test_etags_have_no_quotes(etag: str) -> None:
    assert plain_etag(etag) == "e"


@pytest.mark.parametrize("code", ["PermanentRedirect", "AuthorizationHeaderMalformed"])
def test_a_bucket_of_another_region_says_what_to_set(code: str) -> None:
    error = from_answer(PATH, "https://s3.us-east-1.amazonaws.com", 400, code)

    assert isinstance(error, OriginUnavailable)
    assert "AWS_REGION" in error.remedy
