"""Jobs as the coordinator's API has them, and what the provider tells people and DAGs about them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal, NotRequired, TypeAlias, TypedDict
from uuid import uuid4

from airflow_preheat.exceptions import PreheatRequestError

JobType = Literal["load", "free", "copy", "move", "persist", "replicate", "rebalance"]
JobState = Literal["WAITING", "RUNNING", "VERIFYING", "SUCCEEDED", "FAILED", "STOPPED"]
JobOptions: TypeAlias = Mapping[str, int | float | str | bool | None]
"""By their names in the API; those that are ``None`` are left to the coordinator's defaults."""
ENDED: frozenset[JobState] = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})

_POWERS = " kmgtp"
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?)(b?)(?:/s)?\s*", re.IGNORECASE)
_KIB = 1024
_THREE_DIGITS = 100
_SHOWN_FAILURES = 5


class Tally(TypedDict):
    """A count of objects and of their bytes."""

    files: int
    bytes: int


class Failure(TypedDict):
    """An object that could not be loaded."""

    path: str
    size: int
    code: str
    message: str


class Forecast(TypedDict):
    """When a running job will have ended, at its present rate."""

    finishAt: str | None
    late: bool


class Job(TypedDict):
    """The fields of the answer to ``GET /v1/jobs/{id}`` that the provider reads."""

    id: str
    type: str
    paths: list[str]
    index: NotRequired[str | None]
    state: JobState
    listed: Tally
    loaded: Tally
    skipped: Tally
    failed: Tally
    remaining: Tally
    hotFraction: float
    hotInOrder: NotRequired[int]
    hotInOrderAtMost: NotRequired[int | None]
    datasetVersion: str | None
    listingDone: bool
    forecast: NotRequired[Forecast | None]
    failures: list[Failure]
    reason: str
    abandoned: NotRequired[bool]
    submittedAt: NotRequired[str]
    receipt: NotRequired[str | None]
    url: str
    attached: bool


class JobSummary(TypedDict):
    """What a task returns: small enough for XCom and for an asset event."""

    job_id: str
    url: str
    paths: list[str]
    files: int
    bytes: int
    loaded: int
    skipped: int
    failed: int
    hot_fraction: float
    hot_in_order: NotRequired[int]
    """How many of the files are hot from the start of their order on."""
    dataset_version: str | None
    receipt: NotRequired[str | None]
    """What the job has proven by reading all of it back, signed by the coordinator (a compact JWS)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobSpec:
    """What to ask the coordinator for."""

    type: JobType
    paths: Sequence[str]
    options: JobOptions
    destination: str | None = None
    """Where a copy or a move writes to."""
    index: str | None = None
    """A file that lists the paths, in their place."""

    def as_json(self) -> dict[str, Any]:
        """Return the body of ``POST /v1/jobs``."""
        options = {name: value for name, value in self.options.items() if value is not None}
        destination = {"destination": self.destination} if self.destination is not None else {}
        what = {"paths": list(self.paths)} if self.index is None else {"index": self.index}
        return {"type": self.type, **what, "options": options, **destination}

    @property
    def source(self) -> list[str]:
        """What it is about: the paths, or the index file that lists them."""
        return list(self.paths) if self.index is None else [self.index]

    def digest(self) -> str:
        """Return a short text that is another one for another job."""
        return sha256(json.dumps(self.as_json(), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """One process that waits for a job, in the name of a task instance.

    Airflow lets a task have a second such process before it ends the first: when it moves a trigger, or a user
    clears the task. The coordinator heeds the cancel of the process that claimed the job last, and no other.
    """

    job_id: str
    waiter: str
    """The task instance, the same in all its tries."""
    fence: str = field(default_factory=lambda: str(uuid4()))
    """The process."""
    lease: float | None = None
    """For how many seconds the claim holds without a renewal; ``None`` is for ever."""

    def as_json(self) -> dict[str, Any]:
        """Return the body of ``POST /v1/jobs/{id}/claim``, and that part of a submit."""
        return self.names() | ({"lease": self.lease} if self.lease is not None else {})

    def names(self) -> dict[str, Any]:
        """Return the body of ``POST /v1/jobs/{id}/renew`` and of ``/cancel``."""
        return {"waiter": self.waiter, "fence": self.fence}


def source(job: Job) -> list[str]:
    """Return what a job is about: its paths, or the index file that lists them."""
    index = job.get("index")
    return [index] if index else job["paths"]


def summarize(job: Job) -> JobSummary:
    """Return the part of a job that is worth keeping after it."""
    ordered: dict[str, Any] = {"hot_in_order": job["hotInOrder"]} if "hotInOrder" in job else {}
    return {
        "job_id": job["id"],
        "url": job["url"],
        "paths": source(job),
        "files": job["listed"]["files"],
        "bytes": job["listed"]["bytes"],
        "loaded": job["loaded"]["files"],
        "skipped": job["skipped"]["files"],
        "failed": job["failed"]["files"],
        "hot_fraction": job["hotFraction"],
        "dataset_version": job["datasetVersion"],
        "receipt": job.get("receipt"),
        **ordered,  # type: ignore[typeddict-item]
    }


def progress(job: Job) -> str:
    """Return a line for the task's log, e.g. ``RUNNING: 900 of 1797 files, 98.0 KiB of 197 KiB``."""
    done = {key: job["loaded"][key] + job["skipped"][key] for key in ("files", "bytes")}
    listed = job["listed"]
    more = "" if job["listingDone"] else ", still listing"
    failed = f", {job['failed']['files']} failed" if job["failed"]["files"] else ""
    return (
        f"{job['state']}: {done['files']} of {listed['files']} files, "
        f"{human_size(done['bytes'])} of {human_size(listed['bytes'])}{failed}{more}"
    )


