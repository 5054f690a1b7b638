"""The read side of a worker: from the page store if it can, else from the under store, once.

The rules of versions: without a wish, a reader gets the version that is cached. With one (``If-Match``) it gets exactly
that version, which takes the cached one's place if it has to be fetched, or VersionChanged. A body that began as one
version ends as that version or is broken off.

A miss is answered as soon as the version and the first bytes are known; the body follows the fill, which goes on if the
reader leaves. What is sent before the fill has ended is what the origin sent, of the version that was announced, and
intact since it arrived; that all of it matches a checksum of the whole object, where the origin has one, is only known
at the end. Ranges of what is not cached need not wait for a fill, nor cause one: see :mod:`preheat.worker._ranges`.

A page store that is full, or fails, is no reader's error: the under store is read in its place.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice

from preheat.errors import InvalidRequest, ObjectNotFound, StoreError, VersionChanged
from preheat.paths import UfsPath
from preheat.store import CachedObject, Notes, PageStore
from preheat.ufs import Selection, UnderStore, is_marker
from preheat.versions import ObjectInfo
from preheat.worker._bodies import Bodies, info_of
from preheat.worker._ranges import Asked, RangeReads, resolve
from preheat.worker.fills import FOR_READERS, Fill, Fills, Peers, Source, Throttle

ETags = tuple[str, ...] | None
"""The versions that a reader accepts; none is any."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenedRead:
    """One version of an object, ready to be read."""

    info: ObjectInfo
    hit: bool
    """Whether it was in the page store before it was asked for."""
    pages: Callable[[int, int], AsyncIterator[bytes | memoryview]]
    """Yields the bytes [start, end); raises VersionChanged or ObjectNotFound if they cannot be had any more."""


