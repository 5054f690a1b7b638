"""The writes that this worker does itself, because it owns the path or was asked to by a worker that does not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from preheat.errors import NotFound
from preheat.paths import UfsPath
from preheat.ufs import UnderStore
from preheat.versions import ObjectInfo
from preheat.worker._reads import ReadService
from preheat.worker.writes._body import Body
from preheat.worker.writes._conditions import ALWAYS, Condition
from preheat.worker.writes._staging import Chunks, Staged, Staging
from preheat.worker.writes._through import ThroughWrites
from preheat.worker.writes._uploads import Part, Uploads, check_number

T = TypeVar("T")
Acknowledge = Callable[[UfsPath, int], Awaitable[None]]
"""Returns when the others know of a write of a path, at a revision of the log."""


class LocalWrites:
    """Stages bodies, and has them written.

    A write whose body is here goes on to its end when its client leaves: nobody could tell otherwise what came of it.

    Args:
        staging: receives bodies.
        uploads: those in parts.
        through: writes to the under store.
        origin: the under store.
        reads: has the bytes of what is copied.
        acknowledge: awaited before a write is.
    """

    def __init__(
        self,
        *,
        staging: Staging,
        uploads: Uploads,
        through: ThroughWrites,
        origin: UnderStore,
        reads: ReadService,
        acknowledge: Acknowledge,
    ) -> None:
        self._staging = staging
        self.uploads = uploads
        self._through = through
        self._origin = origin
        self._reads = reads
        self._acknowledge = acknowledge
        self._tasks: set[asyncio.Task[Any]] = set()
        self._completing: dict[str, asyncio.Task[ObjectInfo]] = {}

    async def put(
        self, path: UfsPath, chunks: Chunks, *, size: int | None, condition: Condition = ALWAYS
    ) -> ObjectInfo:
        """Write an object."""
        staged = await self._staging.receive(chunks, size=size)
        return await self._to_the_end(self._put(path, staged, condition))

    async def delete(self, path: UfsPath) -> bool:
        """Remove an object; false if it was not there."""
        return await self._to_the_end(self._delete(path))

    async def copy(self, source: UfsPath, target: UfsPath) -> ObjectInfo:
        """Copy an object, by the under store itself if it can."""
        copied = await self._to_the_end(self._copy(source, target))
        if copied is not None:
            return copied
        etag = (await self._origin.stat(source)).etag
        opened = await self._reads.open(source, (etag,))
        return await self.put(target, opened.pages(0, opened.info.size), size=opened.info.size)

    async def create_upload(self, path: UfsPath) -> str:
        """Begin an upload in parts, and return its id."""
        return self.uploads.create(path)

    async def abort_upload(self, path: UfsPath, upload_id: str) -> None:
        """Drop an upload."""
        self.uploads.end(path, upload_id)

    async def list_parts(self, path: UfsPath, upload_id: str) -> list[Part]:
        """Return the parts of an upload."""
        return self.uploads.parts(path, upload_id)

    async def upload_part(self, path: UfsPath, upload_id: str, number: int, chunks: Chunks, *, size: int | None) -> str:
        """Receive a part, and return its etag."""
        check_number(number)
        self.uploads.parts(path, upload_id)
        staged = await self._staging.receive(chunks, size=size)
        try:
            return self.uploads.add(path, upload_id, number, staged)
        except NotFound:
            staged.close()
            raise

    async def complete_upload(self, path: UfsPath, upload_id: str, parts: Sequence[tuple[int, str]]) -> ObjectInfo:
        """Write the parts as one object. Who asks again meanwhile gets the same answer."""
        task = self._completing.get(upload_id)
        if task is None:
            body = self.uploads.join(path, upload_id, parts)
            task = self._completing[upload_id] = self._begin(self._complete(path, upload_id, body))
            task.add_done_callback(lambda _: self._completing.pop(upload_id, None))
        return await asyncio.shield(task)

    async def close(self, seconds: float) -> None:
        """Let the writes that have begun end within some seconds, and drop the uploads."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()
        self.uploads.close()

    async def _put(self, path: UfsPath, staged: Staged, condition: Condition) -> ObjectInfo:
        with staged:
            return await self._write(path, staged, condition)

    async def _complete(self, path: UfsPath, upload_id: str, body: Body) -> ObjectInfo:
        info = await self._write(path, body, ALWAYS)
        self.uploads.end(path, upload_id)
        return info

    async def _write(self, path: UfsPath, body: Body, condition: Condition) -> ObjectInfo:
        info, revision = await self._through.put(path, body, condition)
        await self._acknowledge(path, revision)
        return info

    async def _delete(self, path: UfsPath) -> bool:
        was_there, revision = await self._through.delete(path)
        await self._acknowledge(path, revision)
        return was_there

    async def _copy(self, source: UfsPath, target: UfsPath) -> ObjectInfo | None:
        copied = await self._through.copy(source, target)
        if copied is None:
            return None
        await self._acknowledge(target, copied[1])
        return copied[0]

    async def _to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.shield(self._begin(work))

    def _begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked may have left
