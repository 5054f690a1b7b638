"""The blocks of an inventory while its path is being listed.

What is written so far is found in the engine and nowhere else: a coordinator that takes a job over looks for the block
in which the listing cursor is, forgets what stands behind it, and goes on. Where the cursor is not, nothing is kept:
the inventory was given up, or the job began before there were any.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import count

from preheat.engine import Bucket, Engine, Entry
from preheat.inventory import BLOCK_OBJECTS, Block, BlockHead, Position, block_key, head_of, pack, stored_block
from preheat.versions import ObjectInfo

_BLOCKS_AT_ONCE = 16


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
        self._block: _OpenBlock | None = None
        self._given_up = False

    async def go_to(self, cursor: str) -> None:
        """Go on behind the key up to which the job's progress has the listing; an empty one is the beginning.

        What an earlier owner wrote behind it is dropped: the listing may be another one by now.
        """
        if not cursor:
            await drop_blocks(self._engine, self._id)
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
        self._block = _OpenBlock(number, block.head.first_key, block.head.start, entry.revision)
        self._block.take(objects)
        await self._write(self._block)  # from here on the earlier owner's next write is refused
        await drop_blocks(self._engine, self._id, first=number + 1)

    async def append(self, objects: Sequence[ObjectInfo]) -> None:
        """Write objects behind those that are there."""
        if self._end.objects + len(objects) > self._most:
            await self.give_up()
        while objects and not self._given_up:
            block = self._block
            if block is None or block.room == 0:
                block = self._block = self._begin(objects[0].key)
            taken, objects = objects[: block.room], objects[block.room :]
            block.take(taken)
            await self._write(block)

    async def end(self) -> None:
        """Note that the listing is at its end, which takes a block if nothing was listed."""
        if self._block is None and not self._given_up:
            await self._write(self._begin(""))

    async def give_up(self) -> None:
        """Keep nothing of the path."""
        if not self._given_up:
            self._given_up = True
            await drop_blocks(self._engine, self._id)

    @property
    def _end(self) -> Position:
        return self._block.end if self._block else Position()

    def _begin(self, first_key: str) -> _OpenBlock:
        return _OpenBlock(self._block.number + 1 if self._block else 0, first_key, self._end)

    async def _write(self, block: _OpenBlock) -> None:
        key = block_key(self._id, block.number)
        block.revision = await self._engine.put(Bucket.INVENTORY_BLOCKS, key, block.value, revision=block.revision)

    async def _stored(self, number: int) -> Entry | None:
        return await self._engine.get(Bucket.INVENTORY_BLOCKS, block_key(self._id, number))


class _OpenBlock:
    """The block that grows."""

    def __init__(self, number: int, first_key: str, start: Position, revision: int = 0) -> None:
        self.number = number
        self.revision = revision
        """Of what is written of it; 0 if nothing is."""
        self.end = start
        self._start = start
        self._first_key = first_key
        self._parts: tuple[bytes, ...] = ()

    @property
    def room(self) -> int:
        return BLOCK_OBJECTS - (self.end.objects - self._start.objects)

    def take(self, objects: Sequence[ObjectInfo]) -> None:
        self.end = self.end.after(objects)
        self._parts += (pack(objects),)

    @property
    def value(self) -> bytes:
        head = BlockHead(first_key=self._first_key, start=self._start, end=self.end)
        return stored_block(head, self._parts)


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
