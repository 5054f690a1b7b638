"""One HTTP/1.1 connection to an S3 endpoint, for GETs whose answer is of known length."""

from __future__ import annotations

import asyncio
from typing import cast

from preheat.ufs.s3._answer import HEAD_BYTES, Answer, UnfitError, UnusableError, parse_head

_NOTHING = bytearray()
_NOWHERE = memoryview(bytearray(1))
"""Receives what was not asked for."""


class Wire(asyncio.BufferedProtocol):
    """One connection, which carries one request at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = _NOTHING
        self._view = _NOWHERE
        self._filled = 0
        self._answer: Answer | None = None
        self._done: asyncio.Future[Answer] | None = None
        self.heard_at = 0.0
        self.answered_at = 0.0
        """When the head of the last answer was there."""

    @property
    def usable(self) -> bool:
        """Whether a request may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, request: bytes, buffer: bytearray) -> asyncio.Future[Answer]:
        """Send a request; its answer, head and body, is in the buffer when the future is done.

        :meth:`forget` comes then. The future may raise:

            OSError: the connection broke.
            UnusableError: it is neither a success nor an error, or does not fit into the buffer.
        """
        assert self._transport is not None
        self._buffer, self._view = buffer, memoryview(buffer)
        self._filled, self._answer = 0, None
        self._done = done = self._loop.create_future()
        self.heard_at = self._loop.time()
        self._transport.write(request)
        return done

    def forget(self) -> None:
        """Let go of the buffer."""
        self._done, self._buffer, self._view, self._filled = None, _NOTHING, _NOWHERE, 0

    def abort(self) -> None:
        """Close it at once."""
        if self._transport is not None:
            self._transport.abort()

    def fail(self, error: Exception) -> None:
        """End the request under way with an error."""
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def connection_lost(self, error: Exception | None) -> None:
        self.fail(error or ConnectionResetError("The connection was closed."))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the protocol's signature
        return self._view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        self.heard_at = self._loop.time()
        if self._done is None or self._done.done():  # nothing was asked
            self._filled = 0
            self.abort()
            return
        try:
            self._read()
        except (UnusableError, ValueError, TypeError) as error:
            self.fail(error if isinstance(error, UnusableError) else UnfitError(str(error)))

    def _read(self) -> None:
        if self._answer is None:
            end = self._buffer.find(b"\r\n\r\n", 0, min(self._filled, HEAD_BYTES))
            if end < 0:
                if self._filled >= HEAD_BYTES:
                    raise UnfitError("its head is too long")
                return
            self._answer = parse_head(bytes(self._view[:end]))
            self.answered_at = self.heard_at
        end = self._answer.body_start + self._answer.length
        if self._filled > end or end >= len(self._buffer):  # one byte is left over, to notice what was not asked for
            raise (UnusableError if self._answer.refused else UnfitError)("its body is too long")
        if self._filled == end and self._done is not None:
            self._done.set_result(self._answer)
