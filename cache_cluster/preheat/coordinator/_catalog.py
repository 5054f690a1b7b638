"""Where a job's objects are found, and what a page of them is; the under store is one such place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from preheat.errors import Unavailable
from preheat.filters import KeyFilter
from preheat.jobs import FailedObject
from preheat.paths import UfsPath
from preheat.ufs import UnderStore
from preheat.versions import ObjectInfo

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Some objects of one bucket, in order."""

    root: str
    """URI of the bucket, ending with a slash."""
    objects: Sequence[ObjectInfo]
    cursor: str = ""
    """Where the listing goes on after this page."""
    missing: tuple[FailedObject, ...] = ()
    """Objects that were asked for and cannot be had."""
    missing_after: int = 0
    """How many of the objects come before the first one that is missing."""
    whole: bool = True
    """Whether it and the pages before it hold all that comes first in the job's order. Where names of several buckets
    alternate, each bucket's have a page, and only the last of these pages is whole."""


class Catalog(Protocol):
    """A place that lists objects."""

    def pages(self, path: UfsPath, *, after: str) -> AsyncIterator[Page]:
        """Yield the objects at and below a path from the first key greater than ``after`` on; a cursor is a key."""
        ...

    async def find(self, path: UfsPath) -> ObjectInfo | None:
        """Return one object; none if there is nothing to do, as with one that a cache has dropped.

        Raises:
            ObjectNotFound: there is none, and that is a failure.
        """
        ...


class OriginCatalog:
    """The objects of the under store.

    Args:
        ufs: the under store.
        attempts: tries of one request that it does not answer.
    """

    def __init__(self, ufs: UnderStore, *, attempts: int) -> None:
        self._ufs = ufs
        self._attempts = attempts

    async def pages(self, path: UfsPath, *, after: str) -> AsyncIterator[Page]:
        """Yield what is listed; see :class:`Catalog`. A listing that breaks off goes on behind its last key."""
        root, failures = str(path.with_key("")), 0
        while True:
            try:
                async for objects in self._ufs.list(path, after=after):
                    failures, after = 0, objects[-1].key
                    yield Page(root=root, objects=objects, cursor=after)
            except Unavailable:
                failures += 1
                if failures >= self._attempts:
                    raise
                await asyncio.sleep(_pause(failures))
            else:
                return

    async def find(self, path: UfsPath) -> ObjectInfo:
        """Return one object; see :class:`Catalog`."""
        return await patiently(lambda: self._ufs.stat(path), attempts=self._attempts)


class FilteredCatalog:
    """The objects of another catalog whose keys a filter matches; cursors move past the others too.

    Expressions that take long are matched in a thread, for the sake of everything else that the loop does.
    """

    def __init__(self, catalog: Catalog, keys: KeyFilter) -> None:
        self._catalog = catalog
        self._keys = keys

    async def pages(self, path: UfsPath, *, after: str) -> AsyncIterator[Page]:
        """Yield what is left of each page, if only its cursor."""
        async for page in self._catalog.pages(path, after=after):
            yield await asyncio.to_thread(self._filtered, page)

    async def find(self, path: UfsPath) -> ObjectInfo | None:
        """Return one object, or none if its key does not match; see :class:`Catalog`."""
        if not await asyncio.to_thread(self._keys.matches, path.key):
            return None
        return await self._catalog.find(path)

    def _filtered(self, page: Page) -> Page:
        return replace(page, objects=[item for item in page.objects if self._keys.matches(item.key)])


async def patiently(ask: Callable[[], Awaitable[T]], *, attempts: int) -> T:
    """Return the answer of somebody who may be unavailable; between the attempts is a pause that doubles from 1 s."""
    for failures in range(1, attempts):
        try:
            return await ask()
        except Unavailable:
            await asyncio.sleep(_pause(failures))
    return await ask()


def _pause(failures: int) -> float:
    return 2.0 ** (failures - 1)
