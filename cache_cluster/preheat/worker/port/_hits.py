"""Answers to plain reads of cached objects, made straight from a request's bytes.

Ten thousand readers a second send the same header lines again and again, and parsing them takes longer than reading
the object. So ``httptools`` judges lines once, and later requests that have the same, but for their byte range, are
not parsed; of one that came before, byte by byte, it is known what it asks for. Whether that is allowed, and what is
cached, is looked up each time. Whatever is unusual is left to the connection's parser, which would have given the same
answer.
"""

from __future__ import annotations

from functools import lru_cache
from time import time
from typing import NamedTuple

import httptools

from preheat.errors import InvalidPath, PreheatError
from preheat.paths import UfsPath
from preheat.store import PAGE_SIZE, CachedObject
from preheat.worker._freshness import Wish, wished
from preheat.worker._reads import ETags, ReadService
from preheat.worker.port import _http as http
from preheat.worker.port._access import Authorizer
from preheat.worker.port._answers import Parts, Placed

_START = b"GET " + http.DATA_PREFIX.encode()
_VERSION = b" HTTP/1.1\r\n"
_END = b"\r\n\r\n"
_RANGE = b"ange: bytes="
_MAX_DIGITS = 18
_TARGET_BYTES = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/%=+,:@&!$'()*;"
_UNUSUAL = frozenset({
    "range", "if-range", "if-none-match", "content-length", "transfer-encoding", "upgrade", "expect",
})  # fmt: skip
"""Headers that change the answer, or what follows the head."""
_MAX_KNOWN = 1024
_MAX_LINES_BYTES = 2048
_MAX_UNDERSTOOD = 8192
"""Requests that are not even taken apart."""

Span = tuple[int, int] | None
"""First and last byte that are wanted; none is all of them."""
Plain = tuple[str, ETags, Wish]
"""What the header lines of a plain request say: the ``Authorization``, empty if there is none, the versions, and how
fresh they have to be."""
Asked = tuple[UfsPath, str, Plain, Span]
"""What a plain request asks for: the object, its URI, what the lines say, and the range."""


class Hits:
    """Recognises requests whose answer is at most one page of a cached object.

    Args:
        reads: where objects come from.
        authorizer: asked before each answer; without one everybody may read everything.
    """

    def __init__(self, reads: ReadService, authorizer: Authorizer | None) -> None:
        self._reads = reads
        self._authorizer = authorizer
        self._known: dict[bytes, Plain | None] = {}
        """By header lines, with the empty one that ends them; none if they are unusual."""
        self._understood = lru_cache(maxsize=_MAX_UNDERSTOOD)(self._understand)

    def answer(self, data: bytes, *, from_file: bool = False) -> Parts | Placed | None:
        """Return the answer to a request, or nothing if it takes the long way.

        Args:
            data: the request.
            from_file: whether the body may be sent from a file.
        """
        asked = self._understood(data) if len(data) <= _MAX_LINES_BYTES else self._understand(data)
        if asked is None:
            return None
        path, uri, (authorization, accepted, wish), span = asked
        try:
            if self._authorizer:
                self._authorizer.check_read(authorization, path)
            item = self._reads.servable(uri, accepted, wish)
            return self._send(item, span, from_file=from_file) if item else None
        except PreheatError:  # the long way says why, or fetches what went bad
            return None

    def rest(self, answer: Placed, sent: int) -> bytes:
        """Return what follows the first bytes of an answer, read; raises as ``PageStore.read`` does."""
        head, extent, item, start = answer
        of_body = max(sent - len(head), 0)
        return head[sent:] + self._reads.read(item, start + of_body, start + extent.size, counted=True)

    def _understand(self, data: bytes) -> Asked | None:
        """Return what a request asks for; none if it is not plain."""
        line, _, lines = data.partition(_VERSION)
        end = lines.find(_END)
        if end < 1 or end + len(_END) != len(lines) or not line.startswith(_START):
            return None
        lines, span = (lines, None) if lines in self._known else _without_range(lines)
        plain = self._known[lines] if lines in self._known else self._learn(lines)
        named = plain and _object(line[4:])
        return (*named, plain, span) if plain and named else None

    def _learn(self, lines: bytes) -> Plain | None:
        if len(lines) > _MAX_LINES_BYTES:
            return None
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known[lines] = plain = _judge(lines)
        return plain

    def _send(self, item: CachedObject, span: Span, *, from_file: bool) -> Parts | Placed | None:
        status, start, end = (200, 0, item.size) if span is None else (206, span[0], min(span[1] + 1, item.size))
        if end - start > PAGE_SIZE or (span and start >= end):
            return None
        extent = self._reads.extent(item, start, end) if from_file else None
        body = b"" if extent else self._reads.read(item, start, end)
        told = _Told(item.etag, item.size, item.last_modified, item.attributes)
        head = _head(told, status, start, end, int(time()))
        return Placed(head, extent, item, start) if extent else (head, body)


class _Told(NamedTuple):
    """What a head tells of an object."""

    etag: str
    size: int
    last_modified: float
    attributes: str


@lru_cache(maxsize=4096)
def _head(told: _Told, status: int, start: int, end: int, second: int) -> bytes:  # noqa: ARG001 - heads have a date
    """Return the head of a hit: whoever reads the same within a second gets the same."""
    return http.head_of_part(told, status, start, end, hit=True, keep_alive=True)


def _without_range(lines: bytes) -> tuple[bytes, Span]:
    """Take the line of a range with both ends out; any other range stays among the lines."""
    at = lines.find(_RANGE)
    if at < 1 or lines[at - 1] not in b"Rr" or lines[max(at - 3, 0) : at - 1] not in (b"\r\n", b""):
        return lines, None
    line_end = lines.find(b"\r\n", at)
    first, _, last = lines[at + len(_RANGE) : line_end].partition(b"-")
    if not (first.isdigit() and last.isdigit()) or max(len(first), len(last)) > _MAX_DIGITS:
        return lines, None
    return lines[: at - 1] + lines[line_end + 2 :], (int(first), int(last))


@lru_cache(maxsize=16384)
def _object(target: bytes) -> tuple[UfsPath, str] | None:
    """Return the object of a target and its URI, if the target is spelled plainly."""
    if target.translate(None, _TARGET_BYTES):
        return None
    try:
        path = http.data_path(target.decode("ascii"))
    except InvalidPath:
        return None
    return path, str(path)


class _Judge:
    """Has ``httptools`` read a request with some header lines."""

    def __init__(self, lines: bytes) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._lines: list[tuple[bytes, bytes]] = []
        self._kept_alive: list[bool] = []
        self._parser.feed_data(_START + _VERSION + lines)
        self._headers = http.headers_of(self._lines)

    @property
    def plain(self) -> bool:
        """Whether it is one request that asks for nothing unusual."""
        return self._kept_alive == [True] and not _UNUSUAL & self._headers.keys()

    @property
    def meaning(self) -> Plain:
        """What the lines say."""
        headers = self._headers
        return headers.get("authorization", ""), http.accepted_etags(headers.get("if-match")), wished(headers)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._lines.append((name, value))

    def on_message_complete(self) -> None:
        self._kept_alive.append(self._parser.should_keep_alive())


def _judge(lines: bytes) -> Plain | None:
    """Return what the lines say if they are a plain request's."""
    try:
        judge = _Judge(lines)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    return judge.meaning if judge.plain else None
