"""A Service: one address whose connections go to one of several pods, in turn."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

_CONNECT_SECONDS = 2.0
_CHUNK = 65_536


class Service:
    """Forwards TCP connections; use it as a context manager.

    Args:
        address: where it listens.
        port: where it and the pods listen.
        backends: the addresses of the pods that are ready now.
    """

    def __init__(self, address: str, port: int, backends: Callable[[], Sequence[str]]) -> None:
        service = self
        self._backends = backends
        self._turn = 0
        self._port = port

        class Forwarder(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                service.forward(self.request)

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        self._server = socketserver.ThreadingTCPServer((address, port), Forwarder)
        self._server.daemon_threads = True

    def forward(self, client: socket.socket) -> None:
        """Serve one connection; it is closed if there is no pod."""
        pod = self._connect()
        if pod is None:
            return
        with pod:
            back = threading.Thread(target=_pump, args=(pod, client), daemon=True)
            back.start()
            _pump(client, pod)
            back.join()

    def _connect(self) -> socket.socket | None:
        backends = list(self._backends())
        self._turn += 1
        for number in range(len(backends)):
            address = backends[(self._turn + number) % len(backends)]
            try:
                return socket.create_connection((address, self._port), _CONNECT_SECONDS)
            except OSError:  # it has just ended: the next one
                continue
        return None

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Copy bytes until one side ends, then say so to both; a pod that is ended resets its connections."""
    with suppress(OSError):
        while data := source.recv(_CHUNK):
            target.sendall(data)
    for side in (source, target):
        with suppress(OSError):
            side.shutdown(socket.SHUT_RDWR)
