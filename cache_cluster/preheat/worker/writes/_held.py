"""The bytes of pending writes in this worker's page store: durable before anybody is told, and never evicted."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import md5

from preheat.errors import Conflict, InvalidRequest
from preheat.logs import get_logger
from preheat.paths import UfsPath
from preheat.store import PAGE_SIZE, CachedObject, PageStore
from preheat.worker._pending import PendingTable
from preheat.worker.writes._body import Body, in_thread
from preheat.worker.writes._copies import append
from preheat.worker.writes._staging import Chunks
from preheat.writes import HELD_PREFIX, PendingWrite, held_name

log = get_logger("worker")
ORPHAN_SECONDS = 86400.0
"""After which bytes are dropped that no record names: their write was not acknowledged, or others hold it by now."""
_MD5 = re.compile(r"[0-9a-f]{32}")
_PIECE_BYTES = 4 * PAGE_SIZE


class HeldCopies:
    """Holds pending versions under names of their own, so that nothing that is done to cached objects touches them.

    Args:
        store: where they are; it keeps them from eviction.
        table: the pending writes.
        worker_id: this worker.
        clock: returns seconds since the epoch.
    """

    def __init__(
        self, store: PageStore, table: PendingTable, *, worker_id: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._worker_id = worker_id
        self._store = store
        self._table = table
        self._clock = clock
        if HELD_PREFIX not in store.pins():
            store.pin(HELD_PREFIX)

    async def keep(self, name: str, body: Body) -> None:
        """Hold a body; it survives this process when this returns.

        Raises:
            StoreFull: it does not fit.
            StoreError: the disk fails.
        """
        with self._store.writer(name, etag=body.etag, size=body.size, last_modified=self._clock()) as writer:
            await append(writer, body)
            writer.commit()
        await in_thread(self._store.flush)

    async def receive(self, name: str, chunks: Chunks, *, etag: str, size: int) -> None:
        """Hold what another worker sends; as :meth:`keep`.

        Raises:
            VersionChanged: it is not of this size.
            Conflict: something is held under this name already, and stays.
            InvalidRequest: the bytes are not those of the etag, where that is their MD5.
        """
        if self._store.lookup(name):
            raise Conflict("This write is held here already.")
        digest = md5(usedforsecurity=False)
        with self._store.writer(name, etag=etag, size=size, last_modified=self._clock()) as writer:
            async for chunk in chunks:
                writer.append(chunk)
                digest.update(chunk)
            if _MD5.fullmatch(etag) and digest.hexdigest() != etag:
                raise InvalidRequest(f"The bytes have the MD5 {digest.hexdigest()}, not {etag}.")
            writer.commit()
        await in_thread(self._store.flush)

    def release(self, path: UfsPath, write_id: str) -> None:
        """Give up what was not written after all.

        Raises:
            Conflict: it was.
        """
        write = self._table.get(str(path))
        if write is not None and write.id == write_id:
            raise Conflict(f"path='{path}': this write is pending.")
        self._store.delete(held_name(write_id, str(path)))

    def body(self, write: PendingWrite) -> Body | None:
        """Return a pending version that is held here."""
        item = self._store.lookup(write.held_name)
        return StoredBody(store=self._store, item=item) if item else None

    def drop_orphans(self) -> int:
        """Drop what has been held for a day and no record says is held here; return how many. Blocking."""
        before, dropped = self._clock() - ORPHAN_SECONDS, 0
        for item in self._store.scan(HELD_PREFIX):
            write_id, _, uri = item.path.removeprefix(HELD_PREFIX).partition(":")
            write = self._table.get(uri)
            named = write is not None and write.id == write_id and self._worker_id in write.holders
            if item.cached_at < before and not named:
                dropped += self._store.delete(item.path)
        return dropped


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredBody:
    """An object of a page store as a body; its pieces raise as ``PageStore.read``."""

    store: PageStore
    item: CachedObject

    @property
    def size(self) -> int:
        """Bytes."""
        return self.item.size

    @property
    def etag(self) -> str:
        """As it is held."""
        return self.item.etag

    @property
    def in_memory(self) -> bool:
        """It is on the disk."""
        return False

    def pieces(self) -> Iterator[bytes]:
        """Yield all of it in order."""
        for start in range(0, self.size, _PIECE_BYTES):
            yield self.store.read(self.item, start, min(start + _PIECE_BYTES, self.size))
