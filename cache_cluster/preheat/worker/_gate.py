"""Which version of an object a reader may be given: what is cached, what the under store has now, or a pinned one.

All ways of reading go through here, so that none of them serves what another would not.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from preheat.errors import ObjectNotFound, VersionChanged
from preheat.inventory import Inventory
from preheat.paths import UfsPath
from preheat.store import CachedObject
from preheat.versions import ObjectInfo
from preheat.worker._checks import Checks
from preheat.worker._freshness import NotCached, Verdict, Wish, judge, lifetime
from preheat.worker._pinned_versions import PinnedVersions
from preheat.worker._policies import Policies

ETags = tuple[str, ...] | None
"""The versions that a reader accepts; none is any."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What a reader may be given."""

    etags: ETags
    """Of the versions; none is any."""
    info: ObjectInfo | None = None
    """The only version, if it is known."""
    pinned: bool = False
    """Whether it is one that is bound to a dataset version, rather than the present one."""

    def accept(self, item: CachedObject) -> bool:
        """Whether a copy is one of them."""
        if self.info is not None:
            return (item.etag, item.size) == (self.info.etag, self.info.size)
        return self.etags is None or item.etag in self.etags


class Gate:
    """Decides by mounts, pins, and what a reader wishes.

    Args:
        policies: the mounts and the pins.
        checks: tells the age of copies, and asks the under store.
    """

    def __init__(self, policies: Policies, checks: Checks) -> None:
        self.policies = policies
        self._checks = checks
        self._pinned = PinnedVersions()

    def passes(self, item: CachedObject, wish: Wish) -> bool:
        """Whether a copy may be served at once, without asking anybody; raises as ``Policies.bound``."""
        if self.policies.allows_all and wish.is_plain:
            return True
        inventory = self.policies.bound(item.path, wish.version)
        if inventory is not None:
            return self._pinned.has(inventory, item.path, item)
        holds = lifetime((self.policies.mounts.of(item.path),), wish)
        return judge(self._checks.age(item) if holds < inf else 0.0, holds) is Verdict.SERVE

    async def terms(self, path: UfsPath, if_match: ETags, wish: Wish) -> Terms:
        """Return which versions a reader may be given; asks the under store if the policy wants it.

        Raises:
            VersionChanged: none that the reader accepts.
            ObjectNotFound: there is no such object, or it does not belong to the dataset version that is read.
            NotCached: the under store would have to be asked, and must not.
            OriginUnavailable, Unavailable: nobody can tell now.
        """
        info, pinned = await self._only_version(path, wish)
        if info is None:
            return Terms(etags=if_match)
        if if_match is not None and info.etag not in if_match:
            raise VersionChanged(
                f"path='{path}' has the etag {info.etag!r}, not {' or '.join(map(repr, if_match)) or 'any'}."
            )
        return Terms(etags=(info.etag,), info=info, pinned=pinned)

    async def fetchable(self, path: UfsPath, info: ObjectInfo | None) -> ObjectInfo | None:
        """Return the version that a job may bring, which wants ``info`` or any: of what is pinned only that version.

        Raises:
            VersionChanged: the path is pinned to another version. Otherwise as :meth:`terms`.
        """
        inventory = self.policies.pinned(str(path))
        if inventory is None:
            return info
        wanted = await self.policies.find(inventory, path)
        if wanted is None or (info is not None and (info.etag, info.size) != (wanted.etag, wanted.size)):
            raise self.drifted(path, had=wanted.etag if wanted else "", now=info.etag if info else None)
        return wanted

    def drifted(self, path: UfsPath, *, had: str, now: str | None) -> VersionChanged:
        """Return the error that tells that a pinned version is not what the under store has; and count it."""
        self._checks.found_drift(path, had=had, now=now)
        return VersionChanged(
            f"path='{path}' is pinned to a dataset version that the under store does not have any more.",
            remedy=f"See what changed with `preheat fs drift {path}`; load it again and pin that, or unpin it.",
        )

    def takes_any(self, path: UfsPath, wish: Wish) -> bool:
        """Whether a reader may be told what is known, however old it is; raises as ``Policies.bound``."""
        if self.policies.allows_all and wish.is_plain:
            return True
        uri = str(path)
        unbound = self.policies.bound(uri, wish.version) is None
        return unbound and lifetime((self.policies.mounts.of(uri),), wish) == inf

    def listing(self, path: UfsPath, wish: Wish) -> tuple[bool, Inventory | None]:
        """Return whether a path is bound to what was listed; and that, or else what was listed if it may be told.

        Raises as ``Policies.bound``.
        """
        uri = str(path)
        if bound := self.policies.bound(uri, wish.version):
            return True, bound
        found = self.policies.listing(uri)
        if found is None:
            return False, None
        holds = lifetime(self.policies.mounts_at(uri), wish)
        told = judge(self._checks.now() - found.listed_at, holds) is Verdict.SERVE
        return False, found if told else None

    async def _only_version(self, path: UfsPath, wish: Wish) -> tuple[ObjectInfo | None, bool]:
        """Return the only version that may be read, none if any may be; and whether that is because it is pinned."""
        uri = str(path)
        inventory = self.policies.bound(uri, wish.version)
        if inventory is not None:
            return await self._listed(inventory, path), True
        holds = lifetime((self.policies.mounts.of(uri),), wish)
        if holds == inf:
            return None, False
        if wish.only_cached:
            raise NotCached(f"path='{path}' is not cached here as a version that is known to be current.")
        return await self._checks.ask(path, holds), False

    async def _listed(self, inventory: Inventory, path: UfsPath) -> ObjectInfo:
        block = await self.policies.block(inventory, path.key)
        info = block.find(path.key) if block else None
        if block is None or info is None:
            raise ObjectNotFound(
                f"path='{path}' does not belong to the dataset version {inventory.version}.",
                remedy="Load the path again, and pin the new version.",
            )
        self._pinned.learn(inventory, path.key, block)
        return info
