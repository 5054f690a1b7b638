"""Which of Alluxio's endpoints a target is, and what its clients leave of a path that they put into a query.

``alluxiofs`` writes paths into its URLs as they are, and the library below it mends what is no URL: a space becomes
``%20``, a lone ``%`` becomes ``%25``, but ``%41`` becomes ``A`` and everything after a ``#`` is gone. What the path was
is only sure by its id, which is sent too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, unquote_to_bytes

from preheat.errors import InvalidRequest

_READ = ("GET", "HEAD")
_ROUTE = re.compile(
    r"/v1/(?:(files|info|node|load)"
    r"|(chunk|head|tail|mkdir|touch|rm|mv|copy|path)/([^/]+)"
    r"|file/([^/]+)/page/([^/]+))"
)
_METHODS = {
    **dict.fromkeys(("files", "info", "node", "head", "tail", "path"), _READ),
    **dict.fromkeys(("load", "chunk", "page"), (*_READ, "POST")),
    **dict.fromkeys(("mkdir", "touch", "rm", "mv", "copy"), ("POST",)),
}
_ID = re.compile(r"[0-9a-f]{64}")
_MAX_DIGITS = 12
_PARAMETERS = re.compile(
    "&(?:ufsFullPath|srcPath|dstPath|chunkSize|offset|length|numOfBytes|recursive|recursiveAlias|forced|thread|buffer_size"
    "|preserve|sync_parent_next_time|remove_unchecked_option|remove_alluxio_only|delete_mount_point)="
)
_HEX = re.compile(r"%[0-9A-F]{2}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """One of the endpoints."""

    name: str
    """Its first word; ``page`` for a page of a file."""
    path_id: str = ""
    page: str = ""
    query: str = ""

    @property
    def fields(self) -> dict[str, str]:
        """The query's parameters, of which the last one of a name counts."""
        return dict(parse_qsl(self.query, keep_blank_values=True, errors="replace"))

    def check_id(self) -> str:
        """Return the id.

        Raises:
            InvalidRequest: it is none.
        """
        if not _ID.fullmatch(self.path_id):
            raise InvalidRequest(
                f"{self.path_id[:80]!r} is no id of a path.", remedy="Send the path's SHA-256 in hexadecimal."
            )
        return self.path_id

    def stated(self, name: str) -> str | None:
        """Return a path in the query as it was sent, up to the next parameter that a client would send."""
        return next((raw for raw, _ in self._readings(name)), None)

    def readings(self, name: str) -> Iterator[tuple[str, Route]]:
        """Yield what a path in the query may have been, the likeliest first, and the request without it."""
        for raw, rest in self._readings(name):
            route = replace(self, query=rest)
            for text in (raw, raw.replace("+", "%20")):
                decoded = _decoded(text)
                if decoded is not None:
                    yield decoded, route
            yield raw, route
            yield _HEX.sub(lambda found: found[0].lower(), raw), route

    def _readings(self, name: str) -> Iterator[tuple[str, str]]:
        """Yield a path as it was sent, and the rest of the query; the path may have what looks like parameters."""
        begin = re.search(rf"(?:^|&){name}=", self.query)
        if begin is None:
            return
        ends = [found.start() for found in _PARAMETERS.finditer(self.query, begin.end())]
        for end in (*ends, len(self.query)):
            yield self.query[begin.end() : end], self.query[: begin.start()] + self.query[end:]

    def decoded(self, name: str) -> str:
        """Return a path in the query whose id is not sent, so that there is nothing to judge its spelling by.

        Raises:
            InvalidRequest: it is missing, or not UTF-8.
        """
        raw = self.stated(name)
        text = None if raw is None else _decoded(raw)
        if not text:
            raise InvalidRequest(
                f"The parameter {name} is missing, or no percent-encoded UTF-8.",
                remedy="A client that does not encode it loses all that follows a #.",
            )
        return text


def route_of(target: str) -> Route | None:
    """Return which endpoint a target is, if it is one of Alluxio's."""
    path, _, query = target.partition("?")
    found = _ROUTE.fullmatch(path)
    if found is None:
        return None
    plain, named, named_id, file_id, page = found.groups()
    if file_id is not None:
        return Route(name="page", path_id=file_id, page=page, query=query)
    return Route(name=plain or named, path_id=named_id or "", query=query)


def methods_of(target: str) -> tuple[str, ...]:
    """Return the methods that one of Alluxio's endpoints has; none if the target is none of them."""
    route = route_of(target)
    return _METHODS[route.name] if route else ()


def takes_body(method: str, target: str) -> bool:
    """Whether a request brings bytes of a file."""
    route = route_of(target) if method == "POST" else None
    return route is not None and route.name in ("chunk", "page")


def number(text: str, field: str) -> int:
    """Return a number of a request.

    Raises:
        InvalidRequest: it is none.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise InvalidRequest(f"{field}={text[:40]!r} is not a whole number of at most {_MAX_DIGITS} digits.")
    return int(text)


def _decoded(text: str) -> str | None:
    try:
        return unquote_to_bytes(text.encode("latin-1")).decode()
    except UnicodeError:
        return None
