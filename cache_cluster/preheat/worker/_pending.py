"""Reads of what was written and is not at the under store: it stands in the place of whatever is cached, or listed.

It is read from this worker's page store, or else from one of the workers that hold it. No freshness is asked for: there
is nothing newer.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import TypeVar

from preheat.errors import StoreError, Unavailable, VersionChanged
from preheat.logs import get_logger
from preheat.paths import UfsPath
from preheat.store import PAGE_SIZE, CachedObject, PageStore
from preheat.versions import ObjectInfo
from preheat.worker._freshness import NotCached
from preheat.worker._gate import ETags
from preheat.worker._misses import OpenedRead
from preheat.worker.fills import Candidates, Counters, Peers
from preheat.writes import OrderedUris, PendingWrite

log = get_logger("worker")
T = TypeVar("T")
_REMOTE_BYTES = 4 << 20
_LOOKS, _LOOK_SECONDS = 20, 0.05
"""To see whether this worker only has not heard yet what the holders of a pending version know."""
_MAX_REMEMBERED = 1 << 16


class PendingTable:
    """The pending writes as they are known here. What is older than what was known before is left out."""

    def __init__(self) -> None:
        self._by_key: dict[str, tuple[PendingWrite, int]] = {}
        self._by_uri: dict[str, PendingWrite] = {}
        self.uris = self._by_uri.keys()
        """Where something is pending, as it changes."""
        self._ordered = OrderedUris()
        self._removed: OrderedDict[str, int] = OrderedDict()
        self._ended: OrderedDict[str, None] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._by_uri)

    def get(self, uri: str) -> PendingWrite | None:
        """Return what is pending at a path."""
        return self._by_uri.get(uri)

    def writes(self) -> list[PendingWrite]:
        """Return all that is pending, in no order."""
        return list(self._by_uri.values())

    def is_news(self, key: str, revision: int) -> bool:
        """Whether nothing as new is known of a key."""
        known = self._by_key[key][1] if key in self._by_key else self._removed.get(key, 0)
        return revision > known

    def set(self, key: str, write: PendingWrite, revision: int) -> PendingWrite | None:
        """Know a pending write, and return the one whose place it takes."""
        before = self._by_key.get(key)
        self._by_key[key] = (write, revision)
        self._by_uri[write.path] = write
        self._ordered.add(write.path)
        return before[0] if before else None

    def remove(self, key: str, revision: int) -> PendingWrite | None:
        """Know that nothing is pending any more since a revision, and return what was; a newer one stays."""
        if key in self._by_key and self._by_key[key][1] > revision:
            return None
        _remember(self._removed, key, revision)
        before = self._by_key.pop(key, None)
        if before is None:
            return None
        self._ordered.discard(before[0].path)
        return self._by_uri.pop(before[0].path)

    def end(self, key: str, write_id: str) -> PendingWrite | None:
        """Know that a write is not pending any more, whatever of it is still to be heard; return it if it was known."""
        _remember(self._ended, write_id, None)
        known = self._by_key.get(key)
        return self.remove(key, known[1]) if known and known[0].id == write_id else None

    def has_ended(self, write: PendingWrite) -> bool:
        """Whether it is known that a write is not pending any more."""
        return write.id in self._ended

    def below(self, path: UfsPath, after: str, limit: int) -> list[ObjectInfo]:
        """Return the first that are pending at and below a path, after a key, in order."""
        return [self._by_uri[uri].info for uri in islice(self._ordered.below(path, after), limit)]


class PendingReads:
    """Reads pending versions.

    Args:
        table: says which there are.
        store: has those that are held here.
        peers: the other workers; none if there are none.
    """

    def __init__(self, table: PendingTable, store: PageStore, peers: Peers | None) -> None:
        self.table = table
        self._store = store
        self._peers = peers
        self._readers: Counter[str] = Counter()
        self._dropped: set[str] = set()
        """Names whose bytes are given up when the last of their readers is done."""

    def covers(self, uri: str) -> bool:
        """Whether something is pending at a path."""
        return self.table.get(uri) is not None

    def held(self, uri: str) -> CachedObject | None:
        """Return the pending version of a path if it is held here."""
        write = self.table.get(uri)
        return self._store.lookup(write.held_name) if write else None

    def stat(self, path: UfsPath, if_match: ETags) -> ObjectInfo | None:
        """Return the version that is pending at a path; none if nothing is.

        Raises:
            VersionChanged: it is none that the reader accepts.
        """
        write = self.table.get(str(path))
        if write is None:
            return None
        if if_match is not None and write.etag not in if_match:
            raise VersionChanged(f"path='{path}' has the etag {write.etag!r} now, not {' or '.join(if_match)!r}.")
        return write.info

    def open(self, path: UfsPath, if_match: ETags, counters: Counters, *, only_cached: bool) -> OpenedRead | None:
        """Begin to read the version that is pending at a path; none if nothing is.

        Raises:
            VersionChanged: it is none that the reader accepts.
            NotCached: it is held elsewhere, and ``only_cached`` is wanted: so questions do not go round.
        """
        info, write = self.stat(path, if_match), self.table.get(str(path))
        if info is None or write is None:
            return None
        if only_cached and self.held(str(path)) is None:
            raise NotCached(f"path='{path}' is pending, and held by other workers.")
        counters.hits += 1
        return OpenedRead(info=info, hit=True, pages=partial(self._current, write, counters))

    def whole(self, write: PendingWrite) -> AsyncIterator[bytes]:
        """Yield all of a pending version, for whoever persists it; raises as :meth:`pages`."""
        return self.pages(write, Counters(), 0, write.size)

    async def pages(self, write: PendingWrite, counters: Counters, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield bytes [start, end) of a pending version.

        Raises:
            Unavailable: none of its holders can be reached.
        """
        item, source = self._store.lookup(write.held_name), None
        with self._reading(write.held_name):
            while start < end:
                page = self._local(item, start, min(end, (start // PAGE_SIZE + 1) * PAGE_SIZE)) if item else None
                if page is None:
                    source = source or self._source(write, counters)
                    item, page = None, await _remote(source, write, start, min(end, start + _REMOTE_BYTES))
                counters.hit_bytes += len(page)
                yield page
                start += len(page)

    def drop(self, name: str) -> None:
        """Give up the bytes that are held under a name, once nobody reads them here any more."""
        if name in self._readers:
            self._dropped.add(name)
            return
        try:
            self._store.delete(name)
        except StoreError as error:
            log.warning(
                "What is not pending any more is still held.", action="drop_failed", name=name, error=str(error)
            )

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        self._readers[name] += 1
        try:
            yield
        finally:
            self._readers[name] -= 1
            if not self._readers[name]:
                del self._readers[name]
                if name in self._dropped:
                    self._dropped.remove(name)
                    self.drop(name)

    async def _current(self, write: PendingWrite, counters: Counters, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield bytes as :meth:`pages`; raises VersionChanged if the holders let go of them for a newer version."""
        try:
            async for page in self.pages(write, counters, start, end):
                yield page
        except Unavailable as error:
            if await self._is_over(write):
                raise VersionChanged(f"path='{write.path}' was written anew.", remedy="Read it again.") from error
            raise

    async def _is_over(self, write: PendingWrite) -> bool:
        """Whether a write is not the pending one any more; its holders may have heard of that some moments earlier."""
        for _ in range(_LOOKS):
            known = self.table.get(write.path)
            if known is None or known.id != write.id:
                return True
            await asyncio.sleep(_LOOK_SECONDS)
        return False

    def merged(self, path: UfsPath, found: Sequence[ObjectInfo], *, after: str, limit: int) -> list[ObjectInfo]:
        """Return a page of a listing with what is pending in it; of ``found`` there may be more if it has ``limit``."""
        pending = self.table.below(path, after, limit)
        if len(found) >= limit:
            pending = [info for info in pending if info.key <= found[-1].key]
        by_key = {info.key: info for info in found} | {info.key: info for info in pending}
        return [by_key[key] for key in sorted(by_key)][:limit]

    def _local(self, item: CachedObject, start: int, end: int) -> bytes | None:
        try:
            return self._store.read(item, start, end)
        except (StoreError, FileNotFoundError, VersionChanged):  # another holder has it
            return None

    def _source(self, write: PendingWrite, counters: Counters) -> Candidates | None:
        path = UfsPath.parse(write.path)
        return self._peers.source(path, counters, holders=write.holders) if self._peers else None


def _remember(known: OrderedDict[str, T], key: str, value: T) -> None:
    known[key] = value
    known.move_to_end(key)
    if len(known) > _MAX_REMEMBERED:
        known.popitem(last=False)


async def _remote(source: Candidates | None, write: PendingWrite, start: int, end: int) -> bytes:
    found = await source.get(UfsPath.parse(write.path), etag=write.etag, start=start, end=end) if source else None
    if found is None:
        raise Unavailable(
            f"path='{write.path}' is not persisted yet, and none of its holders answers: {', '.join(write.holders)}.",
            remedy="Read it again when one of them is back.",
        )
    return b"".join([bytes(chunk) async for chunk in found.chunks])
