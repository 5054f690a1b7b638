"""What waits for a job while its task is deferred."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from importlib import import_module
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_preheat._task_state import on_kill_called, task_has_ended
from airflow_preheat._watch import AFTER_CANCEL, JobWait, JobWatch
from airflow_preheat.dataset_trigger import DatasetWarmTrigger
from airflow_preheat.drift_trigger import DatasetDriftTrigger
from airflow_preheat.exceptions import PreheatError
from airflow_preheat.jobs import Claim

__all__ = ["DatasetDriftTrigger", "DatasetWarmTrigger", "PreloadTrigger"]


class PreloadTrigger(BaseTrigger):
    """Waits until a job has ended, and fires once with a :class:`~airflow_preheat._watch.JobEvent`.

    It claims the job first. Airflow calls ``on_kill`` not only if a user ends the task, but also if it moves the
    trigger to another triggerer or starts the task's next try: those claim the job anew, and this trigger's
    cancel comes to nothing.

    Args:
        wait: the fields of :class:`~airflow_preheat._watch.JobWait`, by name.
    """

    def __init__(self, **wait: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.wait = JobWait(**wait)
        self._claim: Claim | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments to make the trigger again, JSON primitives only."""
        return f"{type(self).__module__}.{type(self).__qualname__}", asdict(self.wait)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Claim the job and wait for it; a coordinator that restarts meanwhile is waited for as well."""
        await asyncio.to_thread(import_module, "airflow_preheat.async_hooks")  # 0.1 s that would block the event loop
        from airflow_preheat.async_hooks import PreheatAsyncHook  # noqa: PLC0415 - workers defer without aiohttp

        self._claim = self.wait.claim()
        async with on_kill_called(self), PreheatAsyncHook(self.wait.preheat_conn_id) as hook:
            event = await hook.wait_for_job(JobWatch(wait=self.wait, claim=self._claim))
        if event["status"] == "ready":
            self._claim = None  # the job goes on, whatever becomes of the task
        await asyncio.sleep(max(0.0, self.wait.not_before - time.time()))
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Cancel the job, if it can be done: the task has ended for its user either way.

        An Alluxio has no fences that make a wrong cancel harmless: there, only if the task has really ended.
        """
        from airflow_preheat.async_hooks import PreheatAsyncHook  # noqa: PLC0415 - workers defer without aiohttp

        if not self.wait.cancel_on_kill or self._claim is None:
            return
        try:
            async with PreheatAsyncHook(self.wait.preheat_conn_id) as hook:
                if not ((await hook.dialect()).fences or await task_has_ended(self.task_instance)):
                    self.log.info("Preheat job %s is left alone: its task goes on elsewhere.", self.wait.job_id)
                    return
                await hook.cancel(self._claim)
        except PreheatError as error:
            self.log.warning("Preheat job %s could not be cancelled: %s", self.wait.job_id, error)
        else:
            self.log.info("Preheat job %s was cancelled. %s", self.wait.job_id, AFTER_CANCEL)
