"""Reads that belong to another worker: passed on to it, for not every worker shall fill its store with everything.

The owner is asked at its data port, whose answers are never passed on: questions do not go round. Its bytes go through
as they come, a few of them at a time. An owner that does not answer, or breaks off, is no reader's error: this worker
reads the rest itself, of the same version, and leaves the owner out for some seconds; not if it broke off because that
version is no more, which is found out by reading on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from functools import partial
from types import MappingProxyType
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from preheat.attributes import LINES_HEADER, unquoted
from preheat.errors import (
    AccessDenied,
    InvalidRequest,
    NotFound,
    ObjectNotFound,
    OriginUnavailable,
    PreheatError,
    VersionChanged,
    from_problem,
)
from preheat.logs import get_logger
from preheat.paths import UfsPath
from preheat.placement import Member
from preheat.settings import TlsSettings
from preheat.tls import client_context
from preheat.versions import ObjectInfo
from preheat.worker._freshness import VERSION_HEADER, NotCached, wished
from preheat.worker._ranges import Asked
from preheat.worker._reads import ETags, OpenedRead, ReadService

log = get_logger("worker")
_CONNECT_SECONDS = 1.0
_SILENT_SECONDS = 20.0
"""Of an owner: it may have to wait for the under store itself, but no reader waits for ever."""
_LEFT_OUT_SECONDS = 10.0
_READ_BYTES = 256 << 10
"""Of an owner's answer that may wait for a slow reader, and as much again."""
_ANSWERS = (AccessDenied, InvalidRequest, NotCached, NotFound, OriginUnavailable, VersionChanged)
"""What an owner may say that this worker would say, too. Any other error is the owner's own."""
_BY_STATUS: Mapping[int, type[PreheatError]] = {403: AccessDenied, 404: ObjectNotFound, 412: VersionChanged}
"""What a status means where it comes without a text, as to a HEAD."""

_NONE: Mapping[str, str] = MappingProxyType({})
WISHES = ("cache-control", VERSION_HEADER)
"""The headers by which a reader says how fresh it wants an object."""

Owners = Callable[[str, int], Sequence[Member]]
"""Returns the workers that rank highest for a path, at most so many; none if they are not known."""


class _Failure(StrEnum):
    """Why an owner did not answer."""

    UNREACHABLE = "unreachable"  #: nobody listens at its port
    SILENT = "silent"
    BROKEN = "broken"  #: it broke off
    REFUSED = "refused"  #: it said that it cannot, or what no data port says


class _UnansweredError(Exception):
    """An owner did not answer, or not as one does."""

    def __init__(self, failure: _Failure, text: str) -> None:
        super().__init__(text)
        self.failure = failure

    @classmethod
    def of(cls, error: Exception) -> _UnansweredError:
        """Return what an error of the connection means."""
        text = str(error) or type(error).__name__
        if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
            return cls(_Failure.UNREACHABLE, text)
        if isinstance(error, TimeoutError):
            return cls(_Failure.SILENT, text)
        return cls(_Failure.BROKEN if isinstance(error, (aiohttp.ClientError, OSError)) else _Failure.REFUSED, text)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Opened:
    """An owner's answer, whose body has not been read."""

    info: ObjectInfo
    hit: bool
    start: int
    end: int
    response: aiohttp.ClientResponse


