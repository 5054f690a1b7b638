"""Writing to S3 with boto3 in threads: large objects in parts, copies, removals, and keys that obstore cannot spell.

obstore uploads in parts too, but it leaves them in the bucket, where they cost money, when the upload fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from preheat.attributes import META, NONE, Attributes, metadata_of
from preheat.errors import ObjectNotFound, OriginUnavailable, PreheatError, VersionChanged
from preheat.logs import get_logger
from preheat.paths import UfsPath
from preheat.ufs.s3._client import S3Connection
from preheat.ufs.s3._errors import botocore_errors
from preheat.ufs.s3._listing import plain_etag
from preheat.versions import ObjectInfo

log = get_logger("ufs")
_MAX_PARTS = 10_000
_MAX_COPY_BYTES = 5 << 30


def part_size(size: int, at_least: int) -> int:
    """Return the bytes per part for an object that S3 takes in no more than 10,000 of them."""
    return max(at_least, -(-size // _MAX_PARTS))


async def put_whole(connection: S3Connection, path: UfsPath, body: bytes, attributes: Attributes) -> str:
    """Write an object in one request and return its etag; raises Preheat's errors."""
    answer = await _call(connection, path, "put_object", Body=body, **_fields(attributes))
    return plain_etag(answer.get("ETag"))


async def put_in_parts(
    connection: S3Connection,
    path: UfsPath,
    parts: AsyncIterator[bytes],
    *,
    in_flight: int,
    attributes: Attributes = NONE,
) -> str:
    """Write an object part by part and return its etag; raises Preheat's errors, and those of ``parts``.

    If it cannot be completed, or is cancelled, the parts that were sent are removed.
    """
    upload = _Upload(connection, path, attributes)
    try:
        async for part in parts:
            await upload.send(part, in_flight=in_flight)
        return await upload.complete()
    except BaseException:
        await asyncio.shield(upload.abort())
        raise


async def copy_object(
    connection: S3Connection, source: UfsPath, info: ObjectInfo, target: UfsPath
) -> ObjectInfo | None:
    """Let S3 copy a version of an object; None if it is too large for that. Raises Preheat's errors."""
    if info.size > _MAX_COPY_BYTES:
        return None
    origin = {"Bucket": source.bucket, "Key": source.key}
    try:
        answer = await _call(connection, target, "copy_object", CopySource=origin, CopySourceIfMatch=f'"{info.etag}"')
    except (ObjectNotFound, VersionChanged) as error:
        raise type(error)(f"path='{source}' is no longer what it was; {error.message}") from error
    copied = _part_of(answer, "CopyObjectResult", target)
    etag = plain_etag(_part_of(copied, "ETag", target))
    modified = _part_of(copied, "LastModified", target).timestamp()
    return ObjectInfo(key=target.key, size=info.size, etag=etag, last_modified=modified)


async def delete_object(connection: S3Connection, path: UfsPath) -> None:
    """Remove an object; raises Preheat's errors."""
    await _call(connection, path, "delete_object")


class _Upload:
    """One multipart upload. Requests run in threads, which go on when a task is cancelled: tasks here never are."""

    def __init__(self, connection: S3Connection, path: UfsPath, attributes: Attributes) -> None:
        self._connection = connection
        self._path = path
        self._creation = asyncio.create_task(self._call("create_multipart_upload", **_fields(attributes)))
        self._sent: list[asyncio.Task[dict[str, Any]]] = []

    async def send(self, part: bytes, *, in_flight: int) -> None:
        """Begin to send the next part, when no more than ``in_flight`` are under way with it."""
        query = {"UploadId": await self._id(), "PartNumber": len(self._sent) + 1, "Body": part}
        if len(self._sent) >= in_flight:
            await _ended([self._sent[-in_flight]])
        self._sent.append(asyncio.create_task(self._call("upload_part", **query)))

    async def complete(self) -> str:
        """Make one object of the parts and return its etag."""
        await _ended(self._sent)
        etags = [_part_of(task.result(), "ETag", self._path) for task in self._sent]
        listed = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, start=1)]
        query = {"UploadId": await self._id(), "MultipartUpload": {"Parts": listed}}
        answer = await self._call("complete_multipart_upload", **query)
        return plain_etag(answer.get("ETag"))

    async def abort(self) -> None:
        """Remove the parts, after those under way have arrived: S3 would keep one that comes later."""
        await asyncio.gather(self._creation, *self._sent, return_exceptions=True)
        if self._creation.exception() is not None:
            return
        try:
            await _call(self._connection, self._path, "abort_multipart_upload", UploadId=await self._id())
        except ObjectNotFound:
            return  # it was completed after all
        except PreheatError as error:
            log.warning(
                "The parts of an upload that failed stay in the bucket; let a lifecycle rule remove such.",
                action="abort_failed",
                path=str(self._path),
                error=str(error),
            )

    async def _id(self) -> str:
        await _ended([self._creation])
        return str(_part_of(self._creation.result(), "UploadId", self._path))

    async def _call(self, operation: str, **query: Any) -> dict[str, Any]:
        try:
            return await _call(self._connection, self._path, operation, **query)
        except ObjectNotFound as error:  # NoSuchUpload; a missing bucket is another error
            raise OriginUnavailable(f"path='{self._path}': S3 has forgotten an upload in parts.") from error


def _fields(attributes: Attributes) -> dict[str, Any]:
    """Return attributes as boto3 takes them."""
    fields: dict[str, Any] = {
        name.title().replace("-", ""): value for name, value in attributes.items() if not name.startswith(META)
    }
    metadata = metadata_of(attributes)
    return {**fields, "Metadata": metadata} if metadata else fields


async def _call(connection: S3Connection, path: UfsPath, operation: str, **query: Any) -> dict[str, Any]:
    with botocore_errors(path, connection.endpoint, writing=True):
        call = getattr(connection.client, operation)
        answer: dict[str, Any] = await asyncio.to_thread(call, Bucket=path.bucket, Key=path.key, **query)
    return answer


def _part_of(answer: dict[str, Any], name: str, path: UfsPath) -> Any:
    if name not in answer:
        raise OriginUnavailable(f"path='{path}': the S3 endpoint's answer has no {name}.")
    return answer[name]


async def _ended(tasks: Sequence[asyncio.Task[dict[str, Any]]]) -> None:
    """Wait for all, or raise the first error. Whoever waits may be cancelled; the tasks go on."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        task.result()
