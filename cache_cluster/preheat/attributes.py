"""What a writer says of an object besides its bytes: its content type and the like, and metadata of its own. Pure.

They are kept under the names that S3's headers have, in lower case: ``content-type``, ``x-amz-meta-NAME``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

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
