"""Answers to plain reads of cached objects, made straight from a request's bytes.

Ten thousand readers a second send the same header lines again and again, and parsing them takes longer than reading
the object. So ``httptools`` judges lines once, and later requests that have the same, but for their byte range, are
not parsed. Whatever is unusual is left to the connection's parser, which would have given the same answer.
"""

from __future__ import annotations

from functools import lru_cache

import httptools

from preheat.errors import InvalidPath, PreheatError
from preheat.paths import UfsPath
from preheat.store import PAGE_SIZE
from preheat.worker._freshness import Wish, wished
from preheat.worker._reads import ETags, ReadService
from preheat.worker.port import _http as http
from preheat.worker.port._access import Authorizer

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

Span = tuple[int, int] | None
"""First and last byte that are wanted; none is all of them."""
Plain = tuple[str, ETags, Wish]
"""What the header lines of a plain request say: the ``Authorization``, empty if there is none, the versions, and how
fresh they have to be."""


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

    def answer(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Return the head and the body of the answer to a request, or nothing if it takes the long way."""
        line, _, lines = data.partition(_VERSION)
        end = lines.find(_END)
        if end < 1 or end + len(_END) != len(lines) or not line.startswith(_START):
            return None
        lines, span = (lines, None) if lines in self._known else _without_range(lines)
        plain = self._known[lines] if lines in self._known else self._learn(lines)
        named = plain and _object(line[4:])
        if not (plain and named):
            return None
        authorization, accepted, wish = plain
        try:
            if self._authorizer:
                self._authorizer.check_read(authorization, named[0])
            return self._read(named[1], accepted, wish, span)
        except PreheatError:  # the long way says why, or fetches what went bad
            return None

    def _learn(self, lines: bytes) -> Plain | None:
        if len(lines) > _MAX_LINES_BYTES:
            return None
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known[lines] = plain = _judge(lines)
        return plain

    def _read(self, uri: str, accepted: ETags, wish: Wish, span: Span) -> tuple[bytes, bytes] | None:
        item = self._reads.servable(uri, accepted, wish)
        if item is None:
            return None
        status, start, end = (200, 0, item.size) if span is None else (206, span[0], min(span[1] + 1, item.size))
        if end - start > PAGE_SIZE or (span and start >= end):
            return None
        body = self._reads.read(item, start, end)
        return http.head_of_part(item, status, start, end, hit=True, keep_alive=True), body


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
