"""What the S3 port asks of the write side of a worker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from preheat.attributes import NONE, Attributes
from preheat.paths import UfsPath
from preheat.versions import ObjectInfo

Chunks = AsyncIterator[bytes | memoryview]


class UploadedPart(Protocol):
    """One part of an upload that is there."""

    @property
    def number(self) -> int: ...
    @property
    def etag(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def last_modified(self) -> float: ...


class OpenUpload(Protocol):
    """An upload that was begun."""

    @property
    def path(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def started_at(self) -> float: ...


class Writes(Protocol):
    """Writes objects as their mounts say; every call raises Forbidden where that is read-only."""

    async def put(
        self,
        path: UfsPath,
        chunks: Chunks,
        *,
        size: int | None,
        if_match: str | None = None,
        if_none_match: bool = False,
        attributes: Attributes = NONE,
    ) -> ObjectInfo: ...
    async def delete(self, path: UfsPath) -> bool: ...
    async def copy(
        self, source: UfsPath, target: UfsPath, *, attributes: Attributes | None = None, etag: str | None = None
    ) -> ObjectInfo: ...
    async def create_upload(self, path: UfsPath, *, attributes: Attributes = NONE) -> str: ...
    async def upload_part(
        self, path: UfsPath, upload_id: str, number: int, chunks: Chunks, *, size: int | None
    ) -> str: ...
    async def complete_upload(
        self,
        path: UfsPath,
        upload_id: str,
        parts: Sequence[tuple[int, str]],
        *,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> ObjectInfo: ...
    async def abort_upload(self, path: UfsPath, upload_id: str) -> None: ...
    async def list_parts(self, path: UfsPath, upload_id: str) -> Sequence[UploadedPart]: ...
    async def list_uploads(self, path: UfsPath) -> Sequence[OpenUpload]: ...
