"""The job service: what the API calls. Any coordinator answers any request."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from preheat import accounting, claims
from preheat.access import check_job, for_caller, may_see
from preheat.coordinator._cluster import ClusterView
from preheat.coordinator._failures import FailureLog
from preheat.coordinator._pinned import Pinned
from preheat.coordinator._records import JobRecords, KnownJob
from preheat.coordinator._submission import Claim, Submission
from preheat.coordinator._validation import validate_bandwidth
from preheat.engine import Engine
from preheat.errors import Conflict
from preheat.jobs import FailedObject, Job, JobControl, JobSpec, JobState, Priority
from preheat.settings import SchedulerSettings
from preheat.ufs import UnderStore
from preheat.views import BucketView


class JobService:
    """Submit, look up, list and stop jobs."""

    def __init__(
        self,
        *,
        engine: Engine,
        ufs: UnderStore,
        cluster: ClusterView,
        jobs: BucketView[Job],
        controls: BucketView[JobControl],
        settings: SchedulerSettings,
        pinned: Pinned,
    ) -> None:
        self._jobs = jobs
        self._controls = controls
        self._settings = settings
        self._failures = FailureLog(engine)
        self._records = JobRecords(engine=engine, jobs=jobs, controls=controls)
        self._submission = Submission(
            engine=engine,
            ufs=ufs,
            cluster=cluster,
            records=self._records,
            probe_seconds=settings.probe_seconds,
            pinned=pinned,
        )

    async def submit(
        self, spec: JobSpec, *, idempotency_key: str | None = None, claim: Claim | None = None, trace: str = ""
    ) -> KnownJob:
        """Accept a job durably, or return the one that does the same already; see :meth:`Submission.submit`."""
        spec = for_caller(spec)
        known = await self._submission.submit(spec, idempotency_key=idempotency_key, claim=claim, trace=trace)
        if claim and known.attached:
            await self.claim(known.job.id, claim)
        return known

    async def retry(self, job_id: str) -> KnownJob:
        """Submit a job of an ended job's failed objects only, with its options.

        Raises:
            Conflict: the job goes on, or nothing failed. Otherwise as :meth:`submit`.
        """
        job = (await self.get(job_id)).job
        if not job.state.ended:
            raise Conflict(f"The job {job_id} is {job.state}.", remedy="Retry it when it has ended.")
        if not job.failure_chunks:
            raise Conflict(f"No file of the job {job_id} failed.", remedy="Submit its paths again for a new look.")
        spec = replace(job.spec, retry_of=job_id)
        return await self._submission.submit(for_caller(spec))

    async def failures(self, job_id: str) -> AsyncIterator[tuple[FailedObject, ...]]:
        """Yield all of a job's failed objects, in chunks."""
        async for chunk in self._failures.read((await self.get(job_id)).job):
            yield chunk

    async def get(self, job_id: str) -> KnownJob:
        """Return a job.

        Raises:
            JobNotFound: there is none of this id.
            Forbidden: the caller's token is bound to other paths.
        """
        known = await self._records.get(job_id)
        check_job(known.job.spec)
        return known

    def peek(self, job_id: str) -> KnownJob | None:
        """Return a job if this coordinator has heard of it: :meth:`get` without a look at the engine."""
        return self._records.peek(job_id)

    async def wait(
        self, job_id: str, *, after: int | None, seconds: float, hot_in_order: int | None = None
    ) -> KnownJob:
        """Return a job when it has ended, or ``seconds`` have passed.

        Args:
            job_id: the job.
            after: return earlier when its revision is past this.
            seconds: how long to wait at most.
            hot_in_order: return earlier when so many entries are hot, or it is certain that they will not be; see
                :func:`preheat.accounting.hot_in_order`.
        """
        await self.get(job_id)
        deadline = asyncio.get_running_loop().time() + seconds

        def accept(job: Job, revision: int) -> bool:
            changed = after is not None and revision > after
            decided = hot_in_order is not None and accounting.decides_order(job, hot_in_order)
            return changed or job.state.ended or decided

        await self._jobs.wait_until(job_id, accept, deadline)
        return await self.get(job_id)

    def list(self, *, states: frozenset[JobState] | None = None) -> list[KnownJob]:
        """Return the jobs that the caller may see, newest first."""
        jobs = [known for known in self._records.all() if states is None or known.job.state in states]
        jobs = [known for known in jobs if may_see(known.job.spec)]
        return sorted(jobs, key=lambda known: (known.job.submitted_at, known.job.id), reverse=True)

    def unfinished_batches(self) -> Counter[str]:
        """Return how many batches of running jobs each worker has not reported."""
        running = (job for job, _ in self._jobs.values() if not job.state.ended)
        passes = (progress for job in running for progress in (job.work, job.verification, job.trimming) if progress)
        return Counter(worker for progress in passes for batch in progress.open.values() for worker in batch.waiting)

    async def find(self, spec: JobSpec) -> KnownJob | None:
        """Return the latest job of the same type and paths, whichever coordinator accepted it.

        Raises:
            Forbidden: the caller's token is bound to other paths.
        """
        spec = for_caller(spec)
        metadata = replace(spec, options=replace(spec.options, load_metadata_only=not spec.options.load_metadata_only))
        found = [await self._submission.latest(each) for each in (spec, metadata)]
        return max(filter(None, found), key=lambda known: known.job.submitted_at, default=None)

    async def claim(self, job_id: str, claim: Claim) -> KnownJob:
        """Let a waiter wait for a job with a fresh fence; see :mod:`preheat.claims`."""
        known = await self.get(job_id)
        if not known.job.state.ended:
            await self._records.change_control(job_id, claim.apply)
        return known

    async def renew(self, job_id: str, waiter: str, fence: str) -> KnownJob:
        """Let a waiter's lease begin anew; a stale fence changes nothing."""
        known = await self.get(job_id)
        if not known.job.state.ended:
            now = time.time()
            await self._records.change_control(job_id, lambda control: claims.renew(control, waiter, fence, now=now))
        return known

    async def cancel(self, job_id: str, waiter: str, fence: str) -> KnownJob:
        """Let a waiter leave after the grace time; a stale fence changes nothing."""
        known = await self.get(job_id)
        leaves_at = time.time() + self._settings.cancel_grace_seconds
        if not known.job.state.ended:
            await self._records.change_control(
                job_id, lambda control: claims.cancel(control, waiter, fence, leaves_at=leaves_at)
            )
        return known

    async def set_bandwidth(self, job_id: str, bandwidth: int | None) -> KnownJob:
        """Change what a running job may transfer, in bytes per second and worker; none lifts the limit."""
        validate_bandwidth(bandwidth)
        return await self._change(job_id, "bandwidth", lambda control: replace(control, bandwidth=bandwidth or 0))

    async def set_priority(self, job_id: str, priority: Priority) -> KnownJob:
        """Change which batches of a job go first from now on; those with the workers keep their place."""
        return await self._change(job_id, "priority", lambda control: replace(control, priority=priority))

    def bandwidth(self, job: Job) -> int | None:
        """Return what a job may transfer as things stand, in bytes per second and worker; none is unlimited."""
        known, submitted = self._controls.get(job.id), job.spec.options.bandwidth
        return known[0].bandwidth_in_force(submitted) if known else submitted

    async def stop(self, job_id: str) -> KnownJob:
        """Ask a job to stop and return it once it did, or as it is after 20 s."""
        await self.get(job_id)
        return await self._records.stop(job_id)

    async def _change(self, job_id: str, what: str, change: Callable[[JobControl], JobControl]) -> KnownJob:
        known = await self.get(job_id)
        if known.job.state.ended:
            raise Conflict(f"The job {job_id} has ended: its {what} cannot change.")
        await self._records.change_control(job_id, change)
        return known
