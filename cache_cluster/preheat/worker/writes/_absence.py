"""What a worker does that may have missed writes: their records expire after a day."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from preheat.engine import Bucket, Engine
from preheat.errors import EngineUnavailable, StoreError
from preheat.logs import get_logger
from preheat.mounts import WriteMode
from preheat.store import PageStore
from preheat.worker._policies import Policies
from preheat.worker.writes._body import in_thread

log = get_logger("worker")
_MISSED_SECONDS = 82800.0
"""An hour less than the records last."""
_CHECK_SECONDS = 600.0
_WRITTEN = "written"


class Absence:
    """Notes when this worker last heard of writes; after too long it drops what may have been written since.

    Args:
        file: its time of modification is the note; its content, whether there were any writes.
        store: the copies.
        policies: says which of them may have been written.
        clock: returns seconds since the epoch.
    """

    def __init__(
        self, file: Path, *, store: PageStore, policies: Policies, clock: Callable[[], float] = time.time
    ) -> None:
        self._file = file
        self._store = store
        self._policies = policies
        self._clock = clock
        self._began: float | None = clock()
        self._marked = file.exists() and file.read_text() == _WRITTEN
        self.may_be_behind = self._marked
        """Whether there were writes before this process: what it holds may be out of date until it has caught up."""
        self.checked = asyncio.Event()
        """Set once what may be out of date because of a long absence is gone."""

    async def watch(self, engine: Engine) -> None:
        """Keep the note, until cancelled."""
        await self._policies.mounts_loaded.wait()
        while True:
            try:
                await engine.get(Bucket.WRITES, "heard")  # there is none: it answers, so its watches work
                await in_thread(self.heard)
                self.checked.set()
            except (EngineUnavailable, StoreError, OSError) as error:
                log.warning("It was not noted that writes are heard of.", action="absence_unknown", error=str(error))
            await asyncio.sleep(_CHECK_SECONDS)

    def mark(self) -> None:
        """Note that there are writes."""
        if not self._marked:
            self._marked = True
            try:
                self._file.write_text(_WRITTEN)
            except OSError as error:
                log.warning("It was not noted that there are writes.", action="absence_unknown", error=str(error))

    def heard(self) -> None:
        """Note that writes are heard of; drop what may be out of date if they were not for most of a day. Blocking."""
        now = self._clock()
        if now - self._noted() > _MISSED_SECONDS:
            dropped = self._drop_written(before=self._began or now)
            log.info("Copies that may be out of date were dropped.", action="absent", dropped=dropped)
        self._began = None  # what comes from now on is kept current
        self._file.touch()

    def _noted(self) -> float:
        try:
            return self._file.stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def _drop_written(self, before: float) -> int:
        mounts, dropped = self._policies.mounts, 0
        for item in self._store.scan():
            if item.cached_at < before and mounts.of(item.path).writes is not WriteMode.READ_ONLY:
                dropped += self._store.delete(item.path)
        return dropped
