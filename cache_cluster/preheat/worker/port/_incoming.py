"""What a client sends, as requests: ``httptools`` parses it, and what exceeds a limit is refused.

A request whose body is streamed is handed out with its head; any other one once it is whole. A request that cannot be
understood, or taken, is the last one of its connection: whatever follows it is never read as another request.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import httptools

from preheat.errors import InvalidRequest, PreheatError
from preheat.worker.port._http import BodyTooLarge, HeadTooLarge, Request, headers_of
from preheat.worker.port._limits import ServerSettings
from preheat.worker.port._request_body import Intake, RequestBody

_CODING = "transfer-encoding"


class Incoming:
    """The requests of one connection; ``httptools`` calls the ``on_`` methods.

    Args:
        settings: the limits.
        intake: says by the method and the target what becomes of a request's body.
        admit: raises if a request must not be made, so that its body need not be held; without, each may.
        on_begin: called when a request begins.
        on_expect: called when a client waits to be told that its body is held.
        on_demand: called when the reader of a streamed body wants more.
    """

    def __init__(
        self,
        settings: ServerSettings,
        intake: Callable[[str, str], Intake],
        *,
        admit: Callable[[Request], None] | None = None,
        on_begin: Callable[[], None],
        on_expect: Callable[[], None],
        on_demand: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._intake = intake
        self._admit = admit
        self._on_begin = on_begin
        self._on_expect = on_expect
        self._on_demand = on_demand
        self._parser = httptools.HttpRequestParser(self)
        self._marks = 0
        """Rises with whatever makes the bytes that were counted lawful: a new head, a piece of a streamed body."""
        self._head_bytes = self._field_bytes = 0
        self._in_head = False
        self.queue: deque[Request | PreheatError] = deque()
        """What has been read and waits to be answered; an error is the last."""
        self.ended = False
        """Whether no further request is taken."""
        self.in_message = False
        """Whether a request has begun that is not whole."""
        self.body: RequestBody | None = None
        """The streamed body that is not whole."""

    @property
    def is_open(self) -> bool:
        """Whether what comes is parsed."""
        return not self.ended or (self.body is not None and not self.body.is_over)

    def feed(self, data: bytes) -> None:
        """Parse what came."""
        marks = self._marks if self.in_message else None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # HTTP/1.1 goes on being spoken, for this one answer
            self.ended = True
        except httptools.HttpParserError as error:
            self._refuse(InvalidRequest(f"This is not an HTTP request: {error}."))
        if self.in_message and marks == self._marks:
            self._head_bytes += len(data)
            if self._head_bytes > self._settings.max_head_bytes:
                self._refuse(self._too_large())

    def end(self) -> None:
        """Note that the client sends no more."""
        self.ended = True
        if self.body is not None:
            self.body.fail(InvalidRequest("The request's body ended early."))
            self.body = None

    def abandon(self) -> None:
        """Take nothing more: a body was not read to its end, so nobody knows where the next request begins."""
        self.ended = True
        self.body = None

    # What the parser tells.

    def on_message_begin(self) -> None:
        self.in_message = self._in_head = True
        self._marks += 1
        self._head_bytes = self._field_bytes = 0
        self._url = b""
        self._lines: list[tuple[bytes, bytes]] = []
        self._on_begin()

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._field_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            self._lines.append((name, value))
        else:  # a trailer: what was checked of the head must not change behind it
            self._field_bytes += len(name) + len(value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._held = bytearray()
        if self.ended:
            return
        self._field_bytes += sum([len(name) + len(value) for name, value in self._lines])
        self._headers = headers_of(self._lines)
        length = int(self._headers.get("content-length", "0"))  # the parser has refused what is no number
        self._method, self._target = self._parser.get_method().decode("ascii"), self._url.decode("latin-1")
        kind = self._intake(self._method, self._target)
        refusal = self._refusal(kind, length)
        if refusal is None and length and kind is Intake.HELD:
            refusal = self._denial()
        if refusal is not None:
            self._refuse(refusal)
        elif kind is Intake.STREAMED:
            self._stream(None if _CODING in self._headers else length)
        elif length and self._expects_continue:
            self._on_expect()

    def on_body(self, data: bytes) -> None:
        if self.body is not None:
            self._marks += 1
            self._head_bytes = 0
            self.body.feed(data)
            return
        self._head_bytes -= len(data)  # until the request is whole, what arrives is counted as its head
        if not self.ended:
            self._held += data

    def on_message_complete(self) -> None:
        self.in_message = False
        if self.body is not None:
            body, self.body = self.body, None
            if self._field_bytes > self._settings.max_head_bytes:  # with its trailers
                body.fail(self._too_large())
                self.ended = True
            else:
                body.end()
            self.ended = self.ended or not self._parser.should_keep_alive()
        elif not self.ended:
            request = self._request(body=bytes(self._held))
            self.queue.append(request)
            self.ended = not request.keep_alive

    def _refusal(self, kind: Intake, length: int) -> PreheatError | None:
        """Return why a request is not taken, judged by its head."""
        coding = self._headers.get(_CODING)
        if self._field_bytes > self._settings.max_head_bytes:
            return self._too_large()
        if coding is None and not length:
            return None
        if kind is Intake.REFUSED:
            return InvalidRequest("A request with a body is not taken here.")
        if self._parser.should_upgrade():  # the parser would take the body for another protocol
            return InvalidRequest("A request with a body cannot ask for another protocol.")
        if kind is Intake.HELD and length > self._settings.max_body_bytes:
            return BodyTooLarge(f"The request's body has more than {self._settings.max_body_bytes} bytes.")
        in_chunks = kind is Intake.STREAMED and self._is_1_1
        decodable = coding is None or (coding.lower() == "chunked" and in_chunks)
        return None if decodable else InvalidRequest("A request with a body in this coding is not taken here.")

    def _denial(self) -> PreheatError | None:
        """Return why a request must not be made: said before its body is held."""
        try:
            if self._admit:
                self._admit(self._request())
        except PreheatError as error:
            return error
        return None

    def _stream(self, length: int | None) -> None:
        limit, continue_due = self._settings.receive_buffer_bytes, self._expects_continue
        self.body = RequestBody(limit=limit, continue_due=continue_due, on_demand=self._on_demand)
        self._marks += 1
        self._head_bytes = 0
        self.queue.append(self._request(stream=self.body, length=length))

    @property
    def _expects_continue(self) -> bool:
        return self._is_1_1 and self._headers.get("expect", "").lower() == "100-continue"

    @property
    def _is_1_1(self) -> bool:
        return bool(self._parser.get_http_version() == "1.1")

    def _request(self, *, body: bytes = b"", stream: RequestBody | None = None, length: int | None = None) -> Request:
        return Request(
            method=self._method,
            target=self._target,
            headers=self._headers,
            keep_alive=self._parser.should_keep_alive(),
            body=body,
            stream=stream,
            length=length,
        )

    def _refuse(self, error: PreheatError) -> None:
        """Have what came before answered, and then said why nothing more is."""
        if self.body is not None:
            self.body.fail(error)
        elif not self.ended:
            self.queue.append(error)
        self.ended = True

    def _too_large(self) -> HeadTooLarge:
        return HeadTooLarge(f"The request's head has more than {self._settings.max_head_bytes} bytes.")
