"""The records of pending writes: changed by compare-and-swap, followed by every worker."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from preheat.engine import Bucket, Entry
from preheat.keys import key_of
from preheat.paths import UfsPath
from preheat.worker._pending import PendingTable
from preheat.worker.writes._follower import Follower
from preheat.worker.writes._log import Superseded
from preheat.writes import PendingWrite

Known = tuple[PendingWrite | None, int]
"""What is pending at a path, and the revision that says so; 0 if nothing is."""


class PendingLog(Follower):
    """Keeps a worker's table of pending writes, and of their bytes what still is.

    Args:
        table: to be kept.
        drop: gives up the bytes that are held under a name.
        superseded: told when what is cached of a path is out of date.
    """

    _BUCKET = Bucket.PENDING

    def __init__(self, table: PendingTable, *, drop: Callable[[str], None], superseded: Superseded) -> None:
        super().__init__()
        self.table = table
        self.drop = drop
        self._superseded = superseded

    async def current(self, path: UfsPath) -> Known:
        """Return what is pending at a path as the engine has it; raises EngineUnavailable."""
        entry = await self._known_engine().get(self._BUCKET, key_of(str(path)))
        if entry is None or entry.value is None:
            return None, 0
        self._apply(entry)
        return msgspec.json.decode(entry.value, type=PendingWrite), entry.revision

    async def put(self, write: PendingWrite, revision: int) -> int:
        """Write a record in place of the one with a revision, and return its own.

        Raises:
            Conflict: it has another one by now.
            EngineUnavailable: it may or may not be written.
        """
        key, value = key_of(write.path), msgspec.json.encode(write)
        written = await self._known_engine().put(self._BUCKET, key, value, revision=revision)
        self._apply(Entry(key=key, value=value, revision=written))
        return written

    async def remove(self, path: UfsPath, revision: int, *, etag: str) -> None:
        """Remove the record with a revision, for the under store has a version now; raises as :meth:`put`."""
        key = key_of(str(path))
        await self._known_engine().delete(self._BUCKET, key, revision=revision)
        self._forget(key, revision, etag)

    def end(self, path: UfsPath, write_id: str) -> None:
        """Know from another worker that a write is not pending any more."""
        if write := self.table.end(key_of(str(path)), write_id):
            self.drop(write.held_name)

    def _apply(self, entry: Entry) -> None:
        if not self.table.is_news(entry.key, entry.revision):
            return
        if entry.value is None:
            self._forget(entry.key, entry.revision, "")
            return
        write = msgspec.json.decode(entry.value, type=PendingWrite)
        if self.table.has_ended(write):
            return
        before = self.table.set(entry.key, write, entry.revision)
        if before is not None and before.id == write.id:
            return
        if before is not None:
            self.drop(before.held_name)
        self._superseded(UfsPath.parse(write.path), "")

    def _forget(self, key: str, revision: int, etag: str) -> None:
        """Go back to what the under store has: of the copies that came meanwhile only those with an etag stay."""
        before = self.table.remove(key, revision)
        if before is not None:
            self.drop(before.held_name)
            self._superseded(UfsPath.parse(before.path), etag)
