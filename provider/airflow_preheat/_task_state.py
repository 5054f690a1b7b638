"""What has become of a trigger's task, as Airflow says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from airflow.triggers.base import BaseTrigger
from asgiref.sync import sync_to_async

_ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
"""States of a task that nobody runs again by itself."""


@asynccontextmanager
async def on_kill_called(trigger: Any) -> AsyncIterator[None]:
    """Call a trigger's ``on_kill`` if it is cancelled because its task has ended; Airflow itself does from 3.3 on."""
    try:
        yield
    except asyncio.CancelledError:
        if not hasattr(BaseTrigger, "on_kill") and await task_has_ended(trigger.task_instance):
            await trigger.on_kill()
        raise


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
