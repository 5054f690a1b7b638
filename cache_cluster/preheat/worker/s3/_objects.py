"""GetObject and HeadObject."""

from __future__ import annotations

from collections.abc import Mapping

from preheat.errors import ObjectNotFound, StoreError, VersionChanged
from preheat.paths import UfsPath
from preheat.store import PAGE_SIZE, CachedObject
from preheat.versions import ObjectInfo
from preheat.worker._forward import WISHES, Forward
from preheat.worker._ranges import asked_by
from preheat.worker._reads import ReadService
from preheat.worker.port import Parts, Stream
from preheat.worker.port import _http as http
from preheat.worker.s3 import _answers as answers
from preheat.worker.s3._conditions import has_conditions, is_unmodified
from preheat.worker.s3._errors import S3Error
from preheat.worker.s3._requests import S3Request
from preheat.writes import HELD_PREFIX

_OVERRIDES = {
    "response-cache-control": "Cache-Control",
    "response-content-disposition": "Content-Disposition",
    "response-content-encoding": "Content-Encoding",
    "response-content-language": "Content-Language",
    "response-content-type": "Content-Type",
    "response-expires": "Expires",
}
_SIGNED = frozenset({"X-Amz-Algorithm", "AWSAccessKeyId"})
"""One of them is in the query of each presigned URL."""


class Objects:
    """Serves objects: this worker's own copies, or through whoever owns them.

    Args:
        reads: this worker's store.
        forward: finds what is not in it.
    """

    def __init__(self, reads: ReadService, forward: Forward) -> None:
        self._reads = reads
        self._forward = forward

    def hit(self, request: http.Request, item: CachedObject) -> Parts | None:
        """Return the answer to a plain request for a copy of this worker's, if it is at most one page."""
        if item.path.startswith(HELD_PREFIX):  # of what is pending more is known
            return None
        part = http.slice_of(request, item)
        head = answers.object_head(request, item, part, hit=True)
        if request.is_head:
            return (head,)
        if part.length > PAGE_SIZE:
            return None
        try:
            return head, self._reads.read(item, part.start, part.end)
        except (StoreError, ObjectNotFound, VersionChanged):  # it went, or the disk fails: the long way deals with it
            return None

    async def head(self, request: S3Request, path: UfsPath) -> bytes:
        """Answer a HeadObject."""
        info, hit = await self._stat(request, path)
        return self._head(request, info, _part(request, info), hit=hit)

    async def get(self, request: S3Request, path: UfsPath) -> bytes | Stream:
        """Answer a GetObject."""
        if has_conditions(request.headers):
            info, hit = await self._stat(request, path)
            if is_unmodified(request.headers, info):
                return self._head(request, info, http.Slice(status=304), hit=hit)
        try:
            return await self._open(request, path)
        except VersionChanged:
            if http.accepted_etags(request.headers.get("if-match")) is not None:
                raise
            return await self._open(request, path)  # it was replaced before its first page was read

    async def _open(self, request: S3Request, path: UfsPath) -> bytes | Stream:
        accepted = http.accepted_etags(request.headers.get("if-match"))
        asked = asked_by(request.headers.get("range"))
        opened = await self._forward.open(path, accepted, asked=asked, wish=_wish(request))
        part = _part(request, opened.info)
        head = self._head(request, opened.info, part, hit=opened.hit)
        if not part.length:
            return head
        pages = opened.pages(part.start, part.end)
        return Stream(head=head, length=part.length, first=await anext(pages), rest=pages)

    def _head(self, request: S3Request, info: ObjectInfo, part: http.Slice, *, hit: bool) -> bytes:
        parts = 1 if "partNumber" in request.fields else None
        return answers.object_head(request.http, info, part, hit=hit, overrides=_overrides(request), parts=parts)

    async def _stat(self, request: S3Request, path: UfsPath) -> tuple[ObjectInfo, bool]:
        accepted = http.accepted_etags(request.headers.get("if-match"))
        return await self._forward.stat(path, accepted, wish=_wish(request))


def _part(request: S3Request, info: ObjectInfo) -> http.Slice:
    """Decide what to send: all of it, a range, or nothing.

    Raises:
        S3Error: PreconditionFailed; InvalidPartNumber if there is no such part.
        UnsatisfiableRange: the range has no byte of the object.
    """
    if is_unmodified(request.headers, info):
        return http.Slice(status=304)
    number = request.fields.get("partNumber")
    if number is None:
        return http.slice_of(request.http, info)
    if number != "1":
        raise S3Error(
            "InvalidPartNumber", f"partNumber={number[:20]!r}: an object has one part here, which is all of it."
        )
    return http.Slice(status=206 if info.size else 200, end=info.size)


def _overrides(request: S3Request) -> Mapping[str, str]:
    """Return the headers that a request wants its answer to have.

    Raises:
        S3Error: InvalidRequest if it is not signed; InvalidArgument if one cannot stand in a header.
    """
    wanted = {header: request.fields[name] for name, header in _OVERRIDES.items() if name in request.fields}
    if wanted and not ("authorization" in request.headers or _SIGNED & request.fields.keys()):
        raise S3Error("InvalidRequest", "Request specific response headers cannot be used for anonymous GET requests.")
    for header, value in wanted.items():
        if not value.isprintable():
            raise S3Error("InvalidArgument", f"The value for {header} cannot stand in a header.")
    return {header: value.encode().decode("latin-1") for header, value in wanted.items()}


def _wish(request: S3Request) -> dict[str, str]:
    return {name: request.headers[name] for name in WISHES if name in request.headers}
