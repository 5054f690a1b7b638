"""What a job may do below a pin: load objects of the pinned version; put nothing in their place or beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from preheat import destinations
from preheat.coordinator._catalog import Catalog, Page
from preheat.errors import EngineUnavailable, VersionChanged
from preheat.inventories import Inventories
from preheat.inventory import Pin
from preheat.jobs import FailedObject, JobSpec, JobType
from preheat.paths import UfsPath
from preheat.versions import ObjectInfo

Pinned = Callable[[str], Pin | None]
"""Returns the pin that covers a URI."""


def check_pins(spec: JobSpec, pinned: Pinned) -> None:
    """Refuse a job that would write below a pin, or remove what is there; its workers refuse single objects.

    Raises:
        ReadOnly: naming the pin.
    """
    if not spec.type.has_destination:
        return
    (source,) = map(UfsPath.parse, spec.paths)
    changed = [str(destinations.base(source, UfsPath.parse(spec.destination)))]
    if spec.type is JobType.MOVE:
        changed.append(str(source))
    for uri in changed:
        if pin := pinned(uri):
            raise pin.refusal(uri)


class PinnedCatalog:
    """The objects of another catalog; those that are not the pinned version are failures.

    Args:
        catalog: where the objects are.
        inventories: which versions are pinned.
    """

    def __init__(self, catalog: Catalog, inventories: Inventories) -> None:
        self._catalog = catalog
        self._inventories = inventories

    async def pages(self, path: UfsPath, *, after: str) -> AsyncIterator[Page]:
        """Yield the objects at and below a path; see :class:`Catalog`."""
        async for page in self._catalog.pages(path, after=after):
            yield await self._checked(page, path) if self._concerns(str(path)) else page

    async def find(self, path: UfsPath) -> ObjectInfo | None:
        """Return one object; see :class:`Catalog`.

        Raises:
            VersionChanged: it is not the pinned version.
        """
        item = await self._catalog.find(path)
        if item is not None and (pin := await self._refusing(path, item)):
            raise _refusal(path, pin)
        return item

    def _concerns(self, uri: str) -> bool:
        """Whether a pin covers a path, or something below it."""
        pins = self._inventories.coverage.pins.values()
        return any(pin.path.startswith(uri) for pin in pins) or self._inventories.pin(uri) is not None

    async def _checked(self, page: Page, path: UfsPath) -> Page:
        allowed, failed, before = list[ObjectInfo](), list[FailedObject](), 0
        for item in page.objects:
            where = path.with_key(item.key)
            if pin := await self._refusing(where, item):
                error = _refusal(where, pin)
                before = before if failed else len(allowed)
                failed.append(FailedObject(path=str(where), size=0, code=error.code, message=str(error)))
            else:
                allowed.append(item)
        return replace(page, objects=allowed, missing=(*page.missing, *failed), missing_after=before)

    async def _refusing(self, path: UfsPath, item: ObjectInfo) -> Pin | None:
        """Return the pin that does not allow an object as it is.

        Raises:
            EngineUnavailable: what is pinned there is not known now.
        """
        pin = self._inventories.pin(str(path))
        if pin is None:
            return None
        inventory = self._inventories.pinned(pin)
        if inventory is None:
            raise EngineUnavailable(f"path='{path}' is pinned to {pin.version}, which is not known here yet.")
        pinned = await self._inventories.find(inventory, path)
        same = pinned is not None and (pinned.etag, pinned.size) == (item.etag, item.size)
        return None if same else pin


def _refusal(path: UfsPath, pin: Pin) -> VersionChanged:
    return VersionChanged(
        f"path='{path}' is not what the pinned version {pin.version} of {pin.path} has there.",
        remedy=f"To take the present version over: `preheat job load --path {pin.path} --metadata-only --submit`, "
        f"then `preheat fs pin {pin.path}`, and load again. Or `preheat fs unpin {pin.path}`.",
    )
