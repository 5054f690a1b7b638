"""When a coordinator was there, so that its own absence is not held against those who wait: :mod:`preheat.claims`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from preheat import claims
from preheat.claims import Attendance
from preheat.engine import Bucket, Engine
from preheat.errors import EngineUnavailable
from preheat.jobs import JobControl
from preheat.logs import get_logger

log = get_logger("coordinator")
_EVERY_SECONDS = 10.0
_NO_JOB = "attendance"


class Attendant:
    """Notes when this coordinator could have written a renewal down.

    Args:
        engine: keeps renewals, and so has to be there as well.
        grace_seconds: how long who left may come back.
        clock: returns the seconds since the epoch.
    """

    def __init__(self, engine: Engine, *, grace_seconds: float, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._grace = grace_seconds
        self._clock = clock
        self._attendance = Attendance(since=clock(), last=clock())

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_EVERY_SECONDS)

    async def look(self) -> None:
        """Note that the coordinator is there, if the engine is."""
        try:
            await self._engine.get(Bucket.CONTROLS, _NO_JOB)
        except EngineUnavailable as error:
            log.warning("Nobody can renew a lease.", action="not_attended", error=str(error))
        else:
            self._attendance = self._attendance.at(self._clock())

    def abandonment(self, control: JobControl, now: float) -> str:
        """Return why nobody waits for a job any more, if so; see :func:`preheat.claims.abandoned`."""
        since = self._attendance.at(now).since
        return claims.abandoned(control, now, attended_since=since, grace=self._grace)
