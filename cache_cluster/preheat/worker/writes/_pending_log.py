"""The records of pending writes: changed by compare-and-swap, followed by every worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from preheat.engine import Bucket, Engine, Entry
from preheat.errors import EngineUnavailable, StoreError
from preheat.keys import key_of
from preheat.logs import get_logger
from preheat.paths import UfsPath
from preheat.store import PageStore
from preheat.worker._pending import PendingTable
from preheat.worker.writes._log import Reached, Superseded
from preheat.writes import PendingWrite

log = get_logger("worker")
Known = tuple[PendingWrite | None, int]
"""What is pending at a path, and the revision that says so; 0 if nothing is."""


class PendingLog:
    """Keeps a worker's table of pending writes, and of their bytes what still is.

    Args:
        table: to be kept.
        store: holds the bytes.
        superseded: told when what is cached of a path is out of date.
    """

    def __init__(self, table: PendingTable, *, store: PageStore, superseded: Superseded) -> None:
        self.table = table
        self._store = store
        self._superseded = superseded
        self._engine: Engine | None = None
        self._seen = Reached()
        self.loaded = asyncio.Event()

    @asynccontextmanager
    async def following(self, engine: Engine) -> AsyncIterator[None]:
        """Follow the records while the block runs."""
        self._engine = engine
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(self._follow(engine))
            try:
                yield
            finally:
                following.cancel()
                self._engine = None

    async def current(self, path: UfsPath) -> Known:
        """Return what is pending at a path as the engine has it; raises EngineUnavailable."""
        entry = await self._known_engine().get(Bucket.PENDING, key_of(str(path)))
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
        written = await self._known_engine().put(Bucket.PENDING, key, value, revision=revision)
        self._apply(Entry(key=key, value=value, revision=written))
        return written

    async def remove(self, path: UfsPath, revision: int, *, etag: str) -> None:
        """Remove the record with a revision, for the under store has a version now; raises as :meth:`put`."""
        key = key_of(str(path))
        await self._known_engine().delete(Bucket.PENDING, key, revision=revision)
        self._forget(key, revision, etag)

    def end(self, path: UfsPath, write_id: str) -> None:
        """Know from another worker that a write is not pending any more."""
        if write := self.table.end(key_of(str(path)), write_id):
            self.drop(write.held_name)

    async def reached(self, revision: int, seconds: float) -> bool:
        """Wait until this worker has heard of a revision; false if the time passes before."""
        return await self._seen.wait(revision, seconds)

    def drop(self, name: str) -> None:
        """Give up the bytes that are held under a name."""
        try:
            self._store.delete(name)
        except StoreError as error:
            log.warning(
                "What is not pending any more is still held.", action="drop_failed", name=name, error=str(error)
            )

    def _known_engine(self) -> Engine:
        if self._engine is None:
            raise EngineUnavailable("This worker is not connected to the engine.", remedy="Try again.")
        return self._engine

    async def _follow(self, engine: Engine) -> None:
        async for entry in engine.watch(Bucket.PENDING):
            if entry is None:
                self.loaded.set()
                continue
            self._apply(entry)
            self._seen.note(entry.revision)

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
