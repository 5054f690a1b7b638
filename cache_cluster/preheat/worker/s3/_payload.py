"""The bytes that an S3 request brings, however they are wrapped, signed and summed.

The last piece is held back until everything that the client said of its bytes has turned out right. So whoever takes
them, even if it stops at the size that was announced, does not have them all before they count.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from preheat.worker.s3._checksums import Checks, announced
from preheat.worker.s3._chunked import ChunkedBody
from preheat.worker.s3._errors import S3Error
from preheat.worker.s3._sigv4 import SIGNED_CHUNKS, UNSIGNED, UNSIGNED_CHUNKS, Signature

_MAX_DIGITS = 18


@dataclass(frozen=True, kw_only=True, slots=True)
class Payload:
    """What a request brings."""

    chunks: AsyncIterator[bytes | memoryview]
    """To be read to the end; raises S3Error if something is not as it was announced."""
    size: int | None
    """Bytes; none if it is not known yet."""
    checksums: dict[str, str] = field(default_factory=dict)
    """Once the chunks have ended: what they were compared with, by header as in ``x-amz-checksum-crc32``, in base64."""

    async def whole(self, limit: int) -> bytes:
        """Return all bytes.

        Raises:
            S3Error: EntityTooLarge, if there are more than ``limit``. Otherwise as :attr:`chunks`.
        """
        found = bytearray()
        async for piece in self.chunks:
            found += piece
            if len(found) > limit:
                raise S3Error("EntityTooLarge", f"The request's body has more than {limit} bytes.")
        return bytes(found)


def payload_of(
    headers: Mapping[str, str], stream: AsyncIterator[bytes], *, length: int | None, signature: Signature | None
) -> Payload:
    """Return what a request brings.

    Args:
        headers: by lower-case name.
        stream: the body as it was sent; it has to be read to the end.
        length: its bytes; none if that is not known.
        signature: what vouches for it; none where requests are not verified.

    Raises:
        S3Error: what the headers say of the body cannot be used.
    """
    content = signature.content if signature else headers.get("x-amz-content-sha256", UNSIGNED)
    if content not in SIGNED_CHUNKS and content != UNSIGNED_CHUNKS:
        checks = Checks(headers, sha256=signature.content if signature and content != UNSIGNED else "")
        checksums: dict[str, str] = {}
        return Payload(chunks=_checked(stream, checks, length, {}, checksums), size=length, checksums=checksums)
    return _chunked(headers, stream, content=content, signature=signature)


def _chunked(
    headers: Mapping[str, str], stream: AsyncIterator[bytes], *, content: str, signature: Signature | None
) -> Payload:
    size = _decoded_length(headers)
    has_trailers = content.endswith("-TRAILER")
    names = announced(headers.get("x-amz-trailer", "")) if has_trailers else ()
    body = ChunkedBody(stream, chain=signature.chain if signature else None, has_trailers=has_trailers)
    checks = Checks(headers, trailers=names)
    checksums: dict[str, str] = {}
    return Payload(
        chunks=_checked(body.chunks(), checks, size, body.trailers, checksums), size=size, checksums=checksums
    )


async def _checked(
    chunks: AsyncIterator[bytes] | AsyncIterator[memoryview],
    checks: Checks,
    size: int | None,
    trailers: Mapping[str, str],
    checksums: dict[str, str],
) -> AsyncIterator[bytes | memoryview]:
    held: bytes | memoryview = b""
    count = 0
    async for piece in chunks:
        count += len(piece)
        if size is not None and count > size:
            break
        checks.update(piece)
        if held:
            yield held
        held = piece
    if size is not None and count != size:
        raise S3Error("IncompleteBody", f"The body has {count} bytes, and {size} were announced.")
    checksums.update(checks.finish(trailers))
    if held:
        yield held


def _decoded_length(headers: Mapping[str, str]) -> int:
    text = headers.get("x-amz-decoded-content-length", "")
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise S3Error("MissingContentLength", "You must provide the header x-amz-decoded-content-length.")
    return int(text)
