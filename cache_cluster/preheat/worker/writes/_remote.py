"""Other workers, to which writes are passed on, in the terms of their data ports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from preheat.errors import EngineUnavailable, InvalidRequest, PreheatError, Unavailable, from_problem
from preheat.logs import get_logger
from preheat.paths import UfsPath
from preheat.placement import Member
from preheat.settings import TlsSettings
from preheat.tls import client_context
from preheat.worker.writes._forwarding import Forwarding

log = get_logger("worker")
_CONNECT_SECONDS = 1.0
_ANSWER_SECONDS = 900.0
"""After the body: the other worker may upload all of it to the under store meanwhile."""
_TOLD_SECONDS = 1.0
_LEFT_OUT_SECONDS = 10.0


class NotReachedError(Exception):
    """The other worker cannot be connected to: it was asked nothing, and nothing was taken from the body."""


class RemoteWorkers:
    """Asks other workers.

    Args:
        token: is shown to the others; it needs the role ``submit``.
        tls: whom to trust, if they speak HTTPS.
    """

    def __init__(self, *, token: str = "", tls: TlsSettings | None = None) -> None:
        self.forwarding = Forwarding()
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._tls = tls or TlsSettings()
        self._http: aiohttp.ClientSession | None = None
        self._left_out: dict[Member, float] = {}
        """Those that were silent, until when; one that was restarted is another one."""

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Keep connections while the block runs."""
        connector = aiohttp.TCPConnector(ssl=client_context(self._tls), limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_ANSWER_SECONDS)
        async with aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            headers=self._headers,
            skip_auto_headers=("Content-Type",),  # it would be the object's
        ) as http:
            self._http = http
            try:
                yield
            finally:
                self._http = None

    async def ask(
        self,
        member: Member,
        method: str,
        target: str,
        *,
        body: AsyncIterator[bytes | memoryview] | bytes | None = None,
        size: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Return the body of a worker's answer.

        Args:
            member: the worker.
            method: of HTTP.
            target: the path with its query, percent-encoded.
            body: what to send; what it raises is raised here.
            size: its bytes, if they are known.
            headers: to send besides.

        Raises:
            NotReachedError: it cannot be connected to.
            Unavailable: it broke off; it may or may not have done it.
            PreheatError: it refused, for this reason.
        """
        marks = self.forwarding.headers
        if self._http is None or not marks:  # unmarked it would be passed on again, and back
            raise EngineUnavailable("The other workers are not known yet.", remedy="Try again.")
        sending = _Sending(body, size) if isinstance(body, AsyncIterator) else None
        if sending is not None and size == 0:  # nothing could be held back
            await anext(sending, None)
        length = {} if sending is None or size is None else {"Content-Length": str(size)}
        try:
            async with self._http.request(
                method,
                URL(member.url + target, encoded=True),
                data=sending or body,
                headers={**(headers or {}), **marks, **length},
                allow_redirects=False,  # the secret is for this worker alone
            ) as response:
                answer = await response.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotReachedError(str(error)) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            if sending is not None and sending.error is not None:
                raise sending.error from None
            raise Unavailable(f"The worker {member.id} broke off: {error or type(error).__name__}.") from error
        if response.status >= 300:
            raise _refusal(answer, response.status, member)
        return answer

    async def tell(self, members: Iterable[Member], path: UfsPath, revision: int, *, pending: bool = False) -> None:
        """Wait until other workers know of a write, but not longer than a second, nor for who was silent lately.

        Args:
            members: those workers.
            path: what was written.
            revision: of its record.
            pending: whether it is that of a pending write.
        """
        target = f"/v1/written?path={quote(str(path), safe='')}&revision={revision}{'&pending=true' if pending else ''}"
        now = asyncio.get_running_loop().time()
        self._left_out = {member: until for member, until in self._left_out.items() if until > now}
        well = [member for member in members if member not in self._left_out]
        await asyncio.gather(*(self._tell(member, target) for member in well))

    async def _tell(self, member: Member, target: str) -> None:
        try:
            async with asyncio.timeout(_TOLD_SECONDS):
                await self._ask_twice(member, target)
        except TimeoutError:
            self._left_out[member] = asyncio.get_running_loop().time() + _LEFT_OUT_SECONDS
            log.warning("A worker is silent; it learns of writes by the engine.", action="not_told", worker=member.id)
        except (NotReachedError, PreheatError) as error:
            log.warning("A worker was not told of a write.", action="not_told", worker=member.id, error=str(error))

    async def _ask_twice(self, member: Member, target: str) -> None:
        """Ask, once more if the connection was one that a restart of the worker had broken."""
        try:
            await self.ask(member, "POST", target)
        except Unavailable:
            await self.ask(member, "POST", target)


class _Sending:
    """A body on its way to another worker.

    The last bytes are held back until the body has ended well, for with them the other worker has a whole request. Why
    it did not is remembered: the client only tells that it broke off. Once begun it cannot be sent again, and a client
    that tries again on another connection would send the rest for the whole.
    """

    def __init__(self, chunks: AsyncIterator[bytes | memoryview], size: int | None) -> None:
        self._chunks = chunks
        self._size = size
        self._came = 0
        self._held: bytes | memoryview | None = None
        self.error: PreheatError | None = None

    def __aiter__(self) -> _Sending:
        if self._came:
            raise aiohttp.ClientPayloadError("A part of the body was sent before the connection broke")
        return self

    async def __anext__(self) -> bytes | memoryview:
        try:
            if self._held is None:
                self._held = await self._next()
            ready, self._held = self._held, await self._next()
        except PreheatError as error:
            self.error = error
            raise
        if ready is None:
            raise StopAsyncIteration
        return ready

    async def _next(self) -> bytes | memoryview | None:
        """Return what comes next; none at the end."""
        chunk = await anext(self._chunks, None)
        self._came += len(chunk or b"")
        if self._size is not None and (self._came > self._size or (chunk is None and self._came < self._size)):
            raise InvalidRequest(
                f"The body has {self._came} bytes{' or more' if chunk else ''} instead of {self._size}."
            )
        return chunk


def _refusal(body: bytes, status: int, member: Member) -> PreheatError:
    try:
        return from_problem(msgspec.json.decode(body, type=dict[str, Any]), status)
    except msgspec.DecodeError:
        return Unavailable(f"The worker {member.id} answered {status}.")
