"""Times to live: ``/v1/ttls``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Self

from fastapi import APIRouter, Query
from pydantic import BeforeValidator, ConfigDict, Field, Strict, WithJsonSchema
from pydantic.config import JsonDict

from preheat.access import parse_lifetime
from preheat.api._schemas import Schema, Text
from preheat.coordinator import Coordinator, Ttl

_MAX_SECONDS = 100 * 365 * 86400.0
_TTL: JsonDict = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0, "maximum": _MAX_SECONDS},
        {"type": "string", "pattern": "^[1-9][0-9]{0,2}[smhdw]$"},
    ],
    "description": "Seconds from now on, or a text such as 7d.",
}


def _seconds(value: object) -> object:
    return parse_lifetime(value) if isinstance(value, str) else value


class TtlBody(Schema):
    """When what is cached below a path is to be freed."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"path": "s3://datasets/digits/", "ttl": "7d"}]})

    path: Text = Field(max_length=2000)
    ttl: Annotated[
        float,
        Strict(),
        Field(gt=0, le=_MAX_SECONDS, description="Seconds from now on, or a text such as 7d."),
        BeforeValidator(_seconds),
        WithJsonSchema(_TTL, mode="validation"),
    ]


class TtlView(Schema):
    """A path's time to live."""

    path: str
    seconds: float
    set_at: datetime
    due_at: datetime
    job: str | None = Field(description="The job that freed it; null before.")

    @classmethod
    def of(cls, ttl: Ttl) -> Self:
        """Show a time to live."""
        set_at, due_at = (datetime.fromtimestamp(moment, tz=UTC) for moment in (ttl.set_at, ttl.due_at))
        return cls(path=ttl.path, seconds=ttl.seconds, set_at=set_at, due_at=due_at, job=ttl.job_id or None)


class TtlList(Schema):
    """The times to live, the next one that is due first."""

    ttls: list[TtlView]


def ttls_router(coordinator: Coordinator) -> APIRouter:
    """Return the routes of the times to live."""
    router = APIRouter(prefix="/ttls", tags=["datasets"])

    @router.put("")
    async def set_ttl(body: TtlBody) -> TtlView:
        """Free what is cached at and below a path when its time is over, counted from now."""
        return TtlView.of(await coordinator.ttls.set(body.path, body.ttl))

    @router.get("")
    async def list_ttls() -> TtlList:
        """List the times to live, also those that were over lately."""
        return TtlList(ttls=[TtlView.of(ttl) for ttl in coordinator.ttls.list()])

    @router.delete("", status_code=204)
    async def unset_ttl(path: Annotated[str, Query(max_length=2000)]) -> None:
        """Let what is cached below a path stay; 404 if no time is set for it."""
        await coordinator.ttls.unset(path)

    return router
