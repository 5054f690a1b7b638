"""What the operators need of the task that runs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TypeAlias

from airflow.providers.common.compat.sdk import Context, conf

LEASE_SECONDS = 1800.0
"""How long a job goes on by default without a sign of life: longer than a triggerer is away for an update."""
BACKSTOP = timedelta(minutes=2)
"""How long after the deadline Airflow itself ends a deferral, if no triggerer is alive that would."""

LateCallback: TypeAlias = Callable[[Context], object]


def tell(
    callbacks: LateCallback | Sequence[LateCallback] | None, context: Context, report: Callable[[str], object]
) -> None:
    """Call somebody's functions; one that fails is reported and changes nothing, as with Airflow's own callbacks."""
    for callback in [callbacks] if callable(callbacks) else callbacks or ():
        try:
            callback(context)
        except Exception:  # noqa: BLE001 - somebody else's code
            report("on_late_callback failed; the task waits on.")


def submit_key(context: Context, *parts: str) -> str:
    """Return the idempotency key of a try's submit; the parts tell it from the others of the try."""
    task_instance = context["ti"]
    return "-".join(filter(None, ("airflow", str(task_instance.id), str(task_instance.try_number), *parts)))


def instance_of(context: Context) -> tuple[str, str, str, int]:
    """Return the DAG, the run, the task and its map index, which is -1 of one that is not mapped."""
    task = context["ti"]
    return task.dag_id, task.run_id, task.task_id, -1 if task.map_index is None else task.map_index


def waiter_of(context: Context) -> str:
    """Name the task instance, without the try: the next one takes the place of the one before."""
    return "/".join(map(str, instance_of(context)))


def report_seconds() -> float:
    """Return how long a worker may take to report that a task deferred: it looks once per heartbeat."""
    return float(conf.getint("workers", "min_heartbeat_interval", fallback=5)) + 1.0
