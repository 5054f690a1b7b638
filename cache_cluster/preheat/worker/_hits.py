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
from preheat.worker import _http as http
from preheat.worker._access import Authorizer
from preheat.worker._reads import ReadService

_START = b"GET " + http.DATA_PREFIX.encode()
_VERSION = b" HTTP/1.1\r\n"
_END = b"\r\n\r\n"
_RANGE = b"ange: bytes="
_MAX_DIGITS = 18
_TARGET_BYTES = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/%=+,:@&!$'()*;"
_UNUSUAL = frozenset({
    "range", "if-range", "if-match", "if-none-match", "content-length", "transfer-encoding", "upgrade", "expect",
})  # fmt: skip
"""Headers that change the answer, or what follows the head."""
_MAX_KNOWN = 1024
_MAX_LINES_BYTES = 2048

Span = tuple[int, int] | None
"""First and last byte that are wanted; none is all of them."""


class Hits:
    """Recognises requests whose answer is at most one page of a cached object.

    Args:
        reads: where objects come from.
        authorizer: asked before each answer; without one everybody may read everything.
    """

    def __init__(self, reads: ReadService, authorizer: Authorizer | None) -> None:
        self._reads = reads
        self._authorizer = authorizer
        self._authorizations: dict[bytes, str | None] = {}
        """By header lines, the value of their ``Authorization``; none if the lines are unusual."""

    def answer(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Return the head and the body of the answer to a request, or nothing if it takes the long way."""
        target_end = data.find(b" ", len(_START))
        if not (data.startswith(_START) and data.startswith(_VERSION, target_end)):
            return None
        lines_start = target_end + len(_VERSION)
        if data.find(_END, lines_start - 2) != len(data) - len(_END):
            return None
        lines, span = _without_range(data[lines_start:-2])
        authorization = self._authorization(lines)
        named = None if authorization is None else _object(data[4:target_end])
        if authorization is None or named is None:
            return None
        try:
            if self._authorizer:
                self._authorizer.check_read(authorization, named[0])
            return self._read(named[1], span)
        except PreheatError:  # the long way says why, or fetches what went bad
            return None

    def _authorization(self, lines: bytes) -> str | None:
        known = self._authorizations
        try:
            return known[lines]
        except KeyError:
            if len(lines) > _MAX_LINES_BYTES:
                return None
            if len(known) >= _MAX_KNOWN:
                known.clear()
            known[lines] = _judge(lines)
            return known[lines]

    def _read(self, uri: str, span: Span) -> tuple[bytes, bytes] | None:
        item = self._reads.lookup(uri)
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
        self._headers: dict[str, str] = {}
        self._kept_alive: list[bool] = []
        self._parser.feed_data(_START + _VERSION + lines + b"\r\n")

    @property
    def plain(self) -> bool:
        """Whether it is one request that asks for nothing unusual."""
        return self._kept_alive == [True] and not _UNUSUAL & self._headers.keys()

    @property
    def authorization(self) -> str:
        """The header ``Authorization``, empty if there is none."""
        return self._headers.get("authorization", "")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_message_complete(self) -> None:
        self._kept_alive.append(self._parser.should_keep_alive())


def _judge(lines: bytes) -> str | None:
    """Return the ``Authorization`` of a plain request with these lines; none if the request is not plain."""
    try:
        judge = _Judge(lines)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    return judge.authorization if judge.plain else None
