"""Writes that the under store has before they are acknowledged."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from preheat.errors import EngineUnavailable, ObjectNotFound, OriginUnavailable
from preheat.paths import UfsPath
from preheat.ufs import UnderStore
from preheat.versions import ObjectInfo
from preheat.worker.writes._body import Body, chunks
from preheat.worker.writes._conditions import ALWAYS, Condition
from preheat.worker.writes._copies import WrittenCopies
from preheat.worker.writes._locks import PathLocks
from preheat.worker.writes._log import WriteLog
from preheat.worker.writes._recent import RecentWrites

_CHANGING_HANDS_SECONDS = 60.0
"""How long two workers may both take themselves for a path's owner, at the most."""


class ThroughWrites:
    """Writes to the under store, then puts the new version in the place of the cached one, then tells the others.

    Two workers that write one path at the same moment, because its owner changes, do not know whose version the under
    store has in the end: then neither of them keeps a copy.

    Args:
        worker_id: this worker.
        origin: the under store.
        copies: what this worker has cached.
        log: by which the others are told.
        recent: the last writes.
    """

    def __init__(
        self, worker_id: str, *, origin: UnderStore, copies: WrittenCopies, log: WriteLog, recent: RecentWrites
    ) -> None:
        self._worker_id = worker_id
        self._origin = origin
        self._copies = copies
        self._log = log
        self._recent = recent
        self._locks = PathLocks()

    async def put(self, path: UfsPath, body: Body, condition: Condition = ALWAYS) -> tuple[ObjectInfo, int]:
        """Write an object; return it, and the revision by which the others know of it.

        Raises:
            VersionChanged: the condition does not hold.
            EngineUnavailable: it is written, but the others may not know. Otherwise as ``UnderStore.put``.
        """
        async with self._changing(path):
            if condition.asks:
                condition.check(path, await self.current(path))
            info = await self._origin.put(path, chunks(body), size=body.size)
            if self._is_disputed(path):
                self._log.note(path, "")
            else:
                await self._copies.replace(path, info, body, superseded=lambda: self._log.note(path, info.etag))
            return info, await self._log.announce(path, info.etag)

    async def delete(self, path: UfsPath) -> tuple[bool, int]:
        """Remove an object; return whether it was there, and the revision by which the others know.

        Raises:
            EngineUnavailable: as in :meth:`put`. Otherwise as ``UnderStore.delete``.
        """
        async with self._changing(path):
            was_there = await self._origin.delete(path)
            self._log.note(path, "")
            return was_there, await self._log.announce(path, "")

    async def copy(self, source: UfsPath, target: UfsPath) -> tuple[ObjectInfo, int] | None:
        """Have the under store copy an object; none if it cannot, and the bytes have to be put.

        Raises:
            ObjectNotFound: there is no source.
            VersionChanged: it is being replaced.
            EngineUnavailable: as in :meth:`put`. Otherwise as ``UnderStore.copy``.
        """
        async with self._changing(target):
            etag = (await self._origin.stat(source)).etag
            info = await self._origin.copy(source, target, etag=etag)
            if info is None:
                return None
            self._log.note(target, "")
            return info, await self._log.announce(target, info.etag)

    async def current(self, path: UfsPath) -> ObjectInfo | None:
        """Return what the under store has at a path."""
        try:
            return await self._origin.stat(path)
        except ObjectNotFound:
            return None

    @asynccontextmanager
    async def _changing(self, path: UfsPath) -> AsyncIterator[None]:
        """Be the only one here who changes an object; if nobody can tell what came of it, let no copy be kept."""
        async with self._locks.hold(path):
            try:
                yield
            except OriginUnavailable:
                self._log.note(path, "")
                with suppress(EngineUnavailable):
                    await self._log.announce(path, "")
                raise

    def _is_disputed(self, path: UfsPath) -> bool:
        last = self._recent.get(str(path))
        if last is None or last.written.worker == self._worker_id:
            return False
        return time.time() - last.written.written_at < _CHANGING_HANDS_SECONDS
