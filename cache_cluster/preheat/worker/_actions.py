"""What a worker does with one entry of a batch, for each action. Each is idempotent: a batch may come again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum, auto

from preheat.destinations import target
from preheat.jobs import Action, Batch
from preheat.paths import UfsPath
from preheat.store import CachedObject, PageStore
from preheat.versions import ObjectInfo
from preheat.worker._copies import Copies
from preheat.worker._reads import ReadService
from preheat.worker.fills import Throttle

Persist = Callable[[UfsPath, Throttle], Awaitable[bool]]
"""Gives the under store what is pending at a path; false if nothing is. Awaits the throttle with each chunk's size."""


class Outcome(Enum):
    """What became of an entry that did not fail."""

    DONE = auto()
    SKIPPED = auto()
    DROPPED = auto()  #: not done: the job ended meanwhile


class Actions:
    """Does entries with a worker's store and its under store.

    Args:
        worker_id: this worker, to know whether a TRIM's keepers name it.
        store: where cached objects are.
        reads: brings them there.
        copies: writes objects to an under store.
        persist: gives the under store what is pending at a path; none if nothing ever is.
    """

    def __init__(
        self, worker_id: str, *, store: PageStore, reads: ReadService, copies: Copies, persist: Persist | None = None
    ) -> None:
        self._worker_id = worker_id
        self._store = store
        self._reads = reads
        self._copies = copies
        self._persist_path = persist
        self._by_action: dict[Action, Callable[[Batch, ObjectInfo, Throttle], Awaitable[Outcome]]] = {
            Action.FETCH: self._fetch,
            Action.VERIFY: self._verify,
            Action.NOTE: self._note,
            Action.TRIM: self._trim,
            Action.REBALANCE: self._rebalance,
            Action.COPY: self._copy,
            Action.MOVE: self._move,
            Action.PERSIST: self._persist,
        }

    def do(self, batch: Batch, entry: ObjectInfo, throttle: Throttle) -> Awaitable[Outcome]:
        """Do one entry.

        Args:
            batch: says what, and below which root.
            entry: the object, as it was listed.
            throttle: awaited with the size of each chunk that is transferred.

        Raises:
            PreheatError: as the store and the under store do.
        """
        return self._by_action[batch.action](batch, entry, throttle)

    def flush(self) -> None:
        """Make what the entries brought survive this process; raises as ``PageStore.flush`` does."""
        self._store.flush()

    async def _fetch(self, batch: Batch, entry: ObjectInfo, throttle: Throttle) -> Outcome:
        cached = self._store.lookup(batch.root + entry.key)
        if cached is not None and _is_version(cached, entry):
            if cached.job_id == batch.job_id:
                return Outcome.DONE
            if batch.skip_if_exists:
                return Outcome.SKIPPED
        await self._load(batch, entry, throttle)
        return Outcome.DONE

    async def _verify(self, batch: Batch, entry: ObjectInfo, throttle: Throttle) -> Outcome:
        """Read the cached bytes back; what is missing, older or corrupt is fetched, and read back once more."""
        cached = self._store.lookup(batch.root + entry.key)
        if cached is None or not _is_version(cached, entry):
            cached = await self._load(batch, entry, throttle)
        await asyncio.to_thread(self._store.verify, cached)
        return Outcome.DONE

    async def _note(self, batch: Batch, entry: ObjectInfo, throttle: Throttle) -> Outcome:  # noqa: ARG002 - nothing moves
        self._reads.note(_source(batch, entry), entry)
        return Outcome.DONE

    async def _trim(self, batch: Batch, entry: ObjectInfo, throttle: Throttle) -> Outcome:  # noqa: ARG002 - nothing moves
        if self._worker_id in batch.keepers or self._came_later(batch, entry) or await self._is_pinned(batch, entry):
            return Outcome.SKIPPED
        dropped = await asyncio.to_thread(self._store.delete, batch.root + entry.key)
        return Outcome.DONE if dropped or not batch.keepers else Outcome.SKIPPED

    def _came_later(self, batch: Batch, entry: ObjectInfo) -> bool:
        """Whether the copy here may be the only one: a reader, or another job, brought it since this job began."""
        cached = self._store.lookup(batch.root + entry.key)
        if cached is None or batch.cached_before is None:
            return False
        return cached.cached_at >= batch.cached_before and cached.job_id != batch.job_id

    async def _is_pinned(self, batch: Batch, entry: ObjectInfo) -> bool:
        """Whether what would be dropped is what its path is pinned to, and no keeper has it.

        Of an object that is not here it is what was listed that counts: all workers are to say the same of it.

        Raises:
            Unavailable: nobody can tell now.
        """
        path, policies = _source(batch, entry), self._reads.policies
        inventory = policies.pinned(str(path))
        if inventory is None:
            return False
        pinned = await policies.find(inventory, path)
        here = self._store.lookup(str(path)) or entry
        is_kept = bool(batch.keepers) and _is_version(here, entry)
        return pinned is not None and _is_version(here, pinned) and not is_kept

    async def _rebalance(self, batch: Batch, entry: ObjectInfo, throttle: Throttle) -> Outcome:
        """Have the entry if this worker is to keep it; otherwise drop it, for by now those who keep it have it."""
        step = self._fetch if self._worker_id in batch.keepers else self._trim
        return await step(batch, entry, throttle)

    async def _copy(self, batch: Batch, entry: ObjectInfo, throttle: Throttle) -> Outcome:
        written = await self._copies.copy(
            _source(batch, entry),
            entry,
            target(batch.source, batch.destination, entry.key),
            skip_if_exists=batch.skip_if_exists,
            throttle=throttle,
        )
        return Outcome.DONE if written else Outcome.SKIPPED

    async def _move(self, batch: Batch, entry: ObjectInfo, throttle: Throttle) -> Outcome:
        goal = target(batch.source, batch.destination, entry.key)
        await self._copies.move(_source(batch, entry), entry, goal, throttle=throttle)
        return Outcome.DONE

    async def _persist(self, batch: Batch, entry: ObjectInfo, throttle: Throttle) -> Outcome:
        path = _source(batch, entry)
        persisted = self._persist_path is not None and await self._persist_path(path, throttle)
        return Outcome.DONE if persisted else Outcome.SKIPPED

    def _load(self, batch: Batch, entry: ObjectInfo, throttle: Throttle) -> Awaitable[CachedObject]:
        return self._reads.fetch(
            _source(batch, entry),
            info=entry,
            job_id=batch.job_id,
            throttle=throttle,
            from_peers=batch.from_peers,
            holders=batch.holders,
            drained=batch.drained,
        )


def _source(batch: Batch, entry: ObjectInfo) -> UfsPath:
    return UfsPath.parse(batch.root + entry.key)


def _is_version(item: CachedObject | ObjectInfo, entry: ObjectInfo) -> bool:
    return (item.etag, item.size) == (entry.etag, entry.size)
