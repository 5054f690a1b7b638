"""The lines that answers begin with: asked for ten thousand times a second, so what repeats is written once."""

from __future__ import annotations

import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from preheat.attributes import LINES_HEADER, quoted

_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


def whole_head(status: int, lines: str, *, keep_alive: bool) -> bytes:
    """Return the head of an answer, of which ``lines`` are the headers that are its own."""
    connection = "keep-alive" if keep_alive else "close"
    return f"{_first_lines(status, int(time.time()))}{lines}Connection: {connection}\r\n\r\n".encode("latin-1")


@lru_cache(maxsize=16384)
def version_lines(etag: str, last_modified: float, cache: str, attributes: str = "") -> str:
    """Return the headers that tell of one version of an object.

    Args:
        etag: of it.
        last_modified: seconds since the epoch.
        cache: whether it was a ``hit`` or a ``miss``.
        attributes: what its writer said of it, as lines: that of the content type comes first.
    """
    kind = "" if attributes.startswith("Content-Type:") else "Content-Type: application/octet-stream\r\n"
    return (
        f'{kind}{attributes}ETag: "{etag}"\r\nLast-Modified: {_http_date(int(last_modified))}'
        f"\r\nAccept-Ranges: bytes\r\nX-Preheat-Cache: {cache}\r\n"
    )


@lru_cache(maxsize=16384)
def native_lines(etag: str, last_modified: float, cache: str, attributes: str) -> str:
    """Return the headers of the data port: the writer's attributes are one, and not about the transfer."""
    told = f"{LINES_HEADER}: {quoted(attributes)}\r\n" if attributes else ""
    return version_lines(etag, last_modified, cache) + told


@lru_cache(maxsize=4096)
def _http_date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


@lru_cache(maxsize=64)
def _first_lines(status: int, now: int) -> str:
    return f"HTTP/1.1 {_STATUS_LINES[status]}\r\nDate: {_http_date(now)}\r\n"
