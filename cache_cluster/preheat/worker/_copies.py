"""Copies and moves of objects between places of the under stores, by a worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

from preheat.attributes import NONE, Attributes, of_lines
from preheat.errors import CorruptPage, ObjectNotFound, OriginUnavailable, VersionChanged
from preheat.inventory import Pin
from preheat.paths import UfsPath
from preheat.store import PAGE_SIZE, CachedObject, PageStore
from preheat.ufs import UnderStore
from preheat.versions import ObjectInfo
from preheat.worker.fills import Throttle

_MAX_REMEMBERED = 50_000


class Copies:
    """Writes copies of objects: by the under store itself if it can, else from the cache, else from the source.

    What the under store copies itself does not pass through the worker, so no bandwidth limit slows it.

    Args:
        ufs: where the sources and the targets are.
        store: this worker's cache; only read.
        pinned: returns the pin that covers a URI: what it covers is not changed.
        stall_seconds: a copy fails when the source sends nothing for this long.
    """

    def __init__(
        self,
        *,
        ufs: UnderStore,
        store: PageStore,
        pinned: Callable[[str], Pin | None] = lambda _: None,
        stall_seconds: float = 60.0,
    ) -> None:
        self._ufs = ufs
        self._store = store
        self._pinned = pinned
        self._stall_seconds = stall_seconds
        self._written: dict[UfsPath, tuple[UfsPath, str, str]] = {}
        """Target → its source, the source's etag and its own, of the last copies."""

    async def copy(
        self, source: UfsPath, info: ObjectInfo, target: UfsPath, *, skip_if_exists: bool, throttle: Throttle
    ) -> bool:
        """Write the version ``info`` of an object to ``target``; return whether that was necessary.

        Args:
            source: the object.
            info: the version that was listed.
            target: where to write it, in place of what is there.
            skip_if_exists: leave a target alone that has the same size and either the same etag or a modification that
                is not older than the source's. That is the rule of ``aws s3 sync``: etags differ between copies when
                they were written in other parts, or to another store. A target that somebody changed later to content
                of the same size is taken for a copy.
            throttle: awaited with the bytes of each chunk that passes through this worker.

        Raises:
            ReadOnly: the target is pinned.
            VersionChanged: the source has another version now. Otherwise as ``UnderStore.put``.
        """
        if skip_if_exists:
            found = await self._stat(target)
            if found is not None and looks_copied(info, found):
                return False
        await self._write(source, info, target, throttle)
        return True

    async def move(self, source: UfsPath, info: ObjectInfo, target: UfsPath, *, throttle: Throttle) -> None:
        """Write the version ``info`` of an object to ``target``, then remove the source if it still is that version.

        Nothing is written again if the target is known to be the copy, by its S3 etag or because this worker wrote it;
        size and time alone are not enough to remove the source.
        A source that is gone while the target has its size was moved before. May be repeated.

        Raises:
            ObjectNotFound: there is no source, nor a target of its size.
            ReadOnly: the source or the target is pinned.
            VersionChanged: the source has another version now, and stays. Otherwise as ``UnderStore.put``.
        """
        current, found = await self._stat(source), await self._stat(target)
        if current is None:
            if found is None or found.size != info.size:
                raise ObjectNotFound(f"path='{source}' does not exist.")
            return
        if (current.etag, current.size) != (info.etag, info.size):
            raise VersionChanged(f"path='{source}' has the etag {current.etag!r} now, not {info.etag!r}.")
        self._check_unpinned(source)
        if found is None or not self._is_copy(source, info, target, found):
            await self._write(source, info, target, throttle)
            await self._confirm(info, target)
        await self._ufs.delete(source, etag=info.etag)

    async def _write(self, source: UfsPath, info: ObjectInfo, target: UfsPath, throttle: Throttle) -> None:
        self._check_unpinned(target)
        written = await self._ufs.copy(source, target, etag=info.etag)
        if written is None:
            attributes = await self._attributes(source, target, info)
            async with aclosing(self._chunks(source, info, throttle)) as chunks:
                written = await self._ufs.put(target, chunks, size=info.size, attributes=attributes)
        self._remember(target, (source, info.etag, written.etag))

    async def _attributes(self, source: UfsPath, target: UfsPath, info: ObjectInfo) -> Attributes:
        """Return what the version's writer said of it besides, where that is kept: between files it is not."""
        if not source.scheme == target.scheme == "s3":
            return NONE
        known = self._cached(source, info) or await self._stat(source)
        return of_lines(known.attributes) if known is not None and known.etag == info.etag else NONE

    async def _chunks(
        self, source: UfsPath, info: ObjectInfo, throttle: Throttle
    ) -> AsyncGenerator[bytes | memoryview, None]:
        """Yield the version's bytes: the pages that are in the store, the rest from the source."""
        start = 0
        cached = self._cached(source, info)
        while cached is not None and start < info.size:
            try:
                page = self._store.read(cached, start, min(start + PAGE_SIZE, info.size))
            except (CorruptPage, ObjectNotFound, VersionChanged):  # evicted or replaced meanwhile
                cached = None
                break
            await throttle(len(page))
            yield page
            start += len(page)
        if cached is None:
            async for chunk in self._downloaded(source, info, start):
                await throttle(len(chunk))
                yield chunk

    async def _downloaded(self, source: UfsPath, info: ObjectInfo, start: int) -> AsyncIterator[memoryview]:
        async with self._deadline(source):
            download = await self._ufs.get(source, etag=info.etag, start=start)
        while True:
            async with self._deadline(source):
                chunk = await anext(download.chunks, None)
            if chunk is None:
                return
            yield chunk

    async def _confirm(self, info: ObjectInfo, target: UfsPath) -> None:
        found = await self._ufs.stat(target)
        if found.size != info.size:
            raise VersionChanged(f"path='{target}' has {found.size} bytes instead of {info.size} after it was written.")

    async def _stat(self, path: UfsPath) -> ObjectInfo | None:
        try:
            return await self._ufs.stat(path)
        except ObjectNotFound:
            return None

    def _check_unpinned(self, path: UfsPath) -> None:
        if pin := self._pinned(str(path)):
            raise pin.refusal(str(path))

    def _cached(self, source: UfsPath, info: ObjectInfo) -> CachedObject | None:
        item = self._store.lookup(str(source))
        return item if item is not None and (item.etag, item.size) == (info.etag, info.size) else None

    def _remember(self, target: UfsPath, copied: tuple[UfsPath, str, str]) -> None:
        self._written[target] = copied
        if len(self._written) > _MAX_REMEMBERED:
            del self._written[next(iter(self._written))]

    def _is_copy(self, source: UfsPath, info: ObjectInfo, target: UfsPath, found: ObjectInfo) -> bool:
        """Whether the target is known to have the source's content, so that the source may be removed.

        Etags of S3 are hashes or unique; those of files say only when they were written.
        """
        same_etag = found.etag == info.etag and source.scheme == target.scheme == "s3"
        written_here = self._written.get(target) == (source, info.etag, found.etag)
        return found.size == info.size and (same_etag or written_here)

    @asynccontextmanager
    async def _deadline(self, path: UfsPath) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._stall_seconds):
                yield
        except TimeoutError as error:
            raise OriginUnavailable(f"path='{path}': nothing was sent for {self._stall_seconds:g} s.") from error


def looks_copied(source: ObjectInfo, found: ObjectInfo) -> bool:
    """Whether what is at the target may be left alone; see :meth:`Copies.copy`."""
    return found.size == source.size and (found.etag == source.etag or found.last_modified >= source.last_modified)
