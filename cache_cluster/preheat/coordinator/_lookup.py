"""Looking objects up that somebody named: in an index file, or in another job's list of failures."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import takewhile

from preheat.coordinator._catalog import Catalog, Page
from preheat.errors import AccessDenied, Forbidden, InvalidRequest, NotFound, PreheatError, VersionChanged
from preheat.jobs import FailedObject
from preheat.paths import UfsPath
from preheat.versions import ObjectInfo

Name = UfsPath | FailedObject
"""An object to look up, or what failed before it could be."""

REFUSED = (NotFound, AccessDenied, Forbidden, InvalidRequest, VersionChanged)
"""What may be wrong with one name; the others go on."""
_LOOK_UPS_AT_ONCE = 32


def by_bucket(names: Iterable[Name]) -> list[Sequence[Name]]:
    """Return the names, each once, in one group per bucket; the same groups in the same order whenever it is asked."""
    groups: dict[str, dict[Name, None]] = defaultdict(dict)
    for name in names:
        groups[_root(name)][name] = None
    return [list(groups[root]) for root in sorted(groups)]


async def look_up(catalog: Catalog, names: Sequence[Name]) -> Page:
    """Return what a catalog has of the names of one group, in their order.

    Raises:
        Unavailable: the catalog does not answer.
    """
    gate = asyncio.Semaphore(_LOOK_UPS_AT_ONCE)

    async def find(name: Name) -> ObjectInfo | FailedObject | None:
        if isinstance(name, FailedObject):
            return name
        async with gate:
            try:
                return await catalog.find(name)
            except REFUSED as error:
                return refused(name, error)

    results = await asyncio.gather(*map(find, names))
    found = takewhile(lambda item: not isinstance(item, FailedObject), results)
    return Page(
        root=_root(names[0]),
        objects=[item for item in results if isinstance(item, ObjectInfo)],
        missing=tuple(item for item in results if isinstance(item, FailedObject)),
        missing_after=sum(item is not None for item in found),
    )


def refused(path: UfsPath, error: PreheatError) -> FailedObject:
    """Return how a name is reported that cannot be had."""
    return FailedObject(path=str(path), size=0, code=error.code, message=str(error))


def _root(name: Name) -> str:
    return "" if isinstance(name, FailedObject) else str(name.with_key(""))
