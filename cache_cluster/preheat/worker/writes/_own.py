"""A worker's own part in all writes, put together: what it does itself, and how it follows what others do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from preheat.engine import Engine
from preheat.errors import StoreError
from preheat.logs import get_logger
from preheat.mounts import Mount
from preheat.paths import UfsPath
from preheat.store import PageStore
from preheat.ufs import UnderStore
from preheat.worker._pending import PendingReads
from preheat.worker._policies import Policies
from preheat.worker._reads import ReadService
from preheat.worker.writes._absence import Absence
from preheat.worker.writes._async import AsyncWrites
from preheat.worker.writes._body import in_thread
from preheat.worker.writes._claims import Claims
from preheat.worker.writes._copies import WrittenCopies
from preheat.worker.writes._held import HeldCopies
from preheat.worker.writes._local import Acknowledge, LocalWrites
from preheat.worker.writes._log import WriteLog
from preheat.worker.writes._pending_log import PendingLog
from preheat.worker.writes._recent import RecentWrites
from preheat.worker.writes._repair import Repair
from preheat.worker.writes._routes import Routes
from preheat.worker.writes._staging import Staging
from preheat.worker.writes._through import ThroughWrites
from preheat.worker.writes._uploads import Uploads
from preheat.worker.writes._wire import RemoteWrites

log = get_logger("worker")
_SWEEP_SECONDS = 600.0
_KNOWN_SECONDS = 1.0
_CATCH_UP_SECONDS = 30.0


class OwnWrites:
    """Writes here; see :class:`~preheat.worker.writes.WriteService` for the arguments that it passes on.

    Args:
        worker_id: this worker.
        store: this worker's cache.
        origin: the under store.
        reads: serves the cache.
        policies: says how is written.
        staging: receives bodies.
        uploads: those in parts.
        recent: the last writes.
        pending: reads what is not at the under store yet.
        heard_file: where it is noted when writes were last heard of.
        remote: has other workers write.
        routes: knows the other workers.
        acknowledge: awaited before a write is.
        check_writable: raises for a path that is not to be written.
        drain_seconds: how long writes that have begun may take in the end.
        repair_seconds: how long a holder has to be away until what it held is copied anew.
    """

    def __init__(
        self,
        worker_id: str,
        *,
        store: PageStore,
        origin: UnderStore,
        reads: ReadService,
        policies: Policies,
        staging: Staging,
        uploads: Uploads,
        recent: RecentWrites,
        pending: PendingReads,
        heard_file: Path,
        remote: RemoteWrites,
        routes: Routes,
        acknowledge: Acknowledge,
        check_writable: Callable[[UfsPath], None],
        drain_seconds: float,
        repair_seconds: float,
    ) -> None:
        self._policies = policies
        self.table = pending.table
        self._drain_seconds = drain_seconds
        copies = WrittenCopies(store, reads)
        self._absence = absence = Absence(heard_file, store=store, policies=policies)

        def written(path: UfsPath, etag: str, *, before: float = 0.0) -> None:
            absence.mark()
            copies.supersede(path, etag, before=before)

        def superseded(path: UfsPath, etag: str, *, before: float = 0.0) -> None:
            recent.forget(str(path))
            written(path, etag, before=before)

        self._pending_log = pending_log = PendingLog(pending.table, drop=pending.drop, superseded=superseded)
        self._held = held = HeldCopies(store, pending.table, worker_id=worker_id)
        self._log = WriteLog(worker_id, recent=recent, superseded=written, ended=pending_log.end)
        claims = Claims(worker_id, pending_log)
        through = ThroughWrites(worker_id, origin=origin, copies=copies, log=self._log, recent=recent, claims=claims)
        self.local = LocalWrites(
            staging=staging,
            uploads=uploads,
            through=through,
            cached=AsyncWrites(
                worker_id, held=held, remote=remote, others=routes.others, log=pending_log, through=through
            ),
            held=held,
            table=pending.table,
            pages=pending.whole,
            mounts=self._mount,
            origin=origin,
            reads=reads,
            acknowledge=acknowledge,
            check_writable=check_writable,
        )
        self.repair = Repair(
            worker_id,
            table=pending.table,
            held=held,
            pages=pending.whole,
            remote=remote,
            line=routes.line,
            log=pending_log,
            mounts=self._mount,
            wait_seconds=repair_seconds,
        )

    @property
    def is_possible(self) -> bool:
        """Whether it is known what may be written, and the others can be told."""
        return self._log.is_followed and self._policies.mounts_loaded.is_set()

    @property
    def may_be_behind(self) -> bool:
        """Whether what is cached may be out of date until this worker has caught up with what others wrote."""
        return self._absence.may_be_behind

    async def catch_up(self, *besides: asyncio.Event) -> None:
        """Wait until what was written before is known, and some events, but no longer than half a minute."""
        try:
            async with asyncio.timeout(_CATCH_UP_SECONDS):
                for known in (self._log.loaded, self._pending_log.loaded, self._absence.checked, *besides):
                    await known.wait()
        except TimeoutError:
            log.warning("It is not known what was written while this worker was away.", action="behind")

    @asynccontextmanager
    async def following(self, engine: Engine) -> AsyncIterator[None]:
        """Take writes, and follow those of others, while the block runs."""
        async with self._log.following(engine), self._pending_log.following(engine), asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(work) for work in (self._sweep(), self._absence.watch(engine), self._repair())
            ]
            try:
                yield
            finally:
                for task in background:
                    task.cancel()
                await self.local.close(self._drain_seconds)

    async def wait_known(self, revision: int, *, pending: bool) -> bool:
        """Wait until another's write is known here; false if nothing is heard of it within a second."""
        return await (self._pending_log if pending else self._log).reached(revision, _KNOWN_SECONDS)

    def _mount(self, uri: str) -> Mount:
        return self._policies.mounts.of(uri)

    async def _repair(self) -> None:
        await self._pending_log.loaded.wait()
        await self._policies.mounts_loaded.wait()
        await self.repair.run()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(_SWEEP_SECONDS, self.local.uploads.idle_seconds / 2))
            self.local.uploads.expire()
            try:
                if self._pending_log.loaded.is_set():
                    await in_thread(self._held.drop_orphans)
            except StoreError as error:  # of one directory: the others serve on
                log.warning("What nobody wrote is still held.", action="drop_failed", error=str(error))
