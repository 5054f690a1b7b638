"""The inventories that load jobs leave: the pages of each path go into blocks as they are listed.

Blocks without a record are nobody's. The record is written when the job has succeeded, so that an inventory is visible
whole or not at all; what it says is read from the blocks, whichever coordinators wrote them.
"""

from __future__ import annotations

import msgspec

from preheat.coordinator._catalog import Page
from preheat.coordinator._draft import Draft, Totals, drop_blocks, read_blocks
from preheat.engine import Bucket, Engine, Entry
from preheat.inventories import Inventories
from preheat.inventory import BLOCK_OBJECTS, Block, BlockHead, Inventory, head_of
from preheat.jobs import Action, Job, JobSpec, JobType
from preheat.logs import get_logger
from preheat.paths import UfsPath
from preheat.planning import passes
from preheat.versions import DatasetVersion

log = get_logger("coordinator")
MAX_PATHS = 100
"""Paths of one job at most that leave inventories."""
_MAX_INDEX_BYTES = 4 << 20
"""Of the first keys of all blocks: the engine takes 8 MiB in one value."""


def leaves_inventories(spec: JobSpec) -> bool:
    """Whether what a job lists is all that there is below its paths."""
    part = spec.index or spec.retry_of or spec.options.file_filter_regex
    return spec.type is JobType.LOAD and not part and spec.parts <= MAX_PATHS


class InventoryWriter:
    """Writes the inventories of one job, on behalf of its owner.

    Args:
        engine: keeps them.
        inventories: is told of what was written.
        most: objects of one inventory at most; of a larger listing none is kept.
    """

    def __init__(self, engine: Engine, inventories: Inventories, *, most: int) -> None:
        self._engine = engine
        self._inventories = inventories
        self._most = most
        self._draft: Draft | None = None

    async def add(self, job: Job, action: Action, page: Page | None) -> None:
        """Write a page, or note the end of a path, before the job's progress has it.

        Raises:
            Conflict: another coordinator took the job over.
            EngineUnavailable: the engine does not answer.
        """
        if action is not passes(job.spec)[0] or not leaves_inventories(job.spec):
            return
        if self._draft is None:
            self._draft = Draft(self._engine, inventory_id(job, job.work.path_index), most=self._most)
            await self._draft.go_to(job.work.cursor)
        if page is None:
            await self._draft.end()
            self._draft = None
        elif page.missing:
            await self._draft.give_up()
        else:
            await self._draft.append(page.objects)

    async def publish(self, job: Job) -> str:
        """Make the inventories of a job that is about to have succeeded visible; return which are not kept, and why.

        May be done again.
        """
        if not leaves_inventories(job.spec):
            return ""
        without = list[str]()
        for number, uri in enumerate(job.spec.paths):
            inventory = await self._described(job, number, str(UfsPath.parse(uri)))
            if inventory is None:
                await drop_blocks(self._engine, inventory_id(job, number))
                without.append(uri)
            else:
                await self._record(inventory)
        if not without:
            return ""
        return f"No inventory is kept of {', '.join(without)}: it is not whole, or has over {self._most:,} objects."

    async def _described(self, job: Job, number: int, uri: str) -> Inventory | None:
        """Return what the blocks of a path amount to; none if they are not whole."""
        heads, last = list[BlockHead](), b""
        async for value in read_blocks(self._engine, inventory_id(job, number)):
            heads.append(head_of(value))
            last = value
        in_order = all(head.objects == BLOCK_OBJECTS * place for place, head in enumerate(heads))
        if not heads or not in_order or sum(len(head.first_key) for head in heads) > _MAX_INDEX_BYTES:
            return None
        totals = Totals.behind(Block(last))
        if job.spec.parts == 1 and totals.version.state != (job.work.version or DatasetVersion().state):
            return None
        return Inventory(
            id=inventory_id(job, number),
            path=uri,
            version=str(totals.version),
            objects=totals.objects,
            bytes=totals.bytes,
            listed_at=job.started_at or job.submitted_at,
            job_id=job.id,
            first_keys=tuple(head.first_key for head in heads),
        )

    async def _record(self, inventory: Inventory) -> None:
        value = msgspec.json.encode(inventory)
        revision = await self._engine.put(Bucket.INVENTORIES, inventory.id, value)
        self._inventories.records.apply(Entry(key=inventory.id, value=value, revision=revision))
        log.info("A listing is known.", action="inventory_kept", path=inventory.path, objects=inventory.objects)


def inventory_id(job: Job, number: int) -> str:
    """Return the id of the inventory of one of a job's paths."""
    return f"{job.id}-{number}"


async def discard(engine: Engine, job: Job) -> None:
    """Drop what a job wrote that has not succeeded. May be done again."""
    for number in range(job.spec.parts if leaves_inventories(job.spec) else 0):
        key = inventory_id(job, number)
        if await engine.get(Bucket.INVENTORIES, key):  # it was about to succeed when its owner died
            await engine.delete(Bucket.INVENTORIES, key)
        await drop_blocks(engine, key)
