"""What a writer says of an object besides its bytes: its content type and the like, and metadata of its own. Pure.

They are kept under the names that S3's headers have, in lower case: ``content-type``, ``x-amz-meta-NAME``. Of a version
that is cached they are kept as lines of an answer's head, for an answer with them is to cost no more than one without.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from urllib.parse import quote, unquote

from preheat.errors import InvalidRequest

Attributes = Mapping[str, str]
"""By the lower-case name of their header."""
NONE: Attributes = MappingProxyType({})
META = "x-amz-meta-"
_NATIVE_META = "x-preheat-meta-"
_HEADERS = ("cache-control", "content-disposition", "content-encoding", "content-language", "content-type")
_DEFAULT_TYPE = "application/octet-stream"
_TRANSFER_CODING = "aws-chunked"
"""S3 has it in the content encoding, though it is only how the body is sent."""
_MAX_META_BYTES = 2048
"""Of the names and values, as S3 has it."""
_MAX_LINES = 4096
"""Characters of the lines that are kept of a version: some stores take more of their writers."""
LINES_HEADER = "X-Preheat-Attributes"
"""By which workers tell each other those lines, percent-encoded: as headers they would be about the transfer."""
_KEPT = re.compile(
    rb"\r\n(content-(?:type|encoding|disposition|language)|cache-control|x-amz-meta-[^:\r\n]+|x-preheat-attributes):"
    rb"[ \t]*([^\r\n]*)",
    re.IGNORECASE,
)
_PRINTABLE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_SENDABLE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


def attributes_of(headers: Mapping[str, str]) -> dict[str, str]:
    """Return what the headers of a write say of the object.

    Args:
        headers: by lower-case name.

    Raises:
        InvalidRequest: it is more than S3 takes, or not printable ASCII.
    """
    found = {name: headers[name].strip() for name in _HEADERS if name in headers}
    if found.get("content-type") == _DEFAULT_TYPE:
        del found["content-type"]
    if "content-encoding" in found:
        codings = [coding.strip() for coding in found.pop("content-encoding").split(",")]
        if kept := [coding for coding in codings if coding not in ("", _TRANSFER_CODING)]:
            found["content-encoding"] = ", ".join(kept)
    for prefix in (_NATIVE_META, META):
        found |= {META + name[len(prefix) :]: value for name, value in headers.items() if name.startswith(prefix)}
    _check(found)
    return {name: value for name, value in found.items() if value or name.startswith(META)}


def lines_of(attributes: Attributes) -> str:
    """Return attributes, of which there may be other headers, as the lines of an answer's head.

    The content type is the first. What cannot stand in a head is left out, all of it if it is too much; what is meant
    by default, too.
    """
    named = sorted((name != "content-type", name, value) for name, value in attributes.items() if _is_kept(name, value))
    text = "".join(f"{name if name.startswith(META) else name.title()}: {value}\r\n" for _, name, value in named)
    return text if len(text) <= _MAX_LINES else ""


def of_lines(lines: str) -> dict[str, str]:
    """Undo :func:`lines_of`."""
    pairs = (line.partition(": ") for line in lines.split("\r\n") if line)
    return {name.lower(): value for name, _, value in pairs}


def lines_in_head(head: bytes) -> str:
    """Return the lines of an S3 endpoint's, or another worker's, answer that tell of the object."""
    return _lines_in(tuple(_KEPT.findall(head)))


def quoted(lines: str) -> str:
    """Return lines as the value of :data:`LINES_HEADER`."""
    return quote(lines, safe=_PRINTABLE)


def unquoted(value: str) -> str:
    """Undo :func:`quoted`."""
    return lines_of(of_lines(unquote(value)))


def _is_kept(name: str, value: str) -> bool:
    known = name.startswith(META) or (name in _HEADERS and value not in ("", _DEFAULT_TYPE))
    return known and _SENDABLE.fullmatch(name) is not None and _SENDABLE.fullmatch(value) is not None


@lru_cache(maxsize=1024)
def _lines_in(found: tuple[tuple[bytes, bytes], ...]) -> str:
    fields = {name.decode("latin-1").lower(): value.decode("latin-1").strip() for name, value in found}
    told = fields.pop(LINES_HEADER.lower(), None)
    return lines_of(fields) if told is None else unquoted(told)


def metadata_of(attributes: Attributes) -> dict[str, str]:
    """Return the writer's own metadata, without the prefix of its names."""
    return {name[len(META) :]: value for name, value in attributes.items() if name.startswith(META)}


def _check(found: Attributes) -> None:
    for name, value in found.items():
        if not (value.isascii() and (value.isprintable() or not value)):
            raise InvalidRequest(
                f"{name}={value[:80]!r} is not printable ASCII.", remedy="Encode it, as RFC 2047 has it."
            )
    size = sum(len(name) + len(value) for name, value in metadata_of(found).items())
    if size > _MAX_META_BYTES:
        raise InvalidRequest(f"The metadata has {size} bytes, more than {_MAX_META_BYTES}.")
