"""Reads small objects as fast as one process can, each byte compared: by batches, or by one GET each.

``python -m tests.benchmarks.batch_reading --url URL --objects FILE`` asks a worker's data port for batches; with
``--gets`` it asks any HTTP server for one object after another, on several connections. FILE is a JSON list: URIs of
objects, or with ``--gets`` targets. ``--url`` and ``--objects`` may stand several times, one file for each server. A
token is taken from PREHEAT_TOKEN.

Every object is read once before the clock starts, and all that is read later is compared with it. The program prints a
JSON object: ``objects`` read, ``bytes``, ``seconds``, ``cpu`` (seconds of this process), and ``digest``, the SHA-256 of
the objects in the order of the files, to be compared with the source.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httptools

from preheat.batch_read import BATCH, FrameDecoder, Order, Read, encode_batch
from preheat.paths import UfsPath

_RECEIVE_BYTES = 120 << 10
"""Just below where Linux's allocator asks the kernel for memory each time."""
_TIMEOUT_SECONDS = 30.0
_OK = 200
_CONTENT_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


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
        """Compare an object with what was read first, if it was, and count it."""
        if index == len(self.contents):
            self.contents.append(body)
        elif body != self.contents[index]:
            raise WrongObjectError(f"{self.objects[index]} has other bytes than before.")
        self.read += 1
        self.bytes += len(body)


class Connection:
    """One kept connection, with one request under way."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.socket = socket.create_connection((source.host, source.port), _TIMEOUT_SECONDS)

    def receive(self) -> None:
        """Take what has arrived; once the answer is whole, send the next request."""
        raise NotImplementedError

    def _some(self) -> bytes:
        data = self.socket.recv(_RECEIVE_BYTES)
        if not data:
            raise WrongObjectError(f"{self.source.host}:{self.source.port} closed the connection.")
        return data


class Batches(Connection):
    """Reads the source's objects by batches, all of them again and again."""

    def __init__(self, source: Source, reads: int) -> None:
        super().__init__(source)
        starts = range(0, len(source.objects), reads)
        self._requests = cycle([(start, *_batch(source, source.objects[start : start + reads])) for start in starts])
        self._parser = httptools.HttpResponseParser(self)
        self._ask()

    def _ask(self) -> None:
        self._first, count, request = next(self._requests)
        self._decoder = FrameDecoder(count)
        self.socket.sendall(request)

    def receive(self) -> None:
        """Take what has arrived; once the answer is whole, send the next request."""
        self._parser.feed_data(self._some())

    def on_headers_complete(self) -> None:
        """Refuse an error."""
        if self._parser.get_status_code() != _OK:
            raise WrongObjectError(f"A batch is answered with {self._parser.get_status_code()}.")

    def on_body(self, data: bytes) -> None:
        """Take the frames that have come."""
        for frame in self._decoder.feed(data):
            if frame.status != _OK:
                raise WrongObjectError(frame.info.decode())
            self.source.take(self._first + frame.index, frame.body)

    def on_message_complete(self) -> None:
        """Go on with the next request."""
        self._ask()


class Gets(Connection):
    """Reads objects one after the other, each by a GET, and does no more for it than it has to.

    Args:
        source: the server.
        requests: an object's position and the request for it, each.
    """

    def __init__(self, source: Source, requests: Iterator[tuple[int, bytes]]) -> None:
        super().__init__(source)
        self._requests = requests
        self.done = False
        self._ask()

    def _ask(self) -> None:
        self._data = b""
        self._index, request = next(self._requests, (-1, b""))
        self.done = not request
        self.socket.sendall(request)

    def receive(self) -> None:
        """Take what has arrived; once the answer is whole, send the next request."""
        self._data += self._some()
        head, end, body = self._data.partition(b"\r\n\r\n")
        if end and not head.startswith(b"HTTP/1.1 200 "):
            raise WrongObjectError(head.decode(errors="replace"))
        if end and len(body) == self._length(head):
            self.source.take(self._index, body)
            self._ask()

    def _length(self, head: bytes) -> int:
        contents = self.source.contents
        if self._index < len(contents):
            return len(contents[self._index])
        found = _CONTENT_LENGTH.search(head)
        if found is None:
            raise WrongObjectError(f"No Content-Length: {head.decode(errors='replace')}")
        return int(found[1])


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
            requests = list(enumerate(_gets(source, source.objects)))
            return [Gets(source, cycle(requests[start::step])) for start in range(min(step, len(requests)))]
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
    return len(uris), _request(source, f"POST {BATCH}", f"Content-Length: {len(body)}") + body


def _gets(source: Source, targets: Sequence[str]) -> list[bytes]:
    return [_request(source, f"GET {target}") for target in targets]


def _request(source: Source, method_and_target: str, *lines: str) -> bytes:
    token = os.environ.get("PREHEAT_TOKEN")
    access = [f"Authorization: Bearer {token}"] if token else []
    return "\r\n".join([f"{method_and_target} HTTP/1.1", f"Host: {source.host}", *access, *lines, "", ""]).encode()


def _first_contents(source: Source, *, gets: bool) -> list[bytes]:
    """Return each object, as a GET of it says."""
    targets = source.objects if gets else [f"/v1/data/{UfsPath.parse(uri).url_path}" for uri in source.objects]
    once = Source(host=source.host, port=source.port, objects=targets)
    connection = Gets(once, iter(enumerate(_gets(source, targets))))
    while not connection.done:
        connection.receive()
    connection.socket.close()
    return once.contents


if __name__ == "__main__":
    main()
