"""When a coordinator was there, so that its own absence is not held against those who wait: :mod:`preheat.claims`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from preheat.claims import Attendance
from preheat.engine import Bucket, Engine
from preheat.errors import EngineUnavailable
from preheat.logs import get_logger

log = get_logger("coordinator")
_EVERY_SECONDS = 10.0
_NO_JOB = "attendance"


class Attendant:
    """Notes when this coordinator could have written a renewal down.

    Args:
        engine: keeps renewals, and so has to be there as well.
        clock: returns the seconds since the epoch.
    """

    def __init__(self, engine: Engine, *, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
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

    def since(self, now: float) -> float:
        """Return since when renewals could be written down without a break."""
        return self._attendance.at(now).since
