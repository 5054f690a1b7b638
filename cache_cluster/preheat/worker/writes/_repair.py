"""Copies of what is pending, or temporary, made anew when a worker that held one is lost.

Each holder looks at what it holds. The first of them in the record copies it to another worker; if it does not, the
next one does after twice the time, and so on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from math import inf

from preheat.errors import Conflict, PreheatError
from preheat.logs import get_logger
from preheat.mounts import Mount
from preheat.paths import UfsPath
from preheat.placement import Member
from preheat.worker._pending import PendingTable
from preheat.worker.writes._body import Body, chunks
from preheat.worker.writes._held import HeldCopies
from preheat.worker.writes._pending_log import PendingLog
from preheat.worker.writes._remote import NotReachedError
from preheat.worker.writes._wire import RemoteWrites
from preheat.writes import PendingWrite

log = get_logger("worker")
_LOOKS_PER_WAIT = 6
_AT_ONCE = 1000
"""Records that are looked at before others have their turn."""
_ATTEMPTS = 20
_REST_SECONDS = 600.0
"""Between looks while nobody comes or goes: a mount may want more copies, and a writer may not have known who left."""
_ANYTHING = UfsPath.parse("s3://any/")
"""Any path: of all of them the workers are the same."""


class Repair:
    """Keeps the number of copies of pending writes that this worker holds.

    Args:
        worker_id: this worker.
        table: the pending writes.
        held: has their bytes.
        pages: yields the bytes of a pending version, wherever they are.
        remote: has other workers hold them.
        line: returns all live workers, those that rank highest for a path first.
        log: the records.
        mounts: returns the mount of a URI, which says how many copies there are to be.
        wait_seconds: how long a holder has to be away to be taken for lost: restarts take less.
        clock: seconds, from any beginning.
    """

    def __init__(
        self,
        worker_id: str,
        *,
        table: PendingTable,
        held: HeldCopies,
        pages: Callable[[PendingWrite], AsyncIterator[bytes]],
        remote: RemoteWrites,
        line: Callable[[UfsPath], Sequence[Member]],
        log: PendingLog,
        mounts: Callable[[str], Mount],
        wait_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._worker_id = worker_id
        self._table = table
        self._held = held
        self._pages = pages
        self._remote = remote
        self._line = line
        self._log = log
        self._mounts = mounts
        self._wait_seconds = wait_seconds
        self._clock = clock
        self._away: dict[str, float] = {}
        """Workers that left while this one looked, and when."""
        self._live: frozenset[str] = frozenset()
        self._rests_until = -inf
        """Nothing was to be done at the last look, and so not before this either, unless workers come or go."""

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(self._wait_seconds / _LOOKS_PER_WAIT)
            await self.look()

    async def look(self) -> None:
        """Make the copies that are missing by now. What fails is logged, and tried at the next look."""
        self._note_members()
        if not self._live or self._clock() < self._rests_until:
            return
        settled = True
        for number, write in enumerate(self._table.writes()):
            if self._worker_id in write.holders:
                settled = await self._check(write) and settled
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        if settled:
            self._rests_until = self._clock() + _REST_SECONDS

    def _note_members(self) -> None:
        """Know who is live, and since when those who were are not."""
        live, now = frozenset(member.id for member in self._line(_ANYTHING)), self._clock()
        if live != self._live:
            self._rests_until = -inf
        self._away = {worker: since for worker, since in self._away.items() if worker not in live}
        self._away |= dict.fromkeys(self._live - live, now)
        self._live = live

    async def _check(self, write: PendingWrite) -> bool:
        """See to the copies of one version; return whether nothing more is to be done."""
        current = self._table.get(write.path)
        if current is None or current.id != write.id:  # it ended, or a newer one came, while others were looked at
            return True
        try:
            body = self._held.body(write) or await self._fetch(write)
            kept = len(self._live.intersection(write.holders))
            missing = min(self._mounts(write.path).write_replicas, len(self._live)) - kept
            if missing <= 0:
                return True
            if self._is_due(write):
                await self._copy(write, body, missing)
        except (NotReachedError, PreheatError) as error:
            log.warning("A copy was not made anew.", action="repair_failed", path=write.path, error=str(error))
        return False

    def _is_due(self, write: PendingWrite) -> bool:
        """Whether the lost have been away long enough, and it is this worker's turn."""
        holders = sorted(write.holders, key=lambda worker: worker not in self._live)
        turn = 1 + holders.index(self._worker_id)
        now = self._clock()
        lost = [self._away.setdefault(worker, now) for worker in write.holders if worker not in self._live]
        return not lost or now - max(lost) >= turn * self._wait_seconds

    async def _fetch(self, write: PendingWrite) -> Body:
        """Bring back from another holder what this one is said to hold and does not: its disk was lost."""
        await self._held.receive(write.held_name, self._pages(write), etag=write.etag, size=write.size)
        log.info("What was lost here is held again.", action="held_again", path=write.path)
        body = self._held.body(write)
        if body is None:
            raise Conflict(f"path='{write.path}' was written again meanwhile.")
        return body

    async def _copy(self, write: PendingWrite, body: Body, missing: int) -> None:
        """Have the next workers in line hold a version, and note in its record who has it."""
        path, added = UfsPath.parse(write.path), list[str]()
        for member in self._line(path):
            if len(added) < missing and member.id not in write.holders and await self._hold_at(member, write, body):
                added.append(member.id)
        if added and await self._note(path, write, added):
            log.info("A lost copy was made anew.", action="repaired", path=write.path, holders=added)

    async def _hold_at(self, member: Member, write: PendingWrite, body: Body) -> bool:
        try:
            await self._remote.hold(member, write, chunks(body))
        except Conflict:  # from an earlier try
            return True
        except (NotReachedError, PreheatError) as error:
            log.warning("A worker does not hold a copy.", action="not_held", worker=member.id, error=str(error))
            return False
        return True

    async def _note(self, path: UfsPath, write: PendingWrite, added: Sequence[str]) -> bool:
        """Put the new holders in the place of those that are lost; false if the write is not pending any more."""
        for _ in range(_ATTEMPTS):
            current, revision = await self._log.current(path)
            if current is None or current.id != write.id:
                return False
            kept = [worker for worker in current.holders if worker in self._live]
            holders = tuple(dict.fromkeys((*(kept or current.holders), *added)))
            try:
                await self._log.put(replace(current, holders=holders), revision)
            except Conflict:
                continue
            return True
        raise Conflict(f"path='{path}' is written by others again and again.")
