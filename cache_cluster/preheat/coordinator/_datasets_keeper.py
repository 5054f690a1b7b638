"""Keeps declared datasets loaded: takes the steps that :func:`preheat.datasets.decide` returns.

Every coordinator does so for every dataset. Whatever is to be done once is written into the record first, by
compare-and-swap, and submitted under one idempotency key: whoever is second finds it done. A dataset that waits for the
under store keeps no other one waiting.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import assert_never

from preheat.access import acting_for
from preheat.coordinator._cluster import ClusterView
from preheat.coordinator._datasets import Datasets
from preheat.coordinator._datasets_look import DatasetLook
from preheat.coordinator._mounts import Mounts
from preheat.coordinator._service import JobService
from preheat.coordinator._submission import Claim
from preheat.coordinator._ttls import Ttls
from preheat.datasets import (
    Change,
    Decision,
    Forget,
    Idle,
    Leave,
    Record,
    Run,
    Seen,
    SetRule,
    SetTtl,
    Submit,
    TakeLook,
    decide,
    failed,
    looked,
)
from preheat.errors import EngineUnavailable, JobNotFound, PreheatError
from preheat.jobs import Job
from preheat.logs import get_logger
from preheat.settings import DatasetSettings
from preheat.views import BucketView

log = get_logger("coordinator")
_STEPS = 50
"""Of one dataset at one time; more would be a decision that changes nothing."""


class DatasetKeeper:
    """Reconciles what is declared with what there is.

    Args:
        datasets: what is declared.
        jobs: the jobs, whose ends are waited for.
        service: submits jobs.
        cluster: the workers.
        mounts: has the rules for readers.
        ttls: frees what is over.
        look: compares with the workers and the under store.
        settings: how patient to be.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        datasets: Datasets,
        *,
        jobs: BucketView[Job],
        service: JobService,
        cluster: ClusterView,
        mounts: Mounts,
        ttls: Ttls,
        look: DatasetLook,
        settings: DatasetSettings,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._datasets = datasets
        self._jobs = jobs
        self._service = service
        self._cluster = cluster
        self._mounts = mounts
        self._ttls = ttls
        self._look = look
        self._settings = settings
        self._clock = clock
        self._woken = asyncio.Event()
        self._changed = set[str]()
        self._busy = set[str]()
        datasets.view.listeners.add(self._on_change)
        jobs.listeners.add(self._on_job)

    async def run(self) -> None:
        """Keep the datasets loaded until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                tick = asyncio.get_running_loop().time() + self._settings.tick_seconds
                due: set[str] | None = {record.dataset.name for record, _ in self._datasets.view.values()}
                while due is not None:
                    for name in due:
                        self._start(name, tasks)
                    due = await self._changed_until(tick)

    async def keep(self, name: str) -> None:
        """Take the steps that are due for one dataset."""
        for _ in range(_STEPS):
            known = self._datasets.view.get(name)
            if known is None:
                return
            record, revision = known
            decision = decide(record, await self._seen(record), self._clock(), self._settings)
            if isinstance(decision, Idle) or not await self._do(record, revision, decision):
                return
        log.error("A dataset is not settled after many steps.", action="dataset_unsettled", dataset=name)

    def _start(self, name: str, tasks: asyncio.TaskGroup) -> None:
        if name not in self._busy:
            self._busy.add(name)
            tasks.create_task(self._keep(name))

    async def _keep(self, name: str) -> None:
        try:
            await self.keep(name)
        except PreheatError as error:
            log.warning("A dataset waits.", action="dataset_late", dataset=name, error=str(error))
        finally:
            self._busy.discard(name)

    async def _changed_until(self, tick: float) -> set[str] | None:
        """Return the datasets that change next; none when it is time to look at all of them."""
        try:
            async with asyncio.timeout_at(tick):
                await self._woken.wait()
        except TimeoutError:
            return None
        self._woken.clear()
        changed, self._changed = self._changed, set()
        return changed

    def _on_change(self, name: str) -> None:
        self._changed.add(name)
        self._woken.set()

    def _on_job(self, job_id: str) -> None:
        known = self._jobs.get(job_id)
        if known is None or not known[0].state.ended:
            return
        for record, _ in self._datasets.view.values():
            if record.run and record.run.job_id == job_id:
                self._on_change(record.dataset.name)

    async def _seen(self, record: Record) -> Seen:
        return Seen(
            members={member.id: member.started_at for member in self._cluster.placement.members},
            job=await self._job(record.run),
            rule=self._mounts.rule(record.dataset.name),
            due={ttl.path: ttl.due_at for path in record.dataset.targets if (ttl := self._ttls.get(path))},
        )

    async def _job(self, run: Run | None) -> Job | None:
        if run is None or not run.job_id:
            return None
        try:
            return (await self._service.get(run.job_id)).job
        except JobNotFound:
            return None

    async def _do(self, record: Record, revision: int, decision: Decision) -> bool:
        """Take one step; false if there is nothing more to do here for now."""
        match decision:
            case Change(record=after):
                return await self._datasets.write(after, revision)
            case Submit(run=run):
                return await self._submit(record, revision, run)
            case Leave(run=run):
                return await self._leave(record, revision, run)
            case SetRule(rule=rule):
                await self._mounts.set_rule(record.dataset.name, rule)
            case SetTtl(path=path, seconds=seconds):
                await (self._ttls.unset(path) if seconds is None else self._ttls.set(path, seconds))
            case TakeLook(record=claimed):
                return await self._take_look(claimed, revision)
            case Forget():
                await self._datasets.forget(record.dataset.name, revision)
            case Idle():
                pass
            case _:
                assert_never(decision)
        return not isinstance(decision, Forget | Idle)

    async def _submit(self, record: Record, revision: int, run: Run) -> bool:
        now, name = self._clock(), record.dataset.name
        try:
            with acting_for(record.dataset.grant):
                known = await self._service.submit(run.spec, idempotency_key=run.key, claim=_claim(name, run))
        except EngineUnavailable:
            raise
        except PreheatError as error:
            log.warning("A dataset cannot be loaded now.", action="dataset_refused", dataset=name, error=str(error))
            return await self._datasets.write(failed(record, error.code, str(error), self._settings, now), revision)
        log.info("A dataset is being loaded.", action="dataset_run", dataset=name, job=known.job.id, load=run.is_load)
        run = replace(run, job_id=known.job.id, attached=known.job.submitted_at < run.made_at)
        submitted = replace(record, run=run, last_job=run.job_id)
        return await self._datasets.write(submitted, revision)

    async def _leave(self, record: Record, revision: int, run: Run) -> bool:
        claim = _claim(record.dataset.name, run)
        with suppress(JobNotFound):  # it ended so long ago that it is forgotten
            await self._service.cancel(run.job_id, claim.waiter, claim.fence)
        return await self._datasets.write(replace(record, left=None), revision)

    async def _take_look(self, claimed: Record, revision: int) -> bool:
        if claimed.loaded is None or not await self._datasets.write(claimed, revision):
            return False
        look = await self._look.take(claimed.dataset, claimed.loaded)
        known = self._datasets.view.get(claimed.dataset.name)
        if known is None or known[0].loaded != claimed.loaded or known[0].removed:
            return False  # it was declared otherwise, or loaded again meanwhile
        return await self._datasets.write(looked(known[0], look, self._settings, self._clock()), known[1])


def _claim(dataset: str, run: Run) -> Claim:
    """Wait for a run's job, so that it goes on when somebody else who waited for it leaves."""
    return Claim(waiter=f"dataset {dataset}", fence=run.key)
