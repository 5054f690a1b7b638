"""How the bytes of a fill come from its source into the page store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import ExitStack
from dataclasses import replace

from preheat.errors import InvalidRequest, VersionChanged
from preheat.paths import UfsPath
from preheat.store import PAGE_SIZE, CachedObject, ObjectWriter, PageStore
from preheat.ufs import Download, UnderStore
from preheat.versions import ObjectInfo
from preheat.worker._counters import Counters
from preheat.worker._fill import Fill

_PIECES_IN_FLIGHT = 8
"""Pieces that are fetched at once, of all objects together, so their memory is bounded; those of readers apart."""


class Transfers:
    """Fetches objects for fills.

    Args:
        store: where they are kept.
        origin: where they come from, unless a fill has a source of its own.
        counters: what is read from the origin.
    """

    def __init__(self, store: PageStore, origin: UnderStore, counters: Counters) -> None:
        self._store = store
        self._origin = origin
        self._counters = counters
        self._turns = asyncio.Semaphore(_PIECES_IN_FLIGHT)
        self._reader_turns = asyncio.Semaphore(_PIECES_IN_FLIGHT)

    async def bring(self, path: UfsPath, fill: Fill) -> CachedObject:
        """Fetch an object and publish it; raises as ``Fills.fetch``."""
        small = fill.etag is not None and fill.size is not None and fill.size <= fill.pieces.first_bytes
        return await (self._keep if fill.job_id and small else self._keep_in_pieces)(path, fill)

    async def _keep(self, path: UfsPath, fill: Fill) -> CachedObject:
        """Fetch an object as one piece."""
        download = await self._get(path, fill, 0, fill.size or None)
        with self._writer(path, fill, download) as writer:
            async for chunk in download.chunks:
                fill.hear()
                self._count(fill, len(chunk))
                writer.append(chunk)
                fill.arrivals.add(0, len(chunk))
                await fill.pay(len(chunk))
            return writer.commit()

    async def _keep_in_pieces(self, path: UfsPath, fill: Fill) -> CachedObject:
        """Fetch an object by ranges of one version, several at once after the first."""
        turns = self._turns if fill.job_id else self._reader_turns
        with ExitStack() as stack:
            async with fill.turn(turns):
                first = await self._first(path, fill)
                writer = stack.enter_context(self._writer(path, fill, first))
                await self._append(fill, writer, first)
            await fill.pay(first.end - first.start)
            others = fill.pieces.others(first.info.size)

            async def keep_some() -> None:
                for start, end in others:
                    async with fill.turn(turns):
                        fill.arrivals.ask(start, end)
                        await self._append(fill, writer, await self._get(path, fill, start, end))
                    await fill.pay(end - start)

            if first.end - first.start < first.info.size:
                await _together(keep_some() for _ in range(fill.pieces.at_once))
            return writer.commit()

    async def _first(self, path: UfsPath, fill: Fill) -> Download:
        """Get the first piece, from the beginning if the object ends before it."""
        try:
            return await self._get(path, fill, *fill.pieces.first)
        except InvalidRequest:
            if not fill.pieces.start:
                return await self._get(path, fill, 0, None)  # it is empty: such an object has no range
        fill.pieces = replace(fill.pieces, start=0, stop=0)
        return await self._first(path, fill)

    async def _append(self, fill: Fill, writer: ObjectWriter, piece: Download) -> None:
        async for chunk in piece.chunks:
            fill.hear()
            self._count(fill, len(chunk))
            if len(chunk) <= PAGE_SIZE:
                writer.append(chunk, part=piece.start)
            else:  # other pieces go on meanwhile
                await asyncio.to_thread(writer.append, chunk, part=piece.start)
            fill.arrivals.add(piece.start, len(chunk))
            chunk.release()  # its memory may be used for the next piece

    async def _get(self, path: UfsPath, fill: Fill, start: int, end: int | None) -> Download:
        known = fill.arrivals.info
        etag, size = (known.etag, known.size) if known else (fill.etag, fill.size)
        download = None
        if fill.source is not None and end is not None:
            download = await fill.source.get(path, etag=etag, start=start, end=end)
        if download is None:
            download = await self._get_at_origin(path, fill, etag, start, end)
        fill.hear()
        check_version(path, download.info, etag, size)
        return download

    async def _get_at_origin(
        self, path: UfsPath, fill: Fill, etag: str | None, start: int, end: int | None
    ) -> Download:
        if not fill.origin_asked:
            fill.origin_asked = True
            self._counters.origin_reads += 1
            self._counters.load_reads += bool(fill.job_id)
        download = await self._origin.get(path, etag=etag, start=start, end=end)
        return download if fill.source is None else replace(download, chunks=self._counted(download.chunks))

    async def _counted(self, chunks: AsyncIterator[memoryview]) -> AsyncIterator[memoryview]:
        async for chunk in chunks:
            self._counters.origin_bytes += len(chunk)
            yield chunk

    def _count(self, fill: Fill, size: int) -> None:
        if fill.source is None:  # else each download is counted where it comes from
            self._counters.origin_bytes += size

    def _writer(self, path: UfsPath, fill: Fill, first: Download) -> ObjectWriter:
        info = first.info
        writer = self._store.writer(
            str(path), etag=info.etag, size=info.size, last_modified=info.last_modified, job_id=fill.job_id
        )
        fill.arrivals.begin(info, writer)
        fill.arrivals.ask(first.start, first.end)
        return writer


def is_version(version: ObjectInfo | CachedObject, etag: str | None, size: int | None) -> bool:
    """Whether a version is the one wanted, of which etag and size may be left open."""
    return etag in (None, version.etag) and size in (None, version.size)


def check_version(path: UfsPath, found: ObjectInfo, etag: str | None, size: int | None) -> None:
    """Raise VersionChanged unless a version is the one wanted."""
    if not is_version(found, etag, size):
        raise VersionChanged(
            f"path='{path}' has the etag {found.etag!r} and {found.size} bytes now, not {etag!r} and {size}."
        )


async def _together(parts: Iterable[Coroutine[None, None, None]]) -> None:
    """Run coroutines at once; the first error ends the others and is raised."""
    try:
        async with asyncio.TaskGroup() as tasks:
            for part in parts:
                tasks.create_task(part)
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
