"""What the data port answers to writes: see "Writes" in the REST reference."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Mapping
from urllib.parse import unquote

import msgspec

from preheat.attributes import attributes_of
from preheat.engine import is_token
from preheat.errors import InvalidRequest, ObjectNotFound
from preheat.paths import UfsPath
from preheat.versions import ObjectInfo
from preheat.worker.port import _http as http
from preheat.worker.port._access import Authorizer
from preheat.worker.port._request_body import Intake
from preheat.worker.writes import FORWARDED, WriteService, info_json, part_json, upload_json

_COPY = "/v1/copy"
_HELD = "/v1/held"
_UPLOADS = "/v1/uploads"
_WRITTEN = "/v1/written"
_UPLOAD = re.compile(r"/v1/uploads/([^/?]+)(?:/(\d{1,9}))?")
_FORWARDED = FORWARDED.lower()


class WrongDigest(InvalidRequest):
    """The body is not what its Content-MD5 says."""

    code = "bad_digest"


class _PartName(msgspec.Struct, frozen=True):
    number: int
    etag: str


class _Parts(msgspec.Struct, frozen=True):
    parts: list[_PartName]


class WriteEndpoints:
    """Answers the requests that change objects.

    Args:
        writes: changes them.
        authorizer: says which uploads a reader may see; none shows them all.
        may_copy: asked about each source; raises AccessDenied for what must not be read on a client's behalf.
    """

    def __init__(
        self, writes: WriteService, *, authorizer: Authorizer | None, may_copy: Callable[[UfsPath], None]
    ) -> None:
        self._writes = writes
        self._authorizer = authorizer
        self._may_copy = may_copy

    def answers(self, request: http.Request) -> bool:
        """Whether a request is one of these."""
        if request.target.startswith(http.DATA_PREFIX):
            return request.method in ("PUT", "DELETE")
        return methods_of(request.target) is not None

    async def answer(self, request: http.Request) -> http.Answer:
        """Return the answer to such a request.

        Raises:
            PreheatError: it cannot be done.
        """
        if request.target.startswith(http.DATA_PREFIX):
            return await (self._put if request.method == "PUT" else self._delete)(request)
        if request.method != "POST" or _UPLOAD.match(request.target) is None:
            _refuse_conditions(request)
        route, fields = http.split_target(request.target)
        path = http.path_parameter(fields)
        if route == _COPY:
            self._may_copy(path)
            target = UfsPath.parse(fields.get("target", ""))
            attributes = attributes_of(request.headers) if fields.get("attributes") == "replace" else None
            forwarded, etag = self._is_forwarded(request), fields.get("etag")
            return _object(await self._writes.copy(path, target, attributes=attributes, etag=etag, forwarded=forwarded))
        if route == _WRITTEN:
            self._check_worker(request)
            revision, pending = _number(fields.get("revision", ""), "revision"), "pending" in fields
            known = await self._writes.wait_known(revision, pending=pending)
            return http.json_answer({"known": known})
        if route == _HELD:
            return await self._hold(request, path, fields)
        if route == _UPLOADS:
            return await self._uploads(request, path)
        return await self._upload(request, path, route)

    async def _put(self, request: http.Request) -> http.Answer:
        path = http.data_path(request.target)
        info = await self._writes.put(
            path,
            _chunks(request),
            size=request.length,
            if_match=_if_match(request),
            if_none_match=_if_none_match(request),
            attributes=attributes_of(request.headers),
            forwarded=self._is_forwarded(request),
        )
        return _object(info)

    async def _delete(self, request: http.Request) -> http.Answer:
        _refuse_conditions(request)
        path = http.data_path(request.target)
        if not await self._writes.delete(path, forwarded=self._is_forwarded(request)):
            raise ObjectNotFound(f"path='{path}' does not exist.")
        return http.json_answer({"deleted": str(path)})

    async def _hold(self, request: http.Request, path: UfsPath, fields: Mapping[str, str]) -> http.Answer:
        self._check_worker(request)
        write_id, etag = fields.get("id", ""), fields.get("etag", "")
        if request.method == "DELETE" and is_token(write_id):
            await self._writes.release(path, write_id)
            return http.json_answer({"released": write_id})
        if not (is_token(write_id) and etag and request.length is not None):
            raise InvalidRequest("id, etag or Content-Length is missing.", remedy="This is for workers alone.")
        await self._writes.hold(path, write_id, _chunks(request), etag=etag, size=request.length)
        return http.json_answer({"held": write_id})

    async def _uploads(self, request: http.Request, path: UfsPath) -> http.Answer:
        if request.method == "POST":
            upload_id = await self._writes.create_upload(
                path, attributes=attributes_of(request.headers), forwarded=self._is_forwarded(request)
            )
            return http.json_answer({"path": str(path), "upload": upload_id})
        uploads = await self._writes.list_uploads(path, forwarded=self._is_forwarded(request))
        shown = [upload_json(upload) for upload in uploads if self._may_see(request, upload.path)]
        return http.json_answer({"uploads": shown})

    def _is_forwarded(self, request: http.Request) -> bool:
        """Whether a worker passed a request on; raises Forbidden if somebody else says so."""
        if (shown := request.headers.get(_FORWARDED)) is None:
            return False
        self._writes.check_forwarded(shown)
        return True

    def _check_worker(self, request: http.Request) -> None:
        """Return if a worker asks; raises Forbidden."""
        self._writes.check_forwarded(request.headers.get(_FORWARDED, ""))

    def _may_see(self, request: http.Request, uri: str) -> bool:
        """Whether an upload whose path begins like the one that was asked for is within what the token is for."""
        if self._authorizer is None:
            return True
        return self._authorizer.grant(request.headers.get("authorization", "")).covers(UfsPath.parse(uri))

    async def _upload(self, request: http.Request, path: UfsPath, route: str) -> http.Answer:
        match = _UPLOAD.fullmatch(route)
        if match is None:
            raise http.unknown_target(request.target)
        upload_id, number = unquote(match[1]), match[2]
        if request.method == "PUT":
            chunks = _chunks(request)
            etag = await self._writes.upload_part(path, upload_id, int(number), chunks, size=request.length)
            return http.Answer(body=msgspec.json.encode({"etag": etag}), headers={"ETag": f'"{etag}"'})
        if request.method == "POST":
            parts = [(part.number, part.etag) for part in _decode_parts(request.body)]
            info = await self._writes.complete_upload(
                path, upload_id, parts, if_match=_if_match(request), if_none_match=_if_none_match(request)
            )
            return _object(info)
        if request.method == "DELETE":
            await self._writes.abort_upload(path, upload_id)
            return http.json_answer({"aborted": upload_id})
        found = await self._writes.list_parts(path, upload_id)
        return http.json_answer({"parts": [part_json(part) for part in found]})


def methods_of(target: str) -> tuple[str, ...] | None:
    """Return the methods of a target that only writes have; none if it is another one."""
    route = target.partition("?")[0]
    if route in (_COPY, _WRITTEN):
        return ("POST",)
    if route == _HELD:
        return ("DELETE", "PUT")
    if route == _UPLOADS:
        return ("GET", "POST")
    match = _UPLOAD.fullmatch(route)
    if match is None:
        return None
    return ("PUT",) if match[2] else ("DELETE", "GET", "POST")


def intake_of(method: str, target: str) -> Intake | None:
    """Return what becomes of the body of a write; none if it is no write that has one."""
    if method == "PUT" and (target.startswith(http.DATA_PREFIX) or "PUT" in (methods_of(target) or ())):
        return Intake.STREAMED
    return Intake.HELD if method == "POST" and _UPLOAD.fullmatch(target.partition("?")[0]) else None


def _object(info: ObjectInfo) -> http.Answer:
    return http.Answer(body=msgspec.json.encode(info_json(info)), headers={"ETag": f'"{info.etag}"'})


def _refuse_conditions(request: http.Request) -> None:
    """Refuse what would be done whether or not its condition holds; raises InvalidRequest."""
    for name in ("if-match", "if-none-match"):
        if name in request.headers:
            raise InvalidRequest(
                f"{name} is not possible here.", remedy="Only a whole object, or an upload's end, takes it."
            )


def _if_match(request: http.Request) -> str | None:
    header = request.headers.get("if-match")
    if header is None or header.strip() == "*":
        return header and "*"
    accepted = http.accepted_etags(header) or ()
    if len(accepted) != 1:
        raise InvalidRequest(f"If-Match: {header[:80]} does not name one strong etag.", remedy='Write "ETAG", or *.')
    return accepted[0]


def _if_none_match(request: http.Request) -> bool:
    header = request.headers.get("if-none-match")
    if header is not None and header.strip() != "*":
        raise InvalidRequest(f"If-None-Match: {header[:80]} is not possible for a write.", remedy="Write *.")
    return header is not None


def _chunks(request: http.Request) -> AsyncIterator[bytes]:
    assert request.stream is not None
    expected = request.headers.get("content-md5")
    return request.stream if expected is None else _checked(request.stream, expected)


async def _checked(chunks: AsyncIterator[bytes], expected: str) -> AsyncIterator[bytes]:
    """Yield a body that is to match a ``Content-MD5``; raises WrongDigest in the end if it does not."""
    try:
        digest = base64.b64decode(expected, validate=True)
    except binascii.Error as error:
        raise WrongDigest(f"Content-MD5: {expected[:80]} is not base64.") from error
    md5 = hashlib.md5(usedforsecurity=False)
    async for chunk in chunks:
        md5.update(chunk)
        yield chunk
    if md5.digest() != digest:
        raise WrongDigest(f"The body has the MD5 {base64.b64encode(md5.digest()).decode()}, not {expected}.")


def _decode_parts(body: bytes) -> list[_PartName]:
    try:
        return msgspec.json.decode(body, type=_Parts).parts
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"The parts cannot be read: {error}.", remedy='Send {"parts": [{"number": 1, "etag": "…"}, …]}.'
        ) from error


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise InvalidRequest(f"{name}={text[:40]!r} is not a number.")
    return int(text)
