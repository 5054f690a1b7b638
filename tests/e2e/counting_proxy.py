"""A TCP proxy that counts the HTTP/1.1 requests that pass through it: what a coordinator is asked, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from urllib.parse import urlsplit

_START_SECONDS = 10.0
_BLOCK = 2**16


class CountingProxy:
    """Where it listens, and what it has counted."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = parts.hostname, parts.port
        self.url = ""
        self.requests = 0
        self.connections = 0
        self.open = 0
        """Connections that are open now."""

    async def serve(self, ready: Event, stop: asyncio.Event) -> None:
        """Serve until told to stop."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await stop.wait()
        server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(*self._target)
            await asyncio.gather(
                self._pass_on(reader, upstream_writer, count=True), self._pass_on(upstream_reader, writer, count=False)
            )
        except OSError:
            writer.close()  # the coordinator is not there
        finally:
            self.open -= 1

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, count: bool) -> None:
        with suppress(OSError):  # one of the two has gone
            while block := await reader.read(_BLOCK):
                self.requests += block.count(b" HTTP/1.1\r\n") if count else 0
                writer.write(block)
                await writer.drain()
        writer.close()


@contextmanager
def counting_proxy(target: str) -> Iterator[CountingProxy]:
    """Run a proxy in a thread of its own on a free port of the loopback interface."""
    proxy, ready, loop, stop = CountingProxy(target), Event(), asyncio.new_event_loop(), asyncio.Event()
    thread = Thread(target=loop.run_until_complete, args=(proxy.serve(ready, stop),))
    thread.start()
    try:
        assert ready.wait(_START_SECONDS)
        yield proxy
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(_START_SECONDS)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.1))
        loop.close()
