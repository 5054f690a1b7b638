"""A TCP proxy in front of an S3 server that notes when each object was asked for.

Bytes pass unchanged, so signatures stay valid: clients sign the proxy's address, which the server sees in the header
Host. A request is recognised at the start of what a client sends at once, which is where any request without a body
before it on the connection starts.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from types import TracebackType
from typing import Self
from urllib.parse import unquote

import uvloop

_OBJECT = re.compile(rb"GET /([^/? ]+/[^? ]+)[? ]")
_CHUNK = 1 << 16
_START_SECONDS = 10.0


class OriginProxy:
    """Runs in a thread; use it as a context manager.

    Args:
        port: the S3 server's, on loopback.
    """

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._reads: list[tuple[float, str]] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="origin-proxy", daemon=True)
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event
        self._port = 0

    @property
    def endpoint(self) -> str:
        """The URL to give as AWS_ENDPOINT_URL."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def reads(self) -> int:
        """How often objects were asked for so far."""
        return len(self._reads)

    def first_read(self, prefix: str, *, since: float) -> float | None:
        """Return when an object below a prefix was asked for the first time since a moment; none if none was.

        Args:
            prefix: ``bucket/prefix``.
            since: on the clock of ``time.perf_counter``, as is the answer.
        """
        return next((at for at, name in self._reads if at >= since and name.startswith(prefix)), None)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(_START_SECONDS):
            raise TimeoutError("The proxy did not start.")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(_START_SECONDS)

    def _run(self) -> None:
        uvloop.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopping.wait()  # the connections end with the loop
        server.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
            await asyncio.gather(self._note(reader, server_writer), _copy(server_reader, writer))
        except OSError:  # either side was killed: the other one is told by the end of its connection
            writer.close()

    async def _note(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            if found := _OBJECT.match(data):
                self._reads.append((time.perf_counter(), unquote(found[1].decode())))
            writer.write(data)
            await writer.drain()
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    writer.close()
