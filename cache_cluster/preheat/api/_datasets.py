"""Declared datasets: ``/v1/datasets``."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Response
from fastapi import Path as PathParameter
from pydantic import BeforeValidator, ConfigDict, Field, Strict, WithJsonSchema, model_validator
from pydantic.config import JsonDict

from preheat.access import parse_lifetime, parse_prefix
from preheat.api._dataset_views import DatasetList, DatasetView, shown
from preheat.api._schemas import MAX_INT, SIZE_SCHEMA, Flag, Int, Schema, Text
from preheat.coordinator import Coordinator
from preheat.datasets import Dataset, Preload, Rewarm, below
from preheat.errors import InvalidRequest
from preheat.units import parse_size

_MAX_SECONDS = 100 * 365 * 86400.0
_EXAMPLE: JsonDict = {
    "path": "s3://datasets/images/",
    "subPaths": ["train/", "labels.csv"],
    "replicas": 2,
    "quota": "2TiB",
    "preload": {
        "enabled": True,
        "schedule": "0 2 * * *",
        "timezone": "Europe/Berlin",
        "deadline": "06:00 Europe/Berlin",
    },
}


def _whole(value: Any) -> Any:
    """Return 2 for 2.0: what writes TOML or JSON from untyped values may write every number so."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _seconds(value: Any) -> Any:
    return parse_lifetime(value, field="ttl") if isinstance(value, str) else value


def _bytes(value: Any) -> Any:
    return parse_size(value, field="quota") if isinstance(value, str) else _whole(value)


Name = Annotated[str, PathParameter(max_length=63, description="Letters, digits, '-' and '_'.")]
Uri = Annotated[Text, Field(max_length=2000)]
Replicas = Annotated[Int, BeforeValidator(_whole), Field(ge=1, le=10_000)]
Ttl = Annotated[
    Annotated[float, Strict(), Field(gt=0, le=_MAX_SECONDS)] | None,
    BeforeValidator(_seconds),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": _MAX_SECONDS},
                {"type": "string", "pattern": "^[1-9][0-9]{0,2}[smhdw]$"},
                {"type": "null"},
            ]
        },
        mode="validation",
    ),
]
Quota = Annotated[
    Annotated[Int, Field(ge=1, le=MAX_INT)] | None,
    BeforeValidator(_bytes),
    SIZE_SCHEMA,
]


class PreloadBody(Schema):
    """Whether, what and when to load."""

    enabled: Flag = Field(default=False, description="If not, the dataset stays NotStarted.")
    path: Uri | None = Field(None, description="What to load in the place of subPaths: below path, or a URI there.")
    schedule: Text | None = Field(
        None, max_length=200, description="Cron; without it, as soon as it can be.", examples=["0 2 * * *", "@daily"]
    )
    timezone: Text = Field("UTC", max_length=64, description="Of the schedule.", examples=["Europe/Berlin"])
    order: Uri | None = Field(None, description="A file that names the objects in the order to load them in.")
    deadline: Text | None = Field(
        None, max_length=80, description="By when a load has to end.", examples=["06:00 Europe/Berlin", "2h"]
    )
    rewarm: Rewarm = Field(Rewarm.ALL, description="After what else than its schedule it is loaded again.")

    def to_preload(self, dataset_path: str) -> Preload:
        """Return it as the coordinator takes it."""
        return Preload(
            enabled=self.enabled,
            path=below(dataset_path, self.path or ""),
            schedule=self.schedule or "",
            timezone=self.timezone,
            order=self.order or "",
            deadline=self.deadline or "",
            rewarm=self.rewarm,
        )


class DatasetBody(Schema):
    """A dataset to be declared."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    name: Text | None = Field(None, max_length=63, description="May be left out: it is in the address.")
    path: Uri = Field(description="URI of the prefix.")
    sub_paths: list[Uri] = Field(default_factory=list, max_length=100, description="What of it; nothing is all of it.")
    replicas: Replicas = Field(1, description="Workers that hold each object.")
    ttl: Ttl = Field(None, description="Free it so long after the last load: seconds or a text such as 7d; null never.")
    quota: Quota = Field(None, description="Bytes of all copies at most, a number or a size such as 10GiB.")
    freshness: Text | None = Field(
        None, max_length=40, description="As of a mount, of its readers.", examples=["always-check", "max-age=10m"]
    )
    preload: PreloadBody = PreloadBody()

    @model_validator(mode="before")
    @classmethod
    def _some_preload(cls, given: Any) -> Any:
        """Take null for what is left out."""
        if isinstance(given, dict) and given.get("preload", {}) is None:
            return {name: value for name, value in given.items() if name != "preload"}
        return given

    def to_dataset(self, name: str) -> Dataset:
        """Return the dataset as the coordinator takes it.

        Raises:
            InvalidRequest: something of it cannot be used.
        """
        if self.name not in {None, name}:
            raise InvalidRequest(f"name={self.name!r} is not {name!r}, which it is declared as.")
        path = parse_prefix(self.path)
        return Dataset(
            name=name,
            path=path,
            sub_paths=tuple(dict.fromkeys(below(path, part) for part in self.sub_paths)),
            replicas=self.replicas,
            ttl=self.ttl,
            quota=self.quota,
            freshness=self.freshness or "",
            preload=self.preload.to_preload(path),
        )


def datasets_router(coordinator: Coordinator) -> APIRouter:
    """Return the routes of declared datasets."""
    router = APIRouter(prefix="/datasets", tags=["datasets"])
    datasets = coordinator.datasets

    @router.get("")
    async def list_datasets() -> DatasetList:
        """List the declared datasets, by name."""
        return DatasetList(datasets=[shown(record, coordinator.service) for record in datasets.list()])

    @router.get("/{name}")
    async def get_dataset(name: Name) -> DatasetView:
        """Return a declared dataset and what has become of it."""
        return shown(await datasets.get(name), coordinator.service)

    @router.put("/{name}", status_code=201, responses={200: {"model": DatasetView}})
    async def declare_dataset(name: Name, body: DatasetBody, response: Response) -> DatasetView:
        """Declare a dataset, or change the one of this name as a whole; 200 instead of 201 if there was one."""
        record, is_new = await datasets.declare(body.to_dataset(name))
        if not is_new:
            response.status_code = 200
        return shown(record, coordinator.service)

    @router.delete("/{name}", status_code=204)
    async def remove_dataset(name: Name) -> None:
        """Remove a declaration; what is cached stays, and is freed when its time to live is over."""
        await datasets.remove(name)

    return router
