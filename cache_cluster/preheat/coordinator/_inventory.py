"""The inventories that load jobs leave: the pages of each path go into blocks as they are listed.

The record says first that a path is being listed, and when the job has succeeded that the inventory is whole: only then
is it visible. What it says is read from the blocks, whichever coordinators wrote them.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import msgspec

from preheat.coordinator._catalog import Page
from preheat.coordinator._draft import Draft, drop_blocks, read_blocks
from preheat.engine import Bucket, Engine, Entry
from preheat.errors import Conflict
from preheat.inventories import Inventories
from preheat.inventory import Inventory, head_of
from preheat.jobs import Action, Job, JobSpec, JobState, JobType
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

    async def begin(self, job: Job) -> None:
        """Let those who write know that a job lists its paths from now on; for one that was taken over they know.

        Raises:
            EngineUnavailable: the engine does not answer.
        """
        for number, uri in enumerate(job.spec.paths if leaves_inventories(job.spec) else ()):
            begun = Inventory(
                id=inventory_id(job, number),
                path=str(UfsPath.parse(uri)),
                version="",
                objects=0,
                bytes=0,
                listed_at=job.started_at or job.submitted_at,
                job_id=job.id,
                first_keys=(),
                listing=True,
            )
            with suppress(Conflict):  # an earlier owner was first
                await self._engine.put(Bucket.INVENTORIES, begun.id, msgspec.json.encode(begun), revision=0)

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

    async def conclude(self, job: Job, state: JobState, reason: str) -> str:
        """Make the inventories of a job visible that is about to have succeeded; it may be done again.

        Returns:
            The reason of the job's state, and which inventories are not kept.

        Raises:
            EngineUnavailable: the engine does not answer.
        """
        if state is not JobState.SUCCEEDED or not leaves_inventories(job.spec):
            return reason
        without = list[str]()
        for number, uri in enumerate(job.spec.paths):
            if not await self._record(job, number):
                await _discard(self._engine, inventory_id(job, number))
                without.append(uri)
        if not without:
            return reason
        note = (
            f"No inventory is kept of {', '.join(without)}: it has over {self._most:,} objects, or was written to or "
            "pinned otherwise meanwhile."
        )
        return f"{reason} {note}".lstrip()

    async def _record(self, job: Job, number: int) -> bool:
        """Write that an inventory is whole; false if it is not, or was retired while it was listed."""
        entry = await self._engine.get(Bucket.INVENTORIES, inventory_id(job, number))
        if entry is None or entry.value is None:
            return False
        begun = msgspec.json.decode(entry.value, type=Inventory)
        if not begun.listing:  # an earlier owner was here, and died before the job's record said so
            return True
        whole = await self._whole(job, begun) if begun.retired_at is None else None
        if whole is None:
            return False
        value = msgspec.json.encode(whole)
        try:
            revision = await self._engine.put(Bucket.INVENTORIES, whole.id, value, revision=entry.revision)
        except Conflict:  # it was retired at this moment
            return False
        self._inventories.records.apply(Entry(key=whole.id, value=value, revision=revision))
        log.info("A listing is known.", action="inventory_kept", path=whole.path, objects=whole.objects)
        return True

    async def _whole(self, job: Job, begun: Inventory) -> Inventory | None:
        """Return what the blocks of an inventory amount to; none if they are not whole."""
        heads = [head_of(value) async for value in read_blocks(self._engine, begun.id)]
        joined = all(head.end == following.start for head, following in pairwise(heads))
        if not heads or not joined or sum(len(head.first_key) for head in heads) > _MAX_INDEX_BYTES:
            return None
        end = heads[-1].end
        version = DatasetVersion(end.version)  # of what was planned, unless an owner that was replaced wrote last
        if job.spec.parts == 1 and version.state != DatasetVersion(job.work.version).state:
            return None
        return replace(
            begun,
            version=str(version),
            objects=end.objects,
            bytes=end.bytes,
            first_keys=tuple(head.first_key for head in heads),
            listing=False,
        )


def inventory_id(job: Job, number: int) -> str:
    """Return the id of the inventory of one of a job's paths."""
    return f"{job.id}-{number}"


async def discard(engine: Engine, job: Job) -> None:
    """Drop what a job wrote that has not succeeded. May be done again."""
    for number in range(job.spec.parts if leaves_inventories(job.spec) else 0):
        await _discard(engine, inventory_id(job, number))


async def _discard(engine: Engine, key: str) -> None:
    """Drop the blocks of an inventory that nobody has read, and then its record: what a crash leaves is found by it."""
    await drop_blocks(engine, key)
    if await engine.get(Bucket.INVENTORIES, key):
        await engine.delete(Bucket.INVENTORIES, key)
