"""Where the bytes of a body come from: the page store, a fill under way, or the under store itself.

A body is of one version, whichever of them its bytes come from, and goes on with the next one if it has to. If that
version cannot be had any more, the iterators raise in the midst.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from preheat.errors import CorruptPage, ObjectNotFound, StoreError
from preheat.logs import get_logger
from preheat.paths import UfsPath
from preheat.store import PAGE_SIZE, CachedObject, PageStore
from preheat.ufs import Download
from preheat.versions import ObjectInfo
from preheat.worker.fills import FOR_READERS, Fill, Fills, check_version

log = get_logger("worker")
_SAY_AGAIN_SECONDS = 60.0

Body = AsyncIterator[bytes | memoryview]


class Bodies:
    """Reads bodies, and counts their bytes.

    Args:
        store: where objects are kept.
        fills: brings them there.
    """

    def __init__(self, store: PageStore, fills: Fills) -> None:
        self._store = store
        self._fills = fills
        self._counters = fills.counters
        self._silent_until = 0.0

    async def cached(self, item: CachedObject, start: int, end: int, *, hit: bool) -> Body:
        """Yield bytes of a cached object page by page; raises as ``PageStore.read``."""
        while start < end:
            page = self._store.read(item, start, _page_end(start, end))
            self._count(len(page), hit=hit)
            yield page
            start += len(page)

    async def stored(
        self, path: UfsPath, item: CachedObject, start: int, end: int, *, hit: bool, again: bool = True
    ) -> Body:
        """Yield bytes of a cached object, from elsewhere if need be.

        A copy that went bad or was evicted under way is fetched ``again``, once; one that is evicted once more, or
        cannot be read because the disk fails, is read from the under store in its place.
        """
        try:
            async for page in self.cached(item, start, end, hit=hit):
                yield page
                start += len(page)
        except CorruptPage:
            if not again:
                raise
            rest = await self._refilled(path, item, start, end)
        except ObjectNotFound:
            if again:
                rest = await self._refilled(path, item, start, end)
            else:
                rest = self.direct(path, info_of(path, item), start, end)
        except StoreError as error:
            self.note_read_through(path, error)
            rest = self.direct(path, info_of(path, item), start, end)
        else:
            return
        async for piece in rest:
            yield piece

    async def followed(
        self, path: UfsPath, fill: Fill, start: int, end: int, *, patient: bool, again: bool = True
    ) -> Body:
        """Yield bytes of an object as its fill brings them; then those of the store, or of the under store if need be.

        Args:
            path: the object.
            fill: of which the version is known.
            start: first byte.
            end: behind the last byte.
            patient: wait for bytes however many others come before them, rather than to read them directly.
            again: as in :meth:`stored`.
        """
        info, arrivals = await fill.version(), fill.arrivals
        while start < end and not fill.ended:
            try:
                page = arrivals.read(start, _page_end(start, end))
            except StoreError:
                break
            if page:
                self._count(len(page), hit=False)
                yield page
                start += len(page)
            elif patient or arrivals.expects(start):
                await arrivals.more(start)
            else:
                break
        if start < end:
            async for piece in await self._rest(path, fill, info, start, end, again=again):
                yield piece

    async def direct(
        self, path: UfsPath, info: ObjectInfo, start: int, end: int, download: Download | None = None
    ) -> Body:
        """Yield bytes of the under store, which are not kept.

        Args:
            path: the object.
            info: its version.
            start: first byte.
            end: behind the last byte.
            download: has been begun for just these bytes, if any was.
        """
        download = download or await self._fills.download(path, info.etag, start, end)
        check_version(path, download.info, info.etag, info.size)
        async for chunk in download.chunks:
            self._count(len(chunk), hit=False)
            yield chunk

    def note_read_through(self, path: UfsPath, error: StoreError) -> None:
        """Count a read that the page store cannot serve, and say so, but not each time."""
        self._counters.read_through += 1
        if time.monotonic() >= self._silent_until:
            self._silent_until = time.monotonic() + _SAY_AGAIN_SECONDS
            log.warning(
                "The page store fails; the under store is read in its place.",
                action="read_through",
                path=str(path),
                error=str(error),
            )

    async def _rest(self, path: UfsPath, fill: Fill, info: ObjectInfo, start: int, end: int, *, again: bool) -> Body:
        """Return what follows when a fill is not followed any more: it has ended, or is busy elsewhere."""
        if not fill.ended:
            return self.direct(path, info, start, end)
        try:
            return self.stored(path, await fill.result(), start, end, hit=False, again=again)
        except StoreError as error:
            self.note_read_through(path, error)
            return self.direct(path, info, start, end)

    async def _refilled(self, path: UfsPath, item: CachedObject, start: int, end: int) -> Body:
        fill = await self._fills.follow(path, etag=item.etag, pieces=FOR_READERS.led_by(start, end))
        info = info_of(path, item)
        if fill is None:
            return self.direct(path, info, start, end)
        check_version(path, await fill.version(), info.etag, info.size)
        return self.followed(path, fill, start, end, patient=False, again=False)

    def _count(self, size: int, *, hit: bool) -> None:
        if hit:
            self._counters.hit_bytes += size
        else:
            self._counters.miss_bytes += size


def info_of(path: UfsPath, item: CachedObject) -> ObjectInfo:
    """Return a cached object as a listing would show it."""
    return ObjectInfo(
        key=path.key,
        size=item.size,
        etag=item.etag,
        last_modified=item.last_modified,
        attributes=item.attributes,
    )


def _page_end(start: int, end: int) -> int:
    return min(end, (start // PAGE_SIZE + 1) * PAGE_SIZE)
