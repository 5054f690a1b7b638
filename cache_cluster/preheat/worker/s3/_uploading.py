"""Uploads in parts."""

from __future__ import annotations

import re
import time

from preheat.paths import UfsPath
from preheat.versions import ObjectInfo
from preheat.worker._forward import Forward
from preheat.worker.port import Stream
from preheat.worker.s3 import _answers as answers
from preheat.worker.s3 import _xml as xml
from preheat.worker.s3._access import check_bucket, check_write
from preheat.worker.s3._errors import S3Error
from preheat.worker.s3._patience import patiently
from preheat.worker.s3._requests import S3Request
from preheat.worker.s3._writes import Writes
from preheat.worker.s3._writing import Resolve, Writing, conditions, incoming, new_attributes
from preheat.worker.s3._xml_bodies import MAX_BODY_BYTES, MAX_PARTS, parse_parts

_MAX_LISTED = 1000
_RANGE = "x-amz-copy-source-range"
_FIRST_LAST = re.compile(r"bytes=([0-9]{1,18})-([0-9]{1,18})")


class Uploading:
    """Writes objects in parts.

    Args:
        writes: keeps the parts, and makes objects of them.
        writing: knows the sources of copies.
        forward: reads them.
        resolve: says which path a bucket's key is.
    """

    def __init__(self, writes: Writes, writing: Writing, forward: Forward, resolve: Resolve) -> None:
        self._writes = writes
        self._writing = writing
        self._forward = forward
        self._resolve = resolve

    async def create(self, request: S3Request, path: UfsPath) -> bytes:
        """Answer a CreateMultipartUpload."""
        check_write(request.sender, path)
        upload_id = await self._writes.create_upload(path, attributes=new_attributes(request))
        document = xml.upload_created(bucket=request.bucket, key=request.key, upload_id=upload_id)
        return answers.document(document, request.http)

    async def part(self, request: S3Request, path: UfsPath) -> bytes:
        """Answer an UploadPart."""
        check_write(request.sender, path)
        number, payload = _number(request), incoming(request)
        etag = await self._writes.upload_part(
            path, request.fields["uploadId"], number, payload.chunks, size=payload.size
        )
        return answers.nothing(request.http, headers={"ETag": f'"{etag}"', **payload.checksums})

    async def part_copy(self, request: S3Request, path: UfsPath) -> bytes | Stream:
        """Answer an UploadPartCopy: a part that is a range of another object."""
        check_write(request.sender, path)
        number = _number(request)
        wanted = _copied_range(request)

        async def copy(source: UfsPath, info: ObjectInfo) -> str:
            start, end = wanted or (0, info.size)
            if end > info.size:
                raise _outside(request, f"the source has {info.size} bytes")
            opened = await self._forward.open(source, (info.etag,), asked=wanted)
            chunks = opened.pages(start, end)
            return await self._writes.upload_part(path, request.fields["uploadId"], number, chunks, size=end - start)

        async def work() -> bytes:
            etag = await self._writing.copied(request, copy)
            return xml.object_copied(etag=etag, last_modified=time.time(), part=True)

        return await patiently(request.http, work())

    async def complete(self, request: S3Request, path: UfsPath) -> bytes | Stream:
        """Answer a CompleteMultipartUpload."""
        check_write(request.sender, path)
        if_match, if_none_match = conditions(request)
        parts = parse_parts(await incoming(request).whole(MAX_BODY_BYTES))
        url = f"http://{request.headers.get('host', '')}{request.http.target.partition('?')[0]}"

        async def work() -> bytes:
            info = await self._writes.complete_upload(
                path, request.fields["uploadId"], parts, if_match=if_match, if_none_match=if_none_match
            )
            return xml.upload_completed(url=url, bucket=request.bucket, key=request.key, etag=info.etag)

        return await patiently(request.http, work())

    async def abort(self, request: S3Request, path: UfsPath) -> bytes:
        """Answer an AbortMultipartUpload."""
        check_write(request.sender, path)
        await self._writes.abort_upload(path, request.fields["uploadId"])
        return answers.nothing(request.http, status=204)

    async def list_parts(self, request: S3Request, path: UfsPath) -> bytes:
        """Answer a ListParts."""
        check_write(request.sender, path)
        upload_id = request.fields["uploadId"]
        found = [
            xml.Part(number=part.number, etag=part.etag, size=part.size, last_modified=part.last_modified)
            for part in await self._writes.list_parts(path, upload_id)
        ]
        after = _whole_number(request, "part-number-marker", default=0, least=0)
        limit = _whole_number(request, "max-parts", default=_MAX_LISTED, least=1)
        document = xml.parts(
            found,
            bucket=request.bucket,
            key=request.key,
            upload_id=upload_id,
            after=after,
            limit=min(limit, _MAX_LISTED),
        )
        return answers.document(document, request.http)

    async def list_uploads(self, request: S3Request) -> bytes:
        """Answer a ListMultipartUploads: those of which the sender may see the objects."""
        root = self._resolve(request.bucket, "")
        check_bucket(request.sender, root)
        prefix = request.fields.get("prefix", "")
        found = [
            xml.Upload(key=upload.path.removeprefix(str(root)), upload_id=upload.id, initiated=upload.started_at)
            for upload in await self._writes.list_uploads(root.with_key(root.key + prefix))
            if request.sender.grant.covers(UfsPath.parse(upload.path))
        ]
        document = xml.uploads(
            found, bucket=request.bucket, prefix=prefix, url_encoded=request.fields.get("encoding-type") == "url"
        )
        return answers.document(document, request.http)


def _number(request: S3Request) -> int:
    return _whole_number(request, "partNumber", default=0, least=1, most=MAX_PARTS)


def _copied_range(request: S3Request) -> tuple[int, int] | None:
    """Return the bytes [start, end) that a part is to be copied from; none if that is all of the source.

    Raises:
        S3Error: InvalidArgument; unlike a reader's range, one that is malformed is not passed over.
    """
    header = request.headers.get(_RANGE)
    if header is None:
        return None
    match = _FIRST_LAST.fullmatch(header)
    first, last = (int(match[1]), int(match[2])) if match else (1, 0)
    if first > last:
        raise _outside(request, "it has to be bytes=FIRST-LAST")
    return first, last + 1


def _outside(request: S3Request, why: str) -> S3Error:
    return S3Error("InvalidArgument", f"{_RANGE}={request.headers[_RANGE][:40]!r} is not possible: {why}.")


def _whole_number(request: S3Request, name: str, *, default: int, least: int, most: int = 2**31 - 1) -> int:
    """Return a parameter that is a number; raises S3Error InvalidArgument."""
    text = request.fields.get(name, str(default))
    value = int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else -1
    if not least <= value <= most:
        raise S3Error("InvalidArgument", f"{name}={text[:20]!r} is not a number from {least} to {most}.")
    return value