class Forward:
    """Reads objects where they belong: here, or at the worker that owns them.

    Args:
        reads: this worker's.
        worker_id: this worker, to which nothing is passed on.
        owners: says who owns a path.
        token: is shown to other workers.
        tls: whom to trust, if they speak HTTPS.
    """

    def __init__(
        self, reads: ReadService, *, worker_id: str, owners: Owners, token: str = "", tls: TlsSettings | None = None
    ) -> None:
        self._reads = reads
        self._counters = reads.counters
        self._worker_id = worker_id
        self._owners = owners
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._tls = tls or TlsSettings()
        self._session: aiohttp.ClientSession | None = None
        self._left_out: dict[str, float] = {}

    async def stat(
        self, path: UfsPath, if_match: ETags = None, *, wish: Mapping[str, str] = _NONE
    ) -> tuple[ObjectInfo, bool]:
        """Return what is known of an object, and whether it is cached; raises as ``ReadService.stat``.

        Args:
            path: the object.
            if_match: the versions that the reader accepts.
            wish: the headers by which the reader says how fresh it wants it.
        """
        owner = self._owner(path)
        own = wished(wish)
        if owner is not None and not await self._reads.has(path, if_match, own):
            try:
                answer = await self._ask(owner, "HEAD", path, _wanted(if_match, None, wish))
            except _UnansweredError as error:
                self._leave_out(owner, error)
            else:
                answer.response.release()
                return answer.info, answer.hit
        return await self._reads.stat(path, if_match, wish=own)

    async def open(
        self,
        path: UfsPath,
        if_match: ETags = None,
        *,
        asked: Asked | None = None,
        wish: Mapping[str, str] = _NONE,
    ) -> OpenedRead:
        """Find an object, or have it fetched; raises as ``ReadService.open``.

        Args:
            path: the object.
            if_match: the versions that the reader accepts.
            asked: the range that is going to be read; none is all of the object.
            wish: the headers by which the reader says how fresh it wants it.
        """
        owner = self._owner(path)
        own = wished(wish)
        if owner is not None and not await self._reads.has(path, if_match, own):
            try:
                answer = await self._ask(owner, "GET", path, _wanted(if_match, asked, wish))
            except _UnansweredError as error:
                self._leave_out(owner, error)
            else:
                self._counters.forwarded_reads += 1
                pages = partial(self._pages, owner, path, answer)
                return OpenedRead(info=answer.info, hit=answer.hit, pages=pages)
        return await self._reads.open(path, if_match, asked=asked, wish=own)

    async def close(self) -> None:
        """Close the connections to other workers."""
        if self._session is not None:
            await self._session.close()

    def _owner(self, path: UfsPath) -> Member | None:
        """Return whom to ask for an object; none if that is this worker, not known, or did not answer lately.

        Nor for files: a data port reads none from its machine because it was asked to.
        """
        if path.scheme != "s3":
            return None
        owner = next(iter(self._owners(str(path), 1)), None)
        if owner is None or owner.id == self._worker_id:
            return None
        until = self._left_out.get(owner.id, 0.0)
        return None if asyncio.get_running_loop().time() < until else owner

    def _leave_out(self, owner: Member, error: _UnansweredError) -> None:
        self._counters.count_forward_failure(error.failure)
        self._left_out[owner.id] = asyncio.get_running_loop().time() + _LEFT_OUT_SECONDS
        log.warning(
            "The owner of an object does not answer; it is read here.",
            action="owner_failed",
            owner=owner.url,
            reason=error.failure,
            error=str(error),
        )

    async def _ask(self, owner: Member, method: str, path: UfsPath, wanted: Mapping[str, str]) -> _Opened:
        """Return an owner's answer; raises what it refused with, or _UnansweredError."""
        headers = {**self._headers, **wanted}
        session = self._session = self._session or self._connected()
        try:
            url = URL(f"{owner.url}/v1/data/{path.url_path}", encoded=True)
            response = await session.request(method, url, headers=headers)
            if response.status >= 400:
                raise _refusal(await response.read(), response, path)
            return _opened(path, response)
        except (aiohttp.ClientError, OSError, ValueError, KeyError) as error:  # with TimeoutError
            if isinstance(error, PreheatError):
                raise
            raise _UnansweredError.of(error) from error

    async def _pages(
        self, owner: Member, path: UfsPath, answer: _Opened, start: int, end: int
    ) -> AsyncIterator[bytes | memoryview]:
        """Yield bytes [start, end): of the answer as far as it goes, the rest of this worker's own."""
        broken: _UnansweredError | None = None
        try:
            if (start, end) == (answer.start, answer.end):
                async for piece in answer.response.content.iter_any():
                    yield piece
                    start += len(piece)
                    self._counters.forwarded_bytes += len(piece)
        except (aiohttp.ClientError, OSError) as error:
            broken = _UnansweredError.of(error)
        finally:
            answer.response.close()
        if start < end:
            own = await self._go_on(path, answer.info.etag, (start, end), owner, broken)
            async for page in own.pages(start, end):
                yield page

    async def _go_on(
        self, path: UfsPath, etag: str, asked: Asked, owner: Member, broken: _UnansweredError | None
    ) -> OpenedRead:
        """Open the rest here; an owner that broke off though this version can be had is left out from now on."""
        try:
            own = await self._reads.open(path, (etag,), asked=asked)
        except (VersionChanged, ObjectNotFound):
            self._counters.forward_changed += broken is not None
            raise
        if broken is not None:
            self._leave_out(owner, broken)
        return own

    def _connected(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=client_context(self._tls), limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENT_SECONDS),
            auto_decompress=False,
            read_bufsize=_READ_BYTES,
        )


def _opened(path: UfsPath, response: aiohttp.ClientResponse) -> _Opened:
    """Read an answer's head; raises KeyError or ValueError if it is none of a data port."""
    headers = response.headers
    length = int(headers["Content-Length"])
    place = headers.get("Content-Range")
    start, size = (0, length) if place is None else (int(place[6:].partition("-")[0]), int(place.rpartition("/")[2]))
    modified = parsedate_to_datetime(headers["Last-Modified"]).timestamp()
    etag, told = headers["ETag"].strip('"'), unquoted(headers.get(LINES_HEADER, ""))
    info = ObjectInfo(key=path.key, size=size, etag=etag, last_modified=modified, attributes=told)
    hit = headers.get("X-Preheat-Cache") == "hit"
    return _Opened(info=info, hit=hit, start=start, end=start + length, response=response)


def _wanted(if_match: ETags, asked: Asked | None, wish: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that say what a reader wants."""
    headers = dict(wish)
    if if_match is not None:
        headers["If-Match"] = ", ".join(f'"{etag}"' for etag in if_match)
    if asked is not None:
        start, end = asked
        headers["Range"] = f"bytes={start}" if start < 0 else f"bytes={start}-{'' if end is None else end - 1}"
    return headers


def _refusal(body: bytes, response: aiohttp.ClientResponse, path: UfsPath) -> PreheatError:
    """Return what an owner refused with, if this worker would say the same.

    Raises:
        _UnansweredError: it is about the owner itself.
    """
    status = response.status
    try:
        error = from_problem(msgspec.json.decode(body, type=dict[str, Any]), status)
    except msgspec.DecodeError:
        error = _BY_STATUS.get(status, PreheatError)(f"path='{path}': its owner answered {status}.")
    if not isinstance(error, _ANSWERS):
        raise _UnansweredError(_Failure.REFUSED, f"it answered {status}: {error.message}")
    size = response.headers.get("Content-Range", "").removeprefix("bytes */")
    if size.isascii() and size.isdigit():  # of an object in which the range has no byte
        error.details["size"] = int(size)
    return error
