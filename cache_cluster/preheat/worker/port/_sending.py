"""Sends bodies from where they are in a file: the kernel passes them on uncopied.

A body is best handed over in whole pages. Its first bytes, up to the border of a page, are copied and go with the head:
then what the kernel takes next fills the first packet, which leaves at once. Otherwise that packet, a little short,
would leave right before the next one, and where packets are paced (BBR) a timer is set for that, at twice the cost.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

from preheat.errors import PreheatError
from preheat.store import Extent
from preheat.worker.port._answers import Placed

_PAGE = os.sysconf("SC_PAGE_SIZE")


class FileSender:
    """Sends files to one connection's client, past its transport.

    Args:
        transport: the connection's, which is not encrypted.
        rest: returns what follows the first bytes of an answer, read, or raises.
    """

    def __init__(self, transport: asyncio.Transport, rest: Callable[[Placed, int], bytes]) -> None:
        own = transport.get_extra_info("socket")
        self._transport = transport
        self._rest = rest
        self._socket = socket.socket(own.family, own.type, own.proto, fileno=os.dup(own.fileno()))

    def send(self, answer: Placed) -> None:
        """Send an answer; what the socket does not take now its transport sends."""
        sent = 0 if self._transport.get_write_buffer_size() else self._send(answer.head, answer.extent)
        if sent == len(answer.head) + answer.extent.size:
            return
        try:
            self._transport.write(self._rest(answer, sent))
        except PreheatError:  # the head may have gone out: other bytes must not take the place of these
            self._transport.abort()

    def close(self) -> None:
        """Let go of the connection; closing it is its transport's."""
        self._socket.close()

    def _send(self, head: bytes, extent: Extent) -> int:
        """Return how many bytes the socket took."""
        file, offset, size = extent
        begun, sent = -offset % _PAGE, 0
        try:
            sent = self._socket.send(head + os.pread(file.descriptor, begun, offset), socket.MSG_MORE)
            if sent == len(head) + begun:
                sent += os.sendfile(self._socket.fileno(), file.descriptor, offset + begun, size - begun)
        except OSError:  # it takes no more now, or the client left, or the disk fails: whoever sends the rest will see
            return sent
        return sent
