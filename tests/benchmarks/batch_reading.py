"""Reads small objects as fast as one process can, each byte compared: by batches, or by one GET each.

``python -m tests.benchmarks.batch_reading --url URL --objects FILE`` asks a worker's data port for batches; with
``--gets`` it asks any HTTP server for one object after another. FILE is a JSON list: URIs of objects, or with ``--gets``
targets. ``--url`` and ``--objects`` may stand several times, a file for each server. Prints a JSON object: ``objects``
read, ``bytes``, ``seconds``, ``cpu`` (of this process) and ``digest``, the SHA-256 of the objects in the order of the
files, to be compared with the source. Every object is read once before the clock starts; what comes later is compared
with what came then.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import select
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httptools

from preheat.batch_read import BATCH, FrameDecoder, Order, Read, encode_batch
from preheat.paths import UfsPath

_RECEIVE_BYTES = 512 << 10
_TIMEOUT_SECONDS = 30.0
_OK = 200


class WrongObjectError(Exception):
    """A server sent something else than the object."""


@dataclass(kw_only=True)
class Source:
    """A server and its objects."""

    host: str
    port: int
    objects: Sequence[str]
    contents: list[bytes] = field(default_factory=list)
    """What was read first, by the object's position; empty before."""
    read: int = 0
    bytes: int = 0

    def take(self, index: int, body: bytes) -> None:
        """Compare an object with what was read first, and count it."""
        if body != self.contents[index]:
            raise WrongObjectError(f"{self.objects[index]} has other bytes than before.")
        self.read += 1
        self.bytes += len(body)


class Connection:
    """One kept connection, with one request under way."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.socket = socket.create_connection((source.host, source.port), _TIMEOUT_SECONDS)
        self._parser = httptools.HttpResponseParser(self)

    def ask(self) -> None:
        """Send the next request."""
        raise NotImplementedError

    def receive(self) -> None:
        """Take what has arrived; once the answer is whole, the next request is sent."""
        data = self.socket.recv(_RECEIVE_BYTES)
        if not data:
            raise WrongObjectError(f"{self.source.host}:{self.source.port} closed the connection.")
        self._parser.feed_data(data)

    def on_headers_complete(self) -> None:
        """Refuse an error."""
        if self._parser.get_status_code() != _OK:
            raise WrongObjectError(f"{self.source.host}:{self.source.port} answers {self._parser.get_status_code()}.")

    def on_message_complete(self) -> None:
        """Go on with the next request."""
        self._parser = httptools.HttpResponseParser(self)
        self.ask()


class Batches(Connection):
    """Reads the source's objects by batches, all of them again and again."""

    def __init__(self, source: Source, reads: int) -> None:
        super().__init__(source)
        starts = range(0, len(source.objects), reads)
        self._requests = cycle([(start, *_batch(source, source.objects[start : start + reads])) for start in starts])
        self.ask()

    def ask(self) -> None:
        """Send the next request."""
        self._first, count, request = next(self._requests)
        self._decoder = FrameDecoder(count)
        self.socket.sendall(request)

    def on_body(self, data: bytes) -> None:
        """Take the frames that have come."""
        for frame in self._decoder.feed(data):
            if frame.status != _OK:
                raise WrongObjectError(frame.info.decode())
            self.source.take(self._first + frame.index, frame.body)


class Gets(Connection):
    """Reads the source's objects one after the other."""

    def __init__(self, source: Source, start: int, step: int) -> None:
        super().__init__(source)
        head = f" HTTP/1.1\r\nHost: {source.host}\r\n\r\n"
        targets = list(enumerate(source.objects))[start::step]
        self._requests = cycle([(index, f"GET {target}{head}".encode()) for index, target in targets])
        self.ask()

    def ask(self) -> None:
        """Send the next request."""
        self._index, request = next(self._requests)
        self._pieces: list[bytes] = []
        self.socket.sendall(request)

    def on_body(self, data: bytes) -> None:
        """Take a part of the object."""
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        """Take the object."""
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self.source.take(self._index, body)
        super().on_message_complete()


def read_for(seconds: float, sources: Sequence[Source], connect: Callable[[Source], Sequence[Connection]]) -> float:
    """Read the objects of all sources again and again for some seconds, and return the CPU seconds that it took."""
    started, cpu = time.perf_counter(), time.process_time()
    connections = {connection.socket.fileno(): connection for source in sources for connection in connect(source)}
    with select.epoll() as poll:
        for number in connections:
            poll.register(number, select.EPOLLIN)
        while time.perf_counter() - started < seconds:
            for number, _ in poll.poll(_TIMEOUT_SECONDS):
                connections[number].receive()
    for connection in connections.values():
        connection.socket.close()
    return time.process_time() - cpu


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", action="append", required=True)
    parser.add_argument("--objects", action="append", type=Path, required=True)
    parser.add_argument("--gets", action="store_true")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--connections", type=int, help="for each server; 2 for batches, 32 for GETs")
    parser.add_argument("--reads", type=int, default=1000, help="in one batch")
    options = parser.parse_args()
    sources = [_source(url, file) for url, file in zip(options.url, options.objects, strict=True)]
    json.dump(_measure(options, sources), sys.stdout)


def _measure(options: argparse.Namespace, sources: Sequence[Source]) -> dict[str, Any]:
    for source in sources:
        source.contents = _first_contents(source, gets=options.gets)

    def connect(source: Source) -> list[Connection]:
        if options.gets:
            step = options.connections or 32
            return [Gets(source, start, step) for start in range(min(step, len(source.objects)))]
        return [Batches(source, options.reads) for _ in range(options.connections or 2)]

    started = time.perf_counter()
    cpu = read_for(options.seconds, sources, connect)
    return {
        "objects": sum(source.read for source in sources),
        "bytes": sum(source.bytes for source in sources),
        "seconds": time.perf_counter() - started,
        "cpu": cpu,
        "digest": hashlib.sha256(b"".join(body for source in sources for body in source.contents)).hexdigest(),
    }


def _source(url: str, objects: Path) -> Source:
    parts = urlsplit(url)
    return Source(host=parts.hostname or "", port=parts.port or 80, objects=json.loads(objects.read_text()))


def _batch(source: Source, uris: Sequence[str]) -> tuple[int, bytes]:
    body = encode_batch([Read(uri) for uri in uris], Order.READY)
    head = f"POST {BATCH} HTTP/1.1\r\nHost: {source.host}\r\nContent-Length: {len(body)}\r\n\r\n"
    return len(uris), head.encode() + body


class _Once(Connection):
    """Reads each object by a GET, once, whichever server it is."""

    def __init__(self, source: Source, targets: Sequence[str]) -> None:
        super().__init__(source)
        self._targets = iter(targets)
        self.bodies: list[bytes] = []
        self.done = False
        self.ask()

    def ask(self) -> None:
        """Send the next request, or end."""
        target = next(self._targets, None)
        self.done = target is None
        if target is not None:
            self.bodies.append(b"")
            self.socket.sendall(f"GET {target} HTTP/1.1\r\nHost: {self.source.host}\r\n\r\n".encode())

    def on_body(self, data: bytes) -> None:
        """Take a part of the object."""
        self.bodies[-1] += data


def _first_contents(source: Source, *, gets: bool) -> list[bytes]:
    """Return each object, as a GET of it says."""
    targets = source.objects if gets else [f"/v1/data/{UfsPath.parse(uri).url_path}" for uri in source.objects]
    once = _Once(source, targets)
    while not once.done:
        once.receive()
    once.socket.close()
    return once.bodies


if __name__ == "__main__":
    main()
