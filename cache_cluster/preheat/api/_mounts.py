"""Mounts: ``/v1/mounts``; the access middleware asks for the role admin where they are changed."""

from __future__ import annotations

from typing import Annotated, Self

from fastapi import APIRouter, Response
from fastapi import Path as PathParameter
from pydantic import ConfigDict, Field, model_validator

from preheat.access import parse_prefix
from preheat.api._schemas import Int, Schema, Text
from preheat.coordinator import Coordinator
from preheat.mounts import Freshness, Mount, WriteMode

_MAX_AGE = 366 * 86400.0
Name = Annotated[str, PathParameter(max_length=63, description="The bucket as which the S3 port shows it.")]


class MountBody(Schema):
    """What is agreed about a prefix of an under store."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"path": "s3://datasets/images/", "freshness": "max-age", "maxAge": 600}]}
    )

    path: Text = Field(max_length=2000, description="URI of the prefix.")
    freshness: Freshness = Field(Freshness.NEVER_CHECK, description="When a reader may be given what is cached.")
    max_age: float = Field(0.0, ge=0, le=_MAX_AGE, description="Seconds, for freshness=max-age, and only there.")
    writes: WriteMode = Field(WriteMode.READ_ONLY, description="What a write does before it is acknowledged.")
    write_replicas: Int = Field(1, ge=1, le=10, description="Workers that hold an asynchronous write first.")
    temporary: list[Annotated[Text, Field(max_length=1024)]] = Field(
        default_factory=list, max_length=100, description="Prefixes below path whose objects are never persisted."
    )

    @model_validator(mode="after")
    def _age_where_it_counts(self) -> Self:
        if (self.freshness is Freshness.MAX_AGE) is not bool(self.max_age):
            raise ValueError("maxAge, in seconds, belongs to freshness=max-age and to no other")
        return self

    def to_mount(self, name: str) -> Mount:
        """Return the mount as the coordinator takes it."""
        return Mount(
            name=name,
            path=parse_prefix(self.path),
            freshness=self.freshness,
            max_age=self.max_age,
            writes=self.writes,
            write_replicas=self.write_replicas,
            temporary=tuple(dict.fromkeys(self.temporary)),
        )


class MountView(Schema):
    """One mount."""

    name: str
    path: str
    freshness: Freshness
    max_age: float
    writes: WriteMode
    write_replicas: int
    temporary: list[str]

    @classmethod
    def of(cls, mount: Mount) -> Self:
        """Show a mount."""
        return cls(
            name=mount.name,
            path=mount.path,
            freshness=mount.freshness,
            max_age=mount.max_age,
            writes=mount.writes,
            write_replicas=mount.write_replicas,
            temporary=list(mount.temporary),
        )


class MountList(Schema):
    """The mounts, by name."""

    mounts: list[MountView]


def mounts_router(coordinator: Coordinator) -> APIRouter:
    """Return the routes of the mounts."""
    router = APIRouter(prefix="/mounts", tags=["mounts"])

    @router.get("")
    async def list_mounts() -> MountList:
        """List the mounts."""
        return MountList(mounts=[MountView.of(mount) for mount in coordinator.mounts.list()])

    @router.put("/{name}", status_code=201, responses={200: {"model": MountView}})
    async def put_mount(name: Name, body: MountBody, response: Response) -> MountView:
        """Add a mount, or change the one of this name; 200 instead of 201 if nothing changed."""
        mount = body.to_mount(name)
        if not await coordinator.mounts.put(mount):
            response.status_code = 200
        return MountView.of(mount)

    @router.delete("/{name}", status_code=204)
    async def remove_mount(name: Name) -> None:
        """Remove a mount; what is cached stays."""
        await coordinator.mounts.remove(name)

    return router
