"""A load generator for HTTP, to be run in a process of its own: ``python -m tests.benchmarks.http_load``.

It reads a JSON object from stdin (``host``, ``port``, ``requests``: a list of ``{"target", "range"}``, ``connections``,
``seconds``, and ``token``, which each request shows if there is one) and prints one: ``requests``, ``bytes``,
``seconds``, ``cpu``, ``p50`` and ``p99``, the percentiles of the
seconds that answers took, and ``digests``, the SHA-256 of each request's body. Each request is first sent once; its
answer is read, checked and hashed. Then every connection sends one request after another. An answer's first bytes are
checked again; the rest the kernel throws away uncopied (MSG_TRUNC), so that one Python thread keeps a server busy.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import select
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

_HEAD = 512
_OK = (b"HTTP/1.1 200", b"HTTP/1.1 206")
_POLL_MILLISECONDS = 1000
_SCRATCH = bytearray(4 << 20)
_TIMEOUT_SECONDS = 30.0
_LEAST_ANSWERS = 2
"""Without two of them there are no percentiles."""

Exchange = tuple[bytes, int]
"""A request, and the length of its answer with the head."""


class WrongAnswerError(Exception):
    """The server answered something else than the object."""


class Connection:
    """One keep-alive connection, with one request under way."""

    def __init__(self, address: tuple[str, int], exchanges: Iterator[Exchange], waits: list[float]) -> None:
        self.socket = socket.create_connection(address, _TIMEOUT_SECONDS)
        self.socket.setblocking(False)
        self._exchanges = exchanges
        self._head = bytearray(_HEAD)
        self._waits = waits
        self.bytes = 0
        self._send()

    def _send(self) -> None:
        request, self._missing = next(self._exchanges)
        self._at_start = True
        self._sent_at = time.perf_counter()
        self.socket.send(request)

    def receive(self) -> None:
        """Take what has arrived; after the answer's last byte send the next request."""
        if self._at_start:
            received = self.socket.recv_into(self._head)
            if not self._head.startswith(_OK):
                raise WrongAnswerError(bytes(self._head[:received]).decode(errors="replace"))
            self._at_start = False
        else:
            received = self.socket.recv_into(_SCRATCH, min(self._missing, len(_SCRATCH)), socket.MSG_TRUNC)
            if not received:
                raise WrongAnswerError("The server closed the connection.")
        self._missing -= received
        self.bytes += received
        if not self._missing:
            self._waits.append(time.perf_counter() - self._sent_at)
            self._send()


def try_once(address: tuple[str, int], request: bytes) -> tuple[int, str]:
    """Send a request and return the length of its answer and the SHA-256 of its body."""
    with socket.create_connection(address, _TIMEOUT_SECONDS) as connection:
        connection.sendall(request)
        data = b""
        while b"\r\n\r\n" not in data:
            data += _some(connection)
        head, _, body = data.partition(b"\r\n\r\n")
        if not head.startswith(_OK):
            raise WrongAnswerError(head.decode(errors="replace"))
        size = _content_length(head)
        digest = hashlib.sha256(body)
        missing = size - len(body)
        while missing:
            part = _some(connection)
            digest.update(part)
            missing -= len(part)
    return len(head) + 4 + size, digest.hexdigest()


def generate(
    address: tuple[str, int], exchanges: list[Exchange], *, connections: int, seconds: float
) -> dict[str, Any]:
    """Keep every connection busy for some seconds and at least until two answers, and return what was answered."""
    order = itertools.cycle(exchanges)
    waits: list[float] = []  # from each request to the end of its answer
    cpu, started = time.process_time(), time.perf_counter()
    by_file = {}
    poll = select.epoll()
    for connection in (Connection(address, order, waits) for _ in range(connections)):
        by_file[connection.socket.fileno()] = connection
        poll.register(connection.socket, select.EPOLLIN)
    while (elapsed := time.perf_counter() - started) < seconds or len(waits) < _LEAST_ANSWERS:
        if elapsed > seconds + _TIMEOUT_SECONDS:
            raise WrongAnswerError("The server does not answer any more.")
        for file, _ in poll.poll(_POLL_MILLISECONDS):
            by_file[file].receive()
    ended = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}
    percentiles = statistics.quantiles(waits, n=100, method="inclusive")
    return {
        **ended,
        "requests": len(waits),
        "bytes": sum(connection.bytes for connection in by_file.values()),
        "p50": percentiles[49],
        "p99": percentiles[98],
    }


def main() -> None:
    """Do what stdin asks for."""
    order = json.load(sys.stdin)
    address = (order["host"], order["port"])
    shown = f"Authorization: Bearer {order['token']}\r\n" if order.get("token") else ""
    requests = [_request(order["host"], shown, **request) for request in order["requests"]]
    tried = [try_once(address, request) for request in requests]
    exchanges = [(request, length) for request, (length, _) in zip(requests, tried, strict=True)]
    result = generate(address, exchanges, connections=order["connections"], seconds=order["seconds"])
    json.dump({**result, "digests": [digest for _, digest in tried]}, sys.stdout)


def _request(host: str, shown: str, target: str, range: str) -> bytes:  # noqa: A002 - the JSON's name, after the header's
    line = f"Range: {range}\r\n" if range else ""
    return f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{shown}{line}\r\n".encode()


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(1 << 20)
    if not data:
        raise WrongAnswerError("The server closed the connection.")
    return data


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise WrongAnswerError(f"No Content-Length: {head.decode(errors='replace')}")


if __name__ == "__main__":
    main()
