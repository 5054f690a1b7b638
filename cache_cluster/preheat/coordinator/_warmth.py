"""Warmth: how much of a dataset the live workers hold now, in exactly the versions that belong to it.

It fails closed. What a worker holds counts only if it said so up to the end of the listing and is still the same
process then; otherwise the count starts over without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from preheat.access import Role, authorize, caller
from preheat.coordinator._cached import CachedListing, CachedPage
from preheat.coordinator._catalog import OriginCatalog, patiently
from preheat.coordinator._comparison import Objects
from preheat.coordinator._heat import Heat, heat_of
from preheat.errors import Conflict, DeadlineExceeded, EngineUnavailable, Unavailable
from preheat.inventories import Inventories
from preheat.inventory import Inventory, covering_paths
from preheat.paths import UfsPath
from preheat.placement import Member
from preheat.ufs import UnderStore
from preheat.versions import DatasetVersion

_AT_ONCE = 4
"""Counts; more would take the time of the jobs that run."""
_ATTEMPTS = 2
"""Of one request to a worker: whoever waits for a dataset asks again anyway."""
_PAGE_OBJECTS = 4096
"""Objects asked of one worker at once."""
_NAMED = 5
"""Workers that do not answer and are named."""


class Source(StrEnum):
    """From what it is known which objects belong to a dataset."""

    VERSION = "version"  #: the inventory of the version that was asked for
    PIN = "pin"  #: that of the pinned version
    INVENTORY = "inventory"  #: the last one
    LISTING = "listing"  #: there is none: the under store was listed


@dataclass(frozen=True, kw_only=True, slots=True)
class Warmth:
    """How warm a dataset was found."""

    path: str
    version: str
    """Of the path as it is expected: ``sha256:…``."""
    source: Source
    inventory: Inventory | None
    """What is expected, unless it was listed."""
    heat: Heat
    silent: tuple[str, ...] = ()
    """Why each of the workers that did not answer does not count."""
    live: int
    """Workers that did."""

    @property
    def complete(self) -> bool:
        """Whether every live worker said what it holds, so that the rest is cold indeed."""
        return not self.silent and self.live > 0

    @property
    def reason(self) -> str:
        """Why it may be warmer than it seems, or cannot be warm; empty if there is nothing to say."""
        if not self.heat.expected.objects:
            return f"Nothing is listed at or below {self.path}."
        if not self.live and not self.silent:
            return "No worker is live."
        more = [f"and {len(self.silent) - _NAMED} more"] if len(self.silent) > _NAMED else []
        return " ".join([*self.silent[:_NAMED], *more])


class _Silent(Exception):
    """A worker did not say what it holds."""

    def __init__(self, worker: str, why: str) -> None:
        super().__init__(worker)
        self.worker = worker
        self.why = why


class WarmthMeter:
    """Counts what is hot.

    Args:
        ufs: is listed if no inventory says what belongs to a dataset.
        inventories: what was listed before.
        cached: asks a worker what it holds.
        members: the workers in the placement map, now.
        listing_attempts: tries of one request that the under store does not answer.
    """

    def __init__(
        self,
        *,
        ufs: UnderStore,
        inventories: Inventories,
        cached: CachedListing,
        members: Callable[[], Sequence[Member]],
        listing_attempts: int,
    ) -> None:
        self._catalog = OriginCatalog(ufs, attempts=listing_attempts)
        self._inventories = inventories
        self._cached = cached
        self._members = members
        self._gate = asyncio.Semaphore(_AT_ONCE)

    async def measure(self, uri: str, *, version: str = "", seconds: float) -> Warmth:
        """Count how much of a path is hot.

        Args:
            uri: the path.
            version: of which dataset version; by default of the pinned one, or else of what was listed last.
            seconds: how long it may take.

        Raises:
            Conflict: no inventory tells what that version is.
            Forbidden: the caller's token is bound to other paths.
            DeadlineExceeded: it took longer.
            EngineUnavailable: the inventory cannot be read now. Otherwise as :meth:`UnderStore.list`.
        """
        path = UfsPath.parse(uri)
        authorize(caller(), Role.READ, [path])
        source, inventory = self._expectation(str(path), version)
        try:
            async with asyncio.timeout(seconds), self._gate:
                return await self._measure(path, source, inventory)
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"path='{path}': what is hot was not counted within {seconds:g} s.",
                remedy="Allow more time, or look at a part of it.",
            ) from error

    def _expectation(self, uri: str, version: str) -> tuple[Source, Inventory | None]:
        if version:
            return Source.VERSION, self._of_version(uri, version)
        if pin := self._inventories.pin(uri):
            if inventory := self._inventories.pinned(pin):
                return Source.PIN, inventory
            raise EngineUnavailable(f"path='{uri}' is pinned to {pin.version}, which is not known here yet.")
        inventory = self._inventories.covering(uri)
        return (Source.INVENTORY, inventory) if inventory else (Source.LISTING, None)

    def _of_version(self, uri: str, version: str) -> Inventory:
        coverage, covering = self._inventories.coverage, set(covering_paths(uri))
        usable = [
            item
            for item in coverage.inventories.values()
            if item.path in covering and (item.retired_at is None or coverage.is_pinned(item.id))
        ]
        found = [item for item in usable if item.version == version]
        if found:
            return max(found, key=lambda item: item.listed_at)
        known = ", ".join(sorted({f"{item.version} of {item.path}" for item in usable}))
        raise Conflict(
            f"No inventory of {uri} is kept for {version}: a load has to have succeeded there, and be the last one or "
            "pinned.",
            remedy=f"There is {known}." if known else f"Load it first: `preheat job load --path {uri} --submit`.",
        )

    async def _measure(self, path: UfsPath, source: Source, inventory: Inventory | None) -> Warmth:
        silent: dict[str, str] = {}
        while True:
            version = DatasetVersion()
            asked = [member for member in self._members() if member.id not in silent]
            expected = _noted(self._expected(path, inventory), version)
            heat = await self._count(path, expected, asked, silent)
            if heat is not None and _processes(asked) <= _processes(self._members()):
                break
        return Warmth(
            path=str(path),
            version=str(version),
            source=source,
            inventory=inventory,
            heat=heat,
            silent=tuple(silent.values()),
            live=len(asked),
        )

    async def _count(
        self, path: UfsPath, expected: AsyncIterator[Objects], asked: Sequence[Member], silent: dict[str, str]
    ) -> Heat | None:
        """Count what some workers hold; none if one of them fell silent, which is noted then."""
        heat = None
        try:
            heat = await heat_of(expected, [self._held(member, path) for member in asked])
        except* _Silent as group:
            silent |= _reasons(group)
        return heat

    async def _expected(self, path: UfsPath, inventory: Inventory | None) -> AsyncIterator[Objects]:
        if inventory is not None:
            async for objects in self._inventories.pages(inventory, path):
                yield objects
            return
        async for page in self._catalog.pages(path, after=""):
            yield page.objects

    async def _held(self, member: Member, path: UfsPath) -> AsyncIterator[Objects]:
        after: str | None = ""
        while after is not None:
            page = await self._ask(member, path, after)
            yield page.objects
            after = page.next

    async def _ask(self, member: Member, path: UfsPath, after: str) -> CachedPage:
        try:
            return await patiently(
                lambda: self._cached.list(member.url, path, after=after, limit=_PAGE_OBJECTS), attempts=_ATTEMPTS
            )
        except Unavailable as error:
            raise _Silent(member.id, f"{member.id} does not say what it holds: {error.message}") from error


async def _noted(pages: AsyncIterator[Objects], version: DatasetVersion) -> AsyncIterator[Objects]:
    async for objects in pages:
        version.update(objects)
        yield objects


def _processes(members: Sequence[Member]) -> set[tuple[str, float]]:
    return {(member.id, member.started_at) for member in members}


def _reasons(group: BaseExceptionGroup[_Silent]) -> dict[str, str]:
    found = dict[str, str]()
    for error in group.exceptions:
        found |= _reasons(error) if isinstance(error, BaseExceptionGroup) else {error.worker: error.why}
    return found
