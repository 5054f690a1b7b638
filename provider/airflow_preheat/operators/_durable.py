"""The job of a task, kept where Airflow 3.3 and later keep the state of tasks: it survives retries and clears.

With an earlier Airflow nothing is kept; a job that still runs is joined then by its paths.
"""

from __future__ import annotations

from typing import Any, cast

from airflow.providers.common.compat.sdk import Context

from airflow_preheat.jobs import JobSpec

_KEY = "preheat_job"
_MANY_KEY = "preheat_jobs"


def remember(context: Context, spec: JobSpec, job_id: str) -> None:
    """Keep the id of the job that a task has submitted."""
    if (store := _store(context)) is not None:
        store.set(_KEY, {"job_id": job_id, "spec": spec.digest()})


def recall(context: Context, spec: JobSpec) -> str | None:
    """Return the id of the job that this task has submitted, if that was for the same."""
    store = _store(context)
    kept = store.get(_KEY) if store is not None else None
    return str(kept["job_id"]) if kept and kept["spec"] == spec.digest() else None


def forget(context: Context) -> None:
    """Let the task start anew when it is run again."""
    if (store := _store(context)) is not None:
        store.delete(_KEY)


def remember_all(context: Context, job_ids: dict[str, str]) -> None:
    """Keep the ids of the jobs that a task has submitted, each by the key of what it does."""
    if (store := _store(context)) is not None:
        store.set(_MANY_KEY, job_ids)


def recall_all(context: Context) -> dict[str, str]:
    """Return the ids of the jobs that this task has submitted."""
    store = _store(context)
    return dict(store.get(_MANY_KEY) or {}) if store is not None else {}


def forget_all(context: Context) -> None:
    """Let the task start anew with all of its jobs when it is run again."""
    if (store := _store(context)) is not None:
        store.delete(_MANY_KEY)


def _store(context: Context) -> Any:
    return cast("dict[str, Any]", context).get("task_state_store")
