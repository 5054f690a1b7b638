"""Writes that the under store has not got yet: what a persist job lists, and who sees to it that there is one.

Every coordinator looks for what is pending and submits a job for each mount that has some; one that runs already is
found by its identity, so that several coordinators make no second one. A job that failed is made again after a while.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import islice
from typing import Protocol

from preheat.coordinator._catalog import Page
from preheat.coordinator._records import KnownJob
from preheat.engine import Bucket, Engine
from preheat.errors import PreheatError
from preheat.jobs import JobSpec, JobState, JobType
from preheat.keys import key_of
from preheat.logs import get_logger
from preheat.mounts import Mount, MountTable
from preheat.paths import UfsPath
from preheat.versions import ObjectInfo
from preheat.views import BucketView
from preheat.writes import OrderedUris, PendingWrite

log = get_logger("coordinator")
_LOOK_SECONDS = 2.0
_PAGE = 1000
_FIRST_PAUSE = 2.0
_LONGEST_PAUSE = 300.0


class PendingCatalog:
    """What is to be persisted, as a :class:`~preheat.coordinator._catalog.Catalog`.

    Args:
        view: the pending writes, from its beginning.
    """

    def __init__(self, view: BucketView[PendingWrite]) -> None:
        self._view = view
        self._ordered = OrderedUris()
        self._uris: dict[str, str] = {}
        view.listeners.add(self._changed)

    async def pages(self, path: UfsPath, *, after: str) -> AsyncIterator[Page]:
        """Yield what is pending at and below a path; what comes or goes meanwhile may be left out."""
        root = str(path.with_key(""))
        while uris := [*islice(self._ordered.below(path, after), _PAGE)]:
            after = uris[-1].removeprefix(root)
            found = [self._info(key_of(uri)) for uri in uris]
            yield Page(root=root, objects=[info for info in found if info], cursor=after)

    async def find(self, path: UfsPath) -> ObjectInfo | None:
        """Return what is pending at a path; none if nothing is any more."""
        return self._info(key_of(str(path)))

    def _info(self, key: str) -> ObjectInfo | None:
        known = self._view.get(key)
        return known[0].info if known and not known[0].temporary else None

    def _changed(self, key: str) -> None:
        known = self._view.get(key)
        if known is None:
            self._ordered.discard(self._uris.pop(key, ""))
        elif not known[0].temporary:
            self._uris[key] = known[0].path
            self._ordered.add(known[0].path)


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
        self._roots: set[str] | None = None
        """Below which something is to be persisted; none if that has to be found out."""
        for view in (self.view, mounts):
            view.listeners.add(self._changed)

    async def run(self, jobs: Jobs) -> None:
        """Submit jobs until cancelled."""
        while True:
            await self.submit_due(jobs)
            await asyncio.sleep(_LOOK_SECONDS)

    async def submit_due(self, jobs: Jobs) -> None:
        """Submit a job for each mount with something to persist, unless one runs, or has just failed."""
        if self._roots is None:
            self._roots = self._find_roots()
        roots = self._roots
        self._pauses = {root: pause for root, pause in self._pauses.items() if root in roots}
        for root in sorted(roots):
            try:
                await self._submit(jobs, root)
            except PreheatError as error:
                log.warning(
                    "What is pending waits to be persisted.", action="persist_late", path=root, error=str(error)
                )

    def _changed(self, key: str) -> None:  # noqa: ARG002 - which one does not matter
        self._roots = None

    def _find_roots(self) -> set[str]:
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
