"""PutObject, CopyObject, DeleteObject and DeleteObjects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar
from urllib.parse import unquote_to_bytes

from preheat.attributes import Attributes, attributes_of
from preheat.errors import PreheatError, VersionChanged
from preheat.paths import UfsPath
from preheat.versions import ObjectInfo
from preheat.worker._forward import Forward
from preheat.worker.port import Stream
from preheat.worker.s3 import _answers as answers
from preheat.worker.s3 import _xml as xml
from preheat.worker.s3._access import check_read, check_write
from preheat.worker.s3._conditions import check_source
from preheat.worker.s3._errors import S3Error, fault_of
from preheat.worker.s3._patience import patiently
from preheat.worker.s3._payload import Payload, payload_of
from preheat.worker.s3._requests import S3Request
from preheat.worker.s3._writes import Writes
from preheat.worker.s3._xml_bodies import MAX_BODY_BYTES, parse_deletion

T = TypeVar("T")
_ATTEMPTS = 3
"""To copy an object that is replaced again and again."""
_DELETED_AT_ONCE = 16
_NOW = {"cache-control": "no-cache"}
"""The under store copies the version that it has: the conditions are not to be judged by a cached one."""
_PROMISES = ("x-amz-server-side-encryption-customer-", "x-amz-object-lock-")
"""Of headers that ask for a key of the client's own, or that an object stays: not to be taken and not kept."""
_TARGET_CONDITIONS = ("if-match", "if-none-match", "x-amz-if-match-")
Resolve = Callable[[str, str], UfsPath]
"""Returns the path of a bucket's key."""


class Writing:
    """Writes whole objects.

    Args:
        writes: puts them where they belong.
        forward: knows the sources of copies.
        resolve: says which path a bucket's key is.
    """

    def __init__(self, writes: Writes, forward: Forward, resolve: Resolve) -> None:
        self._writes = writes
        self._forward = forward
        self._resolve = resolve

    async def put(self, request: S3Request, path: UfsPath) -> bytes:
        """Answer a PutObject."""
        check_write(request.sender, path)
        if_match, if_none_match = conditions(request)
        attributes, payload = new_attributes(request), incoming(request)
        info = await self._writes.put(
            path,
            payload.chunks,
            size=payload.size,
            if_match=if_match,
            if_none_match=if_none_match,
            attributes=attributes,
        )
        return answers.nothing(request.http, headers={"ETag": f'"{info.etag}"', **payload.checksums})

    async def copy(self, request: S3Request, path: UfsPath) -> bytes | Stream:
        """Answer a CopyObject."""
        check_write(request.sender, path)
        refuse_conditions(request)
        attributes = _copied_attributes(request)

        async def copy(source: UfsPath, info: ObjectInfo) -> ObjectInfo:
            if source == path and attributes is None:
                raise S3Error(
                    "InvalidRequest",
                    "This copy request is illegal because it is trying to copy an object to itself without changing "
                    "the object's metadata.",
                )
            return await self._writes.copy(source, path, attributes=attributes, etag=info.etag)

        async def work() -> bytes:
            info = await self.copied(request, copy)
            return xml.object_copied(etag=info.etag, last_modified=info.last_modified)

        return await patiently(request.http, work())

    async def delete(self, request: S3Request, path: UfsPath) -> bytes:
        """Answer a DeleteObject, which S3 does not mind if there is no object."""
        check_write(request.sender, path)
        refuse_conditions(request)
        await self._writes.delete(path)
        return answers.nothing(request.http, status=204)

    async def delete_many(self, request: S3Request) -> bytes:
        """Answer a DeleteObjects: some at once, and what fails by itself."""
        deletion = parse_deletion(await incoming(request).whole(MAX_BODY_BYTES))
        turns = asyncio.Semaphore(_DELETED_AT_ONCE)

        async def delete(key: str) -> xml.FailedDeletion | None:
            async with turns:
                return await self._delete_one(request, key)

        failed = [item for item in await asyncio.gather(*map(delete, deletion.keys)) if item is not None]
        missed = {item.key for item in failed}
        deleted = () if deletion.quiet else [key for key in deletion.keys if key not in missed]
        return answers.document(xml.objects_deleted(deleted, failed), request.http)

    async def copied(self, request: S3Request, copy: Callable[[UfsPath, ObjectInfo], Awaitable[T]]) -> T:
        """Copy what a request names, in the version for which its conditions hold.

        Args:
            request: names the source.
            copy: copies this version of it, or raises VersionChanged: then the conditions are looked at again.

        Raises:
            S3Error: PreconditionFailed; a condition does not hold. Otherwise as ``copy``.
        """
        source = self._resolve(*_source_of(request.headers["x-amz-copy-source"]))
        check_read(request.sender, source)
        for left in reversed(range(_ATTEMPTS)):
            info, _ = await self._forward.stat(source, wish=_NOW)
            check_source(request.headers, info)
            try:
                return await copy(source, info)
            except VersionChanged:
                if not left:
                    raise
        raise AssertionError("The last attempt returns or raises.")

    async def _delete_one(self, request: S3Request, key: str) -> xml.FailedDeletion | None:
        try:
            path = self._resolve(request.bucket, key)
            check_write(request.sender, path)
            await self._writes.delete(path)
        except PreheatError as error:
            return xml.FailedDeletion(key=key, fault=fault_of(error))
        return None


