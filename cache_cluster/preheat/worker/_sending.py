"""How a connection's answers reach its socket: at once as far as the kernel takes them, the rest by the transport.

A transport keeps a reference to what it cannot send yet. The kernel copies: what is handed over here may be changed as
soon as :meth:`Sender.send` returns, so bodies can be read into one buffer that never leaves the processor's cache.
"""

from __future__ import annotations

import asyncio
import os


class Sender:
    """Sends bytes on one connection, in order, together with what is written to its transport.

    Over TLS, and wherever else the transport does more than to write to a socket, all bytes go by the transport.

    Args:
        transport: the connection's. While it has bytes that were not sent its protocol is paused, if the socket is
            written to directly.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        socket = transport.get_extra_info("socket")
        direct = socket is not None and transport.get_extra_info("sslcontext") is None
        self._descriptor: int | None = socket.fileno() if direct else None
        if direct:
            transport.set_write_buffer_limits(high=0)

    def send(self, head: bytes, body: bytes | memoryview) -> None:
        """Send both; afterwards neither is referred to."""
        sent = 0
        if self._descriptor is not None and not self._transport.get_write_buffer_size():
            try:
                sent = os.writev(self._descriptor, (head, body))
            except OSError:  # no room, or the client is gone: the transport finds it out too, and acts on it
                sent = 0
        if sent < len(head) + len(body):
            self._transport.write(b"".join((head, body))[sent:])

    def close(self) -> None:
        """Let go of the socket, before the transport closes it and its number becomes another connection's."""
        self._descriptor = None
