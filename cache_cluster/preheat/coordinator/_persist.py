"""Writes that the under store has not got yet: what a persist job lists, and who sees to it that there is one.

Every coordinator looks for what is pending and submits a job for each mount that has some; one that runs already is
found by its identity, so that several coordinators make no second one. A job that failed is made again after a while.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from preheat.coordinator._catalog import Page
from preheat.coordinator._records import KnownJob
from preheat.engine import Bucket, Engine
from preheat.errors import PreheatError
from preheat.jobs import JobSpec, JobState, JobType
from preheat.logs import get_logger
from preheat.mounts import Mount, MountTable
from preheat.paths import UfsPath
from preheat.ufs import Selection
from preheat.versions import ObjectInfo
from preheat.views import BucketView
from preheat.writes import PendingWrite, key_of

log = get_logger("coordinator")
_LOOK_SECONDS = 2.0
_PAGE = 1000
_FIRST_PAUSE = 2.0
_LONGEST_PAUSE = 300.0


class PendingCatalog:
    """What is to be persisted, as a :class:`~preheat.coordinator._catalog.Catalog`.

    Args:
        view: the pending writes.
    """

    def __init__(self, view: BucketView[PendingWrite]) -> None:
        self._view = view

    async def pages(self, path: UfsPath, *, after: str) -> AsyncIterator[Page]:
        """Yield what is pending at and below a path."""
        root, selection = str(path.with_key("")), Selection.of(path, after)
        writes = (write for write, _ in self._view.values() if write.path.startswith(root) and not write.temporary)
        found = sorted((info for write in writes if selection.selects((info := write.info).key)), key=_key)
        for start in range(0, len(found), _PAGE):
            page = found[start : start + _PAGE]
            yield Page(root=root, objects=page, cursor=page[-1].key)

    async def find(self, path: UfsPath) -> ObjectInfo | None:
        """Return what is pending at a path; none if nothing is any more."""
        known = self._view.get(key_of(str(path)))
        return known[0].info if known and not known[0].temporary else None


class Jobs(Protocol):
    """Accepts jobs, and knows them; see :class:`~preheat.coordinator._service.JobService`."""

    def submit(self, spec: JobSpec) -> Awaitable[KnownJob]:
        """Accept a job, or find the one that runs."""
        ...

    def find(self, spec: JobSpec) -> Awaitable[KnownJob | None]:
        """Return the last job of a spec."""
        ...


class Persistence:
    """Has what is pending persisted.

    Args:
        engine: has the records.
        mounts: the mounts.
        clock: seconds since the epoch.
    """

    def __init__(self, engine: Engine, mounts: BucketView[Mount], *, clock: Callable[[], float] = time.time) -> None:
        self.view = BucketView(engine, Bucket.PENDING, PendingWrite)
        self._mounts = mounts
        self._clock = clock
        self._pauses: dict[str, float] = {}
        """By root: how long to wait after a job that failed."""

    async def run(self, jobs: Jobs) -> None:
        """Submit jobs until cancelled."""
        while True:
            await self.submit_due(jobs)
            await asyncio.sleep(_LOOK_SECONDS)

    async def submit_due(self, jobs: Jobs) -> None:
        """Submit a job for each mount with something to persist, unless one runs, or has just failed."""
        roots = self._roots()
        self._pauses = {root: pause for root, pause in self._pauses.items() if root in roots}
        for root in sorted(roots):
            try:
                await self._submit(jobs, root)
            except PreheatError as error:
                log.warning(
                    "What is pending waits to be persisted.", action="persist_late", path=root, error=str(error)
                )

    def _roots(self) -> set[str]:
        table = MountTable(mount for mount, _ in self._mounts.values())
        paths = (write.path for write, _ in self.view.values() if not write.temporary)
        return {table.of(path).path or str(UfsPath.parse(path).with_key("")) for path in paths}

    async def _submit(self, jobs: Jobs, root: str) -> None:
        spec = JobSpec(type=JobType.PERSIST, paths=(root,))
        last = await jobs.find(spec)
        if last is not None and not last.job.state.ended:
            return
        pause = self._pauses.get(root, _FIRST_PAUSE)
        if last is not None and last.job.state is not JobState.SUCCEEDED:
            if (last.job.finished_at or 0.0) + pause > self._clock():
                return
            self._pauses[root] = min(2 * pause, _LONGEST_PAUSE)
        else:
            self._pauses.pop(root, None)
        known = await jobs.submit(spec)
        log.info("What is pending is being persisted.", action="persisting", path=root, job=known.job.id)


def _key(info: ObjectInfo) -> str:
    return info.key
