"""What sensors look at: whether a job has ended, or a dataset is warm. No I/O, see :mod:`._dialects_base`.

A look is plain values, so that a trigger can be stored with it, and says by a conversation with the coordinator how
things stand. Poking sensors and triggers have the same ones, and so find the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, Literal, Protocol, TypedDict, cast

from airflow_preheat import _client
from airflow_preheat._client import Call
from airflow_preheat._dialects_base import Dialect, Talk
from airflow_preheat._endpoint import Endpoint
from airflow_preheat.exceptions import (
    PreheatJobFailedError,
    PreheatJobStoppedError,
    PreheatRequestError,
    PreheatVersionUnknownError,
)
from airflow_preheat.jobs import ENDED, Job, Tally, explain, human_size, progress, summarize


class Warmth(TypedDict):
    """The fields of the answer to ``GET /v1/warmth`` that the provider reads."""

    path: str
    version: str
    source: Literal["version", "pin", "inventory", "listing"]
    inventory: str | None
    expected: Tally
    hot: Tally
    hotFraction: float
    complete: bool
    reason: str


class WarmthSummary(TypedDict):
    """What is worth keeping of a warm dataset: small enough for XCom and for an asset event."""

    path: str
    dataset_version: str
    hot_fraction: float
    files: int
    bytes: int


class Listed(TypedDict):
    """The fields of an inventory in the answer to ``GET /v1/inventories`` that the provider reads."""

    id: str
    path: str
    listedAt: str
    pinned: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """How things stand."""

    result: Mapping[str, Any] | None = None
    """What to return; ``None`` while it is to be waited for."""
    note: str
    """For the log, and for the message if nobody waits any longer."""


class Look(Protocol):
    """What to look at."""

    def talk(self, endpoint: Endpoint, dialect: Dialect, wait: float) -> Talk[Finding]:
        """Say how things stand; let the coordinator wait for up to ``wait`` seconds first, if it can.

        Raises:
            PreheatError: it cannot come true any more.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class JobLook:
    """The end of a job: of one, or of the last load of a path."""

    job_id: str | None = None
    path: str | None = None
    submitted_after: str | None = None
    """Of a path's jobs, those submitted earlier do not count; ISO 8601 with an offset."""

    def talk(self, endpoint: Endpoint, dialect: Dialect, wait: float) -> Talk[Finding]:  # noqa: ARG002 - as Look has it
        """Return the job's summary once it has succeeded.

        Raises:
            PreheatJobFailedError: the job ended FAILED.
            PreheatJobStoppedError: somebody stopped it.
            PreheatJobNotFoundError: the coordinator does not know it; of a path there may still come one.
        """
        if self.job_id is not None:
            job: Job | None = yield from dialect.get_job(self.job_id, wait=0.0, after=None)
        else:
            job = yield from dialect.last_load(cast("str", self.path))
        if job is not None and job["state"] not in ENDED and wait > 0:
            job = yield from dialect.get_job(job["id"], wait=wait, after=_client.UNTIL_ENDED)
        return self._found(job)

    def _found(self, job: Job | None) -> Finding:
        if job is None or self._is_earlier(job):
            return Finding(note=f"There is no load of {self.path} yet.")
        if job["state"] == "FAILED":
            raise PreheatJobFailedError(explain(job))
        if job["state"] == "STOPPED":
            raise PreheatJobStoppedError(explain(job))
        note = f"Preheat job {job['id']} is {progress(job)}"
        return Finding(result=cast("dict[str, Any]", summarize(job)) if job["state"] in ENDED else None, note=note)

    def _is_earlier(self, job: Job) -> bool:
        submitted_at = job.get("submittedAt")
        if self.submitted_after is None or submitted_at is None:
            return False
        return datetime.fromisoformat(submitted_at) < datetime.fromisoformat(self.submitted_after)


