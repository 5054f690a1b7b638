"""GETs of known length from ``http://`` endpoints of S3, without a client library in between.

Of a small object most of the cost is the client. This one writes a signed request to a kept connection and lets the
kernel put head and body into one buffer. It deals with success alone: whatever else an endpoint answers, and any broken
connection, is left to the caller's other client, which asks again and knows all errors, retries and encryption.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit
from urllib.request import getproxies

from preheat.paths import UfsPath
from preheat.ufs._base import Download
from preheat.ufs._s3_client import S3Connection
from preheat.ufs._s3_connection import HEAD_BYTES, Answer, UnfitError, UnusableError, Wire
from preheat.ufs._s3_errors import unreachable
from preheat.ufs._s3_sign import Signer
from preheat.ufs._settings import UfsSettings
from preheat.versions import ObjectInfo

if TYPE_CHECKING:  # botocore has no types at run time
    from botocore.credentials import ReadOnlyCredentials

MAX_BYTES = 16 << 20
"""Of a body; a longer one would be held in memory whole."""
_MAX_IDLE = 64
_KEPT_BUFFER_BYTES = 1 << 20
"""A buffer larger than this is used again, because the kernel fills new memory slowly."""
_MAX_KEPT_BUFFERS = 8
_CREDENTIALS_SECONDS = 60.0


class S3Wire:
    """Reads ranges of objects of one endpoint.

    Args:
        connection: the endpoint and the credentials.
        settings: deadlines.
    """

    def __init__(self, connection: S3Connection, settings: UfsSettings) -> None:
        url = urlsplit(connection.endpoint)
        self._connection = connection
        self._settings = settings
        self._host, self._port = url.hostname or "", url.port or 80
        self._root = url.path
        self._signer = Signer(host=url.netloc, region=connection.region)
        self._credentials: ReadOnlyCredentials | None = None
        self._credentials_until = 0.0
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

    async def get(self, path: UfsPath, *, etag: str | None, start: int, end: int) -> Download | None:
        """Read bytes [start, end) of an object, at most :data:`MAX_BYTES`; None if the other client should.

        Raises:
            OriginUnavailable: the endpoint sent nothing for ``read_seconds``.
        """
        if not self._fit or asyncio.get_running_loop() is not self._loop:
            return None
        try:
            request = await self._request(path, etag, start, end)
            wire = await self._wire()
        except OSError:
            return None
        buffer = self._new_buffer(HEAD_BYTES + end - start + 1)
        self._busy.add(wire)
        self._watch()
        try:
            answer = await wire.ask(request, buffer)
        except TimeoutError as error:
            raise unreachable(path, self._connection.endpoint) from error
        except UnfitError:
            self._fit = False
            return None
        except (OSError, UnusableError):
            return None
        finally:
            self._busy.discard(wire)
        self._release(wire, reusable=answer.reusable)
        return self._download(path, answer, buffer, start, end)

    def close(self) -> None:
        """Close all connections."""
        if self._watching is not None:
            self._watching.cancel()
        if not self._loop.is_closed():
            for wire in (*self._idle, *self._busy):
                wire.abort()
        self._idle.clear()
        self._buffers.clear()

    async def _request(self, path: UfsPath, etag: str | None, start: int, end: int) -> bytes:
        now = time.time()
        if self._credentials is None or now > self._credentials_until:
            self._credentials = await asyncio.to_thread(self._connection.credentials.get_frozen_credentials)
            self._credentials_until = now + _CREDENTIALS_SECONDS
        url_path = f"{self._root}/{path.bucket}/{quote(path.key, safe='/~')}"
        headers = self._signer.headers(url_path, self._credentials, now)
        match = "" if etag is None else f'if-match:"{etag}"\r\n'
        return f"GET {url_path} HTTP/1.1\r\n{headers}{match}range:bytes={start}-{end - 1}\r\n\r\n".encode()

    async def _wire(self) -> Wire:
        while self._idle:
            wire = self._idle.pop()
            if wire.usable:
                return wire
        async with asyncio.timeout(self._settings.connect_seconds):
            _, wire = await self._loop.create_connection(Wire, self._host, self._port)
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

    def _download(self, path: UfsPath, answer: Answer, buffer: bytearray, start: int, end: int) -> Download | None:
        first, size = start, answer.length
        if answer.content_range:
            unit, _, rest = answer.content_range.partition(" ")
            span, _, total = rest.partition("/")
            if unit != "bytes" or not total.isdecimal() or span != f"{start}-{start + answer.length - 1}":
                return None
            size = int(total)
        elif start:
            return None
        if answer.length != min(end, size) - first:
            return None
        info = ObjectInfo(key=path.key, size=size, etag=answer.etag, last_modified=answer.last_modified)
        body = memoryview(buffer)[answer.body_start : answer.body_start + answer.length]
        return Download(info=info, start=first, end=first + answer.length, chunks=self._chunks(body, buffer))

    async def _chunks(self, body: memoryview, buffer: bytearray) -> AsyncIterator[memoryview]:
        yield body
        if len(buffer) > _KEPT_BUFFER_BYTES and len(self._buffers) < _MAX_KEPT_BUFFERS:
            with suppress(BufferError):  # the chunk was not released: somebody may still read it
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
