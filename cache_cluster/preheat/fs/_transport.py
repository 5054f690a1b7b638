"""Requests to the worker that owns an object, or to another if that does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeVar

import aiohttp
import msgspec
from yarl import URL

from preheat.errors import CoordinatorUnreachable, NoLiveWorker, PreheatError, Unavailable, from_problem
from preheat.fs._routes import Routes
from preheat.fs._session import ClientSettings, open_session
from preheat.placement import Member, PlacementMap

T = TypeVar("T")
Consume = Callable[[aiohttp.ClientResponse], Awaitable[T]]
_CONSUMED = {HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE}
_PAUSE_SECONDS = 0.1
_MAX_PROBLEM_BYTES = 64 << 10
_CHUNK = 1 << 20
_EXPECTED_FROM = 64 << 10
"""Bytes from which a body waits until the worker wants it: one that is refused is not sent in vain."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request to a data port."""

    path: str
    """URI of the object that says whom to ask."""
    target: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | bytearray | memoryview = b""
    repeatable: bool = True
    """Whether it may be sent again though it may have arrived."""


class Transport:
    """One event loop's connections. Make it, use it and close it in that loop."""

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        fixed = PlacementMap(members=tuple(Member(id=url, url=url) for url in settings.workers))
        self._routes = Routes(
            refresh_seconds=settings.refresh_seconds,
            suspect_seconds=settings.suspect_seconds,
            fixed=fixed if settings.workers else None,
        )
        self._refreshing = asyncio.Lock()
        self._clock = asyncio.get_running_loop().time
        self.session = open_session(settings)

    async def call(self, request: Request, consume: Consume[T]) -> T:
        """Ask the path's owner, then others; a break within the body starts the request over.

        Raises:
            NoLiveWorker: none of them answers. CoordinatorUnreachable: none is known. Otherwise as a worker answers.
        """
        last: Exception | None = None
        for attempt in range(self._settings.attempts):
            member = await self._owner(request.path)
            try:
                return await self._ask(member, request, consume)
            except (aiohttp.ClientError, TimeoutError) as error:
                if not (request.repeatable or isinstance(error, aiohttp.ClientConnectorError)):
                    raise _perhaps_done(request, error) from error
                last = error
            except Unavailable as error:  # this worker stops; the under store's failures would be the same elsewhere
                if error.status != HTTPStatus.SERVICE_UNAVAILABLE or not request.repeatable:
                    raise
                last = error
            self.suspect(member)
            await asyncio.sleep(_PAUSE_SECONDS * attempt)
        urls = ", ".join(self._routes.urls)
        raise NoLiveWorker(f"path='{request.path}': no worker answers ({urls}): {last!r}.") from last

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

    async def close(self) -> None:
        """Close the connections."""
        await self.session.close()

    async def _ask(self, member: Member, request: Request, consume: Consume[T]) -> T:
        url = URL(member.url.rstrip("/") + request.target, encoded=True)
        size = len(request.body)
        headers = dict(request.headers)
        if size or request.method in {"PUT", "POST"}:
            headers["Content-Length"] = str(size)
        async with self.session.request(
            request.method,
            url,
            headers=headers,
            data=_chunks(request.body) if size else None,
            expect100=size >= _EXPECTED_FROM,
        ) as response:
            if response.status >= HTTPStatus.BAD_REQUEST and response.status not in _CONSUMED:
                raise await problem_of(response)
            return await consume(response)

    async def _owner(self, path: str) -> Member:
        await self._refresh_if_due()
        member = self._routes.owner(path, self._clock())
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
                    raise await problem_of(response)
                return msgspec.json.decode(await response.read(), type=PlacementMap)
        except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
            raise CoordinatorUnreachable(f"No coordinator answers at {url}: {error!r}.") from error


async def problem_of(response: aiohttp.ClientResponse) -> PreheatError:
    """Return the error that an answer tells of."""
    body = await response.content.read(_MAX_PROBLEM_BYTES)
    try:
        problem = msgspec.json.decode(body, type=dict)
    except msgspec.MsgspecError:
        problem = {"detail": f"{response.url} answers {response.status}."}
    return from_problem(problem, response.status)


def _perhaps_done(request: Request, error: Exception) -> Unavailable:
    return Unavailable(
        f"path='{request.path}': the worker broke off: {error!r}.",
        remedy="Look whether it was written before you try again.",
    )


async def _chunks(body: bytes | bytearray | memoryview) -> AsyncIterator[memoryview]:
    """Yield a body in pieces, so that other answers are read in between."""
    view = memoryview(body).cast("B")
    for start in range(0, len(view), _CHUNK):
        yield view[start : start + _CHUNK]
