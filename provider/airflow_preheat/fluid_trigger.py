"""What waits for a Fluid DataLoad while its task is deferred."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_preheat._fluid import FluidEvent, FluidWait, FluidWatch, phase_of
from airflow_preheat._task_state import on_kill_called, task_has_ended
from airflow_preheat.exceptions import PreheatError


class FluidDataLoadTrigger(BaseTrigger):
    """Waits until a DataLoad has ended, and fires once with a :class:`~airflow_preheat._fluid.FluidEvent`.

    Airflow calls ``on_kill`` not only if a user ends the task, but also if it moves the trigger or starts the task's
    next try. So the DataLoad is deleted only if Airflow says that the task has ended.

    Args:
        wait: the fields of :class:`~airflow_preheat._fluid.FluidWait`, by name.
    """

    def __init__(self, **wait: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.wait = FluidWait(**wait)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments to make the trigger again, JSON primitives only."""
        return f"{type(self).__module__}.{type(self).__qualname__}", asdict(self.wait)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look at the DataLoad until it has ended; an API server that is away meanwhile is waited for."""
        async with on_kill_called(self):
            event = await self._ended()
        await asyncio.sleep(max(0.0, self.wait.not_before - time.time()))
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Delete the DataLoad if the task has ended and it can be done."""
        from airflow_preheat._fluid_client import AsyncDataLoads  # noqa: PLC0415 - an extra

        name = f"{self.wait.namespace}/{self.wait.name}"
        if not self.wait.delete_on_kill:
            return
        if not await task_has_ended(self.task_instance):
            self.log.info("DataLoad %s is left alone: its task goes on elsewhere.", name)
            return
        try:
            await AsyncDataLoads(self.wait).delete()
        except PreheatError as error:
            self.log.warning("DataLoad %s could not be deleted: %s", name, error)
        else:
            self.log.info("DataLoad %s was deleted.", name)

    async def _ended(self) -> FluidEvent:
        from airflow_preheat._fluid_client import AsyncDataLoads  # noqa: PLC0415 - an extra

        watch, loads, phase = FluidWatch(wait=self.wait), AsyncDataLoads(self.wait), ""
        while True:
            try:
                resource = await loads.get()
                event = watch.seen(resource, time.time())
            except PreheatError as error:
                event = watch.missed(error, time.time())
            else:
                phase, before = phase_of(resource), phase
                if phase != before:
                    self.log.info("DataLoad %s/%s is %s", self.wait.namespace, self.wait.name, phase)
            if event is not None:
                return event
            await asyncio.sleep(watch.pause(time.time()))
