"""Writes that the under store has before they are acknowledged."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from preheat.attributes import NONE, Attributes
from preheat.errors import EngineUnavailable, ObjectNotFound, OriginUnavailable, Unavailable
from preheat.paths import UfsPath
from preheat.ufs import UnderStore
from preheat.versions import ObjectInfo
from preheat.worker.writes._body import Body, chunks
from preheat.worker.writes._claims import Claim, Claims
from preheat.worker.writes._conditions import ALWAYS, Condition
from preheat.worker.writes._copies import WrittenCopies
from preheat.worker.writes._locks import PathLocks
from preheat.worker.writes._log import WriteLog
from preheat.worker.writes._recent import RecentWrites
from preheat.writes import PendingWrite

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
        claims: of objects at which writes are pending.
    """

    def __init__(
        self,
        worker_id: str,
        *,
        origin: UnderStore,
        copies: WrittenCopies,
        log: WriteLog,
        recent: RecentWrites,
        claims: Claims,
    ) -> None:
        self._worker_id = worker_id
        self._origin = origin
        self._copies = copies
        self._log = log
        self._recent = recent
        self._claims = claims
        self._locks = PathLocks()

    async def put(
        self, path: UfsPath, body: Body, condition: Condition = ALWAYS, *, attributes: Attributes = NONE
    ) -> tuple[ObjectInfo, int]:
        """Write an object; return it, and the revision by which the others know of it.

        Raises:
            VersionChanged: the condition does not hold.
            EngineUnavailable: it is written, but the others may not know. Otherwise as ``UnderStore.put``.
        """
        async with self._changing(path) as claim:
            if condition.asks:
                condition.check(path, claim.write.info if claim else await self.current(path))
            info = await self._origin.put(path, chunks(body), size=body.size, attributes=attributes)
            if self._is_disputed(path):
                self._log.note(path, "")
            else:
                await self._copies.replace(path, info, body, superseded=lambda: self._log.note(path, info.etag))
            return info, await self._announced(path, info.etag, claim)

    async def delete(self, path: UfsPath) -> tuple[bool, int]:
        """Remove an object; return whether it was there, and the revision by which the others know.

        Raises:
            EngineUnavailable: as in :meth:`put`. Otherwise as ``UnderStore.delete``.
        """
        async with self._changing(path) as claim:
            was_there = await self._origin.delete(path)
            self._log.note(path, "")
            return was_there or claim is not None, await self._announced(path, "", claim)

    async def copy(self, source: UfsPath, target: UfsPath, *, etag: str | None = None) -> tuple[ObjectInfo, int] | None:
        """Have the under store copy an object; none if it cannot, and the bytes have to be put.

        Raises:
            ObjectNotFound: there is no source.
            VersionChanged: it has another etag than the given one, or is being replaced.
            EngineUnavailable: as in :meth:`put`. Otherwise as ``UnderStore.copy``.
        """
        async with self._changing(target) as claim:
            etag = etag or (await self._origin.stat(source)).etag
            info = await self._origin.copy(source, target, etag=etag)
            if info is None:
                return None
            self._log.note(target, "")
            return info, await self._announced(target, info.etag, claim)

    async def persist(
        self,
        path: UfsPath,
        *,
        pages: Callable[[PendingWrite], AsyncIterator[bytes]],
        held: Callable[[PendingWrite], Body | None],
    ) -> int | None:
        """Give the under store what is pending at a path; return the revision by which the others know.

        None if nothing is pending, or what is never to be persisted, or a newer write came meanwhile.

        Args:
            path: the object.
            pages: yields the bytes of a pending version, wherever they are.
            held: returns a pending version that is held here.

        Raises:
            Unavailable: somebody else does it, or none of the holders can be reached.
            EngineUnavailable: it is written, and will be once more. Otherwise as ``UnderStore.put``.
        """
        async with self._claims.hold(path) as claim:
            if claim is None or claim.write.temporary:
                return None
            try:
                write = claim.write
                info = await self._origin.put(path, pages(write), size=write.size, attributes=write.attributes)
            except Unavailable:
                if await claim.stands():
                    raise
                return None  # its holders let go of it, for a newer write is pending
            if body := held(claim.write):
                await self._copies.replace(path, info, body, superseded=lambda: self._log.note(path, info.etag))
            else:
                self._log.note(path, info.etag)
            return await self._announced(path, info.etag, claim)

    async def _announced(self, path: UfsPath, etag: str, claim: Claim | None) -> int:
        """Say that nothing is pending any more, and tell the others what the under store has."""
        if claim is None:
            return await self._log.announce(path, etag)
        await claim.settle(etag)
        return await self._log.announce(path, etag, ends=claim.write.id)

    async def current(self, path: UfsPath) -> ObjectInfo | None:
        """Return what the under store has at a path."""
        try:
            return await self._origin.stat(path)
        except ObjectNotFound:
            return None

    @asynccontextmanager
    async def _changing(self, path: UfsPath) -> AsyncIterator[Claim | None]:
        """Be the only one here who changes an object, and anywhere if a write is pending there.

        If nobody can tell what came of it, no copy is kept.
        """
        async with self._locks.hold(path), self._claims.hold(path) as claim:
            try:
                yield claim
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
