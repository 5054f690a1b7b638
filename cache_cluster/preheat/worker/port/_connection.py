"""One client's connection to the data port: requests are answered in order, and memory stays bounded.

- What can be answered at once is answered within ``data_received``. For the rest a task runs, and nothing more is read
  from the socket meanwhile; what was read already waits in a queue, no longer than one read of the socket holds.
- A body goes out a page at a time, and waits while the transport's buffer is full.
- A body that cannot be finished ends with the connection, never with other bytes in its place.
- ``deadline`` is when the server aborts the connection: an idle one, a head that does not arrive, a client that does
  not read. While a task fetches from the under store there is none here: the fetch has its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from math import inf
from typing import cast

import httptools

from preheat.batch_read import BATCH
from preheat.errors import InvalidRequest, PreheatError
from preheat.logs import get_logger
from preheat.worker.port._access import Authorizer
from preheat.worker.port._endpoints import Endpoints, Stream
from preheat.worker.port._hits import Hits
from preheat.worker.port._http import BodyTooLarge, HeadTooLarge, Request, problem_answer
from preheat.worker.port._limits import ServerSettings

log = get_logger("data_server")


class Connection(asyncio.Protocol):
    """The server's side of one connection; ``httptools`` calls the ``on_`` methods."""

    def __init__(
        self,
        endpoints: Endpoints,
        settings: ServerSettings,
        *,
        authorizer: Authorizer | None,
        hits: Hits,
        opened: Callable[[Connection], None],
        closed: Callable[[Connection], None],
    ) -> None:
        self._endpoints = endpoints
        self._settings = settings
        self._authorizer = authorizer
        self._hits = hits
        self._opened = opened
        self._closed = closed
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[Request | PreheatError] = deque()
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._input_ended = False
        self._heads_begun = 0
        self._in_head = False
        self._head_bytes = self._field_bytes = 0
        self.deadline = inf

    @property
    def busy(self) -> bool:
        """Whether a request waits for its answer."""
        return self._task is not None or bool(self._queue)

    def finish(self) -> None:
        """Close after the answers under way."""
        self._input_ended = True
        self._serve()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._opened(self)
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - part of the protocol
        self._closed(self)
        if self._task:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        if self._input_ended or self._answered_hit(data):
            return
        head = self._heads_begun if self._in_head else None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # HTTP/1.1 goes on being spoken, for this one answer
            self._input_ended = True
        except httptools.HttpParserError as error:
            self._refuse(InvalidRequest(f"This is not an HTTP request: {error}."))
        if self._in_head and head == self._heads_begun:
            self._head_bytes += len(data)
            if self._head_bytes > self._settings.max_head_bytes:
                self._refuse(self._too_large())
        self._serve()

    def eof_received(self) -> bool:
        self._input_ended = True
        return self.busy and self._transport.can_write_eof()  # TLS has no half-closed connections

    def pause_writing(self) -> None:
        self._writable.clear()
        self._set_deadline()

    def resume_writing(self) -> None:
        self._writable.set()
        self._set_deadline()
        self._serve()

    # What the parser tells.

    def on_message_begin(self) -> None:
        self._in_head = True
        self._heads_begun += 1
        self._head_bytes = self._field_bytes = 0
        self._url = b""
        self._headers: dict[str, str] = {}
        self._set_deadline()

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._field_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._field_bytes += len(name) + len(value)
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._body = bytearray()
        length = int(self._headers.get("content-length", "0"))  # the parser has refused what is no number
        if self._field_bytes > self._settings.max_head_bytes:
            self._refuse(self._too_large())
        elif (length or "transfer-encoding" in self._headers) and not self._takes_body():
            self._refuse(InvalidRequest("A request with a body is not taken here."))
        elif length > self._settings.max_body_bytes:
            self._refuse(BodyTooLarge(f"The request's body has more than {self._settings.max_body_bytes} bytes."))

    def _takes_body(self) -> bool:
        posted = self._parser.get_method() == b"POST" and self._url == BATCH.encode()
        return posted and "transfer-encoding" not in self._headers

    def on_body(self, data: bytes) -> None:
        self._head_bytes -= len(data)  # until the request is whole, what arrives is counted as its head
        if not self._input_ended:
            self._body += data

    def on_message_complete(self) -> None:
        self._in_head = False
        if self._input_ended:
            return
        keep_alive = self._parser.should_keep_alive()
        self._queue.append(
            Request(
                method=self._parser.get_method().decode("ascii"),
                target=self._url.decode("latin-1"),
                headers=self._headers,
                keep_alive=keep_alive,
                body=bytes(self._body),
            )
        )
        self._input_ended = not keep_alive

    # The answers.

    def _answered_hit(self, data: bytes) -> bool:
        """Answer a plain request that arrives alone, and whole, at a connection with nothing else to do."""
        if self._in_head or self._queue or self._task or not self._writable.is_set():
            return False
        if len(data) > self._settings.max_head_bytes or (answer := self._hits.answer(data)) is None:
            return False
        self.deadline = self._loop.time() + self._settings.idle_seconds
        self._transport.writelines(answer)
        return True

    def _serve(self) -> None:
        """Answer what has been read, up to the first request that has to wait."""
        if self._transport.is_closing():
            return
        while self._queue and self._task is None and self._writable.is_set():
            request = self._queue.popleft()
            if isinstance(request, PreheatError):
                self._transport.write(problem_answer(request).encode(head_only=False, keep_alive=False))
                self._linger()
                return
            self._answer(request)
        if self.busy:
            self._transport.pause_reading()
        elif self._input_ended:
            self._transport.close()
        else:
            self._transport.resume_reading()

    def _answer(self, request: Request) -> None:
        try:
            if self._authorizer:
                self._authorizer.check(request)
            answer = self._endpoints.answer_now(request)
        except PreheatError as error:
            answer = (_problem(error, request),)
        if answer is None:
            self._task = self._loop.create_task(self._answer_later(request))
            self._task.add_done_callback(self._answered)
        self._set_deadline()
        if answer is not None:
            self._transport.writelines(answer)

    async def _answer_later(self, request: Request) -> None:
        try:
            answer = await self._endpoints.answer(request)
        except PreheatError as error:
            answer = _problem(error, request)
        if isinstance(answer, Stream):
            await self._stream(answer)
        else:
            self._transport.write(answer)

    async def _stream(self, answer: Stream) -> None:
        self._transport.writelines((answer.head, answer.first))
        missing = None if answer.length is None else answer.length - len(answer.first)
        await self._writable.wait()
        async for page in answer.rest:
            self._transport.write(page)
            if missing is not None:
                missing -= len(page)
            await asyncio.sleep(0)  # a client as fast as this loop must not keep it from the others
            await self._writable.wait()
        if missing:
            raise ConnectionError(f"{missing} bytes of the body are missing.")

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            self._transport.abort()
        elif error := task.exception():
            expected = isinstance(error, PreheatError)
            log.warning(
                "An answer was broken off.",
                action="answer_broken",
                error=repr(error),
                exc_info=None if expected else error,
            )
            self._transport.abort()
        else:
            self._set_deadline()
            self._serve()

    def _refuse(self, error: PreheatError) -> None:
        """Answer what came before, then say why nothing more is answered."""
        if not self._input_ended:
            self._input_ended = True
            self._queue.append(error)

    def _linger(self) -> None:
        """Let the client read the answer: closing with unread input would reset the connection and lose it."""
        self.deadline = self._loop.time() + self._settings.linger_seconds
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._transport.resume_reading()

    def _too_large(self) -> HeadTooLarge:
        return HeadTooLarge(f"The request's head has more than {self._settings.max_head_bytes} bytes.")

    def _set_deadline(self) -> None:
        if not self._writable.is_set():
            seconds = self._settings.stall_seconds
        elif self._task:
            seconds = inf
        elif self._in_head:
            seconds = self._settings.head_seconds
        else:
            seconds = self._settings.idle_seconds
        self.deadline = self._loop.time() + seconds


def _problem(error: PreheatError, request: Request) -> bytes:
    return problem_answer(error).encode(head_only=request.is_head, keep_alive=request.keep_alive)
