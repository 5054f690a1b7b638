"""What the end of a wait means for a task. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from airflow_preheat._watch import JobEvent, Status
from airflow_preheat.exceptions import (
    PreheatDeadlineError,
    PreheatError,
    PreheatJobFailedError,
    PreheatJobNotFoundError,
    PreheatJobStoppedError,
    PreheatUnavailableError,
)
from airflow_preheat.jobs import JobSummary, human_size

_ERRORS: Mapping[Status, type[PreheatError]] = {
    "failed": PreheatJobFailedError,
    "unmet": PreheatJobFailedError,
    "stopped": PreheatJobStoppedError,
    "deadline": PreheatDeadlineError,
    "lost": PreheatJobNotFoundError,
    "abandoned": PreheatJobStoppedError,
    "unavailable": PreheatUnavailableError,
    "error": PreheatError,
}
LOST = frozenset({"lost", "abandoned"})
"""How a wait ends whose job may be submitted again."""
LEFT = frozenset({"cancelled", "deadline", "unmet"})
"""How a wait ends whose job goes on, unless it is cancelled."""
_SUCCESS: Mapping[Status, str] = {"succeeded": "succeeded", "ready": "has its first files hot, and goes on"}


def checked(event: Mapping[str, Any] | None) -> JobEvent:
    """Return the trigger's event, if it is one of ours: it has been through Airflow's database.

    Raises:
        PreheatError: it is not.
    """
    if not event or not event.get("job_id") or event.get("status") not in {"late", *_SUCCESS, *_ERRORS}:
        raise PreheatError(f"The trigger sent an event that this version of the provider does not know: {event!r}")
    return cast("JobEvent", event)


def is_success(outcome: JobEvent) -> bool:
    """Say whether a job did what was waited for."""
    return outcome["status"] in _SUCCESS


def success(outcome: JobEvent) -> JobSummary:
    """Return the summary of a job that did what was waited for.

    Raises:
        PreheatError: it did not.
    """
    if not is_success(outcome) or outcome["job"] is None:
        raise error(outcome)
    return outcome["job"]


def error(outcome: JobEvent) -> PreheatError:
    """Return what is wrong with a job."""
    return _ERRORS.get(outcome["status"], PreheatError)(outcome["message"])


def describe(outcome: JobEvent, summary: JobSummary) -> str:
    """Return a line for the log about a success."""
    return (
        f"Preheat job {summary['job_id']} {_SUCCESS[outcome['status']]}: {summary['files']} files, "
        f"{human_size(summary['bytes'])}; {summary['loaded']} done, {summary['skipped']} skipped, "
        f"{summary['failed']} failed; dataset version {summary['dataset_version']}"
    )
