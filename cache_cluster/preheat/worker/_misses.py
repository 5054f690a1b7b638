"""Reads of objects that are not cached: they follow a fill, or read a range of the under store by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

from preheat.errors import InvalidRequest, StoreError
from preheat.paths import UfsPath
from preheat.placement import Member
from preheat.store import Notes
from preheat.versions import ObjectInfo
from preheat.worker._bodies import Bodies
from preheat.worker._gate import ETags
from preheat.worker._ranges import Asked, RangeReads, resolve
from preheat.worker.fills import FOR_READERS, Fills, Peers, Source


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenedRead:
    """One version of an object, ready to be read."""

    info: ObjectInfo
    hit: bool
    """Whether it was in the page store before it was asked for."""
    pages: Callable[[int, int], AsyncIterator[bytes | memoryview]]
    """Yields the bytes [start, end); raises VersionChanged or ObjectNotFound if they cannot be had any more."""


class Misses:
    """Opens what is not cached.

    Args:
        fills: bring objects into the page store.
        bodies: read them on their way.
        ranges: what is known of objects of which ranges were read.
        notes: what is known of objects besides.
        peers: other workers, which are asked before the under store; none if there are none.
        stat: looks at an object of the under store.
    """

    def __init__(
        self,
        fills: Fills,
        bodies: Bodies,
        ranges: RangeReads,
        *,
        notes: Notes,
        peers: Peers | None,
        stat: Callable[[UfsPath, ETags], Awaitable[ObjectInfo]],
    ) -> None:
        self._fills = fills
        self._bodies = bodies
        self._ranges = ranges
        self._notes = notes
        self._peers = peers
        self._stat = stat

    async def open(self, path: UfsPath, if_match: ETags, asked: Asked | None) -> OpenedRead:
        """Begin to read an object; raises as ``UnderStore.get``.

        Args:
            path: the object.
            if_match: the versions one of which is to be read; none is whichever is current.
            asked: the range that is going to be read; none is all of the object.
        """
        etag = await self._wanted(path, if_match)
        if asked == (0, None):
            asked = None
        if asked is not None:
            self._recall(path)
            asked = await self._from_start(path, etag, asked)
        joining = self._fills.under_way(path)
        if asked is None or joining or self._ranges.is_worth_filling(str(path), asked):
            try:
                opened = await self._follow(path, etag, asked, joining=joining)
            except StoreError as error:
                self._bodies.note_read_through(path, error)
            else:
                if opened is not None:
                    return opened
        return await self._open_directly(path, etag, asked or (0, None))

    async def nearby(self, path: UfsPath, if_match: ETags) -> ObjectInfo | None:
        """Return the version that :meth:`open` would read if it need not ask the under store which; none if it need."""
        if if_match is not None and len(if_match) != 1:
            return None
        etag = None if if_match is None else if_match[0]
        if coming := await self._fills.coming(path, etag):
            return coming
        source = self.source(path)
        return await source.look(path, etag=etag) if source else None

    def source(self, path: UfsPath, holders: Collection[str] = (), drained: Sequence[Member] = ()) -> Source | None:
        """Return the other workers that may have an object, as ``Peers.source``; none if there are none."""
        counters = self._fills.counters
        return self._peers.source(path, counters, holders=holders, drained=drained) if self._peers else None

    async def _follow(
        self, path: UfsPath, etag: str | None, asked: Asked | None, *, joining: bool
    ) -> OpenedRead | None:
        """Follow the fill under way, or a new one; none if the one under way brings another version."""
        pieces = FOR_READERS.led_by(*asked) if asked else FOR_READERS
        fill = await self._fills.follow(path, etag=etag, pieces=pieces, source=self.source(path))
        if fill is None:
            return None
        pages = partial(self._bodies.followed, path, fill, patient=asked is None or not joining)
        return OpenedRead(info=await fill.version(), hit=False, pages=pages)

    async def _open_directly(self, path: UfsPath, etag: str | None, asked: Asked) -> OpenedRead:
        """Read a range without keeping it; begin to fill the object if that has become worth while."""
        try:
            download = await self._fills.download(path, etag, *asked, source=self.source(path))
        except InvalidRequest:  # the object ends before the range
            info = await self._stat(path, None if etag is None else (etag,))
            return OpenedRead(info=info, hit=False, pages=partial(self._bodies.direct, path, info))
        info = download.info
        self._ranges.learn(str(path), info, download.end - download.start)
        if self._ranges.is_worth_filling(str(path), (0, 0)) and not self._fills.under_way(path):
            pieces = FOR_READERS.led_by(download.end, None)
            self._fills.begin(path, etag=info.etag, pieces=pieces, source=self.source(path))

        def pages(start: int, end: int) -> AsyncIterator[bytes | memoryview]:
            begun = download if (start, end) == (download.start, download.end) else None
            return self._bodies.direct(path, info, start, end, begun)

        return OpenedRead(info=info, hit=False, pages=pages)

    async def _from_start(self, path: UfsPath, etag: str | None, asked: Asked) -> Asked:
        """Return a range by where it begins; one that counts from the end needs the size."""
        if asked[0] >= 0:
            return asked
        info = self._ranges.info(str(path), etag) or await self._stat(path, None if etag is None else (etag,))
        return resolve(asked, info.size)

    def _recall(self, path: UfsPath) -> None:
        """Take what a job noted of an object for its present version, unless a reader knows better."""
        if self._ranges.info(str(path), None) is None and (note := self._notes.get(str(path), key=path.key)):
            self._ranges.learn(str(path), note)

    async def _wanted(self, path: UfsPath, if_match: ETags) -> str | None:
        """Return the one etag to ask the under store for."""
        if if_match is None:
            return None
        return if_match[0] if len(if_match) == 1 else (await self._stat(path, if_match)).etag
