"""The writes that this worker does itself, because it owns the path or was asked to by a worker that does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

from preheat.attributes import NONE, Attributes, of_lines
from preheat.errors import NoLiveWorker, NotFound, StoreError
from preheat.logs import get_logger
from preheat.mounts import Mount, WriteMode
from preheat.paths import UfsPath
from preheat.ufs import UnderStore
from preheat.versions import ObjectInfo
from preheat.worker._pending import PendingTable
from preheat.worker._reads import ReadService
from preheat.worker.fills import Throttle
from preheat.worker.writes._async import AsyncWrites
from preheat.worker.writes._body import Body
from preheat.worker.writes._conditions import ALWAYS, Condition
from preheat.worker.writes._held import HeldCopies
from preheat.worker.writes._staging import Chunks, Staged, Staging
from preheat.worker.writes._through import ThroughWrites
from preheat.worker.writes._uploads import Completion, Part, Uploads, check_number
from preheat.writes import PendingWrite

T = TypeVar("T")
Write = Callable[[Body, Attributes], Awaitable[ObjectInfo]]
"""Writes what an upload has become."""
log = get_logger("worker")


class Acknowledge(Protocol):
    """Returns when the others know of a write, by the revision of its record."""

    async def __call__(self, path: UfsPath, revision: int, *, pending: bool = False) -> None: ...


class LocalWrites:
    """Stages bodies, and has them written.

    A write whose body is here goes on to its end when its client leaves: nobody could tell otherwise what came of it.

    Args:
        staging: receives bodies.
        uploads: those in parts.
        through: writes to the under store.
        cached: writes to the caches of workers.
        held: has what was written there.
        table: says what is pending.
        pages: yields the bytes of a pending version, wherever they are.
        mounts: returns the mount of a URI.
        origin: the under store.
        reads: has the bytes of what is copied.
        acknowledge: awaited before a write is.
        check_writable: asked right before a write, for its body may have taken long; raises if it is not to be.
    """

    def __init__(
        self,
        *,
        staging: Staging,
        uploads: Uploads,
        through: ThroughWrites,
        cached: AsyncWrites,
        held: HeldCopies,
        table: PendingTable,
        pages: Callable[[PendingWrite], AsyncIterator[bytes]],
        mounts: Callable[[str], Mount],
        origin: UnderStore,
        reads: ReadService,
        acknowledge: Acknowledge,
        check_writable: Callable[[UfsPath], None],
    ) -> None:
        self._staging = staging
        self.uploads = uploads
        self._through = through
        self._cached = cached
        self._held = held
        self._table = table
        self._pages = pages
        self._mounts = mounts
        self._origin = origin
        self._reads = reads
        self._acknowledge = acknowledge
        self._check_writable = check_writable
        self._tasks: set[asyncio.Task[Any]] = set()
        self._completing: dict[str, tuple[Completion, asyncio.Task[ObjectInfo]]] = {}

    async def put(
        self,
        path: UfsPath,
        chunks: Chunks,
        *,
        size: int | None,
        condition: Condition = ALWAYS,
        attributes: Attributes = NONE,
    ) -> ObjectInfo:
        """Write an object."""
        staged = await self._staging.receive(chunks, size=size)
        return await self._to_the_end(self._put(path, staged, condition, attributes))

    async def delete(self, path: UfsPath) -> bool:
        """Remove an object; false if it was not there."""
        return await self._to_the_end(self._delete(path))

    async def copy(
        self,
        source: UfsPath,
        target: UfsPath,
        attributes: Attributes | None = None,
        etag: str | None = None,
    ) -> ObjectInfo:
        """Copy an object, by the under store itself if it can, which keeps its attributes if none are given.

        Only the version with an etag, if one is given.
        """
        pending = self._table.get(str(source))
        if not (pending or attributes is not None or self._mounts(str(target)).is_temporary(target)):
            copied = await self._to_the_end(self._copy(source, target, etag))
            if copied is not None:
                return copied
        if etag is None and not pending:
            etag = (await self._origin.stat(source)).etag
        opened = await self._reads.open(source, None if etag is None else (etag,))
        if attributes is None:
            attributes = of_lines(opened.info.attributes)
        return await self.put(target, opened.pages(0, opened.info.size), size=opened.info.size, attributes=attributes)

    async def create_upload(self, path: UfsPath, attributes: Attributes) -> str:
        """Begin an upload in parts, and return its id."""
        return self.uploads.create(path, attributes)

    async def abort_upload(self, path: UfsPath, upload_id: str) -> None:
        """Drop an upload."""
        self.uploads.end(path, upload_id)

    async def list_parts(self, path: UfsPath, upload_id: str) -> list[Part]:
        """Return the parts of an upload."""
        return self.uploads.parts(path, upload_id)

    async def upload_part(self, path: UfsPath, upload_id: str, number: int, chunks: Chunks, *, size: int | None) -> str:
        """Receive a part, and return its etag."""
        check_number(number)
        with self.uploads.using(path, upload_id):
            staged = await self._staging.receive(chunks, size=size)
            try:
                return self.uploads.add(path, upload_id, number, staged)
            except NotFound:  # it was aborted meanwhile
                staged.close()
                raise

    async def complete_upload(self, completion: Completion, write: Write) -> ObjectInfo:
        """Write the parts as one object. Who asks for the same meanwhile, or again, gets the same answer.

        Raises:
            Conflict: the upload is being completed under another condition. Otherwise as ``Uploads.join``.
        """
        if info := self.uploads.completed(completion):
            return info
        body, upload_id = self.uploads.join(completion), completion.upload_id
        if upload_id in self._completing:
            first, task = self._completing[upload_id]
            completion.check_joins(first)
        else:
            task = self._begin(self._complete(completion, body, write))
            self._completing[upload_id] = completion, task
            task.add_done_callback(lambda _: self._completing.pop(upload_id, None))
        return await asyncio.shield(task)

    async def persist(self, path: UfsPath, throttle: Throttle | None = None) -> bool:
        """Give the under store what is pending at a path; false if nothing is. Raises as ``ThroughWrites.persist``."""

        async def pages(write: PendingWrite) -> AsyncIterator[bytes]:
            async for page in self._pages(write):
                if throttle:
                    await throttle(len(page))
                yield page

        revision = await self._to_the_end(self._through.persist(path, pages=pages, held=self._held.body))
        if revision is not None:
            await self._acknowledge(path, revision)
        return revision is not None

    async def hold(self, name: str, chunks: Chunks, *, etag: str, size: int) -> None:
        """Hold what another worker sends; raises as ``HeldCopies.receive``."""
        await self._held.receive(name, chunks, etag=etag, size=size)

    def release(self, path: UfsPath, write_id: str) -> None:
        """Give up what was held and is not written; raises as ``HeldCopies.release``."""
        self._held.release(path, write_id)

    async def close(self, seconds: float) -> None:
        """Let the writes that have begun end within some seconds, and drop the uploads."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()
        self.uploads.close()

    async def _put(self, path: UfsPath, staged: Staged, condition: Condition, attributes: Attributes) -> ObjectInfo:
        with staged:
            return await self.write(path, staged, condition, attributes)

    async def _complete(self, completion: Completion, body: Body, write: Write) -> ObjectInfo:
        with self.uploads.using(completion.path, completion.upload_id):
            info = await write(body, self.uploads.attributes(completion))
        self.uploads.complete(completion, info)
        return info

    async def write(self, path: UfsPath, body: Body, condition: Condition, attributes: Attributes) -> ObjectInfo:
        """Write a body that is here as the path's mount says."""
        self._check_writable(path)
        mount = self._mounts(str(path))
        temporary = mount.is_temporary(path)
        if temporary or mount.writes is WriteMode.ASYNC:
            try:
                info, revision = await self._cached.put(
                    path,
                    body,
                    condition,
                    attributes=attributes,
                    replicas=mount.write_replicas,
                    temporary=temporary,
                )
            except (NoLiveWorker, StoreError) as error:
                if temporary:
                    raise
                log.warning("A write goes to the under store at once.", action="not_async", error=str(error))
            else:
                await self._acknowledge(path, revision, pending=True)
                return info
        info, revision = await self._through.put(path, body, condition, attributes=attributes)
        await self._acknowledge(path, revision)
        return info

    async def _delete(self, path: UfsPath) -> bool:
        was_there, revision = await self._through.delete(path)
        await self._acknowledge(path, revision)
        return was_there

    async def _copy(self, source: UfsPath, target: UfsPath, etag: str | None) -> ObjectInfo | None:
        copied = await self._through.copy(source, target, etag=etag)
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
