"""What the native API takes, as pydantic models; the JSON is camelCase. What it gives: :mod:`preheat.api._answers`."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

from preheat.coordinator import Claim as JobClaim
from preheat.errors import InvalidRequest
from preheat.jobs import JobOptions, JobSpec, JobType, Priority
from preheat.units import parse_size

MAX_INT = (1 << 53) - 1
"""The largest integer that every JSON reader reads exactly."""
_MAX_PATHS_BYTES = 256 << 10
"""A job's record, paths included, is one value of the engine, which takes 1 MiB."""
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m)?", re.ASCII)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, None: 1.0}
_EXAMPLE: JsonDict = {"paths": ["s3://datasets/digits/"], "options": {"verify": True}}


def _size(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return parse_size(value, field="bandwidth") if value else None
    except OverflowError as error:
        raise InvalidRequest("bandwidth is larger than any number.") from error


def _seconds(value: Any) -> Any:
    if isinstance(value, float):  # a default
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("write a number of seconds, or for example 30s, 500ms or 1m")
    return float(match[1]) * _UNITS[match[2]]


def _in_utc(moment: datetime) -> datetime:
    try:
        in_utc = moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("it is before the year 1 or after 9999") from error
    if in_utc.year < 1970:
        raise ValueError("it is before 1970")
    return in_utc


def _writable(text: str) -> str:
    """Refuse what JSON can spell and UTF-8 cannot: half of a surrogate pair."""
    text.encode()
    return text


Int = Annotated[int, Strict()]
"""Neither a text nor true."""
Flag = Annotated[bool, Strict()]
SIZE_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": MAX_INT},
            {"type": "string", "pattern": r"^[1-9][0-9]{0,5}([KMGT]i?)?B?$"},
            {"type": "null"},
        ]
    },
    mode="validation",
)
"""A number of bytes, a size such as 100MiB, or null."""
Bandwidth = Annotated[
    Annotated[Int, Field(ge=1, le=MAX_INT)] | None,
    BeforeValidator(_size),
    SIZE_SCHEMA,
    Field(
        description="Bytes per second and worker, a number or a size such as 100MiB; null is unlimited.",
        examples=["100MiB"],
    ),
]
Duration = Annotated[
    float,
    BeforeValidator(_seconds),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]{1,9}(\.[0-9]{1,9})?(ms|s|m)?$", "examples": ["30s"]}),
]
"""Seconds, in a query."""


class Schema(BaseModel):
    """camelCase in JSON, either spelling accepted, unknown fields refused."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", allow_inf_nan=False)


class Options(Schema):
    """How a job treats its objects."""

    replicas: Int = Field(1, ge=1, le=10_000, description="Workers that hold each object.")
    batch_size: Int = Field(500, ge=1, le=10_000, description="Objects in one request to a worker.")
    skip_if_exists: Flag = Field(default=True, description="Leave a cached copy of the same version alone.")
    verify: Flag = Field(default=False, description="Read every entry back from its owners before the job may succeed.")
    bandwidth: Bandwidth = None
    file_filter_regex: str | None = Field(
        None,
        max_length=1000,
        description="Only keys that this matches in full, in RE2's syntax.",
        examples=[".*[.]parquet"],
    )
    min_hot_fraction: float | None = Field(
        None, ge=0, le=1, description="Succeed with failed files if at least this share of the files is hot."
    )
    max_failed_files: Int | None = Field(None, ge=0, le=MAX_INT, description="Succeed with up to so many failed files.")
    deadline: Annotated[AwareDatetime, AfterValidator(_in_utc)] | None = Field(
        None, description="Fail if the job has not ended by then.", examples=["2030-01-31T06:00:00+01:00"]
    )
    priority: Priority = Field(Priority.NORMAL, description="Which job goes first where several wait.")
    load_metadata_only: Flag = Field(default=False, description="Make sizes and versions known; fetch nothing.")

    def to_options(self) -> JobOptions:
        """Return the options as the coordinator takes them."""
        deadline = self.deadline.timestamp() if self.deadline else None
        return JobOptions(**self.model_dump(exclude={"deadline"}), deadline=deadline)


class JobBody(Schema):
    """What a job is to do."""

    type: JobType = JobType.LOAD
    path: str | None = Field(None, description="Short for paths with one element.")
    paths: list[str] = Field(default_factory=list, max_length=1000)
    index: str | None = Field(None, description="A file of the under store that names the paths, one a line.")
    destination: str | None = Field(None, description="Where a copy or a move writes to.")
    options: Options = Options()

    @model_validator(mode="after")
    def _some_path(self) -> Self:
        if sum((self.path is not None, bool(self.paths), self.index is not None)) != 1:
            raise ValueError("Give one of path, paths and index, and not an empty list")
        if sum(len(path.encode()) for path in self.paths) > _MAX_PATHS_BYTES:
            raise ValueError(f"paths has more than {_MAX_PATHS_BYTES >> 10} KiB: name them in an index file")
        return self

    def to_spec(self) -> JobSpec:
        """Return the job as the coordinator takes it."""
        paths = [self.path] if self.path is not None else self.paths
        return JobSpec(
            type=self.type,
            paths=tuple(dict.fromkeys(paths)),
            index=self.index or "",
            destination=self.destination or "",
            options=self.options.to_options(),
        )


Text = Annotated[str, AfterValidator(_writable)]
Waiter = Annotated[Text, Field(min_length=1, max_length=1024, description="A stable name, e.g. of a task instance.")]
Fence = Annotated[Text, Field(min_length=8, max_length=128, description="Made anew by each process that waits.")]


Lease = Annotated[
    Annotated[float, Strict(), Field(ge=10, le=7 * 86400)] | None,
    Field(description="Seconds for which the claim holds without a renewal; null is for ever."),
]


class Submit(JobBody):
    """A job to be done, and who waits for it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    waiter: Waiter | None = None
    fence: Fence | None = None
    lease: Lease = None

    @model_validator(mode="after")
    def _whole_claim(self) -> Self:
        if (self.waiter is None) is not (self.fence is None):
            raise ValueError("Give both waiter and fence, or neither")
        if self.lease is not None and self.waiter is None:
            raise ValueError("A lease is a claim's: give waiter and fence too")
        return self

    def to_claim(self) -> JobClaim | None:
        """Return who waits for the job from its first moment on."""
        return JobClaim(waiter=self.waiter, fence=self.fence, lease=self.lease) if self.waiter and self.fence else None


class Claim(Schema):
    """A waiter and its present fence."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"waiter": "my_dag/run-1/warm/-1", "fence": "5b1f09c277e14a5c"}]}
    )

    waiter: Waiter
    fence: Fence


class NewClaim(Claim):
    """A waiter, its new fence, and how long the claim holds."""

    lease: Lease = None

    def to_claim(self) -> JobClaim:
        """Return the claim as the coordinator takes it."""
        return JobClaim(waiter=self.waiter, fence=self.fence, lease=self.lease)


class Change(Schema):
    """What can change while a job runs."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"bandwidth": "200MiB", "priority": "high"}]})

    bandwidth: Bandwidth = None
    priority: Priority | None = None

    @model_validator(mode="after")
    def _some_change(self) -> Self:
        if "bandwidth" not in self.model_fields_set and self.priority is None:
            raise ValueError("Give bandwidth, priority or both")
        return self