def explain(job: Job) -> str:
    """Return why a job ended without success: the coordinator's reason, the counts and the first failures."""
    listing = [f"  {item['path']}: {item['message']} ({item['code']})" for item in job["failures"][:_SHOWN_FAILURES]]
    hidden = job["failed"]["files"] - len(listing)
    more = [f"  and {hidden} more; see {job['url']}"] if listing and hidden > 0 else []
    headline = f"Preheat job {job['id']} for {', '.join(source(job))} ended {progress(job)}. {job['reason']}"
    return "\n".join([headline.strip(), *listing, *more])


def human_size(size: float) -> str:
    """Return a size in IEC units, e.g. ``1.46 GiB``."""
    if size < _KIB:
        return f"{size:.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        size /= _KIB
        if size < _KIB or unit == "PiB":
            break
    return f"{size:.3g} {unit}" if size < _THREE_DIGITS else f"{size:.0f} {unit}"


def as_int(name: str, value: int | str | None) -> int | None:
    """Read a number that may come from a template; an empty text is no number.

    Raises:
        PreheatRequestError: it is not a whole number.
    """
    if value is None or value == "":
        return None
    try:
        return int(value)
    except ValueError as error:
        raise PreheatRequestError(f"{name}={value!r} is not a whole number.") from error


def as_fraction(name: str, value: float | str | None) -> float | None:
    """Read a share that may come from a template; an empty text is none.

    Raises:
        PreheatRequestError: it is not a number from 0 to 1.
    """
    if value is None or value == "":
        return None
    try:
        fraction = float(value)
    except ValueError as error:
        raise PreheatRequestError(f"{name}={value!r} is not a number.") from error
    if not 0 <= fraction <= 1:
        raise PreheatRequestError(f"{name}={value!r} is not between 0 and 1.")
    return fraction


def as_bytes(name: str, value: object) -> int:
    """Read a size such as ``100MiB`` or a number of bytes, as the coordinator does: ``KB`` is 1000, ``KiB`` 1024.

    Raises:
        PreheatRequestError: it is not a size.
    """
    match = _SIZE.fullmatch(str(value))
    if match is None:
        raise PreheatRequestError(f"{name}={value!r} is not a size. Write for example 100MiB.")
    number, power, binary, unit = match.groups()
    base = 1000 if unit and not binary else _KIB
    return round(float(number) * float(base ** _POWERS.index(power.lower() or " ")))


def as_bool(name: str, value: object) -> bool:
    """Read a switch that may come from a template.

    Raises:
        PreheatRequestError: it is neither true nor false.
    """
    text = str(value).strip().lower()
    if text not in ("true", "false"):
        raise PreheatRequestError(f"{name}={value!r} is not a switch. Write true or false.")
    return text == "true"
