"""A TCP proxy that moves a server far away: ``python -m tests.benchmarks.delay_proxy PORT UPSTREAM_PORT SECONDS``.

``SECONDS`` are those of a round trip. Every byte arrives half of one after it was sent, in each direction, and the
first bytes of a connection a whole one later, as after TCP's handshake. Nothing else is modelled: the link has any
bandwidth, loses nothing, and a connection may have as many bytes under way as it likes.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import struct
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import uvloop

from testbed.ports import free_port
from testbed.processes import ChildProcess, listens

_HOST = "127.0.0.1"
_BACKLOG = 4096
_BUFFER = 8 << 20
"""Bytes that wait for a receiver who does not read, before their sender is no longer read."""
_NO_LINGER = struct.pack("ii", 1, 0)


@contextmanager
def distance(upstream: int, round_trip: float, log: Path) -> Iterator[tuple[int, ChildProcess]]:
    """Run a proxy in a process of its own; yields its port and the process.

    Args:
        upstream: the server's port, on loopback.
        round_trip: seconds from a request to the first byte of an answer that takes no time.
        log: what the process says.
    """
    port = free_port()
    command = [sys.executable, "-m", "tests.benchmarks.delay_proxy", str(port), str(upstream), str(round_trip)]
    with ChildProcess(command, log=log, name="delay-proxy") as process:
        process.wait_ready(listens(port))
        yield port, process


async def start(port: int, upstream: int, round_trip: float) -> asyncio.Server:
    """Listen on a port, or on a free one if it is 0, for connections to another one."""
    loop = asyncio.get_running_loop()
    connecting: set[asyncio.Task[None]] = set()

    def accept() -> _End:
        client, server = _End(loop, round_trip), _End(loop, round_trip)
        client.other, server.other = server, client
        client.sends_after = loop.time() + round_trip
        task = loop.create_task(_connect(server, upstream))
        connecting.add(task)
        task.add_done_callback(connecting.discard)
        return client

    return await loop.create_server(accept, _HOST, port, backlog=_BACKLOG)


class _End(asyncio.Protocol):
    """The proxy's end of one connection: what it receives arrives later at the end of the other one."""

    other: _End

    def __init__(self, loop: asyncio.AbstractEventLoop, round_trip: float) -> None:
        self.sends_after = 0.0
        """What is received before this time counts as received then."""
        self._loop = loop
        self._delay = round_trip / 2
        self._arriving: deque[tuple[float, bytes]] = deque()
        """When to send on what the other end received; no bytes close the connection."""
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send on what arrived before."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self._transport.set_write_buffer_limits(high=_BUFFER)
        self._deliver()

    def data_received(self, data: bytes) -> None:
        """Let some bytes arrive at the other end."""
        self.other.expect(data, at=max(self._loop.time(), self.sends_after) + self._delay)

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the other connection, after what is on its way."""
        self.data_received(b"")

    def expect(self, data: bytes, *, at: float) -> None:
        """Send some bytes at a time that is not before those of the bytes before."""
        self._arriving.append((at, data))
        if self._timer is None:
            self._timer = self._loop.call_at(at, self._deliver)

    def pause_writing(self) -> None:
        """Read no more of what this end cannot send."""
        self.other.read(on=False)

    def resume_writing(self) -> None:
        """Read again."""
        self.other.read(on=True)

    def read(self, *, on: bool) -> None:
        """Read from this connection, or do not."""
        if self._transport is not None and not self._transport.is_closing():
            (self._transport.resume_reading if on else self._transport.pause_reading)()

    def _deliver(self) -> None:
        self._timer = None
        if self._transport is None:
            return  # the connection is not there yet: this is called again when it is
        while self._arriving and self._arriving[0][0] <= self._loop.time():
            _, data = self._arriving.popleft()
            if data:
                self._transport.write(data)
            else:
                self._transport.close()
                self._arriving.clear()
        if self._arriving:
            self._timer = self._loop.call_at(self._arriving[0][0], self._deliver)


async def _connect(end: _End, port: int) -> None:
    loop = asyncio.get_running_loop()
    try:
        transport, _ = await loop.create_connection(lambda: end, _HOST, port)
    except OSError:  # the server is not there: the client is told by the end of its connection
        end.connection_lost(None)
        return
    # Closed without TIME_WAIT: nobody but the proxy needs these ports, and clients of the server itself need theirs.
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)


async def _serve(port: int, upstream: int, round_trip: float) -> None:
    await (await start(port, upstream, round_trip)).serve_forever()


def main() -> None:
    """Serve until killed."""
    _, port, upstream, round_trip = sys.argv
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    uvloop.run(_serve(int(port), int(upstream), float(round_trip)))


if __name__ == "__main__":
    main()
