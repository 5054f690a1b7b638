"""What is known of datasets: inventories, pins and drift."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Self

from fastapi import APIRouter, Query, Response
from fastapi import Path as PathParameter
from pydantic import ConfigDict, Field

from preheat.api._answers import Count
from preheat.api._schemas import Duration, Schema, Text
from preheat.coordinator import Change, ChangeKind, Coordinator, Drift
from preheat.inventory import Inventory, Pin
from preheat.jobs import Tally
from preheat.versions import ObjectInfo

_MAX_SECONDS = 600.0
_MAX_EXAMPLES = 1000
Id = Annotated[str, PathParameter(max_length=64)]


class InventoryView(Schema):
    """What one load listed of one path."""

    id: str
    path: str
    version: str = Field(description="The dataset version, sha256:…")
    listed: Count
    listed_at: datetime = Field(description="When the listing began.")
    job_id: str
    pinned: bool

    @classmethod
    def of(cls, inventory: Inventory, *, pinned: bool) -> Self:
        """Show an inventory."""
        return cls(
            id=inventory.id,
            path=inventory.path,
            version=inventory.version,
            listed=Count.of(Tally(objects=inventory.objects, bytes=inventory.bytes)),
            listed_at=datetime.fromtimestamp(inventory.listed_at, tz=UTC),
            job_id=inventory.job_id,
            pinned=pinned,
        )


class InventoryList(Schema):
    """The inventories, the latest listing first."""

    inventories: list[InventoryView]


class PinBody(Schema):
    """What is to be pinned."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"path": "s3://datasets/digits/"}]})

    path: Text = Field(max_length=2000, description="The path of a load that has succeeded.")
    job: Text = Field("", max_length=64, description="Which load; by default the last one.")
    version: Text = Field("", max_length=100, description="Which dataset version; by default what was listed last.")


class PinView(Schema):
    """A path that is bound to one dataset version."""

    id: str
    path: str
    version: str
    inventory: str
    pinned_at: datetime

    @classmethod
    def of(cls, pin: Pin) -> Self:
        """Show a pin."""
        pinned_at = datetime.fromtimestamp(pin.pinned_at, tz=UTC)
        return cls(id=pin.id, path=pin.path, version=pin.version, inventory=pin.inventory, pinned_at=pinned_at)


class PinList(Schema):
    """The pins, by path."""

    pins: list[PinView]


class ObjectView(Schema):
    """An object as it was or is."""

    size: int
    etag: str
    last_modified: datetime

    @classmethod
    def of(cls, item: ObjectInfo) -> Self:
        """Show an object."""
        moment = datetime.fromtimestamp(item.last_modified, tz=UTC)
        return cls(size=item.size, etag=item.etag, last_modified=moment)


class ChangeView(Schema):
    """An object that is not as it was listed."""

    change: ChangeKind
    key: str
    old: ObjectView | None
    new: ObjectView | None

    @classmethod
    def of(cls, change: Change) -> Self:
        """Show a change."""
        old, new = (ObjectView.of(item) if item else None for item in (change.old, change.new))
        return cls(change=change.kind, key=change.key, old=old, new=new)


class DriftView(Schema):
    """What the under store has now beside what was listed."""

    path: str
    drift: bool = Field(description="Whether anything is not as it was listed.")
    pinned: bool = Field(description="Whether it is the pinned version that was compared, and not just the last one.")
    inventory: str
    listed_at: datetime
    version: str = Field(description="Of the path as it was listed.")
    origin_version: str = Field(description="Of the path as the under store has it now.")
    unchanged: Count
    changed: int
    added: int
    deleted: int
    examples: list[ChangeView] = Field(description="The first changes, by key.")

    @classmethod
    def of(cls, drift: Drift) -> Self:
        """Show a comparison."""
        found = drift.comparison
        return cls(
            path=drift.path,
            drift=found.drifted,
            pinned=drift.pinned,
            inventory=drift.inventory.id,
            listed_at=datetime.fromtimestamp(drift.inventory.listed_at, tz=UTC),
            version=str(found.old_version),
            origin_version=str(found.new_version),
            unchanged=Count.of(found.unchanged),
            changed=found.counts[ChangeKind.CHANGED],
            added=found.counts[ChangeKind.ADDED],
            deleted=found.counts[ChangeKind.DELETED],
            examples=[ChangeView.of(change) for change in found.examples],
        )


def inventories_router(coordinator: Coordinator) -> APIRouter:
    """Return the routes of inventories, pins and drift."""
    router = APIRouter(tags=["datasets"])
    router.include_router(_lists_router(coordinator))
    router.include_router(_pins_router(coordinator))

    @router.get("/drift")
    async def drift(
        path: Annotated[str, Query(max_length=2000, description="A path that was listed, or one below it.")],
        limit: Annotated[int, Query(ge=0, le=_MAX_EXAMPLES, description="How many changes are named.")] = 20,
        timeout: Annotated[  # noqa: ASYNC109 - a parameter of the request
            Duration, Query(gt=0, le=_MAX_SECONDS, description="How long the listing may take; else 504.")
        ] = _MAX_SECONDS,
    ) -> DriftView:
        """List a path and compare it with the pinned version, or else with what was listed last."""
        return DriftView.of(await coordinator.drift.find(path, limit=limit, seconds=timeout))

    return router


def _lists_router(coordinator: Coordinator) -> APIRouter:
    router = APIRouter(prefix="/inventories")

    @router.get("")
    async def list_inventories() -> InventoryList:
        """List what is known of datasets, the latest listing first."""
        pinned = {pin.inventory for pin in coordinator.pins.list()}
        items = coordinator.inventories.list()
        return InventoryList(inventories=[InventoryView.of(item, pinned=item.id in pinned) for item in items])

    @router.delete("/{inventory_id}", status_code=204)
    async def remove_inventory(inventory_id: Id) -> None:
        """Delete an inventory; 409 if it is pinned."""
        await coordinator.inventories.remove(inventory_id)

    return router


def _pins_router(coordinator: Coordinator) -> APIRouter:
    router = APIRouter(prefix="/pins")

    @router.post("", status_code=201, responses={200: {"model": PinView}})
    async def pin(body: PinBody, response: Response) -> PinView:
        """Bind a path to a dataset version, in the place of an earlier one; 200 if it was bound to it already."""
        pinned, is_new = await coordinator.pins.pin(body.path, job_id=body.job, version=body.version)
        if not is_new:
            response.status_code = 200
        return PinView.of(pinned)

    @router.get("")
    async def list_pins() -> PinList:
        """List the pins, by path."""
        return PinList(pins=[PinView.of(pinned) for pinned in coordinator.pins.list()])

    @router.delete("/{pin_id}", status_code=204)
    async def unpin(pin_id: Id) -> None:
        """Remove a pin; what is cached stays, and may be evicted or replaced from now on."""
        await coordinator.pins.unpin(pin_id)

    return router
