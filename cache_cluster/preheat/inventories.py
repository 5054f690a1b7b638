"""The inventories that jobs left in the engine, and the pins: what is known of datasets without asking the under store.

Their records are followed, so that to find the one that covers a path costs no round trip; their objects are in blocks
that are read when they are asked for. Those read last are kept unpacked.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import replace

import msgspec

from preheat.engine import Bucket, Engine, Entry
from preheat.errors import Conflict, EngineUnavailable
from preheat.inventory import BLOCK_OBJECTS, Block, Coverage, Inventory, Pin, block_key
from preheat.paths import UfsPath
from preheat.ufs import Selection
from preheat.versions import ObjectInfo
from preheat.views import BucketView

_CACHED_BLOCKS = 32
"""Unpacked ones: 1.4 MB each with keys of 60 characters."""


class Inventories:
    """Finds inventories and pins, and reads their objects.

    While the engine is away, the records known last hold; objects can be read as far as their blocks are kept here.

    Args:
        engine: keeps them.
        cached_blocks: how many unpacked blocks are kept.
    """

    def __init__(self, engine: Engine, *, cached_blocks: int = _CACHED_BLOCKS) -> None:
        self._engine = engine
        self._blocks = _Blocks(engine, cached_blocks)
        self._records = BucketView(engine, Bucket.INVENTORIES, Inventory)
        self._pins = BucketView(engine, Bucket.PINS, Pin)
        self._coverage: Coverage | None = None
        for view in (self._records, self._pins):
            view.listeners.add(self._changed)

    async def follow(self) -> None:
        """Watch the records until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._records.follow())
            tasks.create_task(self._pins.follow())

    async def wait_loaded(self) -> None:
        """Return when the records that were there at the start are known."""
        await self._records.loaded.wait()
        await self._pins.loaded.wait()

    @property
    def records(self) -> BucketView[Inventory]:
        """The records of the inventories, for their writers."""
        return self._records

    @property
    def pins(self) -> BucketView[Pin]:
        """The records of the pins, for their writers and for those who have to know of a change."""
        return self._pins

    @property
    def coverage(self) -> Coverage:
        """What there is now; the next change makes another one."""
        if self._coverage is None:
            self._coverage = Coverage(
                (item for item, _ in self._records.values()), (pin for pin, _ in self._pins.values())
            )
        return self._coverage

    def covering(self, uri: str) -> Inventory | None:
        """Return the inventory of the latest listing of which a URI was a part."""
        return self.coverage.latest(uri)

    def pin(self, uri: str) -> Pin | None:
        """Return the pin that covers a URI; of several the one of the longest path."""
        return self.coverage.pin(uri)

    def pinned(self, pin: Pin) -> Inventory | None:
        """Return the inventory of a pin; none while its record is on its way here."""
        return self.coverage.inventories.get(pin.inventory)

    async def forget_listings(self, uri: str) -> None:
        """Retire what was listed, or is being listed, of which a URI is a part: something was written there.

        Raises:
            EngineUnavailable: nobody else could be told.
        """
        for item in self.coverage.current(uri):
            await self.retire(item, time.time())

    async def retire(self, inventory: Inventory, now: float) -> None:
        """Let nobody find an inventory any more but its pin; coordinators delete it a minute later.

        Raises:
            EngineUnavailable: nobody else could be told.
        """
        while entry := await self._engine.get(Bucket.INVENTORIES, inventory.id):
            known = msgspec.json.decode(entry.value or b"", type=Inventory)
            if known.retired_at is not None:
                return
            value = msgspec.json.encode(replace(known, retired_at=now))
            try:
                revision = await self._engine.put(Bucket.INVENTORIES, known.id, value, revision=entry.revision)
            except Conflict:  # it has just become whole, or was retired: neither happens twice
                continue
            self._records.apply(Entry(key=known.id, value=value, revision=revision))
            return

    async def find(self, inventory: Inventory, path: UfsPath) -> ObjectInfo | None:
        """Return one object as it was listed; none if it was not there.

        Raises:
            EngineUnavailable: its block cannot be read now, or the inventory was deleted meanwhile.
        """
        block = await self.block(inventory, path.key)
        return block.find(path.key) if block else None

    async def block(self, inventory: Inventory, key: str) -> Block | None:
        """Return the block that has a key if any has, none if there are none; raises as :meth:`find`."""
        return await self._blocks.get(inventory, inventory.block_of(key)) if inventory.first_keys else None

    async def objects(self, inventory: Inventory, path: UfsPath, *, after: str = "", limit: int) -> list[ObjectInfo]:
        """Return the first ``limit`` objects at and below a path whose key is greater than ``after``.

        They are those that :meth:`preheat.ufs.UnderStore.list` listed then, in its order.

        Raises:
            EngineUnavailable: as :meth:`find`.
        """
        left, found = Selection.of(path, after), list[ObjectInfo]()
        if left.exact is not None and (item := await self.find(inventory, path)):
            found.append(item)
        if left.prefix is not None:
            found += await self._below(inventory, left.prefix, after=left.start_after, limit=limit - len(found))
        return found[:limit]

    async def pages(self, inventory: Inventory, path: UfsPath) -> AsyncIterator[list[ObjectInfo]]:
        """Yield all objects at and below a path, a block's worth at a time.

        Raises:
            EngineUnavailable: as :meth:`find`.
        """
        after = ""
        while page := await self.objects(inventory, path, after=after, limit=BLOCK_OBJECTS):
            yield page
            after = page[-1].key

    async def _below(self, inventory: Inventory, prefix: str, *, after: str, limit: int) -> list[ObjectInfo]:
        found, first = list[ObjectInfo](), inventory.block_of(max(prefix, after))
        for number, first_key in enumerate(inventory.first_keys[first:], start=first):
            beyond = first_key > prefix and not first_key.startswith(prefix)
            if beyond or len(found) >= limit:
                break
            block = await self._blocks.get(inventory, number)
            found += block.below(prefix, after=after, limit=limit - len(found))
        return found

    def _changed(self, _: str) -> None:
        self._coverage = None


class _Blocks:
    """Reads blocks, each once for all who want it at the same time, and keeps those that were used last."""

    def __init__(self, engine: Engine, most: int) -> None:
        self._engine = engine
        self._most = most
        self._kept: OrderedDict[str, asyncio.Task[Block]] = OrderedDict()

    async def get(self, inventory: Inventory, number: int) -> Block:
        key = block_key(inventory.id, number)
        reading = self._kept.get(key)
        if reading is None:
            reading = self._kept[key] = asyncio.create_task(self._read(inventory, key))
            reading.add_done_callback(lambda ended: self._ended(key, ended))
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return reading.result() if reading.done() else await asyncio.shield(reading)

    def _ended(self, key: str, reading: asyncio.Task[Block]) -> None:
        if (reading.cancelled() or reading.exception()) and self._kept.get(key) is reading:
            del self._kept[key]

    async def _read(self, inventory: Inventory, key: str) -> Block:
        entry = await self._engine.get(Bucket.INVENTORY_BLOCKS, key)
        if entry is None or entry.value is None:
            raise EngineUnavailable(
                f"The inventory {inventory.id} of {inventory.path} was deleted meanwhile.", remedy="Try again."
            )
        return Block(entry.value)
