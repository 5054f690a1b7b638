"""One client's connection to a port of the worker: requests are answered in order, and memory stays bounded.

- What can be answered at once is answered within ``data_received``. For the rest a task runs, and nothing more is read
  from the socket meanwhile, but the body that the task reads; what was read already waits in a queue, no longer than
  one read of the socket holds.
- A body goes out a page at a time, and waits while the transport's buffer is full.
- A body that cannot be finished ends with the connection, never with other bytes in its place.
- A request's body that is not read to its end ends the connection too, once its client could read the answer.
- ``deadline`` is when the server aborts the connection: an idle one, a head that does not arrive, a client that does
  not read, or does not send. While a task fetches from the under store there is none here: the fetch has its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from math import inf
from typing import cast

from preheat.errors import PreheatError
from preheat.logs import get_logger
from preheat.worker.port._access import Authorizer
from preheat.worker.port._answers import Placed, Stream
from preheat.worker.port._http import Request
from preheat.worker.port._incoming import Incoming
from preheat.worker.port._limits import ServerSettings
from preheat.worker.port._sending import FileSender
from preheat.worker.port._service import Service, Shortcut

log = get_logger("data_server")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(asyncio.Protocol):
    """The server's side of one connection."""

    def __init__(
        self,
        endpoints: Service,
        settings: ServerSettings,
        *,
        authorizer: Authorizer | None,
        hits: Shortcut | None,
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
        self._incoming = Incoming(
            settings,
            endpoints.intake,
            on_begin=self._set_deadline,
            admit=authorizer.check if authorizer else None,
            on_expect=self._continue_held,
            on_demand=self._body_wanted,
        )
        self._queue = self._incoming.queue
        self._task: asyncio.Task[None] | None = None
        self._files: FileSender | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.deadline = inf

    @property
    def busy(self) -> bool:
        """Whether a request waits for its answer."""
        return self._task is not None or bool(self._queue)

    def finish(self) -> None:
        """Close after the answers under way."""
        self._incoming.ended = True
        self._serve()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._encrypted = transport.get_extra_info("sslcontext") is not None
        self._opened(self)
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - part of the protocol
        self._closed(self)
        if self._files:
            self._files.close()
        if self._task:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        if not self._incoming.is_open or self._answered_hit(data):
            return
        self._incoming.feed(data)
        self._serve()

    def eof_received(self) -> bool:
        self._incoming.end()
        return self.busy and self._transport.can_write_eof()  # TLS has no half-closed connections

    def pause_writing(self) -> None:
        self._writable.clear()
        self._set_deadline()

    def resume_writing(self) -> None:
        self._writable.set()
        self._set_deadline()
        self._serve()

    # What the requests tell.

    def _continue_held(self) -> None:
        if not self.busy:  # otherwise it would stand in the midst of another answer; the client will not wait for ever
            self._transport.write(_CONTINUE)

    def _body_wanted(self) -> None:
        """Read on for a body whose reader has caught up, and wait for its sender no longer than it may stall."""
        body = self._incoming.body
        if body is not None and body.continue_due and body.is_awaited:
            body.continue_due = False
            self._transport.write(_CONTINUE)
        self._set_deadline()
        self._set_reading()

    # The answers.

    def _answered_hit(self, data: bytes) -> bool:
        """Answer a plain request that arrives alone, and whole, at a connection with nothing else to do."""
        if self._hits is None or self._incoming.in_message or self._queue or self._task or not self._writable.is_set():
            return False
        if len(data) > self._settings.max_head_bytes:
            return False
        answer = self._hits.answer(data, from_file=not self._encrypted)
        if answer is None:
            return False
        self.deadline = self._loop.time() + self._settings.idle_seconds
        if isinstance(answer, Placed):
            self._files = self._files or FileSender(self._transport, self._hits.rest)
            self._files.send(answer)
        else:
            self._transport.writelines(answer)
        return True

    def _serve(self) -> None:
        """Answer what has been read, up to the first request that has to wait."""
        if self._transport.is_closing():
            return
        while self._queue and self._task is None and self._writable.is_set():
            request = self._queue.popleft()
            if isinstance(request, PreheatError):
                answer = self._endpoints.problem(request, None)
                self._transport.write(answer.encode(head_only=False, keep_alive=False))
                self._linger()
                return
            self._answer(request)
            if self._task is None and self._is_unread(request):
                self._linger()
                return
        if self._incoming.ended and not self.busy:
            self._transport.close()
        else:
            self._set_reading()

    def _set_reading(self) -> None:
        body = self._incoming.body
        if self.busy and (body is None or body.is_full):
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _answer(self, request: Request) -> None:
        try:
            if self._authorizer:
                self._authorizer.check(request)
            answer = self._endpoints.answer_now(request)
        except PreheatError as error:
            answer = (self._problem(error, request),)
        if answer is None:
            self._task = self._loop.create_task(self._answer_later(request))
            self._task.add_done_callback(partial(self._answered, request))
        self._set_deadline()
        if answer is not None:
            self._transport.writelines(answer)

    async def _answer_later(self, request: Request) -> None:
        try:
            answer = await self._endpoints.answer(request)
        except PreheatError as error:
            answer = self._problem(error, request)
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

    def _answered(self, request: Request, task: asyncio.Task[None]) -> None:
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
        elif self._is_unread(request):
            self._linger()
        else:
            self._set_deadline()
            self._serve()

    def _is_unread(self, request: Request) -> bool:
        """Whether a request's body has not arrived as a whole; nobody is going to read the rest."""
        return request.stream is not None and request.stream is self._incoming.body

    def _linger(self) -> None:
        """Let the client read the answer: closing with unread input would reset the connection and lose it."""
        self._incoming.abandon()
        self.deadline = self._loop.time() + self._settings.linger_seconds
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._transport.resume_reading()

    def _problem(self, error: PreheatError, request: Request) -> bytes:
        keep_alive = request.keep_alive and not self._is_unread(request)
        return self._endpoints.problem(error, request).encode(head_only=request.is_head, keep_alive=keep_alive)

    def _set_deadline(self) -> None:
        if not self._writable.is_set():
            seconds = self._settings.stall_seconds
        elif self._task:
            body = self._incoming.body
            seconds = self._settings.stall_seconds if body is not None and body.is_awaited else inf
        elif self._incoming.in_message:
            seconds = self._settings.head_seconds
        else:
            seconds = self._settings.idle_seconds
        self.deadline = self._loop.time() + seconds
