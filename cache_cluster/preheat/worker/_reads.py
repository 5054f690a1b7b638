"""The read side of a worker: from the page store if it can, else from the under store, once.

The rules of versions: without a wish, a reader gets the version that is cached. With one (``If-Match``) it gets exactly
that version, which takes the cached one's place if it has to be fetched, or VersionChanged. A body that began as one
version ends as that version or is broken off.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from itertools import chain, islice

from preheat.errors import CorruptPage, ObjectNotFound, StoreFull, VersionChanged
from preheat.paths import UfsPath
from preheat.store import PAGE_SIZE, CachedObject, Notes, PageStore
from preheat.ufs import Selection, UnderStore, is_marker
from preheat.versions import ObjectInfo
from preheat.worker._fills import Fills, Throttle

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
        stall_seconds: a fill fails when the under store sends nothing for this long.
    """

    def __init__(
        self, store: PageStore, origin: UnderStore, *, notes: Notes | None = None, stall_seconds: float = 60.0
    ) -> None:
        self._store = store
        self._origin = origin
        self._notes = notes or Notes()
        self._fills = Fills(store, origin, notes=self._notes, stall_seconds=stall_seconds)
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

    async def open(self, path: UfsPath, if_match: ETags = None) -> OpenedRead:
        """Find an object, or fill it, and count the hit or the miss.

        One that does not fit into the store is served from the under store directly.

        Raises:
            VersionChanged: no version that the reader accepts exists. Otherwise as ``UnderStore.get``.
        """
        if item := self.cached(path, if_match):
            self.counters.hits += 1
            return self._opened(path, item, hit=True)
        try:
            item = await self._fills.fetch(path, etag=await self._wanted(path, if_match))
        except StoreFull:
            opened = await self._opened_at_origin(path, if_match)
        else:
            opened = self._opened(path, item, hit=False)
        self.counters.misses += 1
        return opened

    async def fetch(
        self, path: UfsPath, *, info: ObjectInfo | None, job_id: str = "", throttle: Throttle | None = None
    ) -> CachedObject:
        """Bring an object into the store, whether or not it is there, and return it.

        Args:
            path: the object.
            info: the version to fetch; none fetches whichever is current.
            job_id: the job that asks; empty for a reader, who also lifts the throttle of a fill under way.
            throttle: limits the bandwidth of the fill that this call begins.

        Raises:
            VersionChanged: the under store has another etag or size.
            StoreFull: it does not fit. Otherwise as ``UnderStore.get``.
        """
        if info is None:
            return await self._fills.fetch(path, job_id=job_id, throttle=throttle)
        return await self._fills.fetch(path, etag=info.etag, size=info.size, job_id=job_id, throttle=throttle)

    def note(self, path: UfsPath, info: ObjectInfo) -> None:
        """Know an object's size and version from now on, without its bytes."""
        self._notes.put(str(path), info)

    async def stat(self, path: UfsPath, if_match: ETags = None) -> tuple[ObjectInfo, bool]:
        """Return what is known of an object, and whether it is cached; nothing is filled.

        Raises:
            VersionChanged: the current version is none that the reader accepts. Otherwise as ``UnderStore.stat``.
        """
        if item := self.cached(path, if_match):
            return _info(path, item), True
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
        infos = (_info(path.with_key(item.path.removeprefix(root)), item) for item in items)
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
            "corrupt": usage.corrupt,
            "evicted": usage.evicted,
        }

    async def close(self) -> None:
        """Break off every fill; those who wait for one get Unavailable."""
        await self._fills.close()

    async def _stat_origin(self, path: UfsPath, if_match: ETags) -> ObjectInfo:
        self.counters.origin_stats += 1
        async with self._fills.deadline(path):
            info = await self._origin.stat(path)
        if if_match is not None and info.etag not in if_match:
            raise VersionChanged(f"path='{path}' has the etag {info.etag!r} now, not {' or '.join(if_match)!r}.")
        return info

    async def _wanted(self, path: UfsPath, if_match: ETags) -> str | None:
        """Return the one etag to ask the under store for."""
        if if_match is None:
            return None
        return if_match[0] if len(if_match) == 1 else (await self._stat_origin(path, if_match)).etag

    def _opened(self, path: UfsPath, item: CachedObject, *, hit: bool) -> OpenedRead:
        def pages(start: int, end: int) -> AsyncIterator[bytes]:
            return self._cached_pages(path, item, start, end, hit=hit)

        return OpenedRead(info=_info(path, item), hit=hit, pages=pages)

    async def _opened_at_origin(self, path: UfsPath, if_match: ETags) -> OpenedRead:
        info = await self._stat_origin(path, if_match)

        async def pages(start: int, end: int) -> AsyncIterator[memoryview]:
            download = await self._fills.download(path, info.etag, start, end)
            async for chunk in self._fills.chunks(path, download):
                self.counters.miss_bytes += len(chunk)
                yield chunk

        return OpenedRead(info=info, hit=False, pages=pages)

    async def _cached_pages(
        self, path: UfsPath, item: CachedObject, start: int, end: int, *, hit: bool
    ) -> AsyncIterator[bytes]:
        """Read page by page; a copy that went bad or was evicted under way is fetched again, once."""
        refetched = False
        while start < end:
            stop = min(end, (start // PAGE_SIZE + 1) * PAGE_SIZE)
            try:
                page = self._store.read(item, start, stop)
            except (CorruptPage, ObjectNotFound):
                if refetched:
                    raise
                item, refetched = await self._fills.fetch(path, etag=item.etag, size=item.size), True
                continue
            self._count_bytes(len(page), hit=hit)
            yield page
            start = stop

    def _count_bytes(self, size: int, *, hit: bool) -> None:
        if hit:
            self.counters.hit_bytes += size
        else:
            self.counters.miss_bytes += size


def _info(path: UfsPath, item: CachedObject) -> ObjectInfo:
    return ObjectInfo(key=path.key, size=item.size, etag=item.etag, last_modified=item.last_modified)