def refuse_conditions(request: S3Request) -> None:
    """Refuse a change that depends on what is there, where nobody would look.

    Raises:
        S3Error: NotImplemented; to pass the condition over would destroy what it is to save.
    """
    for name in request.headers:
        if name.startswith(_TARGET_CONDITIONS):
            raise S3Error("NotImplemented", f"The condition {name} is for PutObject and CompleteMultipartUpload.")


def new_attributes(request: S3Request) -> dict[str, str]:
    """Return what an object that is written is to have besides its bytes.

    Raises:
        S3Error: NotImplemented; it is to be encrypted with the client's key, or locked.
        InvalidRequest: as :func:`attributes_of`.
    """
    for name in request.headers:
        if name.startswith(_PROMISES):
            raise S3Error("NotImplemented", f"{name} is not implemented by Preheat.")
    return attributes_of(request.headers)


def incoming(request: S3Request) -> Payload:
    """Return what a request brings, checked as it comes; raises as :func:`payload_of`."""
    body, http = request.http.body, request.http
    stream, length = (_once(body), len(body)) if http.stream is None else (http.stream, http.length)
    return payload_of(http.headers, stream, length=length, signature=request.sender.signature)


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def conditions(request: S3Request) -> tuple[str | None, bool]:
    """Return the etag that has to be there, and whether nothing may be.

    Raises:
        S3Error: NotImplemented; S3 does not take it either.
    """
    if_match, if_none_match = request.headers.get("if-match"), request.headers.get("if-none-match")
    if if_none_match not in (None, "*"):
        raise S3Error("NotImplemented", "If-None-Match of a write has to be *.")
    return (None if if_match is None else if_match.strip().strip('"')), if_none_match is not None


def _copied_attributes(request: S3Request) -> Attributes | None:
    """Return what a copy is to have in the place of its source's attributes; none keeps those.

    Raises:
        S3Error: InvalidArgument; S3 knows no such directive. Otherwise as :func:`new_attributes`.
    """
    attributes = new_attributes(request)
    directive = request.headers.get("x-amz-metadata-directive", "COPY")
    if directive not in ("COPY", "REPLACE"):
        raise S3Error("InvalidArgument", f"x-amz-metadata-directive={directive[:40]!r} is neither COPY nor REPLACE.")
    return attributes if directive == "REPLACE" else None


def _source_of(header: str) -> tuple[str, str]:
    """Return the bucket and the key that ``x-amz-copy-source`` names, percent-encoded as a target is.

    Raises:
        S3Error: InvalidArgument if it names none; NotImplemented if it names a version.
    """
    text, _, query = header.partition("?")
    if query.partition("=")[::2] not in (("", ""), ("versionId", "null")):
        raise S3Error("NotImplemented", "Objects have no versions here that could be copied.")
    try:
        bucket, _, key = unquote_to_bytes(text.encode("latin-1")).decode().removeprefix("/").partition("/")
    except UnicodeDecodeError as error:
        raise S3Error("InvalidArgument", "x-amz-copy-source is not UTF-8.") from error
    if not (bucket and key):
        raise S3Error("InvalidArgument", "x-amz-copy-source has to name a bucket and a key.")
    return bucket, key
