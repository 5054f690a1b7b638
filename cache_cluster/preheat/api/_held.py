"""What the workers hold together: ``/v1/cached``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Self

from fastapi import APIRouter, Query
from pydantic import Field

from preheat.api._schemas import Schema
from preheat.coordinator import Coordinator
from preheat.copies import HeldObject

_MAX_PAGE = 10_000


class HeldView(Schema):
    """An object that workers hold, in the newest of the versions that they have."""

    key: str
    size: int
    etag: str
    last_modified: datetime
    workers: list[str] = Field(description="Who holds this version.")
    outdated: list[str] = Field(description="Who holds another version.")

    @classmethod
    def of(cls, held: HeldObject) -> Self:
        """Show an object."""
        return cls(
            key=held.key,
            size=held.size,
            etag=held.etag,
            last_modified=datetime.fromtimestamp(held.last_modified, tz=UTC),
            workers=list(held.workers),
            outdated=list(held.outdated),
        )


class HeldList(Schema):
    """One page of what is cached, in the order of the keys. It may be shorter than was asked for, and not the last."""

    objects: list[HeldView]
    next: str | None = Field(description="The key after which the next page begins; null at the end.")


def held_router(coordinator: Coordinator) -> APIRouter:
    """Return the route of the cached objects."""
    router = APIRouter(tags=["datasets"])

    @router.get("/cached")
    async def cached(
        path: Annotated[str, Query(max_length=2000, description="An object, or all below it.")],
        after: Annotated[str, Query(max_length=2000, description="`next` of the page before.")] = "",
        limit: Annotated[int, Query(ge=1, le=_MAX_PAGE, description="Of one worker's objects.")] = 1000,
    ) -> HeldList:
        """List what the live workers hold at and below a path, and who holds it."""
        page = await coordinator.source.held(path, after=after, limit=limit)
        return HeldList(objects=[HeldView.of(item) for item in page.objects], next=page.next)

    return router
