"""What this worker has cached of the paths that are written."""

from __future__ import annotations

from collections.abc import Callable

from preheat.errors import StoreError
from preheat.logs import get_logger
from preheat.paths import UfsPath
from preheat.store import PAGE_SIZE, ObjectWriter, PageStore
from preheat.versions import ObjectInfo
from preheat.worker._reads import ReadService
from preheat.worker.writes._body import Body, in_thread

log = get_logger("worker")


class WrittenCopies:
    """Replaces and drops copies.

    Args:
        store: where they are.
        reads: knows more of them, and may be bringing an older one.
    """

    def __init__(self, store: PageStore, reads: ReadService) -> None:
        self._store = store
        self._reads = reads

    def supersede(self, path: UfsPath, etag: str, *, before: float = 0.0) -> None:
        """Keep, and bring, no other version of an object than this one; with an empty etag none at all.

        Nor is a copy kept that was cached before a moment, in seconds since the epoch.
        """
        try:
            self._reads.supersede(path, etag)
            item = self._store.lookup(str(path))
            if item is not None and (item.etag != etag or item.cached_at < before):
                self._store.delete(str(path))
        except StoreError as error:  # the directory is given up then, with what it holds
            log.warning("An old copy could not be dropped.", action="drop_failed", path=str(path), error=str(error))

    async def replace(self, path: UfsPath, info: ObjectInfo, body: Body, *, superseded: Callable[[], None]) -> None:
        """Put a version in the place of the cached one; if it does not fit, nothing is cached.

        Args:
            path: the object.
            info: the version.
            body: its bytes.
            superseded: called right before the new version is there for readers.
        """
        try:
            writer = self._store.writer(
                str(path),
                etag=info.etag,
                size=info.size,
                last_modified=info.last_modified,
                attributes=info.attributes,
            )
            with writer:
                await append(writer, body)
                superseded()
                writer.commit()
        except StoreError as error:
            superseded()
            log.warning("What was written is not cached.", action="not_cached", path=str(path), error=str(error))


async def append(writer: ObjectWriter, body: Body) -> None:
    """Give a writer all of a body; raises StoreError."""

    def append_all() -> None:
        for piece in body.pieces():
            for start in range(0, len(piece), PAGE_SIZE):
                writer.append(memoryview(piece)[start : start + PAGE_SIZE])

    if body.in_memory and body.size <= PAGE_SIZE:
        append_all()
    else:
        await in_thread(append_all)
