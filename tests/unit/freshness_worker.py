"""A worker's read side with mounts, pins, inventories, and a clock that a test turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import msgspec

from preheat.engine import Bucket, MemoryEngine
from preheat.errors import OriginUnavailable
from preheat.inventory import BlockHead, Inventory, Pin, Position, block_key, pack, stored_block
from preheat.mounts import Mount
from preheat.paths import UfsPath
from preheat.store import MemoryStore
from preheat.ufs import Download, MemoryUnderStore
from preheat.versions import DatasetVersion, ObjectInfo
from preheat.worker._freshness import ANY, Wish
from preheat.worker._policies import Policies
from preheat.worker._reads import OpenedRead, ReadService

SECONDS = 10.0


class Clock:
    """Stands still until it is turned."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def __call__(self) -> float:
        return self.seconds


class Origin(MemoryUnderStore):
    """An under store that can be away, and whose looks can be held back."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.looks = 0
        self.holds_bodies = False

    async def stat(self, path: UfsPath) -> ObjectInfo:
        self._check()
        self.looks += 1
        try:
            return await super().stat(path)
        finally:
            await self.gate.wait()

    async def get(self, path: UfsPath, *, etag: str | None = None, start: int = 0, end: int | None = None) -> Download:
        self._check()
        download = await super().get(path, etag=etag, start=start, end=end)
        return replace(download, chunks=self._held(download.chunks)) if self.holds_bodies else download

    async def _held(self, chunks: AsyncIterator[memoryview]) -> AsyncIterator[memoryview]:
        await self.gate.wait()
        async for chunk in chunks:
            yield chunk

    def _check(self) -> None:
        if self.away:
            raise OriginUnavailable("It is away.")


@dataclass(frozen=True, kw_only=True)
class Worker:
    """What a test needs of it."""

    origin: Origin = field(default_factory=Origin)
    engine: MemoryEngine = field(default_factory=MemoryEngine)
    clock: Clock = field(default_factory=Clock)
    store: MemoryStore = field(default_factory=lambda: MemoryStore(capacity=64 << 20))
    policies: Policies = field(init=False)
    reads: ReadService = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "policies", Policies(self.store))
        reads = ReadService(self.store, self.origin, policies=self.policies, clock=self.clock)
        object.__setattr__(self, "reads", reads)

    async def mount(self, *mounts: Mount) -> None:
        for mount in mounts:
            await self.engine.put(Bucket.MOUNTS, mount.name, msgspec.json.encode(mount))
        await until(lambda: {mount.name for mount in mounts} <= {*self.policies.mounts.names})

    async def list(self, uri: str, *, name: str = "inventory", listed_at: float | None = None) -> Inventory:
        """Leave the inventory of what is at the under store now, as a job does."""
        infos = [info async for page in self.origin.list(UfsPath.parse(uri)) for info in page]
        version = DatasetVersion()
        version.update(infos)
        inventory = Inventory(
            id=name,
            path=uri,
            version=str(version),
            objects=len(infos),
            bytes=sum(info.size for info in infos),
            listed_at=self.clock() if listed_at is None else listed_at,
            job_id="job",
            first_keys=tuple(info.key for info in infos[:1]),
        )
        await self._put_block(inventory, infos)
        await self.engine.put(Bucket.INVENTORIES, name, msgspec.json.encode(inventory))
        await until(lambda: name in self._coverage.inventories)
        return inventory

    async def pin(self, inventory: Inventory, path: str | None = None) -> None:
        pin = Pin(
            id="pin", path=path or inventory.path, inventory=inventory.id, version=inventory.version, pinned_at=0.0
        )
        await self.engine.put(Bucket.PINS, pin.id, msgspec.json.encode(pin))
        await until(lambda: "pin" in self._coverage.pins and not self.policies.allows_all)

    async def unpin(self) -> None:
        await self.engine.delete(Bucket.PINS, "pin")
        await until(lambda: not self._coverage.pins)

    async def read(self, uri: str, *if_match: str, wish: Wish = ANY) -> tuple[str, bytes]:
        """Return the version and the bytes that a reader gets."""
        opened = await self.reads.open(UfsPath.parse(uri), if_match or None, wish=wish)
        return opened.info.etag, await body(opened)

    def count(self, *names: str) -> tuple[int, ...]:
        stats = self.reads.stats()
        return tuple(stats[name] for name in names)

    @property
    def _coverage(self):
        assert self.policies._inventories is not None
        return self.policies._inventories.coverage

    async def _put_block(self, inventory: Inventory, infos: Iterable[ObjectInfo]) -> None:
        if not inventory.first_keys:
            return
        head = BlockHead(first_key=inventory.first_keys[0], start=Position(), end=Position())
        block = stored_block(head, (pack(list(infos)),))
        await self.engine.put(Bucket.INVENTORY_BLOCKS, block_key(inventory.id, 0), block)


@asynccontextmanager
async def running() -> AsyncIterator[Worker]:
    worker = Worker()
    async with asyncio.timeout(SECONDS), worker.policies.following(worker.engine):
        yield worker
    await worker.reads.close()


async def body(opened: OpenedRead, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([bytes(page) async for page in opened.pages(start, opened.info.size if end is None else end)])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0)
