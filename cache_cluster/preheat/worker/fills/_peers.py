"""Other workers as a place to get objects from, before the under store is asked.

Those are asked that rank highest for an object: its owner, who has it when a reader came to the wrong worker or when
copies are made, and the one that owned it before a worker joined. A request says ``only-if-cached``, so that whoever is
asked reads no more than its own page store: questions do not go round; and ``max-stale``, for who asks knows which
version it wants, or that any will do. What a peer sends is checked like what the under store sends. A peer that fails,
or is slow, is left out for some seconds, and is never the reason for an error.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import urlsplit

from preheat.logs import get_logger
from preheat.paths import UfsPath
from preheat.placement import Member
from preheat.settings import TlsSettings
from preheat.tls import client_context
from preheat.ufs import HEAD_BYTES, Answer, UnusableError, Wire
from preheat.versions import ObjectInfo
from preheat.worker.fills._counters import Counters
from preheat.worker.fills._fill import Gift

log = get_logger("worker")
MAX_BYTES = 8 << 20
"""Of one answer, which is held in memory whole."""
_ASKED = 2
_EVERYBODY = sys.maxsize
_CONNECT_SECONDS = 1.0
_ANSWER_SECONDS = 2.0
_LEAST_BYTES_PER_SECOND = 4 << 20
_LEFT_OUT_SECONDS = 10.0
_MAX_IDLE = 32
_ABSENT = {
    HTTPStatus.NOT_FOUND,
    HTTPStatus.PRECONDITION_FAILED,
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
"""Answers of a peer that is well and does not have what is wanted."""

Owners = Callable[[str, int], Sequence[Member]]
"""Returns the workers that rank highest for a path, at most so many; none if they are not known."""


class Peers:
    """The other workers.

    Args:
        worker_id: this worker, which is never asked.
        owners: says whom to ask.
        token: is shown to them.
        tls: whom to trust, if they speak HTTPS.
        written: returns the etag of what was written to a path lately, empty if the others' copies are no good, none if
            nothing was: one that has not heard of a write yet may have an older version.
    """

    def __init__(
        self,
        worker_id: str,
        *,
        owners: Owners,
        token: str = "",
        tls: TlsSettings | None = None,
        written: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self._worker_id = worker_id
        self._owners = owners
        self._written = written
        self._authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        self._tls = tls or TlsSettings()
        self._peers: dict[str, _Peer] = {}

    def source(
        self, path: UfsPath, counters: Counters, *, holders: Collection[str] = (), drained: Sequence[Member] = ()
    ) -> Candidates | None:
        """Return who may have an object; none if there is nobody to ask.

        Args:
            path: the object.
            counters: count what peers sent.
            holders: the ids of those to ask; by default those that rank highest.
            drained: those of them who are not among the owners of anything any more.
        """
        written = None if holders else self._written(str(path))
        if written == "":
            return None
        ranked = (*self._owners(str(path), _EVERYBODY if holders else _ASKED), *drained)
        members = [
            member for member in ranked if member.id != self._worker_id and (not holders or member.id in holders)
        ]
        known = [self._peer(member) for member in members]
        peers = [peer for peer in known if peer.well] or (known if holders else [])  # nobody else may have it
        return Candidates(peers, counters, written) if peers else None

    def close(self) -> None:
        """Close the connections."""
        for peer in self._peers.values():
            peer.close()
        self._peers.clear()

    def _peer(self, member: Member) -> _Peer:
        peer = self._peers.get(member.id)
        if peer is None or peer.url != member.url:
            if peer is not None:
                peer.close()
            peer = self._peers[member.id] = _Peer(member.url, self._authorization, self._tls)
        return peer


class Candidates:
    """Those who may have one object; who does not is not asked again."""

    def __init__(self, peers: list[_Peer], counters: Counters, written: str | None) -> None:
        self._peers = peers
        self._written = written
        self._counters = counters
        self._read = False

    async def get(self, path: UfsPath, *, etag: str | None, start: int, end: int) -> Gift | None:
        """Return bytes of an object, as :class:`~preheat.worker.fills.Source` does."""
        if end - start > MAX_BYTES:
            return None
        found = await self._ask(path, etag, start, end)
        if found is not None:
            self._count(found.end - found.start)
        return found

    async def look(self, path: UfsPath, *, etag: str | None) -> ObjectInfo | None:
        """Return the version that :meth:`get` would read; one byte tells, and an object without any is not read here.

        None if nobody has it.
        """
        found = await self._ask(path, etag, 0, 1)
        return None if found is None else found.info

    async def _ask(self, path: UfsPath, etag: str | None, start: int, end: int) -> Gift | None:
        while self._peers:
            peer = self._peers[0]
            found = await peer.get(path, etag or self._written, start, end)
            if found is not None:
                return found
            if self._peers and self._peers[0] is peer:  # not if a piece that was fetched meanwhile found it out
                del self._peers[0]
        return None

    def _count(self, size: int) -> None:
        if not self._read:
            self._read = True
            self._counters.peer_reads += 1
        self._counters.peer_bytes += size


class _Peer:
    """One worker's data port, and its idle connections."""

    def __init__(self, url: str, authorization: str, tls: TlsSettings) -> None:
        parts = urlsplit(url)
        self.url = url
        self._address = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        self._prefix = parts.path.rstrip("/")
        self._headers = f"Host: {parts.netloc}\r\n{authorization}Cache-Control: only-if-cached, max-stale\r\n"
        self._context = client_context(tls) if parts.scheme == "https" else None
        self._idle: list[Wire] = []
        self._loop = asyncio.get_running_loop()
        self._left_out_until = 0.0

    @property
    def well(self) -> bool:
        """Whether it may be asked: it has not failed lately."""
        return self._loop.time() >= self._left_out_until

    async def get(self, path: UfsPath, etag: str | None, start: int, end: int) -> Gift | None:
        """Return bytes of an object, none if they cannot be had here."""
        try:
            return await self._ask(path, etag, start, end)
        except (OSError, UnusableError) as error:  # with TimeoutError
            self._left_out_until = self._loop.time() + _LEFT_OUT_SECONDS
            log.warning(
                "A peer does not answer; the under store is asked.",
                action="peer_failed",
                peer=self.url,
                error=str(error) or type(error).__name__,
            )
            return None

    def close(self) -> None:
        """Close the idle connections."""
        for wire in self._idle:
            wire.abort()
        self._idle.clear()

    async def _ask(self, path: UfsPath, etag: str | None, start: int, end: int) -> Gift | None:
        match = "" if etag is None else f'If-Match: "{etag}"\r\n'
        request = (
            f"GET {self._prefix}/v1/data/{path.url_path} HTTP/1.1\r\n{self._headers}{match}"
            f"Range: bytes={start}-{end - 1}\r\n\r\n"
        )
        buffer = bytearray(HEAD_BYTES + end - start + 1)
        async with asyncio.timeout(_ANSWER_SECONDS + (end - start) / _LEAST_BYTES_PER_SECOND):
            answer = await self._exchange(request.encode(), buffer)
        if answer.status in _ABSENT:
            return None
        if answer.refused:
            raise UnusableError(f"it answered {answer.status}")
        info, first, last = answer.bytes_of(path.key, start, end)
        body = memoryview(buffer)[answer.body_start : answer.body_start + answer.length]
        return Gift(info=info, start=first, end=last, chunks=_one(body))

    async def _exchange(self, request: bytes, buffer: bytearray) -> Answer:
        while self._idle:
            wire = self._idle.pop()
            if wire.usable:
                with suppress(OSError):  # the peer may have closed it in this moment
                    return await self._answered(wire, request, buffer)
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, wire = await self._loop.create_connection(Wire, *self._address, ssl=self._context)
        return await self._answered(wire, request, buffer)

    async def _answered(self, wire: Wire, request: bytes, buffer: bytearray) -> Answer:
        try:
            answer = await wire.ask(request, buffer)
        except BaseException:
            wire.abort()
            raise
        finally:
            wire.forget()
        if answer.reusable and len(self._idle) < _MAX_IDLE:
            self._idle.append(wire)
        else:
            wire.abort()
        return answer


async def _one(body: memoryview) -> AsyncIterator[memoryview]:
    yield body
