"""Which jobs this coordinator runs: it pulls them from the queue and holds each one's lease while it owns the job."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import msgspec

from preheat.coordinator._batches import clear_queues
from preheat.coordinator._failures import FailureLog
from preheat.coordinator._movers import Movers
from preheat.coordinator._runner import JobRunner
from preheat.engine import Bucket, Consumer, Engine, Lease, Queue
from preheat.errors import Conflict, EngineUnavailable
from preheat.jobs import Job, JobState, Priority
from preheat.keys import key_of
from preheat.logs import get_logger
from preheat.settings import SchedulerSettings
from preheat.views import BucketView

log = get_logger("coordinator")
_PULL_SECONDS = 2.0
_RETRY_SECONDS = 1.0
_TURN_SECONDS = 0.1
_SWEEP_SECONDS = 30.0
_LOST_SUBMIT_SECONDS = 30.0


class JobScheduler:
    """Runs jobs from the queue, at most ``max_running`` at once, those of a higher priority first."""

    def __init__(
        self,
        *,
        engine: Engine,
        jobs: BucketView[Job],
        owner: str,
        settings: SchedulerSettings,
        new_runner: Callable[[], JobRunner],
    ) -> None:
        self._engine = engine
        self._jobs = jobs
        self._owner = owner
        self._settings = settings
        self._new_runner = new_runner
        self._movers = Movers(engine)
        self._slots = asyncio.Semaphore(settings.max_running)

    async def run(self) -> None:
        """Run jobs until cancelled; then give the unfinished ones back, so that another coordinator goes on."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sweep())
            for priority in Priority:
                consumer = await self._engine.consume(
                    Queue.JOBS,
                    f"{priority}.*",
                    name=f"coordinators-{priority}",
                    lease_seconds=self._settings.job_lease_seconds,
                )
                tasks.create_task(self._pull(priority, consumer, tasks))

    async def _pull(self, priority: Priority, consumer: Consumer, tasks: asyncio.TaskGroup) -> None:
        """Run the jobs of one priority, in the order of their submits."""
        while True:
            await self._turn(priority)
            try:
                leases = await consumer.pull(1, _PULL_SECONDS)
            except EngineUnavailable:
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            for lease in leases:
                if self._slots.locked():  # a job of another priority took the last one meanwhile
                    await self._give_back(lease)
                else:
                    await self._slots.acquire()
                    tasks.create_task(self._own(lease))

    async def _turn(self, priority: Priority) -> None:
        """Wait until there is a slot, and no job of a higher priority that waits for one."""
        higher = list(Priority)[: list(Priority).index(priority)]
        while True:
            async with self._slots:
                jobs = (job for job, _ in self._jobs.values())
                if not any(job.state is JobState.WAITING and job.spec.options.priority in higher for job in jobs):
                    return
            await asyncio.sleep(_TURN_SECONDS)

    async def _give_back(self, lease: Lease) -> None:
        try:
            await lease.release()
        except EngineUnavailable as error:  # it comes again when its lease ends
            log.warning(
                "A job could not be given back.", action="job_not_released", job=lease.subject, error=str(error)
            )

    async def _own(self, lease: Lease) -> None:
        renewal = asyncio.create_task(self._renew(lease))
        try:
            await self._run_job(lease.subject.rpartition(".")[2])
            await lease.ack()
        except (Conflict, EngineUnavailable) as error:
            log.warning("A job is left to its next owner.", action="job_left", job=lease.subject, error=str(error))
        except asyncio.CancelledError:
            await lease.release()
            raise
        finally:
            renewal.cancel()
            self._slots.release()

    async def _run_job(self, job_id: str) -> None:
        entry = await self._engine.get(Bucket.JOBS, job_id)
        if entry is None or entry.value is None:
            return
        job = msgspec.json.decode(entry.value, type=Job)
        if job.state.ended:  # and its owner died before it could say so
            await clear_queues(self._engine, job_id)
            return
        if job.generation == 0 and not await self._holds_identity(job):
            await self._withdraw(job, entry.revision)
            return
        if other := await self._movers.enter(job):
            await self._refuse(job, entry.revision, other)
            return
        log.info("A job starts here.", action="job_owned", job=job_id, paths=job.spec.paths)
        job = await self._new_runner().run(job, entry.revision, owner=self._owner)
        await self._movers.leave(job)
        log.info("A job ended.", action="job_ended", job=job_id, state=job.state, reason=job.reason)

    async def _holds_identity(self, job: Job) -> bool:
        entry = await self._engine.get(Bucket.IDENTITIES, key_of(job.spec.identity))
        return entry is not None and entry.value == job.id.encode()

    async def _withdraw(self, job: Job, revision: int) -> None:
        """End a job whose submit broke off before anybody could hear of it: its twin may run."""
        reason = "Its submit broke off and was never acknowledged."
        await self._end(job, revision, JobState.STOPPED, reason)
        log.info("A job that was never acknowledged is withdrawn.", action="job_withdrawn", job=job.id)

    async def _refuse(self, job: Job, revision: int, other: str) -> None:
        """End a job in whose way another one is, as :class:`Movers` says."""
        reason = (
            f"The job {other} moves copies of the same files; together they could drop each other's. Submit again when "
            "it has ended."
        )
        await self._end(job, revision, JobState.FAILED, reason)
        log.info("A job is in another one's way.", action="job_refused", job=job.id, other=other)

    async def _end(self, job: Job, revision: int, state: JobState, reason: str) -> None:
        ended = replace(job, state=state, reason=reason, finished_at=time.time())
        await self._engine.put(Bucket.JOBS, job.id, msgspec.json.encode(ended), revision=revision)

    async def _renew(self, lease: Lease) -> None:
        while True:
            await asyncio.sleep(self._settings.job_lease_seconds / 3)
            try:
                await lease.renew()
            except EngineUnavailable:
                log.warning("A job's lease could not be renewed.", action="renew_failed", job=lease.subject)

    async def _sweep(self) -> None:
        """Queue what a crash lost between record and queue, and forget what ended long ago."""
        await self._jobs.loaded.wait()
        while True:
            now = time.time()
            for job, _ in self._jobs.values():
                await self._tidy(job, now)
            await asyncio.sleep(_SWEEP_SECONDS)

    async def _tidy(self, job: Job, now: float) -> None:
        try:
            if not job.state.ended:
                if now - job.submitted_at > _LOST_SUBMIT_SECONDS:
                    await self._engine.publish(Queue.JOBS, f"{job.spec.options.priority}.{job.id}", b"")
            elif now - (job.finished_at or now) > self._settings.retention_seconds:
                await clear_queues(self._engine, job.id)  # of what a replaced owner, or a slow worker, sent since
                await FailureLog(self._engine).forget(job)
                await self._engine.delete(Bucket.JOBS, job.id)
                await self._engine.delete(Bucket.CONTROLS, job.id)
        except EngineUnavailable as error:
            log.warning("Tidying up waits for the engine.", action="tidy_failed", error=str(error))
