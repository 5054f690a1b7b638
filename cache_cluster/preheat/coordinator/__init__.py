"""The coordinator: accepts jobs, plans them, and accounts for every object. Stateless: all state is the engine's."""

from __future__ import annotations

import asyncio

from preheat.coordinator._attendance import Attendant
from preheat.coordinator._beacon import send_beacons
from preheat.coordinator._cached import CachedListing
from preheat.coordinator._cached_http import HttpCachedListing
from preheat.coordinator._cluster import ClusterView
from preheat.coordinator._comparison import Change, ChangeKind
from preheat.coordinator._datasets import Datasets
from preheat.coordinator._datasets_keeper import DatasetKeeper
from preheat.coordinator._datasets_look import DatasetLook
from preheat.coordinator._declared_file import DeclaredFile
from preheat.coordinator._drift import Drift, DriftFinder
from preheat.coordinator._estimator import LoadEstimator
from preheat.coordinator._forecaster import Forecaster
from preheat.coordinator._inventory import InventoryWriter
from preheat.coordinator._mounts import Mounts
from preheat.coordinator._persist import PendingCatalog, Persistence
from preheat.coordinator._pins import Pins
from preheat.coordinator._receipts import ReceiptSigner
from preheat.coordinator._records import KnownJob
from preheat.coordinator._runner import JobRunner
from preheat.coordinator._scheduler import JobScheduler
from preheat.coordinator._service import JobService
from preheat.coordinator._source import JobSource
from preheat.coordinator._submission import Claim
from preheat.coordinator._ttls import Ttl, Ttls
from preheat.coordinator._upkeep import InventoryUpkeep
from preheat.coordinator._warmth import Source, Warmth, WarmthMeter
from preheat.engine import Bucket, Engine
from preheat.inventories import Inventories
from preheat.jobs import Job, JobControl
from preheat.settings import CoordinatorSettings
from preheat.ufs import UnderStore
from preheat.views import BucketView

__all__ = [
    "CachedListing",
    "Change",
    "ChangeKind",
    "Claim",
    "Coordinator",
    "Drift",
    "HttpCachedListing",
    "JobService",
    "KnownJob",
    "LoadEstimator",
    "Source",
    "Ttl",
    "Warmth",
]


class Coordinator:
    """The parts of one coordinator, put together."""

    def __init__(
        self, settings: CoordinatorSettings, *, engine: Engine, ufs: UnderStore, cached: CachedListing
    ) -> None:
        scheduler = settings.scheduler
        self._engine = engine
        self._settings = settings
        self._jobs = BucketView(engine, Bucket.JOBS, Job)
        self._controls = BucketView(engine, Bucket.CONTROLS, JobControl)
        self.cluster = ClusterView(engine, worker_timeout_seconds=scheduler.worker_timeout_seconds)
        self._attendant = Attendant(engine, grace_seconds=scheduler.cancel_grace_seconds)
        self._inventories = Inventories(engine)
        self.inventories = InventoryUpkeep(engine, self._inventories, self._jobs)
        self.pins = Pins(engine, self._inventories)
        self.mounts = Mounts(engine)
        self.receipts = ReceiptSigner(engine, issuer=settings.url)
        self.persistence = Persistence(engine, self.mounts.view)
        self.drift = DriftFinder(ufs=ufs, inventories=self._inventories, listing_attempts=scheduler.listing_attempts)
        self.warmth = WarmthMeter(
            ufs=ufs,
            inventories=self._inventories,
            cached=cached,
            members=lambda: self.cluster.placement.members,
            listing_attempts=scheduler.listing_attempts,
        )
        self.source = JobSource(
            engine=engine,
            ufs=ufs,
            cached=cached,
            members=lambda: self.cluster.placement.members,
            drained=self.cluster.leaving,
            listing_attempts=scheduler.listing_attempts,
            inventories=self._inventories,
            pending=PendingCatalog(self.persistence.view),
        )

        def new_runner() -> JobRunner:
            return JobRunner(
                engine=engine,
                source=self.source,
                cluster=self.cluster,
                jobs=self._jobs,
                controls=self._controls,
                inventory=InventoryWriter(engine, self._inventories, most=scheduler.inventory_objects),
                forecaster=Forecaster(self._inventories, self.cluster, window_seconds=scheduler.forecast_seconds),
                attendant=self._attendant,
                receipts=self.receipts,
                settings=scheduler,
            )

        self._scheduler = JobScheduler(
            engine=engine, jobs=self._jobs, owner=settings.id, settings=scheduler, new_runner=new_runner
        )
        self.service = JobService(
            engine=engine,
            ufs=ufs,
            cluster=self.cluster,
            jobs=self._jobs,
            controls=self._controls,
            settings=scheduler,
            pinned=self._inventories.pin,
        )
        self.ttls = Ttls(engine, submit=self.service.submit, retention_seconds=scheduler.retention_seconds)
        self.datasets = Datasets(engine)
        self.declared_file = DeclaredFile(engine, datasets=self.datasets, mounts=self.mounts)
        self._keeper = DatasetKeeper(
            self.datasets,
            jobs=self._jobs,
            service=self.service,
            cluster=self.cluster,
            mounts=self.mounts,
            ttls=self.ttls,
            look=DatasetLook(drift=self.drift, warmth=self.warmth),
            settings=settings.datasets,
        )

    @property
    def jobs(self) -> BucketView[Job]:
        """The records of all jobs, as they change."""
        return self._jobs

    async def wait_loaded(self) -> None:
        """Return when the shared state is known; before, a job that exists would be denied."""
        for view in (self._jobs, self._controls, self.cluster, self.mounts.view, self.ttls.view, self.persistence.view):
            await view.loaded.wait()
        await self.datasets.view.loaded.wait()
        await self._inventories.wait_loaded()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._jobs.follow())
            tasks.create_task(self._controls.follow())
            tasks.create_task(self.cluster.follow())
            tasks.create_task(self._inventories.follow())
            tasks.create_task(self.mounts.view.follow())
            tasks.create_task(self.ttls.view.follow())
            tasks.create_task(self.datasets.view.follow())
            tasks.create_task(self.persistence.view.follow())
            await self.wait_loaded()
            tasks.create_task(self._attendant.run())
            tasks.create_task(self._scheduler.run())
            tasks.create_task(self.inventories.run())
            tasks.create_task(self.ttls.run())
            tasks.create_task(self._keeper.run())
            tasks.create_task(self.persistence.run(self.service))
            tasks.create_task(send_beacons(self._engine, self._settings))
