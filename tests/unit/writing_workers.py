"""Workers that write, in one loop: real data ports on the loopback, in-memory engine and under store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec

from preheat.engine import Bucket, Entry, MemoryEngine
from preheat.errors import EngineUnavailable, ObjectNotFound, VersionChanged
from preheat.mounts import Mount, WriteMode
from preheat.paths import UfsPath
from preheat.placement import Member, PlacementMap
from preheat.settings import WriteSettings
from preheat.store import MemoryStore, PageStore
from preheat.ufs import MemoryUnderStore
from preheat.worker._pending import PendingReads, PendingTable
from preheat.worker._policies import Policies
from preheat.worker._reads import ReadService
from preheat.worker.fills import Peers
from preheat.worker.port import DataServer, ServerSettings
from preheat.worker.writes import RecentWrites, RemoteWorkers, Staging, Uploads, WriteService

MIB = 1 << 20
MOUNTS = (
    Mount(name="data", path="s3://b/", writes=WriteMode.THROUGH),
    Mount(name="frozen", path="s3://b/frozen/"),
    Mount(name="fast", path="s3://b/fast/", writes=WriteMode.ASYNC, write_replicas=2, temporary=("tmp/",)),
)


async def pieces(body: bytes, size: int = 300_000) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


def at(key: str) -> UfsPath:
    return UfsPath.parse(f"s3://b/{key}")


class LateEngine(MemoryEngine):
    """What happens is not known everywhere at once."""

    async def watch(self, bucket: Bucket) -> AsyncIterator[Entry | None]:
        async for entry in super().watch(bucket):
            await asyncio.sleep(0.002)
            yield entry


class Connection(LateEngine):
    """One worker's way to the engine, which ends with it."""

    def __init__(self, engine: MemoryEngine) -> None:
        super().__init__()
        self._engine = engine
        self.dead = False

    async def get(self, bucket: Bucket, key: str) -> Entry | None:
        self._check()
        return await self._engine.get(bucket, key)

    async def put(self, bucket: Bucket, key: str, value: bytes, *, revision: int | None = None) -> int:
        self._check()
        return await self._engine.put(bucket, key, value, revision=revision)

    async def delete(self, bucket: Bucket, key: str, *, revision: int | None = None) -> None:
        self._check()
        await self._engine.delete(bucket, key, revision=revision)

    async def watch(self, bucket: Bucket) -> AsyncIterator[Entry | None]:
        async for entry in self._engine.watch(bucket):
            yield entry

    def _check(self) -> None:
        if self.dead:
            raise EngineUnavailable("This worker is dead.")


