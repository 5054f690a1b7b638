"""One blocking HTTP/1.1 connection to an S3 endpoint, for GETs whose body is taken as it comes."""

from __future__ import annotations

import socket
from contextlib import suppress

from preheat.paths import UfsPath
from preheat.ufs._download import version_changed
from preheat.ufs._settings import UfsSettings
from preheat.ufs.s3._answer import HEAD_BYTES, Answer, UnusableError, parse_head
from preheat.versions import ObjectInfo

_BUFFER_BYTES = 512 << 10
"""Half of a usual second-level cache, a multiple of the page store's block."""


class Channel:
    """One connection, which carries one request at a time.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, host: str, port: int, settings: UfsSettings) -> None:
        self._socket = socket.create_connection((host, port), settings.connect_seconds)
        self._socket.settimeout(settings.read_seconds)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._filled = 0
        self._left = 0
        self._answer: Answer | None = None

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent."""
        return self._answer is not None and self._answer.reusable and not self._left

    def ask(self, request: bytes, path: UfsPath, endpoint: str) -> None:
        """Send a request and read the head of its answer.

        Raises:
            OSError: the connection broke, or fell silent (TimeoutError).
            UnusableError: the answer is left to another client.
            PreheatError: it is a refusal.
        """
        self._socket.sendall(request)
        answer = self._answer = self._head()
        self._left = answer.length
        body = self._view[answer.body_start : self._filled]
        self._view[: len(body)] = body
        self._filled = len(body)
        if self._filled > self._left:
            raise UnusableError("its body is too long")
        if answer.refused:
            error = answer.error(path, endpoint, self._refusal())
            if error is None:
                raise UnusableError("it is an internal error")
            raise error

    def check(self, path: UfsPath, info: ObjectInfo, start: int, end: int) -> None:
        """Raise VersionChanged unless the answer is of this version, UnusableError if it is another range."""
        assert self._answer is not None
        found, _, _ = self._answer.bytes_of(path.key, start, end)
        if (found.etag, found.size) != (info.etag, info.size):
            raise version_changed(path, info.etag, found.etag)

    def receive(self) -> memoryview:
        """Return the next bytes of the body, which the next call overwrites; none at its end.

        Raises:
            OSError: the connection broke, or fell silent (TimeoutError).
        """
        size = min(self._left, _BUFFER_BYTES)
        while self._filled < size:
            self._fill(size)
        self._left -= size
        self._filled = 0
        return self._view[:size]

    def interrupt(self) -> None:
        """Break off what a thread waits for here."""
        with suppress(OSError):  # it is broken already
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it at once."""
        self._socket.close()

    def _head(self) -> Answer:
        self._filled = 0
        while (end := self._buffer.find(b"\r\n\r\n", 0, self._filled)) < 0:
            if self._filled == HEAD_BYTES:
                raise UnusableError("its head is too long")
            self._fill(HEAD_BYTES)
        try:
            return parse_head(bytes(self._view[:end]))
        except (TypeError, ValueError) as error:
            raise UnusableError("it is not HTTP") from error

    def _refusal(self) -> bytes:
        size = min(self._left, HEAD_BYTES)
        while self._filled < size:
            self._fill(size)
        self._left -= size
        return bytes(self._view[:size])

    def _fill(self, size: int) -> None:
        """Receive once, up to ``size`` bytes in the buffer."""
        received = self._socket.recv_into(self._view[self._filled : size])
        if not received:
            raise ConnectionResetError("The connection was closed.")
        self._filled += received
