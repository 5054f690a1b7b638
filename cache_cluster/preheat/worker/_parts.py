"""What a worker process is made of, and how its parts hold together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from preheat.engine import Engine
from preheat.settings import WorkerSettings
from preheat.store import DiskStore, Notes, PathIds
from preheat.ufs import UnderStores
from preheat.worker._actions import Actions
from preheat.worker._coordinators import ControlPlane
from preheat.worker._copies import Copies
from preheat.worker._forward import Forward
from preheat.worker._pending import PendingReads, PendingTable
from preheat.worker._policies import Policies
from preheat.worker._readiness import Readiness
from preheat.worker._reads import ReadService
from preheat.worker.fills import Peers
from preheat.worker.port import AlluxioWorker, Authorizer, DataServer, Server, ServerSettings, following_tokens
from preheat.worker.s3 import Access, S3Credentials, S3Endpoints
from preheat.worker.writes import RecentWrites, RemoteWorkers, Staging, Uploads, WriteService


class Parts:
    """All parts of a worker.

    Args:
        settings: of the worker.

    Raises:
        StoreInUse: another process has its directory open.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self.readiness = Readiness()
        worker_id, token, tls = settings.id, settings.access.token, settings.tls
        more = settings.more_data_dirs
        self.store = DiskStore(settings.data_dir, *more, capacity=settings.capacity, settings=settings.store)
        self._ufs = UnderStores()
        self._notes = Notes(self.store.directories[0] / "notes.sqlite")
        self._control, recent = ControlPlane(tls), RecentWrites()
        owners = self._control.owners
        self._peers = Peers(worker_id, owners=owners, token=token, tls=tls, written=recent.etag)
        self._policies = Policies(self.store, file=self.store.directories[0] / "policies.json")
        pending = PendingReads(PendingTable(), self.store, self._peers)
        self._reads = ReadService(
            self.store, self._ufs, notes=self._notes, peers=self._peers, policies=self._policies, pending=pending
        )
        self._forward = Forward(self._reads, worker_id=worker_id, owners=owners, token=token, tls=tls)
        self._writes = self._write_service(recent, pending)
        copies = Copies(ufs=self._ufs, store=self.store, pinned=self._policies.pin)
        self.actions = Actions(
            worker_id, store=self.store, reads=self._reads, copies=copies, persist=self._writes.persist
        )
        self._authorizer = Authorizer() if settings.access.auth else None
        self._alluxio = self._alluxio_worker()
        self._data = self._data_server()
        self._s3 = None if settings.s3_port is None else self._s3_server(settings.s3_port)

    async def start(self) -> None:
        """Serve reads at the data port, which need neither the engine nor a coordinator.

        Only a worker that may have missed writes has to hear of them first: it serves from :meth:`following` on.

        Raises:
            OSError: the port is taken.
        """
        if not self._writes.may_be_behind:
            await self._data.start()

    @asynccontextmanager
    async def following(self, engine: Engine) -> AsyncIterator[str]:
        """Follow the shared state while the block runs, and serve S3 once it is known which buckets there are.

        Yields the endpoint for S3 clients; empty if they are not served.
        """
        async with (
            self._control.following(engine),
            self._policies.following(engine),
            self._writes.following(engine),
            following_tokens(self._authorizer, engine),
        ):
            if self._writes.may_be_behind:
                await self._writes.catch_up()
                await self._data.start()
            if self._s3 is None:
                yield ""
                return
            await self._policies.mounts_loaded.wait()
            async with self._s3:
                yield self._settings.s3_url(self._s3.port)

    async def stop(self) -> None:
        """Let answers under way end, and close everything."""
        await self._data.stop()
        await self._alluxio.close()
        await self._forward.close()
        await self._reads.close()
        self._peers.close()
        await self._ufs.close()
        self._notes.close()
        self.store.close()

    def _write_service(self, recent: RecentWrites, pending: PendingReads) -> WriteService:
        settings, directory = self._settings, self.store.directories[0]
        return WriteService(
            settings.id,
            store=self.store,
            origin=self._ufs,
            reads=self._reads,
            policies=self._policies,
            staging=Staging(directory / "staging", settings.writes),
            uploads=Uploads(
                settings.id,
                most=settings.writes.open_uploads,
                idle_seconds=settings.writes.upload_idle_seconds,
            ),
            owners=self._control.owners,
            workers=RemoteWorkers(token=settings.access.token, tls=settings.tls),
            recent=recent,
            pending=pending,
            heard_file=directory / "writes.heard",
            drain_seconds=settings.drain_seconds,
            repair_seconds=settings.writes.repair_seconds,
        )

    def _alluxio_worker(self) -> AlluxioWorker:
        ids = PathIds(self.store.directories[0] / "path-ids.sqlite")
        return AlluxioWorker(
            self._control,
            self._reads,
            self.store,
            forward=self._forward,
            url=self._settings.url,
            ids=ids,
            writes=self._writes,
            authorizer=self._authorizer,
        )

    def _data_server(self) -> DataServer:
        return DataServer(
            self._reads,
            host=self._settings.host,
            port=self._settings.port,
            settings=ServerSettings(),
            alluxio=self._alluxio,
            writes=self._writes,
            authorizer=self._authorizer,
            tls=self._settings.tls,
            readiness=self.readiness,
        )

    def _s3_server(self, port: int) -> Server:
        endpoints = S3Endpoints(
            self._reads,
            forward=self._forward,
            writes=self._writes,
            policies=self._policies,
            lister=self._ufs,
            access=Access(S3Credentials(self._authorizer) if self._authorizer else None),
        )
        return Server(endpoints, host=self._settings.host, port=port, tls=self._settings.tls)