class ReadService:
    """Serves objects from a page store, filled from an under store.

    Args:
        store: where objects are kept.
        origin: where they come from.
        notes: what is known of objects that are not in the store; by default nothing.
        peers: other workers, which are asked before the under store; by default nobody.
        stall_seconds: a fill fails when the under store sends nothing for this long.
    """

    def __init__(
        self,
        store: PageStore,
        origin: UnderStore,
        *,
        notes: Notes | None = None,
        peers: Peers | None = None,
        stall_seconds: float = 60.0,
    ) -> None:
        self._store = store
        self._origin = origin
        self._notes = notes or Notes()
        self._peers = peers
        self._fills = Fills(store, origin, notes=self._notes, stall_seconds=stall_seconds)
        self._bodies = Bodies(store, self._fills)
        self._ranges = RangeReads()
        self.counters = self._fills.counters

    def lookup(self, uri: str) -> CachedObject | None:
        """Return the object of a path if it is in the store."""
        return self._store.lookup(uri)

    def cached(self, path: UfsPath, if_match: ETags = None) -> CachedObject | None:
        """Return the object if it is in the store, as a version that the reader accepts."""
        item = self._store.lookup(str(path))
        return item if item is not None and (if_match is None or item.etag in if_match) else None

    def read(self, item: CachedObject, start: int, end: int) -> bytes:
        """Read bytes [start, end) of a hit at once, and count it; raises as ``PageStore.read`` does."""
        data = self._store.read(item, start, end)
        self.counters.hits += 1
        self.counters.hit_bytes += len(data)
        return data

    def read_small(self, uris: Sequence[str]) -> list[tuple[CachedObject, bytes]]:
        """Read whole hits at once, as ``PageStore.read_small`` does, and count them."""
        found = self._store.read_small(uris)
        self.counters.hits += len(found)
        self.counters.hit_bytes += sum(item.size for item, _ in found)
        return found

    async def open(
        self, path: UfsPath, if_match: ETags = None, *, asked: Asked | None = None, only_cached: bool = False
    ) -> OpenedRead:
        """Find an object, or begin to fetch it, and count the hit or the miss.

        Args:
            path: the object.
            if_match: the versions that the reader accepts.
            asked: the range that is going to be read, so that it comes first; none is all of the object.
            only_cached: read nothing but the page store.

        Raises:
            VersionChanged: no version that the reader accepts exists.
            ObjectNotFound: there is no such object; or none that is cached, if only those are wanted. Otherwise as
                ``UnderStore.get``.
        """
        item = self.cached(path, if_match)
        if item is None and only_cached:
            raise ObjectNotFound(f"path='{path}' is not cached here.")
        if item is not None:
            self.counters.hits += 1
            bodies = self._bodies
            pages = partial(bodies.cached, item) if only_cached else partial(bodies.stored, path, item)
            return OpenedRead(info=info_of(path, item), hit=True, pages=partial(pages, hit=True))
        opened = await self._open_missing(path, if_match, asked)
        self.counters.misses += 1
        return opened

    async def fetch(
        self,
        path: UfsPath,
        *,
        info: ObjectInfo | None,
        job_id: str = "",
        throttle: Throttle | None = None,
        from_peers: bool = False,
    ) -> CachedObject:
        """Bring an object into the store, whether or not it is there, and return it.

        Args:
            path: the object.
            info: the version to fetch; none fetches whichever is current.
            job_id: the job that asks; empty for a reader, who also lifts the throttle of a fill under way.
            throttle: limits the bandwidth of the fill that this call begins.
            from_peers: ask other workers before the under store: they are likely to have it.

        Raises:
            VersionChanged: the under store has another etag or size.
            StoreFull: it does not fit. Otherwise as ``UnderStore.get``.
        """
        source = self._source(path) if from_peers else None
        etag, size = (info.etag, info.size) if info else (None, None)
        return await self._fills.fetch(path, etag=etag, size=size, job_id=job_id, throttle=throttle, source=source)

    def note(self, path: UfsPath, info: ObjectInfo) -> None:
        """Know an object's size and version from now on, without its bytes."""
        self._notes.put(str(path), info)

    async def stat(self, path: UfsPath, if_match: ETags = None) -> tuple[ObjectInfo, bool]:
        """Return what is known of an object, and whether it is cached; nothing is filled.

        Raises:
            VersionChanged: the current version is none that the reader accepts. Otherwise as ``UnderStore.stat``.
        """
        if item := self.cached(path, if_match):
            return info_of(path, item), True
        note = self._notes.get(str(path), key=path.key)
        if note is not None and (if_match is None or note.etag in if_match):
            return note, False
        return await self._stat_origin(path, if_match), False

    async def list(self, path: UfsPath, *, after: str, limit: int) -> list[ObjectInfo]:
        """Return up to ``limit`` objects at and below a path as the under store lists them, after a key."""
        self.counters.origin_lists += 1
        found: list[ObjectInfo] = []
        async for page in self._origin.list(path, after=after):
            found.extend(page)
            if len(found) >= limit:
                break
        return found[:limit]

    def list_cached(self, path: UfsPath, *, after: str, limit: int) -> tuple[ObjectInfo, ...]:
        """Return up to ``limit`` objects of the store at and below a path, after a key, as a listing would."""
        root, selection = str(path.with_key("")), Selection.of(path, after)
        exact = None if selection.exact is None else self._store.lookup(root + selection.exact)
        below: Iterable[CachedObject] = ()
        if selection.prefix is not None:
            below = self._store.scan(root + selection.prefix, after=root + selection.start_after)
        items = chain([exact] if exact else [], below)
        infos = (info_of(path.with_key(item.path.removeprefix(root)), item) for item in items)
        return tuple(islice((info for info in infos if not is_marker(info.key, info.size)), limit))

    def stats(self) -> dict[str, int]:
        """Return the counters as ``/v1/stats`` shows them."""
        counters, usage = self.counters, self._store.usage()
        return {
            "hits": counters.hits,
            "misses": counters.misses,
            "hitBytes": counters.hit_bytes,
            "missBytes": counters.miss_bytes,
            "originReads": counters.origin_reads,
            "loadReads": counters.load_reads,
            "originBytes": counters.origin_bytes,
            "originLists": counters.origin_lists,
            "originStats": counters.origin_stats,
            "originErrors": counters.origin_errors,
            "originCorrupt": counters.origin_corrupt,
            "originThrottled": counters.origin_throttled,
            "peerReads": counters.peer_reads,
            "peerBytes": counters.peer_bytes,
            "readThrough": counters.read_through,
            "corrupt": usage.corrupt,
            "evicted": usage.evicted,
            "damaged": usage.damaged,
            "failedDirectories": len(usage.failed),
        }

    async def close(self) -> None:
        """Break off every fill; those who wait for one get Unavailable."""
        await self._fills.close()

    async def _open_missing(self, path: UfsPath, if_match: ETags, asked: Asked | None) -> OpenedRead:
        etag = await self._wanted(path, if_match)
        if asked == (0, None):
            asked = None
        if asked is not None:
            self._recall(path)
            asked = await self._from_start(path, etag, asked)
        joining = self._fills.under_way(path)
        if asked is None or joining or self._ranges.is_worth_filling(str(path), asked):
            pieces = FOR_READERS.led_by(*asked) if asked else FOR_READERS
            try:
                fill = await self._fills.follow(path, etag=etag, pieces=pieces, source=self._source(path))
            except StoreError as error:
                self._bodies.note_read_through(path, error)
            else:
                if fill is not None:
                    return await self._opened_fill(path, fill, patient=asked is None or not joining)
        return await self._open_directly(path, etag, asked or (0, None))

    async def _opened_fill(self, path: UfsPath, fill: Fill, *, patient: bool) -> OpenedRead:
        pages = partial(self._bodies.followed, path, fill, patient=patient)
        return OpenedRead(info=await fill.version(), hit=False, pages=pages)

    async def _open_directly(self, path: UfsPath, etag: str | None, asked: Asked) -> OpenedRead:
        """Read a range without keeping it; begin to fill the object if that has become worth while."""
        try:
            download = await self._fills.download(path, etag, *asked, source=self._source(path))
        except InvalidRequest:  # the object ends before the range
            info = await self._stat_origin(path, None if etag is None else (etag,))
            return OpenedRead(info=info, hit=False, pages=partial(self._bodies.direct, path, info))
        info = download.info
        self._ranges.learn(str(path), info, download.end - download.start)
        if self._ranges.is_worth_filling(str(path), (0, 0)) and not self._fills.under_way(path):
            pieces = FOR_READERS.led_by(download.end, None)
            self._fills.begin(path, etag=info.etag, pieces=pieces, source=self._source(path))

        def pages(start: int, end: int) -> AsyncIterator[bytes | memoryview]:
            begun = download if (start, end) == (download.start, download.end) else None
            return self._bodies.direct(path, info, start, end, begun)

        return OpenedRead(info=info, hit=False, pages=pages)

    def _source(self, path: UfsPath) -> Source | None:
        return self._peers.source(path, self.counters) if self._peers else None

    async def _from_start(self, path: UfsPath, etag: str | None, asked: Asked) -> Asked:
        """Return a range by where it begins; one that counts from the end needs the size."""
        if asked[0] >= 0:
            return asked
        info = self._ranges.info(str(path), etag) or await self._stat_origin(path, None if etag is None else (etag,))
        return resolve(asked, info.size)

    def _recall(self, path: UfsPath) -> None:
        """Take what a job noted of an object for its present version, unless a reader knows better."""
        if self._ranges.info(str(path), None) is None and (note := self._notes.get(str(path), key=path.key)):
            self._ranges.learn(str(path), note)

    async def _stat_origin(self, path: UfsPath, if_match: ETags) -> ObjectInfo:
        self.counters.origin_stats += 1
        async with self._fills.deadline(path):
            info = await self._origin.stat(path)
        self._ranges.learn(str(path), info)
        if if_match is not None and info.etag not in if_match:
            raise VersionChanged(f"path='{path}' has the etag {info.etag!r} now, not {' or '.join(if_match)!r}.")
        return info

    async def _wanted(self, path: UfsPath, if_match: ETags) -> str | None:
        """Return the one etag to ask the under store for."""
        if if_match is None:
            return None
        return if_match[0] if len(if_match) == 1 else (await self._stat_origin(path, if_match)).etag
