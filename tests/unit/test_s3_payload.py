"""Bodies of S3 requests: plain and aws-chunked, with everything that a client may say of its bytes."""

from __future__ import annotations

import base64
import hashlib
import io
from calendar import timegm
from collections.abc import AsyncIterator, Callable

import pytest
from awscrt import checksums
from botocore.httpchecksum import AwsChunkedWrapper, Crc32Checksum, CrtCrc32cChecksum, CrtCrc64NvmeChecksum
from hypothesis import given
from hypothesis import strategies as st

from preheat.worker.s3._errors import S3Error
from preheat.worker.s3._payload import Payload, payload_of
from preheat.worker.s3._sigv4 import EMPTY_SHA256, UNSIGNED, UNSIGNED_CHUNKS, Signature, verify

KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
NOW = timegm((2013, 5, 24, 0, 0, 0))
SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
A64K, A1K = b"a" * 65536, b"a" * 1024
CHUNKED = (
    b"10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n" + A64K + b"\r\n"
    b"400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n" + A1K + b"\r\n"
    b"0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n"
)
WITH_TRAILER = (
    b"10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n" + A64K + b"\r\n"
    b"400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n" + A1K + b"\r\n"
    b"0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n"
    b"x-amz-checksum-crc32c:sOO8/Q==\n\r\n"
    b"x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"
)


def example_headers(seed: str, content: str, **headers: str) -> dict[str, str]:
    """Return the headers of AWS's examples of streamed uploads."""
    extra = {name.replace("_", "-"): value for name, value in headers.items()}
    names = sorted({"content-encoding", "host", "x-amz-content-sha256", "x-amz-date", *extra})
    fields = f"Credential={KEY}/20130524/us-east-1/s3/aws4_request,SignedHeaders={';'.join(names)},Signature={seed}"
    return {
        "host": "s3.amazonaws.com",
        "x-amz-date": "20130524T000000Z",
        "content-encoding": "aws-chunked",
        "x-amz-content-sha256": content,
        "authorization": f"AWS4-HMAC-SHA256 {fields}",
        **extra,
    }


CHUNKED_HEADERS = example_headers(
    "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    SIGNED,
    x_amz_storage_class="REDUCED_REDUNDANCY",
    x_amz_decoded_content_length="66560",
    content_length="66824",
)
TRAILER_HEADERS = example_headers(
    "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
    f"{SIGNED}-TRAILER",
    x_amz_storage_class="REDUCED_REDUNDANCY",
    x_amz_decoded_content_length="66560",
    x_amz_trailer="x-amz-checksum-crc32c",
)


def example_signature(headers: dict[str, str]) -> Signature:
    return verify("PUT", "/examplebucket/chunkObject.txt", headers, secret_of=lambda _: SECRET, now=NOW)


def signed_as(content: str) -> Signature:
    return Signature(access_key=KEY, content=content)


async def pieces(body: bytes, size: int = 4096) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def read(payload: Payload) -> tuple[bytes, str]:
    """Return what a payload gave out, and the code with which it ended."""
    found = b""
    try:
        async for piece in payload.chunks:
            found += piece
    except S3Error as error:
        return found, error.s3_code
    return found, ""


async def sent(body: bytes, headers: dict[str, str], signature: Signature | None, *, size: int = 4096) -> Payload:
    return payload_of(headers, pieces(body, size), length=len(body), signature=signature)


