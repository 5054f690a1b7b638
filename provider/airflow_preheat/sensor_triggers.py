"""What looks on behalf of a sensor while its task is deferred."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any, ClassVar, Self

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_preheat._looks import JobLook, WarmthLook
from airflow_preheat._sensing import SensorEvent, SensorWait, SensorWatch, failure, success
from airflow_preheat.exceptions import PreheatError


class LookTrigger(BaseTrigger):
    """Looks at something until it is as it should be, and fires once with a :class:`~._sensing.SensorEvent`.

    Args:
        look: the fields of what to look at, by name.
        wait: the fields of :class:`~airflow_preheat._sensing.SensorWait`, by name.
    """

    look_type: ClassVar[type[JobLook | WarmthLook]]

    def __init__(self, *, look: dict[str, Any], wait: dict[str, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.look = self.look_type(**look)
        self.wait = SensorWait(**wait)

    @classmethod
    def of(cls, look: JobLook | WarmthLook, wait: SensorWait) -> Self:
        """Return the trigger that looks and waits like this."""
        return cls(look=asdict(look), wait=asdict(wait))

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments to make the trigger again, JSON primitives only."""
        arguments = {"look": asdict(self.look), "wait": asdict(self.wait)}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until the wait has ended; whatever is wrong meanwhile is the sensor's to judge."""
        event = await self._event()
        await asyncio.sleep(max(0.0, self.wait.not_before - time.time()))
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def _event(self) -> SensorEvent:
        from airflow_preheat.async_hooks import PreheatAsyncHook  # noqa: PLC0415 - workers defer without aiohttp

        watch = SensorWatch(wait=self.wait)
        async with PreheatAsyncHook(self.wait.preheat_conn_id) as hook:
            while True:
                asked_at = time.time()
                wait = min(self.wait.poke_interval, watch.time_left(asked_at))
                try:
                    finding = await hook.look(self.look, wait=wait)
                except PreheatError as error:
                    self.log.warning("%s", error)
                    if watch.is_final(error, time.time()):
                        return failure(error)
                else:
                    self.log.info("%s", finding.note)
                    watch.seen(finding.note)
                    if finding.result is not None:
                        return success(finding.result)
                if not watch.time_left(time.time()):
                    return watch.expired()
                await asyncio.sleep(watch.pause(asked_at, time.time()))


class PreloadSensorTrigger(LookTrigger):
    """Waits for a job's end on behalf of a :class:`~airflow_preheat.sensors.PreloadSensor`; it claims nothing."""

    look_type = JobLook


class DatasetWarmSensorTrigger(LookTrigger):
    """Waits for a warm dataset on behalf of a :class:`~airflow_preheat.sensors.DatasetWarmSensor`."""

    look_type = WarmthLook
