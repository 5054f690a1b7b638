"""Workers that write, in one loop: real data ports on the loopback, in-memory engine and under store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from preheat.engine import Bucket, Entry, MemoryEngine
from preheat.errors import ObjectNotFound
from preheat.mounts import Mount, WriteMode
from preheat.paths import UfsPath
from preheat.placement import Member, PlacementMap
from preheat.store import MemoryStore, PageStore
from preheat.ufs import MemoryUnderStore
from preheat.worker._pending import PendingReads, PendingTable
from preheat.worker._policies import Policies
from preheat.worker._reads import ReadService
from preheat.worker.fills import Peers
from preheat.worker.port import DataServer
from preheat.worker.writes import RecentWrites, RemoteWorkers, Staging, Uploads, WriteService

MIB = 1 << 20
MOUNTS = (
    Mount(name="data", path="s3://b/", writes=WriteMode.THROUGH),
    Mount(name="frozen", path="s3://b/frozen/"),
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


class Worker:
    """One worker, without batches."""

    def __init__(self, group: Group, number: int, *, store: PageStore, staging: int) -> None:
        self.id = f"w{number}"
        self.group = group
        self.store = store
        self.recent = RecentWrites()
        self.policies = Policies(store)
        self.peers = Peers(self.id, owners=group.owners, written=self.recent.etag)
        pending = PendingReads(PendingTable(), store, self.peers)
        self.reads = ReadService(store, group.origin, peers=self.peers, policies=self.policies, pending=pending)
        self.staging = Staging(group.directory / self.id, capacity=staging)
        self.writes = WriteService(
            self.id,
            store=store,
            origin=group.origin,
            reads=self.reads,
            policies=self.policies,
            staging=self.staging,
            owners=group.owners,
            workers=RemoteWorkers(self.id),
            recent=self.recent,
            pending=pending,
            heard_file=group.directory / f"{self.id}.heard",
            uploads=Uploads(self.id, min_part_bytes=1000),
        )
        self.server = DataServer(self.reads, writes=self.writes)
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.url = f"http://127.0.0.1:{await self.server.start()}"
        try:
            async with self.policies.following(self.group.engine), self.writes.following(self.group.engine):
                await self.policies.mounts_loaded.wait()
                yield
        finally:
            await self.server.stop()
            await self.reads.close()
            self.peers.close()

    async def put(self, key: str, body: bytes, **how: object) -> str:
        return (await self.writes.put(at(key), pieces(body), size=len(body), **how)).etag  # type: ignore[arg-type]

    async def read(self, key: str) -> bytes | None:
        try:
            opened = await self.reads.open(at(key))
        except ObjectNotFound:
            return None
        body = b"".join([bytes(page) async for page in opened.pages(0, opened.info.size)])
        assert len(body) == opened.info.size
        return body


class Group:
    """Some workers, of which ``members`` are in the placement map."""

    def __init__(self, directory: Path, origin: MemoryUnderStore | None = None) -> None:
        self.directory = directory
        self.engine = LateEngine()
        self.origin = origin or MemoryUnderStore()
        self.origin.write("s3://b/frozen/x", b"x")
        self.members: tuple[Member, ...] = ()
        self.workers: list[Worker] = []

    def owners(self, path: str, count: int) -> tuple[Member, ...]:
        return PlacementMap(members=self.members).owners(path, count)

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
    for mount in MOUNTS:
        await group.engine.put(Bucket.MOUNTS, mount.name, msgspec.json.encode(mount))
    async with AsyncExitStack() as stack:
        for number in range(count):
            store = stores[number] if stores else MemoryStore(capacity=256 * MIB)
            worker = Worker(group, number, store=store, staging=staging)
            group.workers.append(worker)
            await stack.enter_async_context(worker.running())
        group.members = tuple(Member(id=worker.id, url=worker.url) for worker in group.workers)
        yield group
