"""What waits for a job while its task is deferred."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_preheat._watch import AFTER_CANCEL, JobWatch
from airflow_preheat.exceptions import PreheatError
from airflow_preheat.jobs import Claim


class PreloadTrigger(BaseTrigger):
    """Waits until a job has ended, and fires once with a :class:`~airflow_preheat._watch.JobEvent`.

    It claims the job first. Airflow calls ``on_kill`` not only if a user ends the task, but also if it moves the
    trigger to another triggerer or starts the task's next try: those claim the job anew, and this trigger's
    cancel comes to nothing.

    Its arguments hold no secret: they stand in Airflow's database.

    Args:
        job_id: the job.
        waiter: the task instance, in whose name the job is claimed.
        preheat_conn_id: the Airflow connection of the coordinator.
        deadline: seconds since the epoch; absolute, since the trigger may be moved to another triggerer.
        poll_interval: seconds between two lines of progress in the log; the job's end is noticed at once.
        outage_tolerance: seconds that the coordinator may be away before the wait is given up.
        not_before: seconds since the epoch before which the event is held back. Airflow's scheduler fails a task
            whose trigger fires before its worker has reported that it deferred (apache/airflow#71580).
        cancel_on_kill: cancel the job if a user marks the task as failed or succeeded, or clears it. Only
            Airflow 3.3 and later tell the trigger.
    """

    def __init__(
        self,
        *,
        job_id: str,
        waiter: str,
        preheat_conn_id: str,
        deadline: float,
        poll_interval: float,
        outage_tolerance: float,
        cancel_on_kill: bool,
        not_before: float = 0.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_id = job_id
        self.waiter = waiter
        self.preheat_conn_id = preheat_conn_id
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.outage_tolerance = outage_tolerance
        self.cancel_on_kill = cancel_on_kill
        self.not_before = not_before
        self._claim: Claim | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments to make the trigger again, JSON primitives only."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "job_id": self.job_id,
                "waiter": self.waiter,
                "preheat_conn_id": self.preheat_conn_id,
                "deadline": self.deadline,
                "poll_interval": self.poll_interval,
                "outage_tolerance": self.outage_tolerance,
                "cancel_on_kill": self.cancel_on_kill,
                "not_before": self.not_before,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Claim the job and wait for it; a coordinator that restarts meanwhile is waited for as well."""
        from airflow_preheat.async_hooks import PreheatAsyncHook  # noqa: PLC0415 - workers defer without aiohttp

        self._claim = Claim(job_id=self.job_id, waiter=self.waiter)
        watch = JobWatch(
            claim=self._claim,
            deadline=self.deadline,
            poll_interval=self.poll_interval,
            outage_tolerance=self.outage_tolerance,
        )
        async with PreheatAsyncHook(self.preheat_conn_id) as hook:
            event = await hook.wait_for_job(watch)
        await asyncio.sleep(max(0.0, self.not_before - time.time()))
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Cancel the job, if it can be done: the task has ended for its user either way."""
        from airflow_preheat.async_hooks import PreheatAsyncHook  # noqa: PLC0415 - workers defer without aiohttp

        if not self.cancel_on_kill or self._claim is None:
            return
        try:
            async with PreheatAsyncHook(self.preheat_conn_id) as hook:
                await hook.cancel(self._claim)
        except PreheatError as error:
            self.log.warning("Preheat job %s could not be cancelled: %s", self.job_id, error)
        else:
            self.log.info("Preheat job %s was cancelled. %s", self.job_id, AFTER_CANCEL)
