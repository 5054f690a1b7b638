"""Workers that serve on real sockets, in another thread's loop, for tests of the filesystem."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import msgspec
import pytest

from preheat.engine import Bucket
from preheat.fs import PreheatFileSystem
from preheat.mounts import Mount
from preheat.paths import UfsPath
from preheat.placement import Member, PlacementMap
from preheat.settings import TlsSettings
from preheat.store import MemoryStore
from preheat.ufs import MemoryUnderStore, UnderStore
from preheat.worker._reads import ReadService
from preheat.worker.port._server import DataServer, ServerSettings
from tests.unit.writing_workers import working

T = TypeVar("T")
SECONDS = 10.0
INSTALL_SECONDS = 600


class Loop:
    """An event loop in a thread of its own, as the processes of a cluster have theirs."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def run(self, call: Callable[..., Awaitable[T]], *args: Any) -> T:
        async def body() -> T:
            return await call(*args)

        return asyncio.run_coroutine_threadsafe(body(), self._loop).result(SECONDS)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        self._loop.close()


class Worker:
    """A data port with a store of its own."""

    def __init__(
        self,
        loop: Loop,
        name: str,
        origin: UnderStore,
        settings: ServerSettings | None = None,
        *,
        tls: TlsSettings | None = None,
    ) -> None:
        self._loop = loop
        self.id = name
        self.origin = origin
        self.reads = ReadService(MemoryStore(capacity=64 << 20), origin)
        self.server = loop.run(self._make, settings, tls)
        self.port = loop.run(self.server.start)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    async def _make(self, settings: ServerSettings | None, tls: TlsSettings | None) -> DataServer:
        return DataServer(self.reads, settings=settings, tls=tls)

    async def replace(self, uri: str, body: bytes) -> None:
        """Put another version in the place of an object, at the under store and here."""
        assert isinstance(self.origin, MemoryUnderStore)
        await self.reads.fetch(UfsPath.parse(uri), info=self.origin.write(uri, body))

    def stop_serving(self) -> None:
        self._loop.run(self.server.stop)

    def stop(self) -> None:
        self.stop_serving()
        self._loop.run(self.reads.close)


class RecordingProxy:
    """Passes bytes between clients and a worker, and keeps what the clients sent.

    Args:
        renamed: what to find in requests, and what of the same length to pass on in its place.
    """

    def __init__(self, loop: Loop, worker: Worker, *, renamed: tuple[bytes, bytes] = (b"", b"")) -> None:
        self._loop = loop
        self._worker = worker
        self._renamed = renamed
        self.requests: list[bytes] = []
        self.server: asyncio.Server = loop.run(asyncio.start_server, self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    def stop(self) -> None:
        async def close() -> None:
            self.server.close()
            await self.server.wait_closed()

        self._loop.run(close)

    async def _serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        worker, there = await asyncio.open_connection("127.0.0.1", self._worker.port)
        passing = asyncio.create_task(self._pass_requests(client, there))
        await self._pass_answers(worker, back)
        passing.cancel()
        back.close()
        there.close()

    async def _pass_answers(self, worker: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        while data := await worker.read(1 << 16):
            back.write(data)
            await back.drain()

    async def _pass_requests(self, client: asyncio.StreamReader, there: asyncio.StreamWriter) -> None:
        while data := await client.read(1 << 16):
            self.requests.append(data)
            there.write(data.replace(*self._renamed) if self._renamed[0] else data)
        there.close()


class CuttingProxy(RecordingProxy):
    """One whose answers end in the middle.

    Args:
        after: bytes that pass, of all answers together.
    """

    def __init__(self, loop: Loop, worker: Worker, *, after: int) -> None:
        self.left = after
        super().__init__(loop, worker)

    async def _pass_answers(self, worker: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        while self.left and (data := await worker.read(1 << 16)):
            back.write(data[: self.left])
            self.left -= min(self.left, len(data))
            await back.drain()


@dataclass
class Coordinator:
    """What a coordinator is to a reader: ``GET /v1/placement`` over HTTP."""

    loop: Loop
    members: list[Worker]
    requests: list[str] = field(default_factory=list)
    url: str = ""
    server: asyncio.Server | None = None

    def start(self) -> None:
        async def listen() -> None:
            self.server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
            self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

        self.loop.run(listen)

    def stop(self) -> None:
        async def close() -> None:
            assert self.server is not None
            self.server.close()
            await self.server.wait_closed()

        self.loop.run(close)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
        members = [{"id": worker.id, "url": worker.url, "weight": 1.0} for worker in self.members]
        body = json.dumps({"epoch": 1, "members": members}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()


class WritableWorker(Worker):
    """One whose bucket ``b`` is written through, except below ``frozen/``."""

    def __init__(self, loop: Loop, origin: MemoryUnderStore, directory: Path) -> None:
        self._loop = loop
        self.id = "w0"
        self.origin = origin
        self._running = working(directory, 1, origin=origin)
        self._group = loop.run(self._running.__aenter__)
        (worker,) = self._group.workers
        self.reads, self.server, self.url = worker.reads, worker.server, worker.url
        self.port = int(self.url.rpartition(":")[2])

    def mount(self, mount: Mount) -> None:
        """Add a mount."""
        self._loop.run(self._mount, mount)

    async def _mount(self, mount: Mount) -> None:
        await self._group.engine.put(Bucket.MOUNTS, mount.name, msgspec.json.encode(mount))
        while mount.name not in self._group.workers[0].policies.mounts.names:
            await asyncio.sleep(0.001)

    def stop(self) -> None:
        self._loop.run(self._running.__aexit__, None, None, None)


def opened(**options: Any) -> Iterator[PreheatFileSystem]:
    fs = PreheatFileSystem(skip_instance_cache=True, **options)
    yield fs
    fsspec.asyn.sync(fs.loop, fs.aclose)


def owner_of(uri: str, workers: list[Worker]) -> Worker:
    members = tuple(Member(id=worker.id, url=worker.url) for worker in workers)
    owner = PlacementMap(members=members).owners(uri)[0]
    return next(worker for worker in workers if worker.id == owner.id)


def ecosystems_python() -> Path:
    """Return the interpreter of .venv-ecosystems, made at the first use."""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHON": sys.executable}
    with (Path(tempfile.gettempdir()) / "preheat-ecosystems.lock").open("w") as lock:  # two test processes may want it
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(["bash", root / "scripts/ecosystems.sh"], env=environment, check=True, timeout=INSTALL_SECONDS)
    return root / ".venv-ecosystems/bin/python"


def skip_without_torch(python: Path) -> None:
    """Skip the test where torch could not be installed."""
    if not list(python.parents[1].glob("lib/*/site-packages/torch")):
        pytest.skip("torch is not installed in .venv-ecosystems")
