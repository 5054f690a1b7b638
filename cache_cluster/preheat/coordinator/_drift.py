"""Drift: what the under store has now beside what a job listed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from preheat.access import Role, authorize, caller
from preheat.coordinator._catalog import OriginCatalog
from preheat.coordinator._comparison import Comparison, Objects, side_by_side
from preheat.errors import DeadlineExceeded, NotFound
from preheat.inventories import Inventories
from preheat.inventory import Inventory
from preheat.paths import UfsPath
from preheat.ufs import UnderStore

_AT_ONCE = 2
"""Listings for drift; more would take the time of the jobs that run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """What was compared, and how it came out."""

    path: str
    inventory: Inventory
    pinned: bool
    comparison: Comparison


class DriftFinder:
    """Compares paths with their inventories.

    Args:
        ufs: is listed.
        inventories: what was listed before.
        listing_attempts: tries of one request that the under store does not answer.
    """

    def __init__(self, *, ufs: UnderStore, inventories: Inventories, listing_attempts: int) -> None:
        self._catalog = OriginCatalog(ufs, attempts=listing_attempts)
        self._inventories = inventories
        self._gate = asyncio.Semaphore(_AT_ONCE)

    async def find(self, uri: str, *, limit: int, seconds: float) -> Drift:
        """List a path and compare it with what is pinned there, or else with what was listed last.

        Args:
            uri: the path.
            limit: how many changes are named.
            seconds: how long it may take.

        Raises:
            NotFound: no job that is known has listed the path.
            Forbidden: the caller's token is bound to other paths.
            DeadlineExceeded: it took longer.
            EngineUnavailable: the inventory cannot be read now. Otherwise as :meth:`UnderStore.list`.
        """
        path = UfsPath.parse(uri)
        authorize(caller(), Role.READ, [path])
        pin = self._inventories.pin(str(path))
        inventory = self._inventories.pinned(pin) if pin else self._inventories.covering(str(path))
        if inventory is None:
            raise self._unknown(path)
        comparison = Comparison(limit=limit)
        try:
            async with asyncio.timeout(seconds), self._gate:
                async for old, new in side_by_side(self._inventories.pages(inventory, path), self._present(path)):
                    comparison.add(old, new)
                    await asyncio.sleep(0)  # others' turn, even if the listing never waits
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"path='{path}' was not compared within {seconds:g} s.",
                remedy="Allow more time, or look at a part of it.",
            ) from error
        return Drift(path=str(path), inventory=inventory, pinned=pin is not None, comparison=comparison)

    def _unknown(self, path: UfsPath) -> NotFound:
        below = f"{path}/"
        if not path.key.endswith("/") and self._inventories.covering(below):
            return NotFound(f"path='{path}': what was listed is below '{below}'.", remedy="Write the slash.")
        return NotFound(
            f"path='{path}': no load that is known has listed it.",
            remedy=f"`preheat job load --path {path} --metadata-only --submit` notes what is there now.",
        )

    async def _present(self, path: UfsPath) -> AsyncIterator[Objects]:
        async for page in self._catalog.pages(path, after=""):
            yield page.objects
