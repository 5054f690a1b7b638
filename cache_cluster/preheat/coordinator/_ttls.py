"""Times to live: paths whose cached objects are freed when their time is over.

Every coordinator looks for what is due and submits a job for it, with one idempotency key: whoever is first makes the
job, the others find it. Only then is the record marked, so a coordinator that dies in between leaves it to the next.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec

from preheat.access import check_job, may_see
from preheat.coordinator._records import KnownJob
from preheat.engine import Bucket, Engine, Entry
from preheat.errors import Conflict, NotFound, PreheatError
from preheat.jobs import JobSpec, JobType
from preheat.keys import key_of
from preheat.logs import get_logger
from preheat.paths import UfsPath
from preheat.views import BucketView

log = get_logger("coordinator")
_LOOK_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Ttl:
    """When what is cached at and below a path is to be freed."""

    path: str
    seconds: float
    set_at: float
    """Seconds since the epoch."""
    job_id: str = ""
    """The job that freed it; empty before."""

    @property
    def due_at(self) -> float:
        """When it is freed, in seconds since the epoch."""
        return self.set_at + self.seconds

    @property
    def spec(self) -> JobSpec:
        """What is done then."""
        return JobSpec(type=JobType.FREE, paths=(self.path,))


class Submit(Protocol):
    """Accepts a job; see :meth:`~preheat.coordinator._service.JobService.submit`."""

    def __call__(self, spec: JobSpec, *, idempotency_key: str | None = None) -> Awaitable[KnownJob]: ...


class Ttls:
    """Keeps the times to live, and frees what is due.

    Args:
        engine: has the records.
        submit: accepts the jobs that free.
        retention_seconds: how long a record is shown after its time.
        clock: seconds since the epoch.
    """

    def __init__(
        self, engine: Engine, *, submit: Submit, retention_seconds: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._engine = engine
        self._submit = submit
        self._retention_seconds = retention_seconds
        self._clock = clock
        self.view = BucketView(engine, Bucket.TTLS, Ttl)

    async def set(self, path: str, seconds: float) -> Ttl:
        """Let what is cached at and below a path be freed in so many seconds, whatever was set before.

        Raises:
            InvalidPath: it is no path.
            Forbidden: the caller's token is bound to others.
        """
        ttl = Ttl(path=str(UfsPath.parse(path)), seconds=seconds, set_at=self._clock())
        check_job(ttl.spec)
        value = msgspec.json.encode(ttl)
        revision = await self._engine.put(Bucket.TTLS, key_of(ttl.path), value)
        self.view.apply(Entry(key=key_of(ttl.path), value=value, revision=revision))
        return ttl

    async def unset(self, path: str) -> None:
        """Let what is cached below a path stay; raises as :meth:`set`, and NotFound if no time is set for it."""
        uri = str(UfsPath.parse(path))
        check_job(Ttl(path=uri, seconds=0, set_at=0).spec)
        entry = await self._engine.get(Bucket.TTLS, key_of(uri))
        if entry is None or entry.value is None:
            raise NotFound(f"path={uri!r} has no time to live.", remedy="List them with `preheat fs ttls`.")
        await self._engine.delete(Bucket.TTLS, key_of(uri))
        self.view.apply(Entry(key=key_of(uri), value=None, revision=entry.revision + 1))

    def get(self, path: str) -> Ttl | None:
        """Return a path's time to live, also one that was over lately."""
        known = self.view.get(key_of(str(UfsPath.parse(path))))
        return known[0] if known else None

    def list(self) -> list[Ttl]:
        """Return those that the caller may see, the next one that is due first."""
        return sorted((ttl for ttl, _ in self.view.values() if may_see(ttl.spec)), key=lambda ttl: ttl.due_at)

    async def run(self) -> None:
        """Free what is due until cancelled."""
        while True:
            await self.free_due()
            await asyncio.sleep(_LOOK_SECONDS)

    async def free_due(self) -> None:
        """Submit a job for each path whose time is over; what cannot be submitted now is tried again."""
        now = self._clock()
        for ttl, revision in self.view.values():
            try:
                if ttl.job_id and ttl.due_at + self._retention_seconds <= now:
                    await self._forget(ttl, revision)
                elif not ttl.job_id and ttl.due_at <= now:
                    await self._free(ttl, revision)
            except PreheatError as error:
                log.warning("A path could not be freed in time.", action="ttl_late", path=ttl.path, error=str(error))

    async def _free(self, ttl: Ttl, revision: int) -> None:
        known = await self._submit(ttl.spec, idempotency_key=f"ttl {ttl.due_at} {ttl.path}")
        value = msgspec.json.encode(replace(ttl, job_id=known.job.id))
        with suppress(Conflict):  # another coordinator was first, or somebody has set it anew
            revision = await self._engine.put(Bucket.TTLS, key_of(ttl.path), value, revision=revision)
            self.view.apply(Entry(key=key_of(ttl.path), value=value, revision=revision))
            log.info("A path's time is over.", action="ttl_over", path=ttl.path, job=known.job.id)

    async def _forget(self, ttl: Ttl, revision: int) -> None:
        with suppress(Conflict):  # as above
            await self._engine.delete(Bucket.TTLS, key_of(ttl.path), revision=revision)
