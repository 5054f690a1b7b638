"""What the workers hold, as one ordered listing.

Each worker lists its own cache in the order of the keys. A page of all of them ends at the horizon: the smallest last
key among the workers that have more. Behind it another worker may still have keys to show, up to it nobody has. So the
horizon is all that the next page needs to know, whichever coordinator asks for it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from preheat.coordinator._catalog import Page, patiently
from preheat.copies import CachedCopy, HeldObject
from preheat.errors import NoLiveWorker, Unavailable
from preheat.paths import UfsPath
from preheat.placement import Member
from preheat.store import PageStore
from preheat.ufs import Selection

_PAGE_OBJECTS = 1000
"""Objects asked of one worker at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CachedPage:
    """Some objects that a worker holds, in order."""

    objects: Sequence[CachedCopy] = ()
    next: str | None = None
    """The key after which there is more, the last one here; none if there is not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldPage:
    """Some objects that the workers hold together, in order."""

    objects: Sequence[HeldObject] = ()
    next: str | None = None
    """The key after which there may be more; none if there is not."""


class CachedListing(Protocol):
    """Asks one worker what it holds."""

    async def list(self, worker_url: str, path: UfsPath, *, after: str, limit: int) -> CachedPage:
        """Return up to ``limit`` objects at and below a path whose key is greater than ``after``.

        Raises:
            Unavailable: the worker does not answer, or not as it should.
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class MemoryCachedListing:
    """The twin for tests: asks page stores, by the URLs of their workers; one that is not there does not answer."""

    def __init__(self, stores: Mapping[str, PageStore]) -> None:
        self._stores = stores

    async def list(self, worker_url: str, path: UfsPath, *, after: str, limit: int) -> CachedPage:
        """Return one page of a store; see :class:`CachedListing`."""
        store = self._stores.get(worker_url)
        if store is None:
            raise Unavailable(f"No worker answers at {worker_url}.")
        root, selection = str(path.with_key("")), Selection.of(path, after)
        keys = {item.path.removeprefix(root): item for item in store.scan(root)}
        found = [
            CachedCopy(key=key, size=item.size, etag=item.etag, last_modified=item.last_modified, job_id=item.job_id)
            for key, item in keys.items()
            if selection.selects(key)
        ][:limit]
        return CachedPage(objects=found, next=found[-1].key if len(found) == limit else None)

    async def close(self) -> None:
        """Nothing is open."""


def merge(pages: Mapping[str, CachedPage]) -> HeldPage:
    """Merge the pages that workers gave after one key, up to their horizon; of several versions take the newest."""
    horizon = min((page.next for page in pages.values() if page.next is not None), default=None)
    held: dict[str, list[tuple[str, CachedCopy]]] = defaultdict(list)
    for worker, page in pages.items():
        for item in page.objects:
            if horizon is None or item.key <= horizon:
                held[item.key].append((worker, item))
    return HeldPage(objects=[_together(held[key]) for key in sorted(held)], next=horizon)


class CachedCatalog:
    """The objects that the live workers hold.

    A worker that leaves the map during the listing is left out from then on; one that joins is asked from there on.

    Args:
        listing: asks one worker.
        members: the workers in the placement map, now.
        attempts: tries of a worker that is in the map and does not answer.
    """

    def __init__(self, listing: CachedListing, members: Callable[[], Sequence[Member]], *, attempts: int) -> None:
        self._listing = listing
        self._members = members
        self._attempts = attempts

    async def pages(self, path: UfsPath, *, after: str) -> AsyncIterator[Page]:
        """Yield what the workers hold; see :class:`~preheat.coordinator._catalog.Catalog`.

        Raises:
            NoLiveWorker: the map is empty, or a worker in it does not answer.
        """
        root = str(path.with_key(""))
        cursor: str | None = after
        while cursor is not None:
            merged = await self.page(path, after=cursor, limit=_PAGE_OBJECTS)
            if merged.objects:
                yield Page(root=root, objects=merged.objects, cursor=merged.objects[-1].key)
            cursor = merged.next

    async def page(self, path: UfsPath, *, after: str, limit: int) -> HeldPage:
        """Return what the workers hold after a key, at most so many of each; raises as :meth:`pages` does."""
        members = await patiently(self._live, attempts=self._attempts)
        pages = await asyncio.gather(*(self._ask(member.id, path, after, limit) for member in members))
        return merge({member.id: page for member, page in zip(members, pages, strict=True)})

    async def find(self, path: UfsPath) -> HeldObject | None:
        """Return one object if a worker holds it; raises as :meth:`pages` does."""
        first = (await self.page(path, after="", limit=1)).objects
        return first[0] if first and first[0].key == path.key else None

    async def _live(self) -> Sequence[Member]:
        if members := self._members():
            return members
        raise NoLiveWorker("No worker is live that could say what is cached.")

    async def _ask(self, worker: str, path: UfsPath, after: str, limit: int) -> CachedPage:
        async def ask() -> CachedPage:
            url = next((member.url for member in self._members() if member.id == worker), None)
            if url is None:  # it left
                return CachedPage()
            return await self._listing.list(url, path, after=after, limit=limit)

        try:
            return await patiently(ask, attempts=self._attempts)
        except Unavailable as error:
            raise NoLiveWorker(
                f"The worker {worker} does not say what it holds: {error.message}",
                remedy="Check the worker, or stop it so that the others go on without it; then submit again.",
            ) from error


def _together(copies: Sequence[tuple[str, CachedCopy]]) -> HeldObject:
    newest = max((copy for _, copy in copies), key=_age)
    current = {worker: copy for worker, copy in copies if (copy.etag, copy.size) == (newest.etag, newest.size)}
    return HeldObject(
        key=newest.key,
        size=newest.size,
        etag=newest.etag,
        last_modified=newest.last_modified,
        workers=tuple(current),
        job_ids=tuple(copy.job_id for copy in current.values()),
        outdated=tuple(worker for worker, _ in copies if worker not in current),
    )


def _age(item: CachedCopy) -> tuple[float, str, int]:
    """Return by what versions are ordered; the etag and the size only make the choice the same each time."""
    return item.last_modified, item.etag, item.size
