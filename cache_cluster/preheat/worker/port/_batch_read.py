"""The answer to a batch of reads, as it is made (see ``preheat.batch_read`` for what goes over the wire).

- What is cached goes out as it is read, many frames in one write, without a task or a wait for each.
- What is not is fetched meanwhile, a few objects at once; of these small ones are held until their turn comes.
- A frame begins when its body is there, whole and verified. So an error, too, has a frame of its own, and never breaks
  one off. The memory of an answer is that of one write, and 8 MiB for what is held.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus

import msgspec

from preheat.batch_read import MAX_BODY, Batch, Order, Read, frame_head, hit_frames
from preheat.errors import (
    CorruptPage,
    InvalidRequest,
    ObjectNotFound,
    OriginUnavailable,
    PreheatError,
    VersionChanged,
)
from preheat.paths import UfsPath
from preheat.store import CachedObject
from preheat.worker._freshness import ANY, Wish
from preheat.worker._reads import ETags, OpenedRead, ReadService
from preheat.worker.port._http import UnsatisfiableRange

_WRITE_BYTES = 256 << 10
"""Bytes after which what was read is sent: more makes no write cheaper, and keeps other connections waiting."""
_AT_ONCE = 256
"""Small objects that are read by one call, at most."""
_FETCHES = 32
"""Objects of one batch that are fetched at once."""
_LOOK_AHEAD = 1024
"""Reads that are looked at to find those objects, if they are to be answered in their order."""
_COPIED_BYTES = 32 << 10
"""Up to here bodies are put together for one write."""
_HELD_BYTES = 256 << 10
"""Up to here a body that was fetched is held until its turn comes."""
_OK, _PARTIAL = HTTPStatus.OK.value, HTTPStatus.PARTIAL_CONTENT.value
_END = b"0\r\n\r\n"

Check = Callable[[UfsPath], None]
"""Raises if a path is out of bounds."""
_Fetched = list[bytes] | OpenedRead
"""A frame, or what it is to be made of."""


class ReadTooLarge(InvalidRequest):
    """One read of a batch asks for more than a batch is for."""

    code = "read_too_large"
    status = 413
    default_remedy = "Read it by itself, with GET /v1/data/."


class BatchAnswer:
    """One batch on its way out.

    Args:
        reads: where objects come from.
        batch: what is asked for.
        wish: how fresh all of it has to be.
        may_read: asked about each path; none if the reader may read all.
        may_fetch: asked about each path that is not cached.
    """

    def __init__(
        self, reads: ReadService, batch: Batch, *, may_read: Check | None, may_fetch: Check, wish: Wish = ANY
    ) -> None:
        self._reads = reads
        self._wish = wish
        self._wanted = batch.reads
        self._order = batch.order
        self._may_read = may_read
        self._may_fetch = may_fetch
        plain = may_read is None and not any(read.start or read.end is not None or read.etag for read in batch.reads)
        self._plain = [read.path for read in batch.reads] if plain else []
        """The paths, if nothing else is to be looked at for each read."""
        self._next = 0
        """The read to be answered next; those before it were answered, or are being fetched."""
        self._looked_at = 0
        self._fetching: dict[int, asyncio.Task[_Fetched]] = {}

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body of the answer in HTTP's chunked coding."""
        before = b""
        try:
            async for parts in self._as_asked() if self._order is Order.ASKED else self._as_ready():
                last = parts.pop() if len(parts[-1]) > _COPIED_BYTES else b""
                size = sum(map(len, parts)) + len(last)
                yield b"".join((before, b"%x\r\n" % size, *parts))
                if last:
                    yield last
                before = b"\r\n"
            yield before + _END
        finally:
            for task in self._fetching.values():
                task.cancel()

    async def _as_asked(self) -> AsyncIterator[list[bytes]]:
        while self._next < len(self._wanted):
            if frames := self._hits():
                yield frames
            else:
                self._look_ahead()
                yield await self._fetched(self._next)
                self._next += 1

    async def _as_ready(self) -> AsyncIterator[list[bytes]]:
        while self._next < len(self._wanted) or self._fetching:
            if frames := self._hits():
                yield frames
            elif self._next < len(self._wanted) and len(self._fetching) < _FETCHES:
                self._fetch(self._next)
                self._next += 1
            else:
                await asyncio.wait(self._fetching.values(), return_when=asyncio.FIRST_COMPLETED)
                for index in [index for index, task in self._fetching.items() if task.done()]:
                    yield await self._fetched(index)

    def _hits(self) -> list[bytes]:
        """Return the frames of the next reads that are cached, for one write or, with a long body at the end, two."""
        frames, size = self._small_hits()
        length = 0
        while size < _WRITE_BYTES and length <= _COPIED_BYTES and self._next < len(self._wanted):
            index = self._next
            hit = None if index in self._fetching else self._hit(index, self._wanted[index])
            if hit is None:
                break
            frames += hit
            length = len(hit[1])
            size += length
            self._next += 1
        return frames

    def _small_hits(self) -> tuple[list[bytes], int]:
        """Return the frames of the small objects that come next, and the bytes of these, if they are all asked for."""
        if not self._plain or self._fetching:
            return [], 0
        uris = self._plain[self._next : self._next + _AT_ONCE]
        found = self._reads.read_small(uris, self._wish, _WRITE_BYTES)
        frames = hit_frames(self._next, found)
        self._next += len(found)
        return frames, sum(map(len, frames))

    def _hit(self, index: int, read: Read) -> tuple[bytes, bytes] | None:
        try:
            item = self._servable(read)
            if item is None:
                return None
            if self._may_read:
                self._may_read(UfsPath.parse(read.path))
            status, start, end = _part(read, item.size)
            body = self._reads.read(item, start, end)
        except (CorruptPage, ObjectNotFound, VersionChanged):  # it went between look-up and read: a miss
            return None
        except PreheatError as error:
            return _problem(index, error), b""
        info = item.etag.encode()
        return frame_head(index, status, info, hit=True, size=item.size, length=len(body)), body

    def _servable(self, read: Read) -> CachedObject | None:
        return self._reads.servable(read.path, _etags(read), self._wish)

    def _is_to_fetch(self, read: Read) -> bool:
        try:
            return self._servable(read) is None
        except PreheatError:  # its frame will tell
            return True

    def _look_ahead(self) -> None:
        """Begin to fetch what is missing among the next reads."""
        index = max(self._looked_at, self._next)
        limit = min(len(self._wanted), self._next + _LOOK_AHEAD)
        while index < limit and len(self._fetching) < _FETCHES:
            read = self._wanted[index]
            if self._is_to_fetch(read):
                self._fetch(index)
            index += 1
        self._looked_at = index

    def _fetch(self, index: int) -> asyncio.Task[_Fetched]:
        task = self._fetching[index] = asyncio.create_task(self._begin(index, self._wanted[index]))
        return task

    async def _begin(self, index: int, read: Read) -> _Fetched:
        """Open an object; read it, too, if that takes little memory until its turn comes."""
        try:
            path = UfsPath.parse(read.path)
            if self._may_read:
                self._may_read(path)
            if not await self._reads.has(path, _etags(read), self._wish):
                self._may_fetch(path)
            opened = await self._open(path, read)
            _, start, end = _part(read, opened.info.size)
            return await self._frame(index, read, opened) if end - start <= _HELD_BYTES else opened
        except PreheatError as error:
            return [_problem(index, error)]

    async def _fetched(self, index: int) -> list[bytes]:
        """Wait for an object that is fetched, and return the frame of its read."""
        task = self._fetching.get(index) or self._fetch(index)
        try:
            fetched = await task
            if isinstance(fetched, OpenedRead):
                return await self._frame(index, self._wanted[index], fetched)
        except PreheatError as error:
            return [_problem(index, error)]
        finally:
            del self._fetching[index]
        return fetched

    async def _open(self, path: UfsPath, read: Read) -> OpenedRead:
        etags = _etags(read)
        if not read.start and read.end is None:
            return await self._reads.open(path, etags, wish=self._wish)
        limit = read.start + MAX_BODY + 1  # one byte more tells that it is too large
        asked = (read.start, limit if read.end is None else min(read.end, limit))
        return await self._reads.open(path, etags, asked=asked, wish=self._wish)

    async def _frame(self, index: int, read: Read, opened: OpenedRead) -> list[bytes]:
        try:
            return await _whole_frame(index, read, opened)
        except VersionChanged:
            if read.etag is not None:
                raise
            reopened = await self._open(UfsPath.parse(read.path), read)  # it was replaced before it was read
            return await _whole_frame(index, read, reopened)


