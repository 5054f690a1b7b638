"""A request in the form that AWS Signature Version 4 hashes.

It is S3's own: the path is percent-encoded once and never normalised, so ``//`` and ``..`` stay as they are. Clients
may write more characters plainly, or escape more, than the canonical form does; that is undone here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote_to_bytes

from preheat.worker.s3._errors import S3Error

_PLAIN = re.compile(r"[A-Za-z0-9_.~/-]*")
"""A path that is canonical as it stands."""
_PLAIN_FIELD = re.compile(r"(?:[A-Za-z0-9_.~-]|%[0-9A-F]{2})*")
_NEEDLESS = re.compile(r"%(?:2D|2E|5F|7E|3[0-9]|[46][1-9A-F]|[57][0-9A])")
"""An escape of a character that the canonical form has plainly."""
_BLANKS = re.compile(r"[ \t]+")


def canonical_path(path: str) -> str:
    """Return a request's path as it is signed: percent-encoded as S3 does, once."""
    if _PLAIN.fullmatch(path):
        return path
    return quote(unquote_to_bytes(path.encode("latin-1")), safe="/~")


def canonical_query(query: str, *, without: str = "") -> str:
    """Return a query as it is signed: every field percent-encoded and in order, but for the one named."""
    if not query:
        return ""
    fields = []
    for text in query.split("&"):
        name, _, value = text.partition("=")
        if text and name != without:
            fields.append((_canonical_field(name), _canonical_field(value)))
    fields.sort()
    return "&".join([f"{name}={value}" for name, value in fields])


def canonical_headers(signed: str, headers: Mapping[str, str]) -> str:
    """Return the lines of the signed headers.

    Raises:
        S3Error: SignatureDoesNotMatch, if one of them is not there.
    """
    lines = []
    for name in signed.split(";"):
        value = headers.get(name)
        if value is None:
            raise S3Error("SignatureDoesNotMatch", f"The header {name[:80]!r} is signed, and not there.")
        if "  " in value or "\t" in value or value != value.strip(" "):
            value = _BLANKS.sub(" ", value).strip(" ")
        lines.append(f"{name}:{value}\n")
    return "".join(lines)


def _canonical_field(text: str) -> str:
    if _PLAIN_FIELD.fullmatch(text) and ("%" not in text or not _NEEDLESS.search(text)):
        return text
    return quote(unquote_to_bytes(text.replace("+", " ").encode("latin-1")), safe="~")
