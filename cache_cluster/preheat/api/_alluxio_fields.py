"""Fields that Alluxio's dialects share. Its documentation writes every option's value as text: both forms are taken."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from preheat.api._schemas import MAX_INT
from preheat.jobs import JobOptions, Priority
from preheat.units import parse_size

_BOOLEANS = {"true": True, "false": False}
_DIGITS = {"type": "string", "pattern": "^[0-9]{1,9}$"}


def _boolean(value: Any) -> Any:
    return _BOOLEANS.get(value.strip().lower(), value) if isinstance(value, str) else value


def _size(value: Any) -> Any:
    """Read a size; an empty text is no limit, as in the native API."""
    if not isinstance(value, str):
        return value
    return parse_size(value, field="bandwidth") if value.strip() else None


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


Boolean = Annotated[
    bool,
    BeforeValidator(_boolean),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "string", "enum": list(_BOOLEANS)}]}),
]
Number = Annotated[int, WithJsonSchema({"anyOf": [{"type": "integer"}, _DIGITS]})]
Bandwidth = Annotated[
    int | None,
    BeforeValidator(_size),
    WithJsonSchema(
        {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^([0-9]{1,9}[KMG]?B?)?$"}, {"type": "null"}]}
    ),
]


class AlluxioOptions(BaseModel):
    """How a load treats its files."""

    model_config = ConfigDict(extra="forbid")

    replicas: Number = 1
    batch_size: Number = Field(200, alias="batchSize")
    skip_if_exists: Boolean = Field(default=False, alias="skipIfExists")
    verify: Boolean = False
    bandwidth: Bandwidth = Field(None, le=MAX_INT, description="Bytes per second and worker, or a size.")
    file_filter_regex: str | None = Field(
        None, max_length=1000, validation_alias=AliasChoices("fileFilterRegx", "fileFilterRegex")
    )
    partial_listing: Boolean = Field(default=True, alias="partialListing", description="Listing is always streamed.")
    load_metadata_only: Boolean = Field(default=False, alias="loadMetadataOnly")
    priority: Annotated[Priority, BeforeValidator(_lower)] = Field(Priority.NORMAL, description="Preheat's own.")

    def to_options(self) -> JobOptions:
        """Return the options as the coordinator takes them."""
        return JobOptions(
            replicas=self.replicas,
            batch_size=self.batch_size,
            skip_if_exists=self.skip_if_exists,
            verify=self.verify,
            bandwidth=self.bandwidth,
            file_filter_regex=self.file_filter_regex or None,
            load_metadata_only=self.load_metadata_only,
            priority=self.priority,
        )
