"""GETs of known length from ``http://`` endpoints of S3, without a client library in between.

Of a small object most of the cost is the client. This one writes a signed request to a kept connection and lets the
kernel put head and body into one buffer. It deals with plain answers alone: broken connections, internal errors and
whatever else an endpoint answers are left to the caller's other client, which asks again and knows retries.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from urllib.request import getproxies

from preheat.paths import UfsPath
from preheat.ufs._base import Download
from preheat.ufs._checksum import check_bytes
from preheat.ufs._settings import UfsSettings
from preheat.ufs.s3._answer import HEAD_BYTES, Answer, UnfitError, UnusableError
from preheat.ufs.s3._connection import Wire
from preheat.ufs.s3._errors import unreachable
from preheat.ufs.s3._gets import GetRequests

MAX_BYTES = 16 << 20
"""Of a body; a longer one would be held in memory whole."""
_MAX_IDLE = 128
_KEPT_BUFFER_BYTES = 1 << 20
"""A buffer larger than this is used again, because the kernel fills new memory slowly."""
_MAX_KEPT_BUFFERS = 8


class S3Wire:
    """Reads ranges of objects of one endpoint.

    Args:
        requests: to the endpoint.
        endpoint: for messages.
        settings: deadlines.
    """

    def __init__(self, requests: GetRequests, endpoint: str, settings: UfsSettings) -> None:
        self._requests = requests
        self._endpoint = endpoint
        self._settings = settings
        self._fit = True
        """Until the endpoint answers in a form that is not understood."""
        self._loop = asyncio.get_running_loop()
        self._idle: list[Wire] = []
        self._busy: set[Wire] = set()
        self._buffers: list[bytearray] = []
        self._watching: asyncio.TimerHandle | None = None

    @staticmethod
    def reaches(endpoint: str) -> bool:
        """Whether this client can speak to an endpoint: plain HTTP, and no proxy in between."""
        return endpoint.startswith("http://") and not getproxies().keys() & {"http", "all"}

    def get(self, path: UfsPath, *, etag: str | None, start: int, end: int) -> Awaitable[Download | None]:
        """Read bytes [start, end) of an object, at most :data:`MAX_BYTES`; None if the other client should.

        Raises:
            PreheatError: what the endpoint refused with.
            OriginUnavailable: the endpoint sent nothing for ``read_seconds``.
        """
        return self._get(path, etag, start, end, end - start)

    def get_whole(self, path: UfsPath, etag: str, size: int) -> Awaitable[Download | None]:
        """Read all of an object, as :meth:`get`, and compare it with the checksum that the endpoint keeps, if any.

        Raises:
            OriginCorrupt: they do not match. Otherwise as :meth:`get`.
        """
        return self._get(path, etag, 0, None, size)

    async def _get(self, path: UfsPath, etag: str | None, start: int, end: int | None, size: int) -> Download | None:
        if not self._fit or asyncio.get_running_loop() is not self._loop:
            return None
        if not self._requests.fresh:
            await self._requests.refresh(path)
        try:
            wire = self._kept() or await self._connect()
        except OSError:
            return None
        buffer, asked_at = self._new_buffer(HEAD_BYTES + size + 1), self._loop.time()
        try:
            answer = await self._ask(wire, self._requests.get(path, etag, start, end), buffer)
        except TimeoutError as error:
            raise unreachable(path, self._endpoint) from error
        except UnfitError:
            self._fit = end is None  # then it may be another version, and larger than was thought
            return None
        except (OSError, UnusableError):
            return None
        self._release(wire, reusable=answer.reusable)
        body = memoryview(buffer)[answer.body_start : answer.body_start + answer.length]
        if answer.refused:
            if refusal := answer.error(path, self._endpoint, body):
                raise refusal
            return None
        return self._download(path, answer, body, start, end, waited=wire.answered_at - asked_at)

    async def _ask(self, wire: Wire, request: bytes, buffer: bytearray) -> Answer:
        self._busy.add(wire)
        self._watch()
        try:
            return await wire.ask(request, buffer)
        except BaseException:
            wire.abort()
            raise
        finally:
            wire.forget()
            self._busy.discard(wire)

    def close(self) -> None:
        """Close all connections."""
        if self._watching is not None:
            self._watching.cancel()
        if not self._loop.is_closed():
            for wire in (*self._idle, *self._busy):
                wire.abort()
        self._idle.clear()
        self._buffers.clear()

    def _kept(self) -> Wire | None:
        while self._idle:
            wire = self._idle.pop()
            if wire.usable:
                return wire
        return None

    async def _connect(self) -> Wire:
        async with asyncio.timeout(self._settings.connect_seconds):
            _, wire = await self._loop.create_connection(Wire, self._requests.host, self._requests.port)
        return wire

    def _release(self, wire: Wire, *, reusable: bool) -> None:
        if reusable and len(self._idle) < _MAX_IDLE:
            self._idle.append(wire)
        else:
            wire.abort()

    def _new_buffer(self, size: int) -> bytearray:
        if size > _KEPT_BUFFER_BYTES:
            for number, buffer in enumerate(self._buffers):
                if len(buffer) >= size:
                    return self._buffers.pop(number)
        return bytearray(size)

    def _download(
        self, path: UfsPath, answer: Answer, body: memoryview, start: int, end: int | None, *, waited: float
    ) -> Download | None:
        try:
            info, first, last = answer.bytes_of(path.key, start, end)
        except UnusableError:
            return None
        if answer.checksums and (first, last) == (0, info.size):
            check_bytes(path, body, answer.checksums)
        return Download(info=info, start=first, end=last, chunks=_OneChunk(body, self._keep), waited=waited)

    def _keep(self, buffer: bytearray) -> None:
        """Use a large buffer again, unless somebody may still read it."""
        if len(buffer) > _KEPT_BUFFER_BYTES and len(self._buffers) < _MAX_KEPT_BUFFERS:
            with suppress(BufferError):  # its chunk was not released
                buffer.pop()
                buffer.append(0)
                self._buffers.append(buffer)

    def _watch(self) -> None:
        if self._watching is None:
            self._watching = self._loop.call_later(self._settings.read_seconds / 4, self._fail_silent)

    def _fail_silent(self) -> None:
        self._watching = None
        moment = self._loop.time() - self._settings.read_seconds
        for wire in self._busy:
            if wire.heard_at < moment:
                wire.fail(TimeoutError())
        if self._busy:
            self._watch()


class _OneChunk(AsyncIterator[memoryview]):
    """A body that is there: a generator would cost a small object dear, for event loops keep a list of them.

    Args:
        body: all of it.
        done: gets its buffer when the next chunk is asked for.
    """

    def __init__(self, body: memoryview, done: Callable[[bytearray], None]) -> None:
        self._body: memoryview | None = body
        self._buffer = body.obj
        self._done = done

    async def __anext__(self) -> memoryview:
        body, self._body = self._body, None
        if body is None:
            assert isinstance(self._buffer, bytearray)
            self._done(self._buffer)
            raise StopAsyncIteration
        return body
