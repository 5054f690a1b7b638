"""What an S3 endpoint answers to a GET: the head, and which bytes of which version follow it."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from functools import lru_cache
from http import HTTPStatus

import msgspec

from preheat.attributes import lines_in_head
from preheat.errors import OriginThrottled, PreheatError
from preheat.paths import UfsPath
from preheat.ufs.s3._errors import error_code, from_answer
from preheat.ufs.s3._listing import plain_etag
from preheat.versions import ObjectInfo

HEAD_BYTES = 8 << 10
"""What the head of an answer may take."""
_SUCCESS = {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}
_LEAST_REFUSAL = int(HTTPStatus.BAD_REQUEST)
_CHECKSUM = b"x-amz-checksum-"
_FIELDS = re.compile(
    rb"\r\n(content-length|content-range|transfer-encoding|connection|etag|last-modified|retry-after|x-amz-checksum-[^:\r\n]+):"
    rb"[ \t]*([^\r\n]*)",
    re.IGNORECASE,
)
"""What is read of a head. The name ends at the colon; what the value ends with is cut."""
_MOST_RETRY_SECONDS = 30.0
"""Of a wish to be left alone; one that is longer is likely a mistake, and the next refusal repeats it."""


class UnusableError(Exception):
    """An answer that is left to another client."""


class UnfitError(UnusableError):
    """An answer in a form that cannot be read here; the next one will be no better."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The head of an answer whose body has a known length."""

    status: int
    body_start: int
    length: int
    etag: str = ""
    last_modified: float = 0.0
    content_range: str = ""
    reusable: bool = True
    """Whether the connection stays open."""
    retry_after: float = 0.0
    attributes: str = ""
    checksums: dict[str, str]
    """Of the body, as the endpoint keeps it, by algorithm: ``{"crc64nvme": "base64=="}``."""

    @property
    def refused(self) -> bool:
        """Whether it is an error."""
        return self.status >= _LEAST_REFUSAL

    def bytes_of(self, key: str, start: int, end: int | None) -> tuple[ObjectInfo, int, int]:
        """Return the version, and which bytes of it [first, last) the body is.

        Raises:
            UnusableError: they are not those asked for.
        """
        first, size = start, self.length
        if self.content_range:
            unit, _, rest = self.content_range.partition(" ")
            span, _, total = rest.partition("/")
            if unit != "bytes" or not total.isdecimal() or span != f"{start}-{start + self.length - 1}":
                raise UnusableError("it has another range")
            size = int(total)
        elif start:
            raise UnusableError("it begins elsewhere")
        if self.length != (size if end is None else min(end, size)) - first:
            raise UnusableError("it has another length")
        info = ObjectInfo(
            key=key, size=size, etag=self.etag, last_modified=self.last_modified, attributes=self.attributes
        )
        return info, first, first + self.length

    def error(self, path: UfsPath, endpoint: str, body: bytes | memoryview) -> PreheatError | None:
        """Return Preheat's error for a refusal; None if another client should ask again."""
        code = error_code(bytes(body).decode(errors="replace"))
        error = from_answer(path, endpoint, self.status, code)
        if isinstance(error, OriginThrottled):
            error.retry_after = self.retry_after
            return error
        return None if self.status >= HTTPStatus.INTERNAL_SERVER_ERROR else error


def parse_head(head: bytes) -> Answer:
    """Read the head of an answer, without the empty line.

    Raises:
        UnusableError: it is neither a success nor an error, or does not say how long its body is.
        ValueError, TypeError: it is not HTTP.
    """
    status = int(head[9:12])
    found = _FIELDS.findall(head)
    fields = {name.lower(): value.rstrip().decode("latin-1") for name, value in reversed(found)}
    plain = (
        head.startswith(b"HTTP/1.1 ")
        and b"transfer-encoding" not in fields
        and b"content-length" in fields
        and (len(fields) == len(found) or _once(b"content-length", found))
    )
    if status not in _SUCCESS:
        if status < HTTPStatus.BAD_REQUEST or not plain:
            raise UnusableError("it is no success")
        return _refusal(status, head, fields)
    if not plain:
        raise UnfitError("its length is unknown")
    return Answer(
        status=status,
        body_start=len(head) + 4,
        length=int(fields[b"content-length"]),
        etag=plain_etag(fields.get(b"etag", "")),
        last_modified=_seconds(fields.get(b"last-modified", "")),
        content_range=fields.get(b"content-range", ""),
        reusable=fields.get(b"connection", "").lower() != "close",
        attributes=lines_in_head(head),
        checksums=_checksums(fields),
    )


def _once(name: bytes, found: list[tuple[bytes, bytes]]) -> bool:
    return [other.lower() for other, _ in found].count(name) == 1


def _refusal(status: int, head: bytes, fields: dict[bytes, str]) -> Answer:
    wish = fields.get(b"retry-after", "")
    return Answer(
        status=status,
        body_start=len(head) + 4,
        length=int(fields[b"content-length"]),
        reusable=fields.get(b"connection", "").lower() != "close",
        retry_after=min(float(wish), _MOST_RETRY_SECONDS) if wish.isdecimal() else 0.0,
        checksums={},
    )


def _checksums(fields: dict[bytes, str]) -> dict[str, str]:
    """Return what the endpoint says of the whole object: not the type of its checksum, and not one of checksums."""
    prefix = len(_CHECKSUM)
    found = {name[prefix:].decode("latin-1"): value for name, value in fields.items() if name.startswith(_CHECKSUM)}
    if found.pop("type", "").upper() == "COMPOSITE":
        return {}
    return {name: value for name, value in found.items() if "-" not in value}


@lru_cache(maxsize=1024)
def _seconds(date: str) -> float:
    return parsedate_to_datetime(date).timestamp()