class TestSignedChunks:
    @pytest.mark.parametrize("size", [1, 7, 64, 4096, 1 << 20])
    @pytest.mark.parametrize(
        ("headers", "body", "found"),
        [(CHUNKED_HEADERS, CHUNKED, {}), (TRAILER_HEADERS, WITH_TRAILER, {"x-amz-checksum-crc32c": "sOO8/Q=="})],
    )
    async def test_published_examples(self, headers: dict[str, str], body: bytes, found: dict[str, str], size: int):
        payload = await sent(body, headers, example_signature(headers), size=size)
        assert payload.size == 66560
        assert await read(payload) == (A64K + A1K, "")
        assert payload.checksums == found

    @pytest.mark.parametrize("at", [100, 65700, 66700])
    @pytest.mark.parametrize(("headers", "body"), [(CHUNKED_HEADERS, CHUNKED), (TRAILER_HEADERS, WITH_TRAILER)])
    async def test_a_changed_byte(self, headers: dict[str, str], body: bytes, at: int):
        changed = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        found, code = await read(await sent(changed, headers, example_signature(headers)))
        assert code in {"SignatureDoesNotMatch", "InvalidRequest"}
        assert len(found) < 66560

    @pytest.mark.parametrize(
        ("old", "new", "code"),
        [
            (b"x-amz-checksum-crc32c:sOO8/Q==", b"x-amz-checksum-crc32c:sOO8/R==", "SignatureDoesNotMatch"),
            (b"x-amz-trailer-signature:d8", b"x-amz-trailer-signature:d9", "SignatureDoesNotMatch"),
            (b"x-amz-trailer-signature:d8", b"x-amz-trailer-signature:\xe9", "SignatureDoesNotMatch"),
            (b"x-amz-trailer-signature", b"x-amz-trailer-signatures", "SignatureDoesNotMatch"),
            (b";chunk-signature=2ca2", b";chunk-signature=2ca3", "SignatureDoesNotMatch"),
            (b"0;chunk-signature=2ca2", b"0;chunk-sig=2ca2", "InvalidRequest"),
        ],
    )
    async def test_the_end_counts(self, old: bytes, new: bytes, code: str):
        body = WITH_TRAILER.replace(old, new)
        assert body != WITH_TRAILER
        found, ended = await read(await sent(body, TRAILER_HEADERS, example_signature(TRAILER_HEADERS)))
        assert (ended, len(found) < 66560) == (code, True)

    async def test_chunks_without_signatures_are_refused(self):
        body = b"10000\r\n" + A64K + b"\r\n400\r\n" + A1K + b"\r\n0\r\n\r\n"
        payload = await sent(body, CHUNKED_HEADERS, example_signature(CHUNKED_HEADERS))
        assert (await read(payload))[1] == "SignatureDoesNotMatch"
        assert await read(await sent(body, CHUNKED_HEADERS, None)) == (A64K + A1K, "")  # where nobody is asked


def chunked_by_botocore(data: bytes, algorithm: str, chunk_size: int) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of a PutObject of boto3's over TLS."""
    kind = {"crc32": Crc32Checksum, "crc32c": CrtCrc32cChecksum, "crc64nvme": CrtCrc64NvmeChecksum}[algorithm]
    name = f"x-amz-checksum-{algorithm}"
    body = AwsChunkedWrapper(io.BytesIO(data), checksum_cls=kind, checksum_name=name, chunk_size=chunk_size)
    headers = {"x-amz-decoded-content-length": str(len(data)), "x-amz-trailer": name}
    return {**headers, "x-amz-content-sha256": UNSIGNED_CHUNKS}, body.read()


class TestUnsignedChunks:
    @given(
        data=st.binary(max_size=3000),
        algorithm=st.sampled_from(["crc32", "crc32c", "crc64nvme"]),
        chunk_size=st.integers(1, 4000),
        piece=st.integers(1, 5000),
    )
    async def test_botocore(self, data: bytes, algorithm: str, chunk_size: int, piece: int):
        headers, body = chunked_by_botocore(data, algorithm, chunk_size)
        payload = await sent(body, headers, signed_as(UNSIGNED_CHUNKS), size=piece)
        assert (payload.size, await read(payload)) == (len(data), (data, ""))
        checksum = getattr(checksums, algorithm)(data).to_bytes(8 if algorithm == "crc64nvme" else 4, "big")
        assert payload.checksums == {f"x-amz-checksum-{algorithm}": base64.b64encode(checksum).decode()}

    @given(at=st.integers(0, 200), value=st.binary(min_size=1, max_size=3))
    async def test_damaged_data_is_never_given_out_whole(self, at: int, value: bytes):
        data = bytes(range(100))
        headers, body = chunked_by_botocore(data, "crc32", 40)
        at %= len(body)
        found, code = await read(await sent(body[:at], headers, signed_as(UNSIGNED_CHUNKS), size=16))
        assert (len(found) < len(data), bool(code)) == (True, True)
        changed = body[:at] + value + body[at + len(value) :]
        found, code = await read(await sent(changed, headers, signed_as(UNSIGNED_CHUNKS), size=16))
        assert len(found) < len(data) if code else found == data

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            (lambda body: body + b"x", "InvalidRequest"),
            (lambda body: body.replace(b"5\r\nhello\r\n", b"4\r\nhello\r\n"), "InvalidRequest"),
            (lambda body: body.replace(b"5\r\nhello\r\n", b"6\r\nhello\r\n"), "IncompleteBody"),
            (lambda body: body.replace(b"5\r\n", b"-5\r\n"), "InvalidRequest"),
            (lambda body: body.replace(b"5\r\n", b"0x5\r\n"), "InvalidRequest"),
            (lambda body: body.replace(b"5\r\n", b"5" * 16 + b"\r\n"), "InvalidRequest"),
            (lambda body: body.replace(b"5\r\n", b"5;" + b"a" * 5000 + b"\r\n"), "InvalidRequest"),
            (lambda body: body.replace(b"5\r\nhello\r\n", b"FFFFFFFF\r\nhello"), "IncompleteBody"),
            (lambda body: body.replace(b"5\r\nhello\r\n", b""), "IncompleteBody"),
            (lambda body: body.replace(b"5\r\nhello\r\n", b"6\r\nhello!\r\n"), "IncompleteBody"),
            (lambda body: body.replace(b"hello", b"hallo"), "BadDigest"),
            (lambda body: body[: body.index(b"x-amz")] + b"\r\n", "MalformedTrailerError"),
            (lambda body: body.replace(b"x-amz-checksum-crc32:", b"x-amz-checksum-crc32"), "MalformedTrailerError"),
            (lambda body: body.replace(b"x-amz", b"a:b\r\na:c\r\nx-amz"), "MalformedTrailerError"),
            (lambda body: body.replace(b"x-amz", b"".join(b"%d:\r\n" % n for n in range(20))), "MalformedTrailerError"),
            (lambda body: body.removesuffix(b"\r\n"), "IncompleteBody"),
        ],
    )
    async def test_what_is_malformed(self, change: Callable[[bytes], bytes], code: str):
        headers, body = chunked_by_botocore(b"hello", "crc32", 10)
        changed = change(body)
        assert changed != body
        assert await read(await sent(changed, headers, signed_as(UNSIGNED_CHUNKS))) == (b"", code)

    @pytest.mark.parametrize(
        ("name", "value", "code"),
        [
            ("x-amz-decoded-content-length", "", "MissingContentLength"),
            ("x-amz-decoded-content-length", "-1", "MissingContentLength"),
            ("x-amz-decoded-content-length", "9" * 5000, "MissingContentLength"),
            ("x-amz-trailer", "x-amz-checksum-rot13", "InvalidRequest"),
        ],
    )
    async def test_headers(self, name: str, value: str, code: str):
        headers, body = chunked_by_botocore(b"hello", "crc32", 10)
        with pytest.raises(S3Error) as refused:
            await sent(body, {**headers, name: value}, signed_as(UNSIGNED_CHUNKS))
        assert refused.value.s3_code == code


