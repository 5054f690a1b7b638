"""How the bytes of a fill come from its source into the page store.

Memory is bounded by what is under way, not by the objects. Jobs have 8 pieces of at most 8 MiB in it at once and
readers 8 of 4 MiB, of all objects larger than a page of 1 MiB; of the small ones jobs have 64. That is 160 MiB, and as
many as 64 MiB of buffers that are kept for the next pieces, beside the 90 MiB of the process. Where threads read the
pieces, the 8 MiB of their connections' buffers take the place of most of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial

from preheat.errors import InvalidRequest, OriginCorrupt, OriginUnavailable, VersionChanged
from preheat.paths import UfsPath
from preheat.store import PAGE_SIZE, CachedObject, ObjectWriter, PageStore
from preheat.ufs import Download, Span, UnderStore
from preheat.versions import ObjectInfo
from preheat.worker.fills._checked import ask_checksum, checked
from preheat.worker.fills._counters import Counters
from preheat.worker.fills._fill import Fill, Gift
from preheat.worker.fills._origin import Origin, Turn
from preheat.worker.fills._pieces import Piece
from preheat.worker.fills._turns import Turns

_PIECES_IN_FLIGHT = 8
"""Pieces that are fetched at once, of all objects together, so their memory is bounded; those of readers apart."""

_SOON_SECONDS = 0.04
"""Within which a large piece comes from an origin that is so near, or so fast, that a few connections are enough."""


class Transfers:
    """Fetches objects for fills.

    Args:
        store: where they are kept.
        origin: where they come from, unless a fill has a source of its own.
        counters: what is read from the origin.
    """

    def __init__(self, store: PageStore, origin: UnderStore, counters: Counters) -> None:
        self._store = store
        self._origin = Origin(origin, counters)
        self._counters = counters
        self._pieces = Turns(lambda: _PIECES_IN_FLIGHT, reserve=_PIECES_IN_FLIGHT)

    async def bring(self, path: UfsPath, fill: Fill) -> CachedObject:
        """Fetch an object and publish it; raises as ``Fills.fetch``."""
        wanted = fill.wanted(path.key)
        try:
            if wanted is not None and wanted.size <= PAGE_SIZE:
                return await self._keep(path, fill, wanted)
            return await self._keep_in_pieces(path, fill)
        except OriginCorrupt:
            self._counters.origin_corrupt += 1
            raise
        except OriginUnavailable:
            self._counters.origin_errors += 1
            raise

    def hurry(self, fill: Fill) -> None:
        """Bring what a reader has begun to wait for before what only jobs want."""
        fill.hurry()
        self._pieces.look_again()
        self._origin.look_again()

    async def _keep(self, path: UfsPath, fill: Fill, wanted: ObjectInfo) -> CachedObject:
        """Fetch an object as one piece."""
        with self._origin.turn(fill) as turn:
            download = await self._whole(path, fill, turn, wanted)
            data, unpaid = await self._collect(path, fill, turn, download)
        fill.arrivals.come(download.info, data)  # readers who follow need not wait until it is paid for
        await fill.pay(unpaid)
        return fill.publish(partial(self._put, fill, download.info, data))

    async def _collect(
        self, path: UfsPath, fill: Fill, turn: Turn, download: Download
    ) -> tuple[bytes | memoryview, int]:
        """Return all bytes of a small object, and how many of them have not been paid for: those of the last chunk."""
        chunks: list[bytes | memoryview] = []
        async for chunk in download.chunks:
            fill.hear()
            self._count(download, len(chunk))
            if chunks:  # most bodies are one chunk; while this one pays, others may go
                turn.leave()
                await fill.pay(len(chunks[-1]))
            chunks.append(chunk)
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if len(data) != download.info.size:
            raise VersionChanged(f"path='{path}' has {download.info.size} bytes, but {len(data)} came.")
        return data, len(chunks[-1]) if chunks else 0

    def _put(self, fill: Fill, info: ObjectInfo, data: bytes | memoryview) -> CachedObject:
        return self._store.put(
            fill.uri,
            data,
            etag=info.etag,
            last_modified=info.last_modified,
            job_id=fill.job_id,
            attributes=info.attributes,
        )

    async def _keep_in_pieces(self, path: UfsPath, fill: Fill) -> CachedObject:
        """Fetch an object by ranges of one version, several at once after the first."""
        with ExitStack() as stack:
            if asked := ask_checksum(self._origin, path, fill):
                stack.callback(asked.cancel)
            async with self._piece(fill) as turn:
                first = await self._first(path, fill, turn)
                writer = stack.enter_context(self._writer(path, fill, first))
                await self._append(fill, writer, first)
            await fill.pay(first.end - first.start)
            writer = await checked(writer, path, asked, (first.start, first.end))
            others = fill.pieces.others(first.info.size)
            came, pieces = asyncio.Event(), fill.pieces

            async def keep_some() -> None:
                for piece in others:
                    async with self._piece(fill) as turn:
                        fill.arrivals.ask(*piece)
                        if not await self._pour(path, fill, turn, writer, piece):
                            await self._append(fill, writer, await self._get(path, fill, turn, *piece))
                    came.set()
                    await fill.pay(piece[1] - piece[0])
                came.set()

            async def help_slow() -> None:
                try:
                    async with asyncio.timeout(_SOON_SECONDS):
                        await came.wait()
                except TimeoutError:
                    await keep_some()

            if first.end - first.start < first.info.size:
                await fill.arrivals.heard()
                keepers = [keep_some() for _ in range(pieces.at_first)]
                await _together([*keepers, *(help_slow() for _ in range(pieces.at_once - pieces.at_first))])
            return fill.publish(writer.commit)

    @asynccontextmanager
    async def _piece(self, fill: Fill) -> AsyncIterator[Turn]:
        """Hold one of the places in memory, and then one at the origin if it is asked."""
        with fill.paused():
            await self._pieces.take(fill)
        try:
            with self._origin.turn(fill) as turn:
                yield turn
        finally:
            self._pieces.leave()

    async def _first(self, path: UfsPath, fill: Fill, turn: Turn) -> Download:
        """Get the first piece, from the beginning if the object ends before it."""
        wanted = fill.wanted(path.key)
        if wanted is not None and wanted.size <= fill.pieces.first_bytes:
            return await self._whole(path, fill, turn, wanted)
        try:
            return await self._get(path, fill, turn, *fill.pieces.first)
        except InvalidRequest:
            if not fill.pieces.start:
                raise
        fill.pieces = replace(fill.pieces, start=0, stop=0)
        return await self._first(path, fill, turn)

    async def _pour(self, path: UfsPath, fill: Fill, turn: Turn, writer: ObjectWriter, piece: Piece) -> bool:
        """Bring a piece within a thread, if that can be."""
        loop, info, (start, end) = asyncio.get_running_loop(), fill.arrivals.info, piece
        if info is None or fill.source is not None or end - start <= PAGE_SIZE:
            return False

        def sink(data: memoryview) -> None:
            writer.append(data, part=start)
            loop.call_soon_threadsafe(came, len(data))

        def came(size: int) -> None:
            fill.hear()
            self._counters.origin_bytes += size
            fill.arrivals.add(start, size)

        return await self._origin.pour(path, fill, turn, Span(info=info, start=start, end=end), sink)

    async def _append(self, fill: Fill, writer: ObjectWriter, piece: Download) -> None:
        async for chunk in piece.chunks:
            fill.hear()
            self._count(piece, len(chunk))
            if len(chunk) <= PAGE_SIZE:
                writer.append(chunk, part=piece.start)
            else:  # other pieces go on meanwhile
                await asyncio.to_thread(writer.append, chunk, part=piece.start)
            fill.arrivals.add(piece.start, len(chunk))
            chunk.release()  # its memory may be used for the next piece

    async def _whole(self, path: UfsPath, fill: Fill, turn: Turn, wanted: ObjectInfo) -> Download:
        """Get all of an object of known version."""
        download = await self._ask_source(path, fill, 0, wanted.size, etag=wanted.etag, size=wanted.size)
        if download is None:
            download = await self._origin.get_whole(path, fill, turn, wanted)
        fill.hear()
        check_version(path, download.info, wanted.etag, wanted.size)
        return download

    async def _get(self, path: UfsPath, fill: Fill, turn: Turn, start: int, end: int | None) -> Download:
        known = fill.arrivals.info
        etag, size = (known.etag, known.size) if known else (fill.etag, fill.size)
        download = await self._ask_source(path, fill, start, end, etag=etag, size=size)
        if download is None:
            download = await self._origin.get(path, fill, turn, etag=etag, start=start, end=end)
        fill.hear()
        check_version(path, download.info, etag, size)
        return download

    async def _ask_source(
        self, path: UfsPath, fill: Fill, start: int, end: int | None, *, etag: str | None, size: int | None
    ) -> Download | None:
        """Ask the fill's source, if it has one; one that has not got this version is not asked again."""
        if fill.source is None or not end:
            return None
        download = await fill.source.get(path, etag=etag, start=start, end=end)
        if download is None or not is_version(download.info, etag, size):
            fill.source = None
            return None
        fill.from_peers = True
        return download

    def _count(self, download: Download, size: int) -> None:
        if not isinstance(download, Gift):
            self._counters.origin_bytes += size

    def _writer(self, path: UfsPath, fill: Fill, first: Download) -> ObjectWriter:
        info = first.info
        writer = self._store.writer(
            str(path),
            etag=info.etag,
            size=info.size,
            last_modified=info.last_modified,
            job_id=fill.job_id,
            attributes=info.attributes,
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
