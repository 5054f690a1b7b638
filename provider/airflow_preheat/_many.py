"""Waiting for several jobs at once: when to go on, and what comes of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, TypedDict, cast

from airflow_preheat._watch import JobEvent, Status
from airflow_preheat.assets import warm_asset
from airflow_preheat.exceptions import PreheatError, PreheatRequestError, PreheatUnavailableError
from airflow_preheat.jobs import JobSummary

Outcomes = list[JobEvent | None]
"""How the wait for each job has ended; ``None`` while it goes on."""
_GOOD = ("succeeded", "ready")
_SHOWN_CHARACTERS = 500


class BriefSummary(TypedDict):
    """What a :class:`~airflow_preheat.jobs.JobSummary` says that the dataset's name and the job's page do not.

    A receipt has 900 bytes and is left to the Asset's event and :meth:`~airflow_preheat.hooks.PreheatHook.receipt`.
    """

    job_id: str
    url: str
    files: int
    bytes: int
    failed: int
    dataset_version: str | None


class DatasetResult(TypedDict):
    """What became of one dataset."""

    dataset: str
    status: str
    """``succeeded``, ``ready``, ``cancelled``, or how it failed."""
    message: str
    job: BriefSummary | None


class ManySummary(TypedDict):
    """What a task returns that warms many datasets."""

    succeeded: int
    failed: int
    datasets: list[DatasetResult]


@dataclass(frozen=True, kw_only=True, slots=True)
class Quorum:
    """How many of the datasets have to be warm."""

    count: int
    """How many there are."""
    wanted: int
    """How many have to be warm, at least."""
    fail_fast: bool = False
    """Whether to give up as soon as that cannot be any more."""

    @classmethod
    def of(cls, count: int, min_succeeded: float | str | None, *, fail_fast: bool) -> Quorum:
        """Read ``min_succeeded``: a number of datasets, a share below 1, or all of them if there is none.

        Raises:
            PreheatRequestError: it is neither, or more than there are.
        """
        wanted = float(count) if min_succeeded in (None, "") else _number(min_succeeded)
        if 0 < wanted < 1:
            wanted = float(ceil(wanted * count))
        if not wanted.is_integer() or not 0 <= wanted <= count:
            raise PreheatRequestError(
                f"min_succeeded={min_succeeded!r} is neither a number of datasets, of which there are {count}, nor a "
                "share between 0 and 1."
            )
        return cls(count=count, wanted=int(wanted), fail_fast=fail_fast)

    def is_over(self, outcomes: Outcomes) -> bool:
        """Say whether there is nothing to wait for any more."""
        return None not in outcomes or (self.fail_fast and not self.can_be_met(outcomes))

    def can_be_met(self, outcomes: Outcomes) -> bool:
        """Say whether enough datasets are warm, or may still become so."""
        return sum(outcome is None or is_good(outcome) for outcome in outcomes) >= self.wanted

    def is_met(self, outcomes: Outcomes) -> bool:
        """Say whether enough datasets are warm."""
        return sum(is_good(outcome) for outcome in outcomes) >= self.wanted


def _number(value: float | str | None) -> float:
    try:
        return float(value or 0)
    except ValueError:
        return -1.0  # refused as such a number is


def given_up(job_id: str) -> JobEvent:
    """Return the outcome of a job that is not waited for any more."""
    return {"status": "cancelled", "job_id": job_id, "message": "Given up: too many others failed.", "job": None}


def refused(error: PreheatError) -> JobEvent:
    """Return the outcome of a submit that failed."""
    status: Status = "unavailable" if isinstance(error, PreheatUnavailableError) else "error"
    return {"status": status, "job_id": "", "message": str(error), "job": None}


def is_good(outcome: JobEvent | None) -> bool:
    """Say whether a job did what was waited for."""
    return outcome is not None and outcome["status"] in _GOOD


def summarize(names: Sequence[str], outcomes: Sequence[JobEvent]) -> ManySummary:
    """Return what became of each dataset, small enough for XCom."""
    results = [_result(name, outcome) for name, outcome in zip(names, outcomes, strict=True)]
    good = sum(map(is_good, outcomes))
    return {"succeeded": good, "failed": len(outcomes) - good, "datasets": results}


def explain(summary: ManySummary) -> str:
    """Return which datasets are not warm, and why."""
    total = summary["succeeded"] + summary["failed"]
    lines = [
        f"  {item['dataset']}: {item['status']}. {item['message']}".rstrip()
        for item in summary["datasets"]
        if item["status"] not in _GOOD
    ]
    return "\n".join([f"{summary['failed']} of {total} datasets are not warm:", *lines])


def news(sources: Sequence[Sequence[str]], outcomes: Sequence[JobEvent]) -> dict[str, dict[str, Any] | None]:
    """Return what the event of each path's Asset is to say, by its URI; ``None`` if the path is not warm.

    Args:
        sources: the paths of each dataset; some have no Asset, as those of files.
        outcomes: what became of them.
    """
    return {
        uri: {**outcome["job"], "path": path} if outcome["job"] and is_good(outcome) else None
        for paths, outcome in zip(sources, outcomes, strict=True)
        for path in paths
        if (uri := _asset_uri(path)) is not None
    }


def _asset_uri(path: str) -> str | None:
    try:
        return warm_asset(path).uri
    except ValueError:
        return None


def _result(name: str, outcome: JobEvent) -> DatasetResult:
    message = outcome["message"][:_SHOWN_CHARACTERS]
    job = _brief(outcome["job"]) if outcome["job"] else None
    return {"dataset": name, "status": outcome["status"], "message": message, "job": job}


def _brief(job: JobSummary) -> BriefSummary:
    return cast("BriefSummary", {key: job[key] for key in BriefSummary.__annotations__ if key in job})  # type: ignore[literal-required]