def _part(read: Read, size: int) -> tuple[int, int, int]:
    """Return the status, and the bytes [start, end) to send of an object."""
    end = size if read.end is None else min(read.end, size)
    if end - read.start > MAX_BODY:
        raise ReadTooLarge(f"path={read.path!r}: {end - read.start} bytes are more than a batch reads.", size=size)
    if not read.start and read.end is None:
        return _OK, 0, size
    if read.start >= end:
        raise UnsatisfiableRange(f"The range {read.start}-{read.end} has no byte of {size}.", size=size)
    return _PARTIAL, read.start, end


async def _whole_frame(index: int, read: Read, opened: OpenedRead) -> list[bytes]:
    status, start, end = _part(read, opened.info.size)
    body = bytearray()
    if start < end:
        async for page in opened.pages(start, end):
            body += page
    if len(body) < end - start:
        raise OriginUnavailable(f"path={read.path!r}: {end - start - len(body)} bytes are missing.")
    info, size = opened.info.etag.encode(), opened.info.size
    return [frame_head(index, status, info, hit=opened.hit, size=size, length=len(body)), bytes(body)]


def _problem(index: int, error: PreheatError) -> bytes:
    info = msgspec.json.encode(error.problem())
    return frame_head(index, error.status, info, hit=False, size=0, length=0)


def _etags(read: Read) -> ETags:
    return None if read.etag is None else (read.etag,)