class Worker:
    """One worker, without batches."""

    def __init__(self, group: Group, number: int, *, store: PageStore, staging: int) -> None:
        self.id = f"worker-{number}"
        self.group = group
        self.store = store
        self.recent = RecentWrites()
        self.policies = Policies(store)
        self.peers = Peers(self.id, owners=group.owners, written=self.recent.etag)
        pending = PendingReads(PendingTable(), store, self.peers)
        self.reads = ReadService(store, group.origin, peers=self.peers, policies=self.policies, pending=pending)
        self.staging = Staging(group.directory / self.id, WriteSettings(staging_bytes=staging))
        self.writes = WriteService(
            self.id,
            store=store,
            origin=group.origin,
            reads=self.reads,
            policies=self.policies,
            staging=self.staging,
            owners=group.owners,
            workers=RemoteWorkers(),
            recent=self.recent,
            pending=pending,
            drain_seconds=0.1,
            heard_file=group.directory / f"{self.id}.heard",
            uploads=Uploads(self.id, min_part_bytes=1000),
        )
        self.server = DataServer(self.reads, writes=self.writes, settings=ServerSettings(drain_seconds=0.1))
        self.engine = Connection(group.engine)
        self.url = ""
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Run it until :meth:`kill`."""
        started = asyncio.Event()

        async def run() -> None:
            async with self.running():
                started.set()
                await asyncio.Event().wait()

        self._running = asyncio.create_task(run())
        await asyncio.wait({self._running, asyncio.ensure_future(started.wait())}, return_when="FIRST_COMPLETED")

    async def kill(self) -> None:
        """End it as ``kill -9`` would: whatever it does now, nobody hears of it any more."""
        assert self._running is not None
        self.engine.dead = True
        self._running.cancel()
        await asyncio.wait({self._running})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        try:
            async with self.policies.following(self.engine), self.writes.following(self.engine):
                await self.policies.mounts_loaded.wait()
                await self.writes.catch_up()
                self.url = f"http://127.0.0.1:{await self.server.start()}"
                yield
        finally:
            await self.server.stop()
            await self.reads.close()
            self.peers.close()

    async def put(self, key: str, body: bytes, **how: object) -> str:
        return (await self.writes.put(at(key), pieces(body), size=len(body), **how)).etag  # type: ignore[arg-type]

    async def read(self, key: str) -> bytes | None:
        for _ in range(3):
            with suppress(VersionChanged):  # it was replaced while it was fetched, as the data port deals with
                try:
                    opened = await self.reads.open(at(key))
                except ObjectNotFound:
                    return None
                body = b"".join([bytes(page) async for page in opened.pages(0, opened.info.size)])
                assert len(body) == opened.info.size
                return body
        raise AssertionError(f"{key} changes again and again")


class Group:
    """Some workers, of which ``members`` are in the placement map."""

    def __init__(
        self, directory: Path, origin: MemoryUnderStore | None = None, *, engine: MemoryEngine | None = None
    ) -> None:
        self.directory = directory
        self.engine = engine or LateEngine()
        self.origin = origin or MemoryUnderStore()
        self.origin.write("s3://b/frozen/x", b"x")
        self.members: tuple[Member, ...] = ()
        self.workers: list[Worker] = []

    def owners(self, path: str, count: int) -> tuple[Member, ...]:
        return PlacementMap(members=self.members).owners(path, count)

    async def mount(self) -> None:
        for mount in MOUNTS:
            await self.engine.put(Bucket.MOUNTS, mount.name, msgspec.json.encode(mount))

    async def add(self, store: PageStore, *, number: int, staging: int = 64 * MIB) -> Worker:
        """Start a worker; it is in the map at once."""
        worker = Worker(self, number, store=store, staging=staging)
        await worker.start()
        self.workers = sorted([*(other for other in self.workers if other.id != worker.id), worker], key=lambda w: w.id)
        self.map()
        return worker

    async def kill(self, worker: Worker) -> None:
        """End a worker; the map hears of it at once."""
        await worker.kill()
        self.workers.remove(worker)
        self.map()

    async def restart(self, worker: Worker) -> Worker:
        """Start a worker again, with what is in its store."""
        await self.kill(worker)
        return await self.add(worker.store, number=int(worker.id.removeprefix("worker-")))

    def map(self) -> None:
        """Put the workers that run, and no others, into the placement map."""
        self.members = tuple(Member(id=worker.id, url=worker.url) for worker in self.workers)

    def owner(self, key: str) -> Worker:
        (member,) = self.owners(str(at(key)), 1)
        return next(worker for worker in self.workers if worker.id == member.id)

    def other(self, key: str) -> Worker:
        return next(worker for worker in self.workers if worker is not self.owner(key))

    async def content(self, key: str) -> bytes | None:
        """Return what the under store holds."""
        try:
            download = await self.origin.get(at(key))
        except ObjectNotFound:
            return None
        return b"".join([bytes(chunk) async for chunk in download.chunks])


@asynccontextmanager
async def working(
    directory: Path,
    count: int = 2,
    *,
    origin: MemoryUnderStore | None = None,
    stores: list[PageStore] | None = None,
    staging: int = 64 * MIB,
) -> AsyncIterator[Group]:
    """Run a group of workers."""
    group = Group(directory, origin)
    await group.mount()
    try:
        for number in range(count):
            store = stores[number] if stores else MemoryStore(capacity=256 * MIB)
            await group.add(store, number=number, staging=staging)
        yield group
    finally:
        for worker in list(group.workers):
            await group.kill(worker)
