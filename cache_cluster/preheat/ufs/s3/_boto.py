"""What obstore cannot do, with boto3 in threads: naming the buckets, and reading the keys that it cannot spell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from preheat.attributes import lines_of
from preheat.paths import UfsPath
from preheat.ufs._base import BucketInfo, Download
from preheat.ufs._download import check_version, checked
from preheat.ufs.s3._client import S3Connection
from preheat.ufs.s3._errors import botocore_errors
from preheat.ufs.s3._listing import plain_etag
from preheat.versions import ObjectInfo


async def boto_buckets(connection: S3Connection, nowhere: UfsPath) -> Sequence[BucketInfo]:
    """Return the buckets that the credentials may see, by name; errors name ``nowhere``."""
    with botocore_errors(nowhere, connection.endpoint):
        answer = await asyncio.to_thread(connection.client.list_buckets)
    found = (BucketInfo(name=item["Name"], created_at=_seconds(item.get("CreationDate"))) for item in answer["Buckets"])
    return sorted(found, key=lambda bucket: bucket.name)


async def boto_stat(connection: S3Connection, path: UfsPath) -> ObjectInfo:
    """Return what S3 says of an object; raises Preheat's errors."""
    with botocore_errors(path, connection.endpoint):
        answer = await asyncio.to_thread(connection.client.head_object, Bucket=path.bucket, Key=path.key)
    return _info(path.key, answer, answer["ContentLength"])


async def boto_get(
    connection: S3Connection, path: UfsPath, *, etag: str | None, start: int, end: int | None, chunk_bytes: int
) -> Download:
    """Start to read bytes [start, end) of an object; raises Preheat's errors."""
    query = {"Bucket": path.bucket, "Key": path.key}
    if etag is not None:
        query["IfMatch"] = f'"{etag}"'
    if start or end is not None:
        query["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
    with botocore_errors(path, connection.endpoint):
        answer = await asyncio.to_thread(connection.client.get_object, **query)
    length = answer["ContentLength"]
    total = answer.get("ContentRange", "").rpartition("/")[2]
    info = _info(path.key, answer, int(total) if total else length)
    check_version(path, info, etag)
    chunks = _chunks(path, connection.endpoint, answer["Body"], chunk_bytes)
    return Download(info=info, start=start, end=start + length, chunks=checked(path, chunks, length))


async def _chunks(path: UfsPath, endpoint: str, body: Any, chunk_bytes: int) -> AsyncIterator[memoryview]:
    try:
        while True:
            with botocore_errors(path, endpoint):
                chunk = await asyncio.to_thread(body.read, chunk_bytes)
            if not chunk:
                return
            yield memoryview(chunk)
    finally:
        body.close()


def _info(key: str, answer: dict[str, Any], size: int) -> ObjectInfo:
    modified = answer["LastModified"].timestamp()
    return ObjectInfo(
        key=key,
        size=size,
        etag=plain_etag(answer["ETag"]),
        last_modified=modified,
        attributes=lines_of(answer["ResponseMetadata"]["HTTPHeaders"]),
    )


def _seconds(moment: datetime | None) -> float:
    return moment.timestamp() if moment else 0.0
