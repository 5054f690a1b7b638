"""What has become of a trigger's task, as Airflow says."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async

_ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
"""States of a task that nobody runs again by itself."""


async def task_has_ended(task: Any) -> bool:
    """Ask Airflow for a task's state: it stays deferred if its trigger is moved, and is to run if cleared.

    Args:
        task: the trigger's ``task_instance``; nothing is known of the task of a trigger that has none.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance  # noqa: PLC0415 - heavy

    if task is None:
        return False
    states = await sync_to_async(RuntimeTaskInstance.get_task_states)(
        dag_id=task.dag_id, task_ids=[task.task_id], run_ids=[task.run_id], map_index=task.map_index
    )
    return bool(states) and all(state in _ENDED for state in states.get(task.run_id, {}).values())
