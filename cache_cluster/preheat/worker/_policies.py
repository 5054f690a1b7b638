"""What a worker has to know about paths besides their objects: mounts, pins, and what jobs have listed.

Reads need it at hand, and never wait for the records; only the objects of an inventory are read when they are needed.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from preheat.engine import Bucket, Engine
from preheat.errors import ObjectNotFound, StoreError, Unavailable, VersionChanged
from preheat.inventories import Inventories
from preheat.inventory import Block, Coverage, Inventory, Pin, covering_paths
from preheat.logs import get_logger
from preheat.mounts import Freshness, Mount, MountTable
from preheat.paths import UfsPath
from preheat.store import PageStore
from preheat.versions import ObjectInfo
from preheat.views import BucketView
from preheat.worker._kept_policies import Kept, KeptPolicies
from preheat.writes import HELD_PREFIX

log = get_logger("worker")


class Policies:
    """Knows the mounts and pins of the last run until :meth:`following` has those that there are.

    While the engine is away, those known last hold.

    Args:
        store: keeps the copies of what is pinned from eviction; none if it holds none.
        file: keeps the mounts and pins for the next run; none forgets them.
    """

    def __init__(self, store: PageStore | None = None, *, file: Path | None = None) -> None:
        self._store = store
        self._kept = KeptPolicies(file)
        self._pins_kept = Coverage((), self._kept.known.pins)
        self._mounts: Sequence[Mount] = self._kept.known.mounts
        self._inventories: Inventories | None = None
        self._by_version: tuple[Coverage, dict[str, list[Inventory]]] = (Coverage(), {})
        self.mounts = MountTable(self._mounts)
        self.mounts_loaded = asyncio.Event()
        """Set once the mounts are those that there are."""
        self.allows_all = self.mounts.checks_nothing and not self._kept.known.pins
        """Whether readers who wish nothing may have any copy: no mount asks for more, and nothing is pinned."""

    @asynccontextmanager
    async def following(self, engine: Engine) -> AsyncIterator[None]:
        """Keep what is known current while the block runs."""
        mounts, inventories = BucketView(engine, Bucket.MOUNTS, Mount), Inventories(engine)
        self._inventories = inventories
        for view in (mounts, inventories.pins):
            view.listeners.add(lambda _: self._changed(mounts, inventories))
        async with asyncio.TaskGroup() as tasks:
            following = [
                tasks.create_task(mounts.follow()),
                tasks.create_task(inventories.follow()),
                tasks.create_task(self._load(mounts, inventories)),
            ]
            try:
                yield
            finally:
                for task in following:
                    task.cancel()

    def bound(self, uri: str, version: str = "") -> Inventory | None:
        """Return the inventory that says which version of an object may be read; none if any may.

        Args:
            uri: the object, or what is listed.
            version: the dataset version that the reader wants; empty is any.

        Raises:
            VersionChanged: the path is pinned to another version, or no job that is known listed this one.
            ObjectNotFound: its mount is pinned, and no job has listed it.
            Unavailable: what it is pinned to is not known here yet.
        """
        pin = self.pin(uri)
        if pin is not None:
            if version not in {"", pin.version}:
                raise _not_that_version(uri, version, f"it is pinned to {pin.version}")
            return self._pinned(uri, pin)
        if version:
            return self._of_version(uri, version)
        if self.mounts.of(uri).freshness is Freshness.PINNED:
            return self._latest(uri)
        return None

    def pin(self, uri: str) -> Pin | None:
        """Return the pin that covers a URI."""
        known = self._inventories
        return known.pin(uri) if known and known.pins.loaded.is_set() else self._pins_kept.pin(uri)

    def pinned(self, uri: str) -> Inventory | None:
        """Return the inventory of the pin that covers a URI; raises Unavailable as :meth:`bound`."""
        pin = self.pin(uri)
        return None if pin is None else self._pinned(uri, pin)

    def mounts_at(self, uri: str) -> list[Mount]:
        """Return the mount that covers a URI, and those below it."""
        return [self.mounts.of(uri), *(mount for mount in self._mounts if mount.path.startswith(uri))]

    def listing(self, uri: str) -> Inventory | None:
        """Return what is known of the latest listing of which a URI was a part."""
        return self._inventories.covering(uri) if self._inventories else None

    async def find(self, inventory: Inventory, path: UfsPath) -> ObjectInfo | None:
        """Return one object as it was listed; none if it was not there. Raises as ``Inventories.find``."""
        return await self._known().find(inventory, path)

    async def block(self, inventory: Inventory, key: str) -> Block | None:
        """Return the part of an inventory that has a key if any has; raises as ``Inventories.block``."""
        return await self._known().block(inventory, key)

    async def objects(self, inventory: Inventory, path: UfsPath, *, after: str, limit: int) -> list[ObjectInfo]:
        """Return objects at and below a path as they were listed; raises as ``Inventories.objects``."""
        return await self._known().objects(inventory, path, after=after, limit=limit)

    async def forget_listings(self, uri: str) -> None:
        """Let no listing be answered any more from what was listed before something at a path was written.

        What is being listed now will not be kept, either. Pins go on knowing their versions. To be called when the
        write is there, before it is acknowledged.

        Raises:
            EngineUnavailable: nobody else could be told.
        """
        if self._inventories is not None:
            await self._inventories.forget_listings(uri)

    def _pinned(self, uri: str, pin: Pin) -> Inventory:
        inventory = self._known().pinned(pin)
        if inventory is None:
            raise Unavailable(f"path='{uri}' is pinned to {pin.version}, which is not known here yet.")
        return inventory

    def _of_version(self, uri: str, version: str) -> Inventory:
        paths = frozenset(covering_paths(uri))
        found = [item for item in self._versions().get(version, ()) if item.path in paths]
        if not found:
            raise _not_that_version(uri, version, "no job that is known listed it")
        return found[0]

    def _latest(self, uri: str) -> Inventory:
        inventory = self.listing(uri)
        if inventory is None:
            raise ObjectNotFound(
                f"path='{uri}' is mounted as pinned, and no job has listed it yet.",
                remedy="Load it with `preheat job load --submit`.",
            )
        return inventory

    def _versions(self) -> dict[str, list[Inventory]]:
        coverage = self._inventories.coverage if self._inventories else self._by_version[0]
        if coverage is not self._by_version[0]:
            by_version: dict[str, list[Inventory]] = defaultdict(list)
            for item in coverage.inventories.values():
                by_version[item.version].append(item)
            self._by_version = coverage, by_version
        return self._by_version[1]

    def _known(self) -> Inventories:
        if self._inventories is None:
            raise Unavailable("What jobs have listed is not known here yet.", remedy="Try again.")
        return self._inventories

    async def _load(self, mounts: BucketView[Mount], inventories: Inventories) -> None:
        """Once all mounts and pins are known, let them take the place of those of the last run."""
        await mounts.loaded.wait()
        await inventories.pins.loaded.wait()
        self._changed(mounts, inventories)
        self.mounts_loaded.set()

    def _changed(self, mounts: BucketView[Mount], inventories: Inventories) -> None:
        if not (mounts.loaded.is_set() and inventories.pins.loaded.is_set()):
            return
        self._mounts = tuple(mount for mount, _ in mounts.values())
        self.mounts = MountTable(self._mounts)
        pins = tuple(inventories.coverage.pins.values())
        self.allows_all = self.mounts.checks_nothing and not pins
        paths = {pin.path for pin in pins}
        self._keep(paths)
        self._keep_no_more(paths)
        self._kept.keep(Kept(mounts=self._mounts, pins=pins))

    def _keep(self, prefixes: set[str]) -> None:
        """Keep what starts with some prefixes from eviction; of an object's path that is more than the object."""
        if self._store is None:
            return
        for prefix in sorted(prefixes.difference(self._store.pins())):
            with _logged_faults(prefix):
                self._store.pin(prefix)

    def _keep_no_more(self, wanted: set[str]) -> None:
        if self._store is None:
            return
        for prefix in set(self._store.pins()) - wanted - {HELD_PREFIX}:
            with _logged_faults(prefix):
                self._store.unpin(prefix)


@contextmanager
def _logged_faults(prefix: str) -> Iterator[None]:
    """Let a disk that cannot note a pin keep nobody from reading."""
    try:
        yield
    except StoreError as error:
        log.warning("A pin could not be noted.", action="pin_failed", path=prefix, error=str(error))


def _not_that_version(uri: str, version: str, why: str) -> VersionChanged:
    return VersionChanged(
        f"path='{uri}' cannot be read as the dataset version {version[:80]!r}: {why}.",
        remedy="Pin that version with `preheat fs pin`, or read without X-Preheat-Version.",
    )
