"""The checksums that S3 keeps of whole objects, asked for by HEAD requests."""

from __future__ import annotations

import asyncio
from typing import Any

from preheat.errors import PreheatError
from preheat.logs import get_logger
from preheat.paths import UfsPath
from preheat.ufs._base import Checksum
from preheat.ufs.s3._client import S3Connection
from preheat.ufs.s3._errors import botocore_errors
from preheat.versions import ObjectInfo

log = get_logger("ufs")
_COMBINABLE = {"ChecksumCRC64NVME": "crc64nvme", "ChecksumCRC32C": "crc32c", "ChecksumCRC32": "crc32"}
_MOST_IN_VAIN = 16


class KeptChecksums:
    """Asks for checksums until the first answers show that the endpoint keeps none."""

    def __init__(self) -> None:
        self._in_vain = 0

    async def ask(self, connection: S3Connection, path: UfsPath, info: ObjectInfo) -> Checksum | None:
        """Return one that can be combined from those of an object's parts; none if S3 says none of this version.

        An upload in parts may have a checksum of checksums, which says nothing of the bytes by themselves: none, too.
        """
        if self._in_vain >= _MOST_IN_VAIN:
            return None
        try:
            answer = await asyncio.to_thread(_head, connection, path, info)
        except PreheatError as error:  # the bytes are what counts; they may still come
            log.info("S3 did not tell a checksum.", action="checksum_unknown", path=str(path), error=str(error))
            return None
        found = _whole(answer)
        self._in_vain = 0 if found else self._in_vain + 1
        return found


def _head(connection: S3Connection, path: UfsPath, info: ObjectInfo) -> dict[str, Any]:
    query = {"Bucket": path.bucket, "Key": path.key, "IfMatch": f'"{info.etag}"', "ChecksumMode": "ENABLED"}
    with botocore_errors(path, connection.endpoint):
        answer: dict[str, Any] = connection.client.head_object(**query)
    return answer


def _whole(answer: dict[str, Any]) -> Checksum | None:
    if answer.get("ChecksumType") == "COMPOSITE":
        return None
    found = ((name, str(answer.get(field, ""))) for field, name in _COMBINABLE.items())
    return next((Checksum(name=name, value=value) for name, value in found if value and "-" not in value), None)
