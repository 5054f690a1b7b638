"""HTTP as the data port needs it, without sockets: targets, conditions, ranges and the heads of answers.

One range, in bytes, is served; a Range that is malformed, or that names several, is ignored, as RFC 9110 allows. The
order of the conditions is the RFC's: If-Match (which chooses the version, see the read service), If-None-Match, Range.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import parse_qs

import msgspec

from preheat.errors import InvalidRequest, NotFound, PreheatError, Unauthenticated
from preheat.paths import UfsPath
from preheat.worker._ranges import parse_range
from preheat.worker.port._heads import native_lines, whole_head

DATA_PREFIX = "/v1/data/"
_ETAG = re.compile(r'(W/)?"([^"]*)"|([^\s,"]+)')
_MAX_DIGITS = 18
_MAX_LIST = 10_000
_PARTIAL_CONTENT = HTTPStatus.PARTIAL_CONTENT.value
_NOT_MODIFIED = HTTPStatus.NOT_MODIFIED.value


class MethodNotAllowed(InvalidRequest):
    """The target is there, but not for this method."""

    code = "method_not_allowed"
    status = 405


class HeadTooLarge(InvalidRequest):
    """The request line and the headers exceed the limit."""

    code = "head_too_large"
    status = 431


class BodyTooLarge(InvalidRequest):
    """The request's body exceeds the limit."""

    code = "body_too_large"
    status = 413


class UnsatisfiableRange(InvalidRequest):
    """The range begins behind the object's end."""

    code = "range_not_satisfiable"
    status = 416


class Version(Protocol):
    """What an answer tells of an object: cached or listed."""

    @property
    def etag(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def last_modified(self) -> float: ...
    @property
    def attributes(self) -> str: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One request."""

    method: str
    target: str
    headers: Mapping[str, str]
    """By lower-case name."""
    keep_alive: bool
    body: bytes = b""
    """A small body, whole."""
    stream: AsyncIterator[bytes] | None = None
    """A large body in its place, as it comes; its reader sets the pace. It has to be read to the end."""
    length: int | None = None
    """Bytes of the stream; none if it is chunked."""

    @property
    def is_head(self) -> bool:
        """Whether only the head of the answer is wanted."""
        return self.method == "HEAD"


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice:
    """Which bytes [start, end) of an object answer a request, and the status."""

    status: int
    start: int = 0
    end: int = 0

    @property
    def length(self) -> int:
        """Bytes."""
        return self.end - self.start


@dataclass(frozen=True, kw_only=True, slots=True)
class ListQuery:
    """The parameters of ``/v1/list`` and ``/v1/cached``."""

    path: UfsPath
    after: str
    limit: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A short answer with its body."""

    status: int = 200
    body: bytes
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)

    def encode(self, *, head_only: bool, keep_alive: bool) -> bytes:
        """Return the bytes that go out."""
        headers = {
            "Content-Type": self.content_type,
            "Content-Length": str(len(self.body)),
            **self.headers,
        }
        head = _head(self.status, headers, keep_alive=keep_alive)
        return head if head_only else head + self.body


