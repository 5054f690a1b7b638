"""Reads and writes by the workers' data ports."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from http import HTTPStatus
from typing import BinaryIO
from urllib.parse import urlencode

import aiohttp
import msgspec

from preheat.batch_read import BATCH, BrokenFrame, Frame, FrameDecoder, Order, Read, encode_batch
from preheat.errors import Unavailable
from preheat.fs._batch import BatchRead, NoBatches
from preheat.fs._demand import Demand
from preheat.fs._reader import Outcome, RemoteObject, RemotePage
from preheat.fs._session import ClientSettings, ReadStats
from preheat.fs._transport import Request, Transport, problem_of
from preheat.fs._writer import Writer
from preheat.paths import UfsPath
from preheat.placement import Member

_CHUNK = 1 << 20
_NO_ENDPOINT = {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}
"""What workers that know no batches may answer to one: older ones refuse any request with a body."""


class Client:
    """What the workers do for one event loop; a :class:`~preheat.fs._reader.Reader`."""

    def __init__(self, settings: ClientSettings, stats: ReadStats) -> None:
        self._settings = settings
        self._stats = stats
        self._transport = Transport(settings)
        self._without_batches: set[str] = set()
        """Base URLs of workers, older ones, that have no endpoint for batches."""
        self.writer = Writer(self._transport)

    async def stat(self, path: UfsPath, demand: Demand) -> RemoteObject:
        """Return one object; raises as the data port answers."""
        target = f"/v1/stat?{urlencode({'path': str(path)})}"
        return msgspec.json.decode(await self._fetch(path, target, demand), type=RemoteObject)

    async def list(self, path: UfsPath, demand: Demand, *, after: str = "", limit: int = 1000) -> RemotePage:
        """Return one page of the objects at and below a path; raises as the data port answers."""
        target = f"/v1/list?{urlencode({'path': str(path), 'after': after, 'limit': limit})}"
        return msgspec.json.decode(await self._fetch(path, target, demand), type=RemotePage)

    async def read(self, read: Read, demand: Demand) -> bytes:
        """Return an object's bytes, or a range of them.

        Raises:
            VersionChanged: the version asked for is neither cached nor at the under store. Otherwise as the data port
                answers.
        """

        async def consume(response: aiohttp.ClientResponse) -> bytes:
            if response.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # it begins behind the end
                return b""
            data = await response.read()
            self._count(response, len(data))
            return data

        headers = demand.headers
        if read.start or read.end is not None:
            headers["Range"] = f"bytes={read.start}-{'' if read.end is None else read.end - 1}"
        if read.etag:
            headers["If-Match"] = f'"{read.etag}"'
        target = f"/v1/data/{UfsPath.parse(read.path).url_path}"
        return await self._transport.call(Request(path=read.path, target=target, headers=headers), consume)

    async def read_many(self, reads: Sequence[Read], demand: Demand) -> Sequence[Outcome]:
        """Return the bytes of each read, or why there are none; the owners of the objects are asked by few requests."""
        return await BatchRead(self, reads, demand, attempts=self._settings.attempts).run()

    async def ask_batch(self, member: Member, reads: Sequence[Read], demand: Demand) -> AsyncIterator[Sequence[Frame]]:
        """Yield what a worker answers to a batch, as it comes.

        Raises:
            NoBatches: it does not know of batches. Unavailable: it does not answer, or breaks off. Otherwise as the
                data port refuses a batch.
        """
        url, decoder = member.url.rstrip("/") + BATCH, FrameDecoder(len(reads))
        if url in self._without_batches:
            raise NoBatches
        try:
            body = encode_batch(reads, Order.READY)
            async with self._transport.session.post(url, data=body, headers=demand.headers) as response:
                if response.status in _NO_ENDPOINT:
                    self._without_batches.add(url)
                    raise NoBatches
                if response.status >= HTTPStatus.BAD_REQUEST:
                    raise await problem_of(response)
                async for data in response.content.iter_any():
                    frames = decoder.feed(data)
                    self._count_frames(frames)
                    yield frames
        except (aiohttp.ClientError, TimeoutError, BrokenFrame) as error:
            raise Unavailable(f"The worker at {url} broke off: {error!r}.") from error

    async def shares(self, paths: Sequence[str]) -> Sequence[tuple[Member, Sequence[int]]]:
        """Return whom to ask for some paths; see :meth:`Transport.shares`."""
        return await self._transport.shares(paths)

    def suspect(self, member: Member) -> None:
        """Ask others than this worker for a while."""
        self._transport.suspect(member)

    async def download(self, path: UfsPath, demand: Demand, file: BinaryIO, progress: Callable[[int], None]) -> None:
        """Write an object to a file from its beginning; raises as the data port answers.

        Args:
            path: the object.
            demand: how fresh it has to be.
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

        request = Request(path=str(path), target=f"/v1/data/{path.url_path}", headers=demand.headers)
        await self._transport.call(request, consume)

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def _fetch(self, path: UfsPath, target: str, demand: Demand) -> bytes:
        return await self._transport.call(Request(path=str(path), target=target, headers=demand.headers), _body)

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
