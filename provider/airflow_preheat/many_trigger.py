"""What waits for many jobs while their one task is deferred."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, cast

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_preheat._many import Outcomes, Quorum, given_up
from airflow_preheat._task_state import on_kill_called
from airflow_preheat._watch import JobEvent
from airflow_preheat.triggers import PreloadTrigger, cancel_all


class PreloadManyTrigger(BaseTrigger):
    """Waits until several jobs have ended, or too many have failed, and fires once.

    Args:
        wait: the fields of a :class:`~airflow_preheat._watch.JobWait` by name, those that all jobs share.
        jobs: of each that is waited for the id, what its waiter's name has behind the task's, and ``first``. They are
            so short because all of them are in one field of Airflow's database.
        outcomes: how the others have ended, and ``None`` in the place of each that is waited for, in the same order.
        quorum: the fields of a :class:`~airflow_preheat._many.Quorum`.
    """

    def __init__(
        self,
        *,
        wait: Mapping[str, Any],
        jobs: Sequence[tuple[str, str, int | None]],
        outcomes: Sequence[Mapping[str, Any] | None],
        quorum: Mapping[str, Any],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.wait = wait
        self.jobs = [list(job) for job in jobs]
        self.outcomes = outcomes
        self.quorum = quorum
        self._waiting = [
            PreloadTrigger(**{**wait, "job_id": job_id, "waiter": f"{wait['waiter']}/{key}", "first": first})
            for job_id, key, first in jobs
        ]

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments to make the trigger again, JSON primitives only."""
        arguments = {"wait": self.wait, "jobs": self.jobs, "outcomes": self.outcomes, "quorum": self.quorum}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Claim the jobs and wait for them; a coordinator that restarts meanwhile is waited for as well."""
        outcomes, quorum = cast("Outcomes", list(self.outcomes)), Quorum(**self.quorum)
        places = [number for number, outcome in enumerate(outcomes) if outcome is None]
        tasks = {
            asyncio.ensure_future(_event(trigger)): place for trigger, place in zip(self._waiting, places, strict=True)
        }
        try:
            async with on_kill_called(self):
                while not quorum.is_over(outcomes):
                    pending = [task for task, place in tasks.items() if outcomes[place] is None]
                    done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        outcomes[tasks[task]] = task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for trigger, place in zip(self._waiting, places, strict=True):
            outcomes[place] = outcomes[place] or given_up(trigger.wait.job_id)
        yield TriggerEvent({"outcomes": outcomes})  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Cancel the jobs, if it can be done; see :meth:`airflow_preheat.triggers.PreloadTrigger.on_kill`."""
        await cancel_all(self._waiting, self.task_instance)


async def _event(trigger: PreloadTrigger) -> JobEvent:
    return cast("JobEvent", (await anext(trigger.run())).payload)
