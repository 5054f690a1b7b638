"""What a job may touch whose submitter is bound to prefixes: an index file names more than its submit showed."""

from __future__ import annotations

from collections.abc import AsyncIterator

from preheat.access import Grant, Role, authorize
from preheat.coordinator._catalog import Catalog, Page
from preheat.paths import UfsPath
from preheat.versions import ObjectInfo


class BoundCatalog:
    """The objects of another catalog that lie within a job's prefixes; asking for others is refused.

    Args:
        catalog: where the objects are.
        prefixes: those of the submitter's token.
    """

    def __init__(self, catalog: Catalog, prefixes: tuple[str, ...]) -> None:
        self._catalog = catalog
        self._grant = Grant(role=Role.READ, prefixes=prefixes)

    async def pages(self, path: UfsPath, *, after: str) -> AsyncIterator[Page]:
        """Yield the objects at and below a path; see :class:`Catalog`.

        Raises:
            Forbidden: the path is outside of the prefixes.
        """
        authorize(self._grant, Role.READ, [path])
        async for page in self._catalog.pages(path, after=after):
            yield page

    async def find(self, path: UfsPath) -> ObjectInfo | None:
        """Return one object; see :class:`Catalog`.

        Raises:
            Forbidden: it is outside of the prefixes.
        """
        authorize(self._grant, Role.READ, [path])
        return await self._catalog.find(path)
