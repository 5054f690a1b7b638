"""What is known of objects without their bytes: looks at one, and listings.

Where the policy allows it, both are answered from what jobs have listed, so that a training that starts does not list
ten million keys at the under store.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from itertools import chain, islice
from math import inf
from typing import TypeVar

from preheat.copies import CachedCopy
from preheat.errors import Unavailable
from preheat.inventory import Inventory
from preheat.paths import UfsPath
from preheat.store import CachedObject, Notes, PageStore
from preheat.ufs import Selection, UnderStore, is_marker
from preheat.versions import ObjectInfo
from preheat.worker._freshness import NotCached, Wish
from preheat.worker._gate import ETags, Gate
from preheat.worker.fills import Counters

T = TypeVar("T")
_PATIENCE_SECONDS = 2.0
"""With an engine that does not tell what was listed, where the under store can be asked in its place."""
_LEFT_OUT_SECONDS = 10.0
"""After which it is asked again."""


class Metadata:
    """Answers from the page store, from notes, from inventories, or from the under store.

    Args:
        store: the copies.
        origin: the under store.
        notes: what is known of objects that are not in the store.
        gate: decides what may be told, and knows what was listed.
        counters: what is asked of the under store, and what is not.
        stat: looks at an object of the under store, and counts that.
        nearby: returns the version of an object that a read would get without asking the under store which.
    """

    def __init__(
        self,
        store: PageStore,
        origin: UnderStore,
        *,
        notes: Notes,
        gate: Gate,
        counters: Counters,
        stat: Callable[[UfsPath, ETags], Awaitable[ObjectInfo]],
        nearby: Callable[[UfsPath, ETags], Awaitable[ObjectInfo | None]],
    ) -> None:
        self._store = store
        self._origin = origin
        self._notes = notes
        self._gate = gate
        self._policies = gate.policies
        self._counters = counters
        self._stat = stat
        self._nearby = nearby
        self._away_until = -inf

    async def stat(self, path: UfsPath, if_match: ETags, wish: Wish) -> tuple[ObjectInfo, bool]:
        """Return what may be told of an object whose copy, if there is one, may not, and whether it is cached.

        It is the version that a read would get, as far as that can be told without asking the under store.

        Raises:
            VersionChanged: the version is none that the reader accepts.
            NotCached: the under store would have to be asked, and must not. Otherwise as ``Gate.terms``.
        """
        info = await self._read_next(path, if_match, wish) or await self._known(path, wish)
        if info is None or not accepts(if_match, info.etag):
            terms = await self._gate.terms(path, if_match, wish)
            if terms.info is None and wish.only_cached:
                raise NotCached(f"Nothing is known of path='{path}' here.")
            info = terms.info or await self._stat(path, if_match)
        item = self._store.lookup(str(path))
        return info, item is not None and (item.etag, item.size) == (info.etag, info.size)

    async def list(self, path: UfsPath, *, after: str, limit: int, wish: Wish) -> list[ObjectInfo]:
        """Return up to ``limit`` objects at and below a path as the under store lists, or listed, them, after a key.

        Raises:
            NotCached: the under store would have to be asked, and must not. Otherwise as ``UnderStore.list``.
        """
        known = await self._listed(path, wish, partial(self._policies.objects, path=path, after=after, limit=limit))
        if known is not None:
            return known
        if wish.only_cached:
            raise NotCached(f"No listing of path='{path}' is known here that is recent enough.")
        self._counters.origin_lists += 1
        found: list[ObjectInfo] = []
        async for page in self._origin.list(path, after=after):
            found.extend(page)
            if len(found) >= limit:
                break
        return found[:limit]

    def list_cached(self, path: UfsPath, *, after: str, limit: int) -> tuple[CachedCopy, ...]:
        """Return up to ``limit`` objects of the store at and below a path, after a key, as a listing would."""
        root, selection = str(path.with_key("")), Selection.of(path, after)
        exact = None if selection.exact is None else self._store.lookup(root + selection.exact)
        below: Iterable[CachedObject] = ()
        if selection.prefix is not None:
            below = self._store.scan(root + selection.prefix, after=root + selection.start_after)
        items = chain([exact] if exact else [], below)
        copies = (_copy_of(item, item.path.removeprefix(root)) for item in items)
        return tuple(islice((copy for copy in copies if not is_marker(copy.key, copy.size)), limit))

    async def _read_next(self, path: UfsPath, if_match: ETags, wish: Wish) -> ObjectInfo | None:
        """Return the version that is on its way, or that another worker would send, where a reader may have any."""
        if wish.only_cached or not self._gate.takes_any(path, wish):
            return None
        return await self._nearby(path, if_match)

    async def _known(self, path: UfsPath, wish: Wish) -> ObjectInfo | None:
        """Return what was noted or listed of an object, if that may be told."""
        if self._gate.takes_any(path, wish) and (note := self._notes.get(str(path), key=path.key)):
            return note
        return await self._listed(path, wish, partial(self._policies.find, path=path))

    async def _listed(self, path: UfsPath, wish: Wish, look: Callable[[Inventory], Awaitable[T | None]]) -> T | None:
        """Look into the inventory that may answer; none if there is none, or it cannot be read and need not be."""
        bound, inventory = self._gate.listing(path, wish)
        if inventory is None or (not bound and time.monotonic() < self._away_until):
            return None
        try:
            async with asyncio.timeout(None if bound else _PATIENCE_SECONDS):
                found = await look(inventory)
        except (Unavailable, TimeoutError):
            if bound:
                raise
            self._away_until = time.monotonic() + _LEFT_OUT_SECONDS
            return None
        self._counters.metadata_hits += found is not None
        return found


def accepts(if_match: ETags, etag: str) -> bool:
    """Whether a version is one that a reader accepts."""
    return if_match is None or etag in if_match


def _copy_of(item: CachedObject, key: str) -> CachedCopy:
    return CachedCopy(key=key, size=item.size, etag=item.etag, last_modified=item.last_modified, job_id=item.job_id)