def headers_of(lines: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return header lines by lower-case name; one that comes again continues the first, as RFC 9110 says."""
    headers = {_field_name(name): value.decode("latin-1") for name, value in lines}
    if len(headers) < len(lines):
        headers = {}
        for name, value in lines:
            field, text = _field_name(name), value.decode("latin-1")
            headers[field] = f"{headers[field]}, {text}" if field in headers else text
    return headers


def json_answer(value: Any) -> Answer:
    """Return a value as JSON."""
    return Answer(body=msgspec.json.encode(value))


def problem_answer(error: PreheatError) -> Answer:
    """Return an error as problem+json."""
    headers = {"Allow": ", ".join(error.details["allow"])} if isinstance(error, MethodNotAllowed) else {}
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, UnsatisfiableRange) and "size" in error.details:
        headers["Content-Range"] = f"bytes */{error.details['size']}"
    return Answer(
        status=error.status,
        body=msgspec.json.encode(error.problem()),
        content_type="application/problem+json",
        headers=headers,
    )


@lru_cache(maxsize=4096)
def data_path(target: str) -> UfsPath:
    """Return the object that a target below ``/v1/data/`` names.

    Raises:
        InvalidPath: it names none.
    """
    return UfsPath.from_url_path(target.removeprefix(DATA_PREFIX).partition("?")[0])


def split_target(target: str) -> tuple[str, dict[str, str]]:
    """Return a target's path and its parameters, of which the last one of a name counts.

    Raises:
        InvalidRequest: a parameter is not UTF-8.
    """
    path, _, query = target.partition("?")
    try:
        fields = parse_qs(query, keep_blank_values=True, errors="strict")
    except ValueError as error:
        raise InvalidRequest(f"The query {query[:200]!r} is not percent-encoded UTF-8.") from error
    return path, {name: values[-1] for name, values in fields.items()}


def path_parameter(fields: Mapping[str, str]) -> UfsPath:
    """Return the parameter ``path``.

    Raises:
        InvalidRequest: it is missing, or no path.
    """
    if "path" not in fields:
        raise InvalidRequest("The parameter path is missing.", remedy="Add ?path=s3://BUCKET/KEY.")
    return UfsPath.parse(fields["path"])


def list_query(fields: Mapping[str, str]) -> ListQuery:
    """Return the parameters of a listing.

    Raises:
        InvalidRequest: one of them cannot be used.
    """
    text = fields.get("limit", "1000")
    limit = int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else 0
    if not 1 <= limit <= _MAX_LIST:
        raise InvalidRequest(f"limit={text[:40]!r} is not a number from 1 to {_MAX_LIST}.")
    return ListQuery(path=path_parameter(fields), after=fields.get("after", ""), limit=limit)


def accepted_etags(header: str | None) -> tuple[str, ...] | None:
    """Return the versions that an If-Match accepts; none is any. A weak tag matches nothing."""
    if header is None or header.strip() == "*":
        return None
    return tuple(quoted or bare for weak, quoted, bare in _ETAG.findall(header) if not weak)


def slice_of(request: Request, info: Version) -> Slice:
    """Decide what to send of an object: all of it (200), a range (206) or nothing (304).

    Raises:
        UnsatisfiableRange: the range has no byte of the object.
    """
    headers = request.headers
    known = headers.get("if-none-match")
    if known is not None and names(known, info.etag):
        return Slice(status=304)
    byte_range = headers.get("range")
    if byte_range is None or headers.get("if-range") not in (None, f'"{info.etag}"'):
        return Slice(status=200, end=info.size)
    return _range(byte_range, info.size)


def object_head(request: Request, info: Version, part: Slice, *, hit: bool) -> bytes:
    """Return the head of an answer that serves an object."""
    return head_of_part(info, part.status, part.start, part.end, hit=hit, keep_alive=request.keep_alive)


def head_of_part(info: Version, status: int, start: int, end: int, *, hit: bool, keep_alive: bool) -> bytes:
    """Return the head of an answer with bytes [start, end) of an object."""
    length = "" if status == _NOT_MODIFIED else f"Content-Length: {end - start}\r\n"
    place = f"Content-Range: bytes {start}-{end - 1}/{info.size}\r\n" if status == _PARTIAL_CONTENT else ""
    lines = native_lines(info.etag, info.last_modified, "hit" if hit else "miss", info.attributes)
    return whole_head(status, f"{lines}{length}{place}", keep_alive=keep_alive)


def chunked_head(content_type: str, *, keep_alive: bool) -> bytes:
    """Return the head of an answer whose length is not known yet."""
    lines = f"Content-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n"
    return whole_head(HTTPStatus.OK.value, lines, keep_alive=keep_alive)


def unknown_target(target: str) -> NotFound:
    """Return the error for a target that is no endpoint."""
    return NotFound(
        f"There is nothing at {target[:200]!r}.",
        remedy="The data port has /v1/data/, /v1/batch, /v1/list, /v1/cached, /v1/stat, /v1/stats and /v1/healthz.",
    )


@lru_cache(maxsize=1024)
def _field_name(name: bytes) -> str:
    return name.decode("latin-1").lower()


def names(if_none_match: str, etag: str) -> bool:
    """Whether a list of etags has this one; weak ones count."""
    tags = _ETAG.findall(if_none_match)
    return if_none_match.strip() == "*" or any(etag == (quoted or bare) for _, quoted, bare in tags)


def _range(header: str, size: int) -> Slice:
    found = parse_range(header)
    if found is None:
        return Slice(status=200, end=size)
    start, end = found.within(size)
    if start >= end:
        raise UnsatisfiableRange(f"The range {header.strip()!r} has no byte of {size}.", size=size)
    return Slice(status=206, start=start, end=end)


def _head(status: int, headers: Mapping[str, str], *, keep_alive: bool) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return whole_head(status, lines, keep_alive=keep_alive)