@dataclass(frozen=True, kw_only=True, slots=True)
class WarmthLook:
    """The share of a dataset that is hot, as the workers say it now."""

    path: str
    min_hot_fraction: float = 1.0
    version: str | None = None
    """Of which dataset version; by default of the pinned one, or else of the last load."""

    def talk(self, endpoint: Endpoint, dialect: Dialect, wait: float) -> Talk[Finding]:  # noqa: ARG002 - it takes none
        """Return a summary once enough of the dataset is hot.

        Raises:
            PreheatRequestError: the coordinator is an Alluxio, which cannot say it.
        """
        try:
            warmth = yield from ask_warmth(endpoint, dialect, self.path, self.version)
        except PreheatVersionUnknownError as error:
            return Finding(note=str(error))
        return Finding(result=self.result(warmth), note=describe(warmth))

    def result(self, warmth: Warmth) -> Mapping[str, Any] | None:
        """Return the summary of a dataset that is warm enough; what has no objects never is."""
        if not warmth["expected"]["files"] or warmth["hotFraction"] < self.min_hot_fraction:
            return None
        return cast("dict[str, Any]", summary_of(warmth))


def ask_warmth(endpoint: Endpoint, dialect: Dialect, path: str, version: str | None) -> Talk[Warmth]:
    """Ask how warm a dataset is.

    Raises:
        PreheatVersionUnknownError: the coordinator does not know this dataset version, or not yet.
        PreheatRequestError: it is an Alluxio, which cannot say it.
    """
    _check(endpoint, dialect)
    query = {"path": path} | ({"version": version} if version else {})
    call = Call(method="GET", path="/v1/warmth", query=query)
    reply = yield call
    if reply.status == HTTPStatus.CONFLICT:
        raise PreheatVersionUnknownError(str(_client.refusal(endpoint, call, reply)))
    return cast("Warmth", _client.decode(endpoint, call, reply))


def ask_inventories(endpoint: Endpoint, dialect: Dialect) -> Talk[list[Listed]]:
    """Ask what the last loads listed, and what is pinned; raises as :func:`ask_warmth`."""
    _check(endpoint, dialect)
    call = Call(method="GET", path="/v1/inventories")
    reply = yield call
    return cast("list[Listed]", _client.decode(endpoint, call, reply)["inventories"])


def expected_of(inventories: Iterable[Listed], path: str) -> Listed | None:
    """Return from what the coordinator knows which objects a path has: the pinned inventory, or else the last one."""
    covering = [item for item in inventories if _covers(item["path"], path)]
    pinned = [item for item in covering if item["pinned"]]
    if pinned:
        return max(pinned, key=lambda item: len(item["path"]))
    return max(covering, key=lambda item: datetime.fromisoformat(item["listedAt"]), default=None)


def summary_of(warmth: Warmth) -> WarmthSummary:
    """Return what is worth keeping."""
    return {
        "path": warmth["path"],
        "dataset_version": warmth["version"],
        "hot_fraction": warmth["hotFraction"],
        "files": warmth["expected"]["files"],
        "bytes": warmth["expected"]["bytes"],
    }


def describe(warmth: Warmth) -> str:
    """Return a line for the task's log, e.g. ``s3://b/x/ is 98.00 % hot: 98 of 100 files, …``."""
    hot, expected = warmth["hot"], warmth["expected"]
    percent = int(warmth["hotFraction"] * 10_000) / 100  # rounded down: what is not hot shows
    line = (
        f"{warmth['path']} is {percent:.2f} % hot: {hot['files']} of {expected['files']} files, "
        f"{human_size(hot['bytes'])} of {human_size(expected['bytes'])}, of the version {warmth['version']} "
        f"(from the {warmth['source']})."
    )
    return f"{line} {warmth['reason']}".strip()


def _check(endpoint: Endpoint, dialect: Dialect) -> None:
    if dialect.name != "preheat":
        raise PreheatRequestError(
            f"The Airflow connection {endpoint.conn_id!r} leads to an Alluxio, which does not tell how warm a dataset "
            "is. Wait for its load with a PreloadSensor."
        )


def _covers(listed: str, path: str) -> bool:
    """Whether a path is at or below one that was listed; see ``preheat.inventory.covering_paths``."""
    return path == listed or path.startswith(listed if listed.endswith("/") else f"{listed}/")
