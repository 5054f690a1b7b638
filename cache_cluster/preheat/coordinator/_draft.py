"""The blocks of an inventory while its path is being listed.

What is written so far is found in the engine and nowhere else: a coordinator that takes a job over looks for the block
in which the listing cursor is, forgets what stands behind it, and goes on. Where the cursor is not, nothing is kept:
the inventory was given up, or the job began before there were any.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Self

from preheat.engine import Bucket, Engine, Entry
from preheat.inventory import BLOCK_OBJECTS, Block, BlockHead, block_key, head_of, pack, stored_block
from preheat.versions import DatasetVersion, ObjectInfo

_BLOCKS_AT_ONCE = 16


@dataclass
class Totals:
    """What the objects up to some point of a listing amount to."""

    objects: int
    bytes: int
    version: DatasetVersion

    @classmethod
    def before(cls, head: BlockHead) -> Self:
        """Return those up to the beginning of a block."""
        return cls(head.objects, head.bytes, DatasetVersion(head.version))

    @classmethod
    def behind(cls, block: Block) -> Self:
        """Return those up to the end of a block."""
        totals = cls.before(block.head)
        totals.add(block.objects())
        return totals

    def add(self, objects: Sequence[ObjectInfo]) -> None:
        """Count the objects that come next."""
        self.objects += len(objects)
        self.bytes += sum(item.size for item in objects)
        self.version.update(objects)


class Draft:
    """Writes the blocks of one path.

    Only one coordinator does: each write says which one it follows, so that an owner that was replaced without knowing
    it is refused with Conflict.

    Args:
        engine: keeps them.
        inventory_id: whose they are.
        most: objects at most; when there are more, nothing is kept.
    """

    def __init__(self, engine: Engine, inventory_id: str, *, most: int) -> None:
        self._engine = engine
        self._id = inventory_id
        self._most = most
        self._totals = Totals(0, 0, DatasetVersion())
        self._block: _OpenBlock | None = None
        self._given_up = False

    async def go_to(self, cursor: str) -> None:
        """Go on behind the key up to which the job's progress has the listing; an empty one is the beginning."""
        if not cursor:
            return

        async def begins_before(number: int) -> bool:
            entry = await self._stored(number)
            return entry is not None and head_of(entry.value or b"").first_key <= cursor

        number = await _last(begins_before)
        entry = await self._stored(number)
        block = Block(entry.value) if entry and entry.value else None
        objects = block.up_to(cursor) if block else []
        if entry is None or block is None or not objects or objects[-1].key != cursor:
            await self.give_up()
            return
        self._totals = Totals.before(block.head)
        self._totals.add(objects)
        self._block = _OpenBlock(number, entry.revision, block.head)
        self._block.take(objects)
        await self._write(self._block)  # without what stood behind, and the earlier owner's next write is refused

    async def append(self, objects: Sequence[ObjectInfo]) -> None:
        """Write objects behind those that are there."""
        if self._totals.objects + len(objects) > self._most:
            await self.give_up()
        while objects and not self._given_up:
            block = self._block
            if block is None or block.count == BLOCK_OBJECTS:
                block = self._block = await self._begin(objects[0].key)
            taken = objects[: BLOCK_OBJECTS - block.count]
            objects = objects[len(taken) :]
            block.take(taken)
            self._totals.add(taken)
            await self._write(block)

    async def end(self) -> None:
        """Drop what an earlier owner wrote behind the end of the listing; of an empty one note that it is."""
        if self._given_up:
            return
        if self._block is None:
            self._block = await self._begin("")
            await self._write(self._block)
        await drop_blocks(self._engine, self._id, first=self._block.number + 1)

    async def give_up(self) -> None:
        """Keep nothing of the path."""
        if not self._given_up:
            self._given_up = True
            await drop_blocks(self._engine, self._id)

    async def _begin(self, first_key: str) -> _OpenBlock:
        number = self._block.number + 1 if self._block else 0
        earlier = await self._stored(number)
        head = BlockHead(
            objects=self._totals.objects,
            bytes=self._totals.bytes,
            version=self._totals.version.state,
            first_key=first_key,
        )
        return _OpenBlock(number, earlier.revision if earlier else 0, head)

    async def _write(self, block: _OpenBlock) -> None:
        key = block_key(self._id, block.number)
        block.revision = await self._engine.put(Bucket.INVENTORY_BLOCKS, key, block.value, revision=block.revision)

    async def _stored(self, number: int) -> Entry | None:
        return await self._engine.get(Bucket.INVENTORY_BLOCKS, block_key(self._id, number))


@dataclass
class _OpenBlock:
    """The block that grows."""

    number: int
    revision: int
    """Of what is written of it; 0 if nothing is."""
    head: BlockHead
    count: int = 0
    parts: tuple[bytes, ...] = ()

    def take(self, objects: Sequence[ObjectInfo]) -> None:
        self.count += len(objects)
        self.parts += (pack(objects),)

    @property
    def value(self) -> bytes:
        return stored_block(self.head, self.parts)


async def read_blocks(engine: Engine, inventory_id: str) -> AsyncIterator[bytes]:
    """Yield what is kept of each block of an inventory, in order."""
    for first in count(0, _BLOCKS_AT_ONCE):
        keys = (block_key(inventory_id, number) for number in range(first, first + _BLOCKS_AT_ONCE))
        for entry in await asyncio.gather(*(engine.get(Bucket.INVENTORY_BLOCKS, key) for key in keys)):
            if entry is None or entry.value is None:
                return
            yield entry.value


async def drop_blocks(engine: Engine, inventory_id: str, *, first: int = 0) -> None:
    """Delete the blocks from the ``first`` on, the last one before the others: what a crash leaves has no gap."""

    async def exists(number: int) -> bool:
        return await engine.get(Bucket.INVENTORY_BLOCKS, block_key(inventory_id, first + number)) is not None

    keys = [block_key(inventory_id, first + number) for number in range(await _last(exists) + 1)]
    while keys:
        await asyncio.gather(*(engine.delete(Bucket.INVENTORY_BLOCKS, key) for key in keys[-_BLOCKS_AT_ONCE:]))
        del keys[-_BLOCKS_AT_ONCE:]


async def _last(holds: Callable[[int], Awaitable[bool]]) -> int:
    """Return the last number of which something holds, as it does of all before it; -1 if it does not hold of 0."""
    last, step = -1, 1
    while await holds(last + step):
        last, step = last + step, 2 * step
    beyond = last + step
    while beyond - last > 1:
        middle = (last + beyond) // 2
        if await holds(middle):
            last = middle
        else:
            beyond = middle
    return last
