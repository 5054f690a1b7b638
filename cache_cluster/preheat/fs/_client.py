"""The client of the workers' data ports: finds the worker that owns an object, or another if that does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import BinaryIO, TypeVar
from urllib.parse import urlencode

import aiohttp
import msgspec
from yarl import URL

from preheat.batch_read import BATCH, BrokenFrame, Frame, FrameDecoder, Order, Read, encode_batch
from preheat.errors import CoordinatorUnreachable, NoLiveWorker, PreheatError, Unavailable, from_problem
from preheat.fs._batch import BatchRead, Outcome
from preheat.fs._routes import Routes
from preheat.fs._session import ClientSettings, ReadStats, open_session
from preheat.paths import UfsPath
from preheat.placement import Member, PlacementMap

T = TypeVar("T")
_Consume = Callable[[aiohttp.ClientResponse], Awaitable[T]]
_CHUNK = 1 << 20
_CONSUMED = {HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE}
_PAUSE_SECONDS = 0.1
_MAX_PROBLEM_BYTES = 64 << 10


class RemoteObject(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One object as ``/v1/stat`` and ``/v1/list`` describe it."""

    key: str
    size: int
    etag: str
    last_modified: float
    cached: bool = False


class RemotePage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of ``/v1/list``."""

    objects: list[RemoteObject]
    next: str | None = None


class Client:
    """One event loop's connections. Make it, use it and close it in that loop."""

    def __init__(self, settings: ClientSettings, stats: ReadStats) -> None:
        self._settings = settings
        self._stats = stats
        fixed = PlacementMap(members=tuple(Member(id=url, url=url) for url in settings.workers))
        self._routes = Routes(
            refresh_seconds=settings.refresh_seconds,
            suspect_seconds=settings.suspect_seconds,
            fixed=fixed if settings.workers else None,
        )
        self._refreshing = asyncio.Lock()
        self._clock = asyncio.get_running_loop().time
        self.session = open_session(settings)

    async def stat(self, path: UfsPath) -> RemoteObject:
        """Return one object; raises as the data port answers."""
        target = f"/v1/stat?{urlencode({'path': str(path)})}"
        return msgspec.json.decode(await self._get(path, target, {}, _body), type=RemoteObject)

    async def list(self, path: UfsPath, *, after: str = "", limit: int = 1000) -> RemotePage:
        """Return one page of the objects at and below a path; raises as the data port answers."""
        target = f"/v1/list?{urlencode({'path': str(path), 'after': after, 'limit': limit})}"
        return msgspec.json.decode(await self._get(path, target, {}, _body), type=RemotePage)

    async def read(self, path: UfsPath, *, byte_range: str = "", etag: str = "") -> bytes:
        """Return an object's bytes, or a range of them.

        Args:
            path: the object.
            byte_range: value of the header ``Range``.
            etag: the version to read; empty for any.

        Raises:
            VersionChanged: that version is neither cached nor at the under store. Otherwise as the data port answers.
        """
        headers = {"Range": byte_range} if byte_range else {}
        if etag:
            headers["If-Match"] = f'"{etag}"'

        async def consume(response: aiohttp.ClientResponse) -> bytes:
            if response.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # it begins behind the end
                return b""
            data = await response.read()
            self._count(response, len(data))
            return data

        return await self._get(path, f"/v1/data/{path.url_path}", headers, consume)

    async def read_many(self, reads: Sequence[Read]) -> Sequence[Outcome]:
        """Return the bytes of each read, or why there are none; the owners of the objects are asked by few requests."""
        return await BatchRead(self, reads, attempts=self._settings.attempts).run()

    async def get(self, read: Read) -> bytes:
        """Answer one of :meth:`read_many`'s reads as :meth:`read` does."""
        last = "" if read.end is None else read.end - 1
        byte_range = f"bytes={read.start}-{last}" if read.start or read.end is not None else ""
        return await self.read(UfsPath.parse(read.path), byte_range=byte_range, etag=read.etag or "")

    async def ask_batch(self, member: Member, reads: Sequence[Read]) -> AsyncIterator[Sequence[Frame]]:
        """Yield what a worker answers to a batch, as it comes.

        Raises:
            Unavailable: it does not answer, or breaks off. Otherwise as the data port refuses a batch.
        """
        url, decoder = member.url.rstrip("/") + BATCH, FrameDecoder(len(reads))
        try:
            async with self.session.post(url, data=encode_batch(reads, Order.READY)) as response:
                if response.status >= HTTPStatus.BAD_REQUEST:
                    raise await _problem(response)
                async for data in response.content.iter_any():
                    frames = decoder.feed(data)
                    self._count_frames(frames)
                    yield frames
        except (aiohttp.ClientError, TimeoutError, BrokenFrame) as error:
            raise Unavailable(f"The worker at {url} broke off: {error!r}.") from error

    async def shares(self, paths: Sequence[str]) -> Sequence[tuple[Member, Sequence[int]]]:
        """Return whom to ask for some paths, each with the positions of its own.

        Raises:
            NoLiveWorker, CoordinatorUnreachable: nobody is known.
        """
        await self._refresh_if_due()
        shares = self._routes.shares(paths, self._clock())
        if not shares:
            raise self._nobody()
        return shares

    def suspect(self, member: Member) -> None:
        """Ask others than this worker for a while."""
        self._routes.suspect(member, self._clock())

    async def download(self, path: UfsPath, file: BinaryIO, progress: Callable[[int], None]) -> None:
        """Write an object to a file from its beginning; raises as the data port answers.

        Args:
            path: the object.
            file: seekable; what a broken attempt wrote is overwritten.
            progress: called with the bytes written so far.
        """

        async def consume(response: aiohttp.ClientResponse) -> None:
            file.seek(0)
            file.truncate()
            async for chunk in response.content.iter_chunked(_CHUNK):
                file.write(chunk)
                progress(file.tell())
            self._count(response, file.tell())

        await self._get(path, f"/v1/data/{path.url_path}", {}, consume)

    async def close(self) -> None:
        """Close the connections."""
        await self.session.close()

    async def _get(self, path: UfsPath, target: str, headers: Mapping[str, str], consume: _Consume[T]) -> T:
        """Ask the path's owner, then others; a break within the body starts the request over."""
        last: Exception | None = None
        for attempt in range(self._settings.attempts):
            member = await self._owner(path)
            try:
                return await self._ask(member, target, headers, consume)
            except (aiohttp.ClientError, TimeoutError) as error:
                last = error
            except Unavailable as error:  # this worker stops; the under store's failures would be the same elsewhere
                if error.status != HTTPStatus.SERVICE_UNAVAILABLE:
                    raise
                last = error
            self.suspect(member)
            await asyncio.sleep(_PAUSE_SECONDS * attempt)
        raise NoLiveWorker(f"path='{path}': no worker answers ({', '.join(self._routes.urls)}): {last!r}.") from last

    async def _ask(self, member: Member, target: str, headers: Mapping[str, str], consume: _Consume[T]) -> T:
        url = URL(member.url.rstrip("/") + target, encoded=True)
        async with self.session.get(url, headers=headers) as response:
            if response.status >= HTTPStatus.BAD_REQUEST and response.status not in _CONSUMED:
                raise await _problem(response)
            return await consume(response)

    async def _owner(self, path: UfsPath) -> Member:
        await self._refresh_if_due()
        member = self._routes.owner(str(path), self._clock())
        if member is None:
            raise self._nobody()
        return member

    def _nobody(self) -> NoLiveWorker:
        return NoLiveWorker(f"The coordinator at {self._settings.coordinator} knows no live worker.")

    async def _refresh_if_due(self) -> None:
        if self._routes.is_due(self._clock()) and not (self._routes.known and self._refreshing.locked()):
            await self._refresh()

    async def _refresh(self) -> None:
        """Ask for the placement map, once at a time; without an answer the last known one stays in use."""
        async with self._refreshing:
            if not self._routes.is_due(self._clock()):
                return
            placement = None
            try:
                placement = await self._placement()
            except PreheatError:
                if not self._routes.known:
                    raise
            self._routes.learn(placement, self._clock())

    async def _placement(self) -> PlacementMap:
        url = f"{self._settings.coordinator.rstrip('/')}/v1/placement"
        timeout = aiohttp.ClientTimeout(total=2 * self._settings.connect_seconds)
        try:
            async with self.session.get(url, timeout=timeout) as response:
                if response.status >= HTTPStatus.BAD_REQUEST:
                    raise await _problem(response)
                return msgspec.json.decode(await response.read(), type=PlacementMap)
        except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
            raise CoordinatorUnreachable(f"No coordinator answers at {url}: {error!r}.") from error

    def _count(self, response: aiohttp.ClientResponse, size: int) -> None:
        if response.headers.get("X-Preheat-Cache") == "hit":
            self._stats.hits += 1
        else:
            self._stats.misses += 1
        self._stats.bytes += size

    def _count_frames(self, frames: Sequence[Frame]) -> None:
        sent = [frame for frame in frames if frame.status < HTTPStatus.BAD_REQUEST]
        hits = sum(frame.hit for frame in sent)
        self._stats.hits += hits
        self._stats.misses += len(sent) - hits
        self._stats.bytes += sum(len(frame.body) for frame in sent)


async def _body(response: aiohttp.ClientResponse) -> bytes:
    return await response.read()


async def _problem(response: aiohttp.ClientResponse) -> PreheatError:
    body = await response.content.read(_MAX_PROBLEM_BYTES)
    try:
        problem = msgspec.json.decode(body, type=dict)
    except msgspec.MsgspecError:
        problem = {"detail": f"{response.url} answers {response.status}."}
    return from_problem(problem, response.status)
