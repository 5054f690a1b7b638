"""Who may change an object of the under store at which a write is pending: one at a time, in the whole cluster.

Otherwise an older version whose upload takes long could end up over a newer one. A claim stands in the record, is
renewed, and ends by itself if its holder dies. A write in the cache alone needs none: it takes the record over with the
claim in it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from preheat.errors import Conflict, EngineUnavailable, Unavailable
from preheat.logs import get_logger
from preheat.paths import UfsPath
from preheat.worker.writes._pending_log import PendingLog
from preheat.writes import PendingWrite

log = get_logger("worker")
_LEASE_SECONDS = 60.0
_SAFE_SECONDS = 45.0
"""What is done under a claim that could not be renewed ends before others may make one."""
_RETRY_SECONDS = 0.1
_WAIT_SECONDS = 60.0


class Claim:
    """A claim that is held.

    Args:
        log: the records.
        write: what was pending when it was made.
        holder: who has it.
    """

    def __init__(self, log: PendingLog, write: PendingWrite, holder: str) -> None:
        self._log = log
        self._path = UfsPath.parse(write.path)
        self._holder = holder
        self.write = write

    async def stands(self) -> bool:
        """Whether no newer write took the place of the one that was claimed."""
        write, _ = await self._log.current(self._path)
        return write is not None and write.id == self.write.id

    async def settle(self, etag: str) -> None:
        """Remove the record, for the under store has this version now, unless a newer write stands there."""
        await self._change(remove=True, etag=etag)

    async def release(self) -> None:
        """Give the claim up; the record stays."""
        await self._change(remove=False, etag="")

    async def renew(self) -> None:
        """Keep it for another while; raises Unavailable if it is lost."""
        write, revision = await self._log.current(self._path)
        if write is None or write.claimed_by != self._holder:
            raise Unavailable(f"path='{self._path}': the claim was lost.")
        try:
            await self._log.put(replace(write, claimed_until=time.time() + _LEASE_SECONDS), revision)
        except Conflict:  # a newer write took the record over, with the claim: next time
            return

    async def _change(self, *, remove: bool, etag: str) -> None:
        while True:
            write, revision = await self._log.current(self._path)
            if write is None or write.claimed_by != self._holder:
                return
            try:
                if remove and write.id == self.write.id:
                    await self._log.remove(self._path, revision, etag=etag)
                else:
                    await self._log.put(replace(write, claimed_by="", claimed_until=0.0), revision)
            except Conflict:
                continue
            return


class Claims:
    """Makes claims.

    Args:
        worker_id: this worker.
        log: the records.
        wait_seconds: how long somebody else's claim is waited for.
    """

    def __init__(self, worker_id: str, log: PendingLog, *, wait_seconds: float = _WAIT_SECONDS) -> None:
        self._worker_id = worker_id
        self._log = log
        self._wait_seconds = wait_seconds

    @asynccontextmanager
    async def hold(self, path: UfsPath) -> AsyncIterator[Claim | None]:
        """Be the only one in the block who changes the under store's object; none if nothing is pending there.

        Raises:
            Unavailable: somebody else's claim lasts too long, or this one was lost.
            EngineUnavailable: the record cannot be looked at.
        """
        claim = await self._claim(path)
        if claim is None:
            yield None
            return
        try:
            async with asyncio.timeout(_SAFE_SECONDS) as deadline:
                renewing = asyncio.create_task(_renew(claim, deadline))
                try:
                    yield claim
                finally:
                    renewing.cancel()
        except TimeoutError as error:
            if deadline.expired():
                raise Unavailable(f"path='{path}': the claim could not be kept.") from error
            raise
        finally:
            try:
                await claim.release()
            except EngineUnavailable:
                log.warning("A claim ends by itself.", action="claim_left", path=str(path))

    async def _claim(self, path: UfsPath) -> Claim | None:
        holder = f"{self._worker_id}/{secrets.token_hex(8)}"
        deadline = asyncio.get_running_loop().time() + self._wait_seconds
        while True:
            write, revision = await self._log.current(path)
            if write is None:
                return None
            now = time.time()
            if not write.is_claimed(now):
                claimed = replace(write, claimed_by=holder, claimed_until=now + _LEASE_SECONDS)
                try:
                    await self._log.put(claimed, revision)
                except Conflict:
                    continue
                return Claim(self._log, claimed, holder)
            if asyncio.get_running_loop().time() > deadline:
                raise Unavailable(
                    f"path='{path}' is being persisted by {write.claimed_by}.", remedy="Try again in a minute."
                )
            await asyncio.sleep(_RETRY_SECONDS)


async def _renew(claim: Claim, deadline: asyncio.Timeout) -> None:
    """Put off the end of what is done under a claim as long as the claim is kept."""
    while True:
        await asyncio.sleep(_LEASE_SECONDS / 4)
        safe_until = asyncio.get_running_loop().time() + _SAFE_SECONDS
        try:
            await claim.renew()
        except EngineUnavailable:
            continue
        except Unavailable:
            return
        deadline.reschedule(safe_until)
