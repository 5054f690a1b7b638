"""The servers on a worker's ports: HTTP/1.1 in this process's event loop, on ``httptools``.

A loop of our own because readers of small objects come by the ten thousand a second: a bare loop of this kind was
measured level with nginx on two cores, where web frameworks reach a tenth to a half of it.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from types import TracebackType
from typing import Self

from preheat.settings import TlsSettings
from preheat.tls import server_context
from preheat.tls_renewal import follow_certificate
from preheat.worker._readiness import Readiness
from preheat.worker._reads import ReadService
from preheat.worker.port._access import Authorizer
from preheat.worker.port._alluxio import AlluxioWorker
from preheat.worker.port._connection import Connection
from preheat.worker.port._endpoints import Endpoints
from preheat.worker.port._hits import Hits
from preheat.worker.port._limits import ServerSettings
from preheat.worker.port._service import Service, Shortcut
from preheat.worker.writes import WriteService

__all__ = ["DataServer", "Server", "ServerSettings"]
_BACKLOG = 1024
_SWEEPS_PER_DEADLINE = 4


class Server:
    """Listens on one port, and has its requests answered.

    Args:
        endpoints: answer the requests.
        host: the address to listen on.
        port: the port; 0 takes a free one.
        settings: the limits.
        authorizer: asked before each request; without one the endpoints are asked at once.
        hits: answers the most frequent requests without parsing them, if there is such a way.
        tls: with a certificate, HTTPS is spoken.
    """

    def __init__(
        self,
        endpoints: Service,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        settings: ServerSettings | None = None,
        authorizer: Authorizer | None = None,
        hits: Shortcut | None = None,
        tls: TlsSettings | None = None,
    ) -> None:
        self._endpoints = endpoints
        self._host = host
        self._port = port
        self._settings = settings or ServerSettings()
        self._authorizer = authorizer
        self._hits = hits
        self._tls = tls or TlsSettings()
        self._connections: set[Connection] = set()
        self._all_closed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._renewing: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listen, and return the port.

        Raises:
            OSError: the port is taken.
            InvalidRequest: the certificate cannot be used.
        """
        loop = asyncio.get_running_loop()
        context = server_context(self._tls)
        self._server = await loop.create_server(self._connect, self._host, self._port, backlog=_BACKLOG, ssl=context)
        self._renewing = loop.create_task(follow_certificate(context, self._tls))
        for listening in self._server.sockets if self._settings.send_buffer_bytes else ():  # connections inherit it
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._settings.send_buffer_bytes)
        self._port = self._server.sockets[0].getsockname()[1]
        self._sweep()
        return self._port

    async def stop(self) -> None:
        """Stop listening, let answers under way end within ``drain_seconds``, and close. Idempotent."""
        if self._server is None:
            return
        self._server.close()
        for connection in tuple(self._connections):
            connection.finish()
        if self._connections:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_closed.wait(), self._settings.drain_seconds)
        for connection in tuple(self._connections):
            connection.abort()
        if self._sweeping:
            self._sweeping.cancel()
        if self._renewing:
            self._renewing.cancel()
        await self._server.wait_closed()
        self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """The base URL, once started."""
        return f"{self._tls.scheme}://{self._host}:{self._port}"

    @property
    def port(self) -> int:
        """The port, once started."""
        return self._port

    def _connect(self) -> Connection:
        return Connection(
            self._endpoints,
            self._settings,
            authorizer=self._authorizer,
            hits=self._hits,
            opened=self._connections.add,
            closed=self._disconnected,
        )

    def _disconnected(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._all_closed.set()

    def _sweep(self) -> None:
        """Abort the connections whose deadline has passed: one timer for all, where one each would cost per request."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in tuple(self._connections):
            if connection.deadline < now:
                connection.abort()
        settings = self._settings
        shortest = min(settings.head_seconds, settings.idle_seconds, settings.stall_seconds, settings.linger_seconds)
        self._sweeping = loop.call_later(shortest / _SWEEPS_PER_DEADLINE, self._sweep)


class DataServer(Server):
    """Serves a :class:`ReadService` over HTTP, as "A worker's data port" in the REST reference says.

    Args:
        reads: what is served. It belongs to the caller, who closes it after :meth:`stop`.
        host: the address to listen on.
        port: the port; 0 takes a free one.
        settings: the limits, and which ``file://`` paths may be read.
        authorizer: asked before each request; without one everybody may read everything.
        tls: with a certificate, HTTPS is spoken.
        alluxio: answers Alluxio's clients, if they are to be served.
        writes: changes objects, if that is to be possible.
        readiness: whether the worker takes part; one of which that is not known yet by default.
    """

    def __init__(
        self,
        reads: ReadService,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        settings: ServerSettings | None = None,
        authorizer: Authorizer | None = None,
        tls: TlsSettings | None = None,
        alluxio: AlluxioWorker | None = None,
        writes: WriteService | None = None,
        readiness: Readiness | None = None,
    ) -> None:
        settings = settings or ServerSettings()
        super().__init__(
            Endpoints(
                reads,
                file_roots=settings.file_roots,
                alluxio=alluxio,
                authorizer=authorizer,
                writes=writes,
                readiness=readiness,
            ),
            host=host,
            port=port,
            settings=settings,
            authorizer=authorizer,
            hits=Hits(reads, authorizer),
            tls=tls,
        )