def base64_of(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


class TestPlainBodies:
    DATA = bytes(range(256)) * 40

    @pytest.mark.parametrize(
        ("name", "right"),
        [
            ("content-md5", base64_of(hashlib.md5(DATA).digest())),
            ("x-amz-checksum-sha1", base64_of(hashlib.sha1(DATA).digest())),
            ("x-amz-checksum-sha256", base64_of(hashlib.sha256(DATA).digest())),
            ("x-amz-checksum-crc32", base64_of(checksums.crc32(DATA).to_bytes(4, "big"))),
        ],
    )
    async def test_checksums(self, name: str, right: str):
        payload = await sent(self.DATA, {name: right}, signed_as(UNSIGNED))
        assert await read(payload) == (self.DATA, "")
        assert payload.checksums == ({} if name == "content-md5" else {name: right})
        found, code = await read(await sent(self.DATA + b"x", {name: right}, signed_as(UNSIGNED)))
        assert (len(found) <= len(self.DATA), code) == (True, "BadDigest")
        for wrong in ("", "?", "AAAA", right[:-1], "é"):
            with pytest.raises(S3Error) as refused:
                await sent(self.DATA, {name: wrong}, signed_as(UNSIGNED))
            assert refused.value.s3_code == ("InvalidDigest" if name == "content-md5" else "InvalidRequest")

    async def test_the_signed_hash(self):
        digest = hashlib.sha256(self.DATA).hexdigest()
        assert await read(await sent(self.DATA, {}, signed_as(digest))) == (self.DATA, "")
        assert await read(await sent(b"", {}, signed_as(EMPTY_SHA256))) == (b"", "")
        assert await read(await sent(b"x", {}, signed_as(EMPTY_SHA256))) == (b"", "XAmzContentSHA256Mismatch")

    async def test_the_length(self):
        for size, announced in ((4, 5), (6, 5)):
            payload = payload_of({}, pieces(b"x" * size, 1), length=announced, signature=None)
            found, code = await read(payload)
            assert (len(found) < announced, code) == (True, "IncompleteBody")
        assert await read(payload_of({}, pieces(b"xyz", 1), length=None, signature=None)) == (b"xyz", "")

    async def test_whole(self):
        assert await (await sent(self.DATA, {}, None)).whole(len(self.DATA)) == self.DATA
        with pytest.raises(S3Error, match="more than"):
            await (await sent(self.DATA, {}, None)).whole(len(self.DATA) - 1)
