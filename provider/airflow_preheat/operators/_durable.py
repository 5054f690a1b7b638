"""The job of a task, kept where Airflow 3.3 and later keep the state of tasks: it survives retries and clears.

With an earlier Airflow nothing is kept; a job that still runs is joined then by its paths.
"""

from __future__ import annotations

from typing import Any, cast

from airflow.providers.common.compat.sdk import Context

from airflow_preheat.jobs import JobSpec

_KEY = "preheat_job"


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


def _store(context: Context) -> Any:
    return cast("dict[str, Any]", context).get("task_state_store")
