"""The write side of a worker: any worker takes any write, and the path's owner does it.

A write is acknowledged when the place that its mount names has it, the owner's copy is replaced, and the other workers
that are well know of it: whoever reads afterwards, anywhere, gets what was written.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypedDict

from preheat.attributes import NONE, Attributes
from preheat.engine import Engine
from preheat.errors import EngineUnavailable, ReadOnly
from preheat.mounts import WriteMode
from preheat.paths import UfsPath
from preheat.settings import WriteSettings
from preheat.store import PageStore
from preheat.ufs import UnderStore
from preheat.versions import ObjectInfo
from preheat.worker._pending import PendingReads
from preheat.worker._policies import Policies
from preheat.worker._reads import ReadService
from preheat.worker.fills import Owners, Throttle
from preheat.worker.writes._conditions import Condition
from preheat.worker.writes._own import OwnWrites
from preheat.worker.writes._recent import RecentWrites
from preheat.worker.writes._remote import RemoteWorkers
from preheat.worker.writes._routes import Routes
from preheat.worker.writes._staging import Chunks, Staging
from preheat.worker.writes._upload_requests import UploadRequests
from preheat.worker.writes._uploads import Uploads
from preheat.worker.writes._wire import RemoteWrites
from preheat.writes import held_name

_TOLD = 32
"""Workers that are told of a write directly: those that rank highest for its path."""


class _How(TypedDict):
    """What of a write its owner has to know besides its bytes."""

    size: int | None
    condition: Condition
    attributes: Attributes


class WriteService(UploadRequests):
    """Writes objects, here or at the worker that owns them.

    ``forwarded`` marks what another worker passed on: it is done here.

    Args:
        worker_id: this worker.
        store: this worker's cache.
        origin: the under store.
        reads: serves the cache.
        policies: says what may be written.
        staging: receives bodies.
        owners: says who owns a path.
        workers: the other workers.
        recent: the last writes, which reads know too.
        pending: reads what is not at the under store yet; ``reads`` has it too.
        heard_file: where it is noted when writes were last heard of.
        uploads: those in parts; by default S3's limits hold.
        drain_seconds: how long writes that have begun may take when the worker stops.
        repair_seconds: how long a worker has to be away until what it held is copied to another one.
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
        owners: Owners,
        workers: RemoteWorkers,
        recent: RecentWrites,
        pending: PendingReads,
        heard_file: Path,
        uploads: Uploads | None = None,
        drain_seconds: float = 10.0,
        repair_seconds: float = WriteSettings.repair_seconds,
    ) -> None:
        self._policies = policies
        self._workers = workers
        routes, remote = Routes(worker_id, owners), RemoteWrites(workers)
        self._own = OwnWrites(
            worker_id,
            store=store,
            origin=origin,
            reads=reads,
            policies=policies,
            staging=staging,
            uploads=uploads or Uploads(worker_id),
            recent=recent,
            pending=pending,
            heard_file=heard_file,
            remote=remote,
            routes=routes,
            acknowledge=self._acknowledge,
            check_writable=self._check_writable,
            drain_seconds=drain_seconds,
            repair_seconds=repair_seconds,
        )
        super().__init__(routes, remote, self._own.local)

    @property
    def may_be_behind(self) -> bool:
        """Whether reads before :meth:`catch_up` may miss what others wrote while this worker was away."""
        return self._own.may_be_behind

    async def catch_up(self) -> None:
        """Wait until what was written before is known, but no longer than half a minute."""
        await self._own.catch_up(self._workers.forwarding.known)

    @asynccontextmanager
    async def following(self, engine: Engine) -> AsyncIterator[None]:
        """Take writes, and follow those of others, while the block runs."""
        async with self._workers.connected(), self._workers.forwarding.following(engine), self._own.following(engine):
            yield

    def check_forwarded(self, shown: str) -> None:
        """Return if this is what other workers show; raises as :meth:`Forwarding.check`."""
        self._workers.forwarding.check(shown)

    async def put(
        self,
        path: UfsPath,
        chunks: Chunks,
        *,
        size: int | None,
        if_match: str | None = None,
        if_none_match: bool = False,
        attributes: Attributes = NONE,
        forwarded: bool = False,
    ) -> ObjectInfo:
        """Write an object in place of what was there, and return it with its etag.

        Args:
            path: the object.
            chunks: its bytes; what they raise is raised here, and nothing is written.
            size: how many there are, if that is known.
            if_match: the etag that must be there now, ``*`` for any; looked at right before.
            if_none_match: there must be no object; looked at right before.
            attributes: what the under store is to keep of it besides.
            forwarded: see there.

        Raises:
            ReadOnly: the mount does not allow it.
            VersionChanged: a condition does not hold.
            InvalidRequest: there are fewer or more bytes than ``size``.
            StoreFull: they do not fit here while they wait.
            EngineUnavailable: it may be written, but not all workers may know. Otherwise as ``UnderStore.put``.
        """
        self._check_writable(path)
        condition = Condition(if_match=if_match, if_none_match=if_none_match)
        how: _How = {"size": size, "condition": condition, "attributes": attributes}
        return await self._routes.at_owner(
            path,
            there=None if forwarded else lambda owner: self._remote.put(owner, path, chunks, **how),
            here=lambda: self._local.put(path, chunks, **how),
        )

    async def delete(self, path: UfsPath, *, forwarded: bool = False) -> bool:
        """Remove an object; false if it was not there. Raises as :meth:`put`."""
        self._check_writable(path)
        return await self._routes.at_owner(
            path,
            there=None if forwarded else lambda owner: self._remote.delete(owner, path),
            here=lambda: self._local.delete(path),
        )

    async def copy(
        self,
        source: UfsPath,
        target: UfsPath,
        *,
        attributes: Attributes | None = None,
        etag: str | None = None,
        forwarded: bool = False,
    ) -> ObjectInfo:
        """Write the present version of an object to another path, and return that.

        Args:
            source: the object.
            target: where to.
            attributes: of the copy; none are those of the source, as far as they are known.
            etag: the version that it has to be; none is any.
            forwarded: see there.

        Raises:
            ObjectNotFound: there is no source.
            VersionChanged: it has another etag. Otherwise as :meth:`put`.
        """
        self._check_writable(target)
        return await self._routes.at_owner(
            target,
            there=None if forwarded else lambda owner: self._remote.copy(owner, source, target, attributes, etag),
            here=lambda: self._local.copy(source, target, attributes, etag),
        )

    async def persist(self, path: UfsPath, throttle: Throttle | None = None) -> bool:
        """Give the under store what is pending at a path; false if nothing is.

        The throttle is awaited with the size of each chunk.

        Raises:
            Unavailable: somebody else does it, or none of its holders can be reached. Otherwise as ``UnderStore.put``.
        """
        return await self._local.persist(path, throttle)

    async def hold(self, path: UfsPath, write_id: str, chunks: Chunks, *, etag: str, size: int) -> None:
        """Hold what another worker is about to acknowledge, or a lost copy of which is made anew.

        Raises:
            Conflict: it is held here already.
            StoreFull: it does not fit.
            VersionChanged: it has fewer or more bytes.
        """
        self._check_possible()
        await self._local.hold(held_name(write_id, str(path)), chunks, etag=etag, size=size)

    async def release(self, path: UfsPath, write_id: str) -> None:
        """Give up what is held of a write that was not acknowledged.

        Raises:
            Conflict: it is pending.
        """
        self._local.release(path, write_id)

    async def wait_known(self, revision: int, *, pending: bool = False) -> bool:
        """Wait until this worker knows of another's write; false if it does not hear of it within a second."""
        return await self._own.wait_known(revision, pending=pending)

    async def _acknowledge(self, path: UfsPath, revision: int, *, pending: bool = False) -> None:
        await asyncio.gather(
            self._policies.forget_listings(str(path)),
            self._workers.tell(self._routes.others(path)[:_TOLD], path, revision, pending=pending),
        )

    def _check_possible(self) -> None:
        if not (self._own.is_possible and self._workers.forwarding.known.is_set()):
            raise EngineUnavailable("This worker does not know yet what may be written.", remedy="Try again.")

    def _check_writable(self, path: UfsPath) -> None:
        self._check_possible()
        mount = self._policies.mounts.of(str(path))
        if mount.writes is WriteMode.READ_ONLY:
            name, prefix = mount.name or "NAME", mount.path or path.with_key("")
            raise ReadOnly(
                f"path='{path}' is read-only.", remedy=f"Run `preheat mount add {name} {prefix} --writes through`."
            )
        if pin := self._policies.pin(str(path)):
            raise pin.refusal(str(path))
