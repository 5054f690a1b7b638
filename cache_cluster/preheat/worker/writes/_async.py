"""Writes that are acknowledged when enough workers hold them; the under store gets them afterwards, or never."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from preheat.attributes import NONE, Attributes
from preheat.errors import Conflict, EngineUnavailable, NoLiveWorker, PreheatError
from preheat.logs import get_logger
from preheat.paths import UfsPath
from preheat.placement import Member
from preheat.versions import ObjectInfo
from preheat.worker.writes._body import Body, chunks
from preheat.worker.writes._conditions import ALWAYS, Condition
from preheat.worker.writes._held import HeldCopies
from preheat.worker.writes._pending_log import PendingLog
from preheat.worker.writes._remote import NotReachedError
from preheat.worker.writes._through import ThroughWrites
from preheat.worker.writes._wire import RemoteWrites
from preheat.writes import PendingWrite

log = get_logger("worker")
_ATTEMPTS = 20
_RELEASE_SECONDS = 2.0


class AsyncWrites:
    """Has workers hold a version, then writes the record that makes it the present one.

    Args:
        worker_id: this worker, which is the first holder.
        held: holds versions here.
        remote: has others hold them.
        others: returns the other workers, those that rank highest for a path first.
        log: the records.
        through: knows what the under store has.
    """

    def __init__(
        self,
        worker_id: str,
        *,
        held: HeldCopies,
        remote: RemoteWrites,
        others: Callable[[UfsPath], Sequence[Member]],
        log: PendingLog,
        through: ThroughWrites,
    ) -> None:
        self._worker_id = worker_id
        self._held = held
        self._remote = remote
        self._others = others
        self._log = log
        self._through = through

    async def put(
        self,
        path: UfsPath,
        body: Body,
        condition: Condition = ALWAYS,
        *,
        attributes: Attributes = NONE,
        replicas: int,
        temporary: bool,
    ) -> tuple[ObjectInfo, int]:
        """Have a version held; return it, and the revision of its record.

        Raises:
            VersionChanged: the condition does not hold.
            NoLiveWorker: fewer than ``replicas`` workers took it; nothing was written.
            StoreFull, StoreError: this worker did not.
            Conflict: others write the path again and again.
            EngineUnavailable: it may or may not be written.
        """
        write = PendingWrite(
            path=str(path),
            id=uuid.uuid4().hex,
            etag=body.etag,
            size=body.size,
            written_at=time.time(),
            holders=(self._worker_id,),
            temporary=temporary,
            attributes=dict(attributes),
        )
        await self._check(path, condition, (await self._log.current(path))[0])
        took: list[Member] = []
        try:
            await self._hold(path, write, body, replicas, took)
            write = replace(write, holders=(self._worker_id, *(member.id for member in took)))
            return write.info, await self._record(path, write, condition)
        except EngineUnavailable:  # it may be written all the same
            raise
        except PreheatError:
            self._log.drop(write.held_name)
            await asyncio.gather(*(self._release_at(member, write) for member in took))
            raise

    async def _record(self, path: UfsPath, write: PendingWrite, condition: Condition) -> int:
        """Make a version that is held the present one: this is the moment of the write."""
        for _ in range(_ATTEMPTS):
            current, revision = await self._log.current(path)
            if current is not None and current.id == write.id:  # the answer to an earlier try was lost
                return revision
            await self._check(path, condition, current)
            if current is not None:
                write = replace(write, claimed_by=current.claimed_by, claimed_until=current.claimed_until)
            with suppress(Conflict):
                return await self._log.put(write, revision)
        raise Conflict(f"path='{path}' is written by others again and again.", remedy="Try again.")

    async def _check(self, path: UfsPath, condition: Condition, pending: PendingWrite | None) -> None:
        if condition.asks:
            condition.check(path, pending.info if pending else await self._through.current(path))

    async def _hold(self, path: UfsPath, write: PendingWrite, body: Body, replicas: int, took: list[Member]) -> None:
        """Have a version held here and at the next workers in line; add those that took it, whatever becomes of it."""
        line = self._others(path)
        _check_enough(path, len(line) + 1, replicas)
        first, later = line[: replicas - 1], line[replicas - 1 :]
        own, *others = await asyncio.gather(
            self._held.keep(write.held_name, body),
            *(self._hold_at(member, write, body) for member in first),
            return_exceptions=True,
        )
        took += [member for member, done in zip(first, others, strict=True) if done is True]
        if isinstance(own, BaseException):
            raise own
        for member in later:
            if len(took) + 1 >= replicas:
                break
            if await self._hold_at(member, write, body):
                took.append(member)
        _check_enough(path, len(took) + 1, replicas)

    async def _hold_at(self, member: Member, write: PendingWrite, body: Body) -> bool:
        try:
            await self._remote.hold(member, write, chunks(body))
        except (NotReachedError, PreheatError) as error:
            log.warning("A worker does not hold a write.", action="not_held", worker=member.id, error=str(error))
            return False
        return True

    async def _release_at(self, member: Member, write: PendingWrite) -> None:
        """Have a worker give up what it holds for nobody: it would not evict it for a day."""
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                await self._remote.release(member, write)
        except (NotReachedError, PreheatError, TimeoutError) as error:
            log.warning("A worker holds what nobody wrote.", action="not_released", worker=member.id, error=str(error))


def _check_enough(path: UfsPath, workers: int, replicas: int) -> None:
    if workers < replicas:
        raise NoLiveWorker(
            f"path='{path}' is to be held by {replicas} workers, and {workers} can take it.",
            remedy="Add workers, or mount it with fewer --write-replicas.",
        )
