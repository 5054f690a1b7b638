"""What waits for a job while its task is deferred."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_preheat._task_state import on_kill_called, task_has_ended
from airflow_preheat._watch import AFTER_CANCEL, JobWait, JobWatch
from airflow_preheat.dataset_trigger import DatasetWarmTrigger
from airflow_preheat.drift_trigger import DatasetDriftTrigger
from airflow_preheat.exceptions import PreheatError
from airflow_preheat.jobs import Claim

if TYPE_CHECKING:
    from airflow_preheat.async_hooks import PreheatAsyncHook

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
        await cancel_all([self], self.task_instance)


async def cancel_all(triggers: Sequence[PreloadTrigger], task_instance: object) -> None:
    """Cancel the jobs that triggers of one task wait for, as :meth:`PreloadTrigger.on_kill` does, by one session."""
    from airflow_preheat.async_hooks import PreheatAsyncHook  # noqa: PLC0415 - workers defer without aiohttp

    claims = [each._claim for each in triggers if each.wait.cancel_on_kill and each._claim is not None]  # noqa: SLF001 - of this module
    if not claims:
        return
    log = triggers[0].log
    try:
        async with PreheatAsyncHook(triggers[0].wait.preheat_conn_id) as hook:
            if (await hook.dialect()).fences or await task_has_ended(task_instance):
                await asyncio.gather(*(_cancel(hook, claim) for claim in claims))
            else:
                log.info("Left alone, as their task goes on elsewhere: %s", _names(claims))
    except PreheatError as error:
        log.warning("Could not be cancelled: %s. %s", _names(claims), error)


async def _cancel(hook: PreheatAsyncHook, claim: Claim) -> None:
    try:
        await hook.cancel(claim)
    except PreheatError as error:
        hook.log.warning("Preheat job %s could not be cancelled: %s", claim.job_id, error)
    else:
        hook.log.info("Preheat job %s was cancelled. %s", claim.job_id, AFTER_CANCEL)


def _names(claims: Sequence[Claim]) -> str:
    return ", ".join(f"Preheat job {claim.job_id}" for claim in claims)
