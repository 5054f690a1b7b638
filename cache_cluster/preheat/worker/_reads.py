"""The read side of a worker: from the page store if it can, else from the under store, once.

The rules of versions: without a wish, a reader gets the version that is cached. With one (``If-Match``) it gets exactly
that version, which takes the cached one's place if it has to be fetched, or VersionChanged. A body that began as one
version ends as that version or is broken off.

A miss is answered as soon as the version and the first bytes are known; the body follows the fill, which goes on if the
reader leaves. What is sent before the fill has ended is what the origin sent, of the version that was announced, and
intact since it arrived; that all of it matches a checksum of the whole object, where the origin has one, is only known
at the end. Ranges of what is not cached need not wait for a fill, nor cause one: see :mod:`preheat.worker._ranges`.

All ports read through here, and so obey the mounts, the pins and the reader's wish alike: see :mod:`._freshness`.
A page store that is full, or fails, is no reader's error: the under store is read in its place.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from functools import partial
from itertools import takewhile
from math import inf

from preheat.copies import CachedCopy
from preheat.errors import ObjectNotFound, VersionChanged
from preheat.paths import UfsPath
from preheat.placement import Member
from preheat.store import CachedObject, Extent, Notes, PageStore
from preheat.ufs import UnderStore
from preheat.versions import ObjectInfo
from preheat.worker._bodies import Bodies, info_of
from preheat.worker._checks import Checks, Clock
from preheat.worker._freshness import ANY, NotCached, Wish
from preheat.worker._gate import ETags, Gate, Terms
from preheat.worker._metadata import Metadata, accepts
from preheat.worker._misses import Misses, OpenedRead
from preheat.worker._pending import PendingReads, PendingTable
from preheat.worker._policies import Policies
from preheat.worker._ranges import Asked, RangeReads
from preheat.worker.fills import Fills, Peers, Throttle

__all__ = ["ETags", "OpenedRead", "ReadService"]
_ATTEMPTS = 3
"""At an object that changes between the look at its version and its read, again and again."""


class ReadService:
    """Serves objects from a page store, filled from an under store.

    Args:
        store: where objects are kept.
        origin: where they come from.
        notes: what is known of objects that are not in the store; by default nothing.
        peers: other workers, which are asked before the under store; by default nobody.
        policies: which versions may be served; by default any that is cached.
        pending: reads what is written and not at the under store yet; by default nothing is.
        stall_seconds: a fill fails when the under store sends nothing for this long.
        clock: tells how old what is known is.
    """

    def __init__(
        self,
        store: PageStore,
        origin: UnderStore,
        *,
        notes: Notes | None = None,
        peers: Peers | None = None,
        policies: Policies | None = None,
        pending: PendingReads | None = None,
        stall_seconds: float = 60.0,
        clock: Clock = time.time,
    ) -> None:
        self._store, self._origin = store, origin
        self._notes = notes = notes or Notes()
        self.policies = policies or Policies()
        self._pending = pending or PendingReads(PendingTable(), store, peers)
        self._pending_uris = self._pending.table.uris
        self._fills = Fills(store, origin, notes=notes, stall_seconds=stall_seconds, clock=clock)
        self.counters = self._fills.counters
        self._checks = Checks(store, self._stat_origin, self.counters, clock=clock)
        self._fills.on_filled = self._checks.filled
        self._gate = gate = Gate(self.policies, self._checks)
        self._bodies, self._ranges = Bodies(store, self._fills), RangeReads()
        stat, counters = self._stat_origin, self.counters
        self._misses = Misses(self._fills, self._bodies, self._ranges, notes=notes, peers=peers, stat=stat)
        nearby = self._misses.nearby
        self._metadata = Metadata(store, origin, notes=notes, gate=gate, counters=counters, stat=stat, nearby=nearby)

    def lookup(self, uri: str) -> CachedObject | None:
        """Return the object of a path if it is in the store, whether or not it may be served."""
        return self._store.lookup(uri)

    def servable(self, uri: str, if_match: ETags = None, wish: Wish = ANY) -> CachedObject | None:
        """Return the copy of an object if it may be served to a reader at once, without asking anybody.

        Raises:
            VersionChanged, ObjectNotFound, Unavailable: as ``Policies.bound``.
        """
        if self._pending_uris and self._is_pending(uri, if_match, wish):
            held = self._pending.held(uri)
            return held if held is not None and accepts(if_match, held.etag) else None
        item = self._store.lookup(uri)
        if item is None or (if_match is not None and item.etag not in if_match):
            return None
        if wish is ANY and self.policies.allows_all:  # most reads, by far: it shall cost them next to nothing
            return item
        return item if self._gate.passes(item, wish) else None

    def read(self, item: CachedObject, start: int, end: int, *, counted: bool = False) -> bytes:
        """Read bytes [start, end) of a hit at once, and count it, if it is not; raises as ``PageStore.read`` does."""
        data = self._store.read(item, start, end)
        if not counted:
            self.counters.hits += 1
            self.counters.hit_bytes += len(data)
        return data

    def extent(self, item: CachedObject, start: int, end: int) -> Extent | None:
        """Return where bytes of a hit can be sent from, as ``PageStore.extent``, and count it; none if nowhere."""
        if extent := self._store.extent(item, start, end):
            self.counters.hits += 1
            self.counters.hit_bytes += end - start
        return extent

    def read_small(self, uris: Sequence[str], wish: Wish = ANY, limit: float = inf) -> list[tuple[CachedObject, bytes]]:
        """Read whole hits at once, as ``PageStore.read_small``, up to the first that may not be served; count them."""
        if self._pending_uris:
            uris = [*takewhile(lambda uri: not self._is_pending(uri, None, wish), uris)]
        found = self._store.read_small(uris, limit)
        if wish is not ANY or not self.policies.allows_all:
            found = list(takewhile(lambda hit: self._gate.passes(hit[0], wish), found))
        self.counters.hits += len(found)
        self.counters.hit_bytes += sum([item.size for item, _ in found])
        return found

    async def has(self, path: UfsPath, if_match: ETags = None, wish: Wish = ANY) -> bool:
        """Whether a copy may be served without asking the under store; raises as :meth:`servable`."""
        if self._is_pending(str(path), if_match, wish) or self.servable(str(path), if_match, wish) is not None:
            return True
        if self.policies.bound(str(path), wish.version) is None:
            return False
        return self._copy(path, await self._gate.terms(path, if_match, wish)) is not None

    async def open(
        self, path: UfsPath, if_match: ETags = None, *, asked: Asked | None = None, wish: Wish = ANY
    ) -> OpenedRead:
        """Find an object, or begin to fetch it, and count the hit or the miss.

        Args:
            path: the object.
            if_match: the versions that the reader accepts.
            asked: the range that is going to be read, so that it comes first; none is all of the object.
            wish: how fresh it has to be.

        Raises:
            VersionChanged: no version that the reader accepts exists.
            ObjectNotFound: there is no such object, or it does not belong to the dataset version that is read.
            NotCached: the under store would have to be asked, and must not. Otherwise as ``UnderStore.get``.
        """
        pending = self._pending if self._is_pending(str(path), if_match, wish) else None
        if pending and (opened := pending.open(path, if_match, self.counters, only_cached=wish.only_cached)):
            return opened
        for attempt in range(1, _ATTEMPTS + 1):
            terms = Terms(etags=if_match)
            item = self.servable(str(path), if_match, wish)
            if item is None:
                terms = await self._gate.terms(path, if_match, wish)
                item = self._copy(path, terms)
            if item is not None:
                return self._opened_hit(path, item, wish)
            if wish.only_cached:
                raise NotCached(f"path='{path}' is not cached here in a version that would do.")
            try:
                return await self._opened_miss(path, terms, asked)
            except VersionChanged:
                if terms.info is None or terms.pinned or if_match is not None or attempt == _ATTEMPTS:
                    raise
                self._checks.forget(path)  # it was replaced after it was looked at
        raise AssertionError("The last attempt returns or raises.")

    async def fetch(
        self,
        path: UfsPath,
        *,
        info: ObjectInfo | None,
        job_id: str = "",
        throttle: Throttle | None = None,
        from_peers: bool = False,
        holders: Collection[str] = (),
        drained: Sequence[Member] = (),
    ) -> CachedObject:
        """Bring an object into the store, whether or not it is there, and return it.

        Args:
            path: the object.
            info: the version to fetch; none fetches whichever is current.
            job_id: the job that asks; empty for a reader, who also lifts the throttle of a fill under way.
            throttle: limits the bandwidth of the fill that this call begins.
            from_peers: ask other workers before the under store: they are likely to have it.
            holders: the ids of those who have it, if that is known.
            drained: those of them who are drained.

        Raises:
            VersionChanged: the under store has another etag or size.
            StoreFull: it does not fit. Otherwise as ``UnderStore.get``.
        """
        if not self.policies.allows_all:
            info = await self._gate.fetchable(path, info)
        source = self._misses.source(path, holders, drained) if from_peers else None
        etag, size = (info.etag, info.size) if info else (None, None)
        return await self._fills.fetch(path, etag=etag, size=size, job_id=job_id, throttle=throttle, source=source)

    def note(self, path: UfsPath, info: ObjectInfo) -> None:
        """Know an object's size and version from now on, without its bytes."""
        self._notes.put(str(path), info)

    def is_pending(self, path: UfsPath) -> bool:
        """Whether the under store has not got what was written to a path last."""
        return self._pending.covers(str(path))

    def supersede(self, path: UfsPath, etag: str) -> None:
        """Forget what is known of an object, and let no other version than this one come; if empty, none at all.

        Of the store nothing is dropped: the caller does, and puts the new version there.
        """
        self._fills.supersede(path, etag)
        self._checks.forget(path)
        self._notes.forget(str(path))
        self._ranges.forget(str(path))

    async def stat(self, path: UfsPath, if_match: ETags = None, *, wish: Wish = ANY) -> tuple[ObjectInfo, bool]:
        """Return what is known of an object, the version that :meth:`open` would read, and whether it is cached.

        Raises:
            VersionChanged: the version is none that the reader accepts.
            ObjectNotFound, NotCached: as :meth:`open`. Otherwise as ``UnderStore.stat``.
        """
        if self._is_pending(str(path), if_match, wish) and (pending := self._pending.stat(path, if_match)):
            return pending, True
        if item := self.servable(str(path), if_match, wish):
            return info_of(path, item), True
        return await self._metadata.stat(path, if_match, wish)

    async def list(self, path: UfsPath, *, after: str, limit: int, wish: Wish = ANY) -> list[ObjectInfo]:
        """Return up to ``limit`` objects at and below a path as the under store lists them, after a key.

        Where the policy allows it, they are those that a job has listed, and the under store is not asked.

        Raises:
            NotCached: the under store would have to be asked, and must not. Otherwise as ``UnderStore.list``.
        """
        found = await self._metadata.list(path, after=after, limit=limit, wish=wish)
        if self.policies.bound(str(path), wish.version):
            return found
        return self._pending.merged(path, found, after=after, limit=limit)

    def list_cached(self, path: UfsPath, *, after: str, limit: int) -> tuple[CachedCopy, ...]:
        """Return up to ``limit`` objects of the store at and below a path, after a key, as a listing would."""
        return self._metadata.list_cached(path, after=after, limit=limit)

    def stats(self) -> dict[str, int]:
        """Return the counters as ``/v1/stats`` shows them."""
        usage = self._store.usage()
        return {
            **self.counters.named(),
            "corrupt": usage.corrupt,
            "evicted": usage.evicted,
            "damaged": usage.damaged,
            "failedDirectories": len(usage.failed),
        }

    async def close(self) -> None:
        """Break off every fill, and every look at the under store; those who wait for one get Unavailable."""
        await self._checks.close()
        await self._fills.close()

    def _is_pending(self, uri: str, if_match: ETags, wish: Wish) -> bool:
        """Whether what is pending is read: below a pin only by who persists it; raises as ``Policies.bound``."""
        if (write := self._pending.table.get(uri)) is None:
            return False
        named = wish.only_cached and not wish.version and if_match == (write.etag,)
        return named or self.policies.bound(uri, wish.version) is None

    def _copy(self, path: UfsPath, terms: Terms) -> CachedObject | None:
        item = self._store.lookup(str(path))
        return item if item is not None and terms.accept(item) else None

    def _opened_hit(self, path: UfsPath, item: CachedObject, wish: Wish) -> OpenedRead:
        self.counters.hits += 1
        pages = partial(self._bodies.cached, item) if wish.only_cached else partial(self._bodies.stored, path, item)
        return OpenedRead(info=info_of(path, item), hit=True, pages=partial(pages, hit=True))

    async def _opened_miss(self, path: UfsPath, terms: Terms, asked: Asked | None) -> OpenedRead:
        try:
            opened = await self._misses.open(path, terms.etags, asked)
        except (VersionChanged, ObjectNotFound) as error:
            if terms.pinned and terms.info is not None:
                raise self._gate.drifted(path, had=terms.info.etag, now=None) from error
            raise
        self.counters.misses += 1
        return opened

    async def _stat_origin(self, path: UfsPath, if_match: ETags = None) -> ObjectInfo:
        self.counters.origin_stats += 1
        async with self._fills.deadline(path):
            info = await self._origin.stat(path)
        self._ranges.learn(str(path), info)
        if not accepts(if_match, info.etag):
            raise VersionChanged(f"path='{path}' has the etag {info.etag!r} now, not {if_match!r}.")
        return info
