r"""The body form ``aws-chunked``: chunks that may each be signed, and checksums behind them.

    10000;chunk-signature=ad80…\r\n<65536 bytes>\r\n … 0;chunk-signature=b6c6…\r\n
    x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:63bd…\r\n\r\n

Bytes pass as they come, before the signature of their chunk does: whoever takes them has to wait for the end before
they count, see :mod:`preheat.worker.s3._payload`.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import AsyncIterator
from hashlib import sha256

from preheat.worker.s3._errors import S3Error
from preheat.worker.s3._sigv4 import EMPTY_SHA256, Chain

_HEAD = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[ \t]*chunk-signature=([0-9a-f]{64}))?[ \t]*")
_MAX_LINE = 1024
_MAX_TRAILERS = 16
_TRAILER_SIGNATURE = "x-amz-trailer-signature"


class ChunkedBody:
    """Decodes one body.

    Args:
        stream: the body as it was sent, in pieces of any size.
        chain: what the chunks' signatures go on from; none if they have none, or none that is to be verified.
        has_trailers: whether something comes behind the chunks; if signed, its signature does.
    """

    def __init__(self, stream: AsyncIterator[bytes], *, chain: Chain | None, has_trailers: bool) -> None:
        self._input = _Input(stream)
        self._chain = chain
        self._previous = chain.seed if chain else ""
        self._has_trailers = has_trailers
        self.trailers: dict[str, str] = {}
        """By lower-case name, once the chunks have ended."""

    async def chunks(self) -> AsyncIterator[memoryview]:
        """Yield the bytes.

        Raises:
            S3Error: SignatureDoesNotMatch, IncompleteBody, InvalidRequest or MalformedTrailerError.
        """
        size = -1
        while size:
            size, signature = _chunk_head(await self._input.line())
            digest = sha256()
            missing = size
            while missing:
                piece = await self._input.some(missing)
                missing -= len(piece)
                if self._chain:
                    digest.update(piece)
                yield piece
            self._check_chunk(signature, digest.hexdigest())
            if size and await self._input.line():
                raise _malformed("a chunk is longer than it says")
        await self._read_trailers()
        await self._input.expect_end()

    def _check_chunk(self, signature: str, digest: str) -> None:
        if self._chain:
            self._check(self._chain.sign("PAYLOAD", self._previous, EMPTY_SHA256, digest), signature, "a chunk")

    def _check(self, right: str, signature: str, what: str) -> None:
        if not hmac.compare_digest(right.encode(), signature.encode()):
            raise S3Error("SignatureDoesNotMatch", f"The signature of {what} of the body is not that of its bytes.")
        self._previous = signature

    async def _read_trailers(self) -> None:
        while line := await self._input.line():
            name, separator, value = line.decode("latin-1").partition(":")
            name = name.strip().lower()
            allowed = self._has_trailers and len(self.trailers) < _MAX_TRAILERS and name not in self.trailers
            if not separator or not allowed:
                raise S3Error("MalformedTrailerError", f"What follows the body is no trailer: {line[:80]!r}.")
            self.trailers[name] = value.strip()
        if self._chain and self._has_trailers:
            signature = self.trailers.pop(_TRAILER_SIGNATURE, "")
            text = "".join(f"{name}:{value}\n" for name, value in self.trailers.items())
            digest = sha256(text.encode("latin-1")).hexdigest()
            self._check(self._chain.sign("TRAILER", self._previous, digest), signature, "the trailer")


class _Input:
    """A stream by lines and by bytes; what is held is one piece of it, and the beginning of a line."""

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self._stream = stream
        self._piece = b""
        self._at = 0

    async def line(self) -> bytes:
        """Return what comes before the next CRLF."""
        begin = b""
        while True:
            line = begin + self._piece[self._at : self._at + _MAX_LINE]
            end = line.find(b"\r\n")
            if end >= 0:
                self._at += end + 2 - len(begin)
                return line[:end]
            if len(line) >= _MAX_LINE:
                raise _malformed("a line has no end")
            begin = line
            await self._next()

    async def some(self, limit: int) -> memoryview:
        """Return the next bytes, up to ``limit``."""
        if self._at == len(self._piece):
            await self._next()
        piece = memoryview(self._piece)[self._at : self._at + limit]
        self._at += len(piece)
        return piece

    async def expect_end(self) -> None:
        """Return if nothing follows."""
        rest = len(self._piece) - self._at
        async for piece in self._stream:
            rest += len(piece)
        if rest:
            raise _malformed("it goes on behind its end")

    async def _next(self) -> None:
        async for piece in self._stream:
            if piece:
                self._piece, self._at = piece, 0
                return
        raise S3Error("IncompleteBody", "The request body terminated unexpectedly.")


def _chunk_head(line: bytes) -> tuple[int, str]:
    match = _HEAD.fullmatch(line)
    if match is None:
        raise _malformed(f"{line[:80]!r} does not begin a chunk")
    return int(match[1], 16), (match[2] or b"").decode()


def _malformed(why: str) -> S3Error:
    return S3Error("InvalidRequest", f"The body is not in the form aws-chunked: {why}.")
