"""Answers of the S3 port as they go over the wire."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from itertools import count

from preheat.errors import PreheatError
from preheat.versions import ObjectInfo
from preheat.worker.port import _http as http
from preheat.worker.port._heads import version_lines, whole_head
from preheat.worker.s3 import _xml as xml
from preheat.worker.s3._errors import S3Error, fault_of

_NOT_MODIFIED, _NO_CONTENT, _PARTIAL = 304, 204, 206
_CODES = {
    "no_such_upload": "NoSuchUpload",
    "invalid_part": "InvalidPart",
    "invalid_part_order": "InvalidPartOrder",
    "entity_too_small": "EntityTooSmall",
}
"""What S3 calls the errors of uploads, by their own codes: another worker may have raised them."""
_numbers = count(secrets.randbits(60))

Overrides = Mapping[str, str]
"""Headers that an answer is to have in the place of its own, by name."""


def request_id() -> str:
    """Return an id that no other answer of this worker has."""
    return f"{next(_numbers) & 0xFFFFFFFFFFFFFFFF:016X}"


def document(body: bytes, request: http.Request, *, status: int = 200) -> bytes:
    """Return an answer with a document."""
    answer = http.Answer(status=status, body=body, content_type=xml.CONTENT_TYPE, headers=_id())
    return answer.encode(head_only=request.is_head, keep_alive=request.keep_alive)


def document_head(request: http.Request) -> bytes:
    """Return the head of an answer with a document that comes in chunks."""
    lines = f"Content-Type: {xml.CONTENT_TYPE}\r\nTransfer-Encoding: chunked\r\nx-amz-request-id: {request_id()}\r\n"
    return whole_head(200, lines, keep_alive=request.keep_alive)


def nothing(request: http.Request, *, status: int = 200, headers: Mapping[str, str] | None = None) -> bytes:
    """Return an answer without a body."""
    fields = {**_id(), **(headers or {})} | ({} if status == _NO_CONTENT else {"Content-Length": "0"})
    return whole_head(
        status, "".join(f"{name}: {value}\r\n" for name, value in fields.items()), keep_alive=request.keep_alive
    )


def problem(error: PreheatError, request: http.Request | None) -> http.Answer:
    """Return how an error is told."""
    code = _CODES.get(error.code)
    fault = fault_of(S3Error(code, error.message, remedy=error.remedy) if code else error)
    number = request_id()
    resource = request.target.partition("?")[0] if request else "/"
    headers = {"x-amz-request-id": number}
    if isinstance(error, http.UnsatisfiableRange) and "size" in error.details:
        headers["Content-Range"] = f"bytes */{error.details['size']}"
    if isinstance(error, http.MethodNotAllowed):
        headers["Allow"] = ", ".join(error.details["allow"])
    return http.Answer(
        status=fault.status,
        body=xml.error(fault, resource=resource, request_id=number),
        content_type=xml.CONTENT_TYPE,
        headers=headers,
    )


def object_head(
    request: http.Request,
    info: ObjectInfo | http.Version,
    part: http.Slice,
    *,
    hit: bool,
    overrides: Overrides | None = None,
    parts: int | None = None,
) -> bytes:
    """Return the head of an answer that serves an object, or says that it is unmodified."""
    lines = version_lines(info.etag, info.last_modified, "hit" if hit else "miss", info.attributes)
    if overrides:
        kept = (line for line in lines.splitlines(keepends=True) if line.partition(":")[0] not in overrides)
        lines = "".join(kept) + "".join(f"{name}: {value}\r\n" for name, value in overrides.items())
    length = "" if part.status == _NOT_MODIFIED else f"Content-Length: {part.length}\r\n"
    place = f"Content-Range: bytes {part.start}-{part.end - 1}/{info.size}\r\n" if part.status == _PARTIAL else ""
    count_line = f"x-amz-mp-parts-count: {parts}\r\n" if parts else ""
    own = f"x-amz-request-id: {request_id()}\r\n{lines}{length}{place}{count_line}"
    return whole_head(part.status, own, keep_alive=request.keep_alive)


def _id() -> dict[str, str]:
    return {"x-amz-request-id": request_id()}
