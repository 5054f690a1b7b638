"""Which inventories are kept: of each path the latest, and those that are pinned.

One that is not needed any more is retired first: nobody finds it from then on. Its blocks go a minute later, when those
who had begun to read it have ended, and its record last: whatever a crash leaves undone is found again.
"""

from __future__ import annotations

import asyncio
import time

from preheat.access import Role, authorize, caller
from preheat.coordinator._draft import drop_blocks
from preheat.coordinator._inventory import discard
from preheat.engine import Bucket, Engine
from preheat.errors import Conflict, EngineUnavailable, NotFound
from preheat.inventories import Inventories
from preheat.inventory import Inventory
from preheat.jobs import Job, JobState
from preheat.logs import get_logger
from preheat.paths import UfsPath
from preheat.views import BucketView

log = get_logger("coordinator")
_SWEEP_SECONDS = 30.0
_GRACE_SECONDS = 60.0


class InventoryUpkeep:
    """Retires and deletes inventories; every coordinator does, for none minds if another was first.

    Args:
        engine: keeps them.
        inventories: what there is.
        jobs: of those that did not succeed nothing is left.
    """

    def __init__(self, engine: Engine, inventories: Inventories, jobs: BucketView[Job]) -> None:
        self._engine = engine
        self._inventories = inventories
        self._jobs = jobs
        self._discarded: set[str] = set()

    async def run(self) -> None:
        """Look for what is not needed any more, until cancelled."""
        while True:
            try:
                await self.collect(time.time())
            except EngineUnavailable as error:
                log.warning("Tidying up waits for the engine.", action="upkeep_late", error=str(error))
            await asyncio.sleep(_SWEEP_SECONDS)

    async def collect(self, now: float) -> None:
        """Retire what was superseded, delete what was retired a minute ago, and drop what failed jobs left.

        Raises:
            EngineUnavailable: the engine does not answer; the next call goes on.
        """
        for inventory in self._inventories.coverage.superseded():
            await self._inventories.retire(inventory, now)
        for inventory in self._inventories.coverage.expired(now - _GRACE_SECONDS):
            await self._delete(inventory)
        for job, _ in self._jobs.values():
            failed = job.state.ended and job.state is not JobState.SUCCEEDED
            if failed and job.id not in self._discarded:
                await discard(self._engine, job)
                self._discarded.add(job.id)
        self._discarded &= {job.id for job, _ in self._jobs.values()}

    def list(self) -> list[Inventory]:
        """Return the inventories that the caller may see, the latest listing first."""
        coverage = self._inventories.coverage
        kept = (
            item for item in coverage.inventories.values() if item.retired_at is None or coverage.is_pinned(item.id)
        )
        seen = [item for item in kept if caller().covers(UfsPath.parse(item.path))]
        return sorted(seen, key=lambda item: (item.listed_at, item.id), reverse=True)

    async def remove(self, inventory_id: str) -> None:
        """Delete an inventory.

        Raises:
            NotFound: there is none of this id.
            Conflict: it is pinned.
            Forbidden: the caller's token is bound to other paths.
        """
        coverage = self._inventories.coverage
        inventory = coverage.inventories.get(inventory_id)
        if inventory is None or (inventory.retired_at is not None and not coverage.is_pinned(inventory_id)):
            raise NotFound(f"There is no inventory {inventory_id!r}.", remedy="List them with GET /v1/inventories.")
        authorize(caller(), Role.READ, [UfsPath.parse(inventory.path)])
        if coverage.is_pinned(inventory_id):
            raise Conflict(
                f"The inventory {inventory_id} of {inventory.path} is pinned.",
                remedy=f"Unpin it first: `preheat fs unpin {inventory.path}`.",
            )
        await self._inventories.retire(inventory, time.time())

    async def _delete(self, inventory: Inventory) -> None:
        await drop_blocks(self._engine, inventory.id)
        await self._engine.delete(Bucket.INVENTORIES, inventory.id)
        log.info("An inventory was deleted.", action="inventory_deleted", path=inventory.path, inventory=inventory.id)
