"""One running job: list, plan, publish, account, until every listed object is accounted for.

The owner of the job is the only writer of its record. It publishes batches first and then records them together with
the listing cursor; a crash between the two leaves batches that nobody waits for, whose objects the next owner lists and
plans again, and whose results it ignores. All steps run one after the other in one task: there is no lock to hold.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from preheat import accounting
from preheat.coordinator._attendance import Attendant
from preheat.coordinator._batches import BatchQueue, clear_queues
from preheat.coordinator._cluster import ClusterView
from preheat.coordinator._failures import FailureLog
from preheat.coordinator._forecaster import Forecaster
from preheat.coordinator._inventory import InventoryWriter
from preheat.coordinator._receipts import ReceiptSigner
from preheat.coordinator._records import JobRecords
from preheat.coordinator._source import JobSource, Page
from preheat.coordinator._window_plan import plan_window
from preheat.coordinator._windows import filling, windows
from preheat.engine import Bucket, Consumer, Engine, Entry, Queue
from preheat.errors import Conflict, DeadlineExceeded, InvalidRequest, NoLiveWorker, OriginUnavailable, VersionChanged
from preheat.jobs import Action, BatchResult, FailedObject, Job, JobControl, JobState, JobType, Priority, Progress
from preheat.logs import get_logger
from preheat.placement import PlacementMap
from preheat.planning import Planner, owners_of_a_batch, passes
from preheat.settings import SchedulerSettings
from preheat.views import BucketView

log = get_logger("coordinator")
_RESULTS_AT_ONCE = 256
_RESULT_WAIT_SECONDS = 1.0
_FATAL = (
    FileNotFoundError,
    PermissionError,
    InvalidRequest,
    VersionChanged,
    OriginUnavailable,
    NoLiveWorker,
    DeadlineExceeded,
)
"""What ends a job as FAILED."""


class StopRequested(Exception):
    """The job is to stop; the message says why."""


class JobRunner:
    """Runs one job as its owner."""

    def __init__(
        self,
        *,
        engine: Engine,
        source: JobSource,
        cluster: ClusterView,
        jobs: BucketView[Job],
        controls: BucketView[JobControl],
        inventory: InventoryWriter,
        forecaster: Forecaster,
        attendant: Attendant,
        receipts: ReceiptSigner,
        settings: SchedulerSettings,
    ) -> None:
        self._engine = engine
        self._source = source
        self._inventory = inventory
        self._forecaster = forecaster
        self._attendant = attendant
        self._receipts = receipts
        self._failures = FailureLog(engine)
        self._cluster = cluster
        self._jobs = jobs
        self._controls = controls
        self._records = JobRecords(engine=engine, jobs=jobs, controls=controls)
        self._settings = settings
        self._job: Job
        self._batches: BatchQueue
        self._revision = 0
        self._results: Consumer
        self._no_worker_since: float | None = None

    async def run(self, job: Job, revision: int, *, owner: str) -> Job:
        """Take the job over and run it to its end; return its last record.

        Raises:
            Conflict: another coordinator took the job over.
            EngineUnavailable: the engine does not answer; the job stays as it is for the next owner.
        """
        self._job, self._revision = job, revision
        self._batches = BatchQueue(self._engine, job.id)
        self._results = await self._engine.consume(
            Queue.RESULTS,
            f"{job.id}.>",
            name=f"job-{job.id}",
            lease_seconds=self._settings.result_lease_seconds,
        )
        try:
            await self._take_over(owner)
            state, reason = await self._run_passes()
        finally:
            await self._results.close()
        await self._end(state, reason)
        return self._job

    async def _take_over(self, owner: str) -> None:
        job = self._job
        started = job.started_at or time.time()
        state = JobState.RUNNING if job.state is JobState.WAITING else job.state
        job = await self._failures.restore(job)
        await self._save(replace(job, owner=owner, generation=job.generation + 1, started_at=started, state=state))

    async def _run_passes(self) -> tuple[JobState, str]:
        first, *others = passes(self._job.spec)
        await self._inventory.begin(self._job)
        try:
            await self._run_pass(first)
            for action in others:
                if accounting.too_many_failed(self._job.spec.options, self._job.work):
                    break
                await (self._verify() if action is Action.VERIFY else self._run_pass(action))
        except StopRequested as stop:
            return JobState.STOPPED, str(stop)
        except _FATAL as error:
            return JobState.FAILED, str(error)
        return accounting.verdict(self._job)

    async def _verify(self) -> None:
        """Read everything back from its owners, and do it again if others own some of it by the end.

        Raises:
            NoLiveWorker: the workers changed during each of ``verify_attempts`` verifications.
        """
        for _ in range(self._settings.verify_attempts + 1):
            epoch, last = (await self._placement()).epoch, self._job.verification
            ended = last is not None and last.complete
            if last and ended and (last.epoch == epoch or accounting.too_many_failed(self._job.spec.options, last)):
                return
            if last is None or ended:
                fresh = replace(accounting.begin_verification(last, epoch=epoch), began_at=time.time())
                await self._save(replace(self._job, state=JobState.VERIFYING, verification=fresh))
            await self._run_pass(Action.VERIFY)
        raise NoLiveWorker(
            f"Workers joined or left during each of {self._settings.verify_attempts} verifications.",
            remedy="Submit again when the cluster is stable; what is cached stays.",
        )

    async def _end(self, state: JobState, reason: str) -> None:
        job = self._job
        reason = await self._inventory.conclude(job, state, reason)
        ended = replace(job, state=state, reason=reason, finished_at=time.time())
        await self._save(replace(ended, receipt=await self._receipts.sign(ended)))
        if state is not JobState.SUCCEEDED:
            await self._records.change_control(job.id, lambda control: replace(control, stop=True))
        await clear_queues(self._engine, job.id)

    async def _run_pass(self, action: Action) -> None:
        """List everything once and account for a result of every object."""
        pages = windows(self._source.pages(self._job.spec, self._progress(action)), self._filling)
        while not self._progress(action).complete:
            self._check_owned()
            self._check_stop()
            placement = await self._placement()
            await self._replan_lost(action, placement)
            if not self._progress(action).listing_done and self._has_room(action, placement):
                await self._plan(action, await anext(pages), placement)
            else:
                await self._collect(action)

    def _progress(self, action: Action) -> Progress:
        return accounting.progress_of(self._job, action)

    def _with_progress(self, action: Action, progress: Progress) -> Job:
        return accounting.with_progress(self._job, action, progress)

    def _priority(self) -> Priority:
        known = self._controls.get(self._job.id)
        return (known[0].priority if known else None) or self._job.spec.options.priority

    def _filling(self) -> int:
        spec, workers = self._job.spec, len(self._cluster.placement.members)
        return filling(batch_size=spec.options.batch_size, workers=workers, owners=owners_of_a_batch(spec))

    def _has_room(self, action: Action, placement: PlacementMap) -> bool:
        limit = self._settings.open_batches_per_worker * len(placement.members)
        return sum(len(batch.waiting) for batch in self._progress(action).open.values()) < limit

    def _check_owned(self) -> None:
        """Give way to a coordinator that took the job over meanwhile: it gets the results that are waited for here."""
        known = self._jobs.get(self._job.id)
        if known is None or known[1] > self._revision:
            raise Conflict(f"Another coordinator took the job {self._job.id} over.")

    def _check_stop(self) -> None:
        deadline, now = self._job.spec.options.deadline, time.time()
        if deadline is not None and now > deadline:
            raise DeadlineExceeded(f"The deadline passed when {accounting.hot_fraction(self._job):.1%} was hot.")
        known = self._controls.get(self._job.id)
        if known and known[0].stop:
            raise StopRequested("Stopped by request.")
        if known and (reason := self._attendant.abandonment(known[0], now)):
            self._job = replace(self._job, abandoned=True)
            raise StopRequested(reason)

    async def _placement(self) -> PlacementMap:
        """Return a map with members; wait for one if there is none."""
        while not (placement := self._cluster.placement).members:
            self._no_worker_since = self._no_worker_since or time.monotonic()
            if time.monotonic() - self._no_worker_since > self._settings.no_worker_seconds:
                raise NoLiveWorker(f"No worker was live for {self._settings.no_worker_seconds:.0f} s.")
            self._check_stop()
            await asyncio.sleep(_RESULT_WAIT_SECONDS)
        self._no_worker_since = None
        return placement

    async def _plan(self, action: Action, page: Page | None, placement: PlacementMap) -> None:
        progress = self._progress(action)
        await self._inventory.add(self._job, action, page)
        if page is None:
            last = progress.path_index + 1 == self._job.spec.parts
            await self._save(self._with_progress(action, accounting.record_listed_path(progress, last=last)))
            return
        progress = progress if progress.batches else replace(progress, epoch=progress.epoch or placement.epoch)
        self._check_epoch(action, placement)
        planner = self._planner(action)  # seconds of work with a thousand workers, in which others keep their leases
        planned, progress = await asyncio.to_thread(plan_window, progress, page, planner=planner, placement=placement)
        await self._batches.publish(planned, self._priority())
        await self._note_failures(page.missing)
        await self._save(self._with_progress(action, progress))

    def _check_epoch(self, action: Action, placement: PlacementMap) -> None:
        """Let nothing be dropped whose copies were made for other owners."""
        copied = action is Action.TRIM and self._job.spec.type is not JobType.FREE
        if copied and placement.epoch != self._job.work.epoch:
            raise NoLiveWorker(
                "Workers joined or left after the copies were made, so nothing more is dropped.",
                remedy="Submit again when the cluster is stable; no copy is lost.",
            )

    async def _note_failures(self, failed: Sequence[FailedObject]) -> None:
        """Write what failed to the log, and the first few into the record, which the caller saves."""
        if failed:
            chunks = await self._failures.append(self._job, failed)
            self._job = replace(accounting.record_failures(self._job, failed), failure_chunks=chunks)

    def _planner(self, action: Action) -> Planner:
        return Planner(
            job_id=self._job.id,
            spec=self._job.spec,
            action=action,
            generation=self._job.generation,
            batch_bytes=self._settings.batch_bytes,
            began_at=self._job.started_at,
            drained=self._cluster.leaving(),
        )

    async def _replan_lost(self, action: Action, placement: PlacementMap) -> None:
        """Give the open batches of workers that left to the present owners of their entries."""
        live, drained = ([member.id for member in some] for some in (placement.members, self._cluster.leaving()))
        for batch_id in accounting.lost_batches(self._progress(action), live, drained):
            batch = await self._batches.find(batch_id, self._progress(action).open[batch_id].waiting)
            if batch is None:  # its last result is on its way
                continue
            self._check_epoch(action, placement)
            before = self._progress(action)
            planned = self._planner(action).plan_again(batch, placement=placement, first=before.batches)
            await self._batches.publish(planned, self._priority())
            progress = accounting.replace_batch(before, batch_id, planned)
            await self._save(self._with_progress(action, progress))
            await self._failures.unpark(self._job, before, progress)
            await self._batches.drop(batch_id)
            log.info("A batch of a lost worker goes on.", action="batch_replanned", job=self._job.id, batch=batch_id)

    async def _collect(self, action: Action) -> None:
        """Account the results that are there, or the next one to come."""
        leases = await self._results.pull(_RESULTS_AT_ONCE, _RESULT_WAIT_SECONDS)
        if not leases:
            if self._forecaster.is_due(self._job, time.time()):
                await self._save(self._job)
            return
        before = progress = self._progress(action)
        all_failed = list[FailedObject]()
        for lease in leases:
            result = msgspec.json.decode(lease.data, type=BatchResult)
            progress, failed = accounting.record_result(progress, result)
            all_failed += failed
        await self._failures.park(self._job, before, progress)
        await self._note_failures(all_failed)
        await self._batches.begin_second_steps(before, progress, self._cluster.placement, self._priority())
        await self._save(self._with_progress(action, progress))
        await self._failures.unpark(self._job, before, progress)
        for lease in leases:
            await lease.ack()
        await self._batches.forget_second_steps(before, progress)

    async def _save(self, job: Job) -> None:
        """Write the record if it is still ours, and only then act on it."""
        job = self._forecaster.updated(job, time.time())
        value = msgspec.json.encode(accounting.without_open_failures(job))
        self._revision = await self._engine.put(Bucket.JOBS, job.id, value, revision=self._revision)
        self._job = job
        self._jobs.apply(Entry(key=job.id, value=value, revision=self._revision))
