"""``GET /v1/warmth``: how much of a dataset is hot now."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Self

from fastapi import APIRouter, Query
from pydantic import Field

from preheat.api._answers import Count
from preheat.api._schemas import Duration, Schema
from preheat.coordinator import Coordinator, Source, Warmth

_SECONDS = 60.0
_MAX_SECONDS = 600.0


class WarmthView(Schema):
    """How much of a dataset the live workers hold, in exactly the versions that belong to it."""

    path: str
    version: str = Field(description="Of the path as it is expected, sha256:…")
    source: Source = Field(description="From what it is known which objects are expected.")
    inventory: str | None = Field(description="Of which inventory; null if the under store was listed.")
    listed_at: datetime | None = Field(description="When that was listed; null is now.")
    expected: Count
    hot: Count
    hot_fraction: float = Field(description="hot ÷ expected files, 0 to 1; 0 of nothing.")
    fewest_copies: int | None = Field(description="Of the object that has the fewest; null if nothing is expected.")
    complete: bool = Field(description="Whether every live worker said what it holds. If not, no more is hot for sure.")
    reason: str = Field(description="Which worker did not say it, and why; or why nothing can be hot. Else empty.")

    @classmethod
    def of(cls, warmth: Warmth) -> Self:
        """Show a count."""
        heat, inventory = warmth.heat, warmth.inventory
        return cls(
            path=warmth.path,
            version=warmth.version,
            source=warmth.source,
            inventory=inventory.id if inventory else None,
            listed_at=datetime.fromtimestamp(inventory.listed_at, tz=UTC) if inventory else None,
            expected=Count.of(heat.expected),
            hot=Count.of(heat.hot),
            hot_fraction=heat.fraction,
            fewest_copies=heat.fewest_copies,
            complete=warmth.complete,
            reason=warmth.reason,
        )


def warmth_router(coordinator: Coordinator) -> APIRouter:
    """Return the route of the warmth."""
    router = APIRouter(tags=["datasets"])

    @router.get("/warmth")
    async def warmth(
        path: Annotated[str, Query(max_length=2000, description="A dataset, or a part of one.")],
        version: Annotated[
            str,
            Query(
                pattern=r"^(sha256:[0-9a-f]{64})?$",
                description="Of which dataset version; by default of the pinned one, or what was listed last.",
            ),
        ] = "",
        timeout: Annotated[  # noqa: ASYNC109 - a parameter of the request
            Duration, Query(gt=0, le=_MAX_SECONDS, description="How long counting may take; else 504.")
        ] = _SECONDS,
    ) -> WarmthView:
        """Ask the workers how much of a dataset is hot now; one that does not answer holds nothing."""
        return WarmthView.of(await coordinator.warmth.measure(path, version=version, seconds=timeout))

    return router
