"""The job service: what the API calls. Any coordinator answers any request."""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace

import msgspec

from preheat import claims
from preheat.coordinator._cluster import ClusterView
from preheat.coordinator._failures import FailureLog
from preheat.coordinator._validation import validate, validate_bandwidth
from preheat.engine import Bucket, Engine, Entry, Queue, is_token
from preheat.errors import Conflict, JobNotFound, ObjectNotFound, OriginUnavailable
from preheat.jobs import FailedObject, Job, JobControl, JobSpec, JobState, Priority
from preheat.paths import UfsPath
from preheat.settings import SchedulerSettings
from preheat.ufs import UnderStore
from preheat.views import BucketView

_STOP_SECONDS = 20.0
_CONTROL_ATTEMPTS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownJob:
    """A job as this coordinator knows it."""

    job: Job
    revision: int
    attached: bool = False
    """The submit found it: the same job runs already, or the idempotency key was used before."""
    queue_position: int | None = None
    """Of a WAITING job: 1 is the next to run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """Who waits for a job; see :mod:`preheat.claims`."""

    waiter: str
    fence: str


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
    ) -> None:
        self._engine = engine
        self._ufs = ufs
        self._cluster = cluster
        self._jobs = jobs
        self._controls = controls
        self._settings = settings

    async def submit(
        self, spec: JobSpec, *, idempotency_key: str | None = None, claim: Claim | None = None, trace: str = ""
    ) -> KnownJob:
        """Accept a job durably, or return the one that does the same already.

        Args:
            spec: what is to be done.
            idempotency_key: a second submit with it returns the first one's job.
            claim: who waits for the job, from its first moment on.
            trace: the trace id of the request.

        Raises:
            InvalidRequest: an option or a path cannot be used.
            NoLiveWorker: nobody could do it.
            BucketNotFound, ObjectNotFound, AccessDenied, OriginUnavailable: the first look at a path failed.
            Conflict: the idempotency key was used for another spec.
        """
        if idempotency_key and (known := await self._by_key(idempotency_key, spec)):
            return known
        validate(spec, live_workers=len(self._cluster.live()))
        known = await self._running_twin(spec)
        if known is None:
            await self._probe(spec)
        job_id = await self._reserve(idempotency_key, spec, known.job.id if known else str(uuid.uuid4()))
        if known is None:
            known = await self._create(Job(id=job_id, spec=spec, submitted_at=time.time(), trace=trace), claim)
        if claim and known.attached:
            await self.claim(known.job.id, claim.waiter, claim.fence)
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
        spec = replace(job.spec, paths=job.spec.paths[:1], retry_of=job_id)
        validate(spec, live_workers=len(self._cluster.live()))
        job = Job(id=str(uuid.uuid4()), spec=spec, submitted_at=time.time())
        return await self._running_twin(spec) or await self._create(job)

    async def failures(self, job_id: str) -> AsyncIterator[tuple[FailedObject, ...]]:
        """Yield all of a job's failed objects, in chunks."""
        async for chunk in FailureLog(self._engine).read((await self.get(job_id)).job):
            yield chunk

    def peek(self, job_id: str) -> KnownJob | None:
        """Return a job if this coordinator has heard of it: :meth:`get` without a look at the engine."""
        known = self._jobs.get(job_id)
        return self._known(*known) if known else None

    async def get(self, job_id: str) -> KnownJob:
        """Return a job.

        Raises:
            JobNotFound: there is none of this id.
        """
        if known := self._jobs.get(job_id):
            return self._known(*known)
        if is_token(job_id) and (fresh := await self._lookup(job_id)):  # another coordinator's, of this moment
            return fresh
        raise JobNotFound(f"There is no job {job_id!r}.")

    async def wait(self, job_id: str, *, after: int, seconds: float) -> KnownJob:
        """Return a job when its revision is past ``after`` or it has ended, or ``seconds`` have passed."""
        await self.get(job_id)
        deadline = asyncio.get_running_loop().time() + seconds
        await self._jobs.wait_until(job_id, lambda job, revision: revision > after or job.state.ended, deadline)
        return await self.get(job_id)

    def list(self, *, states: frozenset[JobState] | None = None) -> list[KnownJob]:
        """Return the jobs, newest first."""
        jobs = [
            self._known(job, revision) for job, revision in self._jobs.values() if states is None or job.state in states
        ]
        return sorted(jobs, key=lambda known: (known.job.submitted_at, known.job.id), reverse=True)

    def _known(self, job: Job, revision: int) -> KnownJob:
        if job.state is not JobState.WAITING:
            return KnownJob(job=job, revision=revision)
        waiting = [other for other, _ in self._jobs.values() if other.state is JobState.WAITING]
        before = sum(_turn(other) < _turn(job) for other in waiting)
        return KnownJob(job=job, revision=revision, queue_position=before + 1)

    def unfinished_batches(self) -> Counter[str]:
        """Return how many batches of running jobs each worker has not reported."""
        running = (job for job, _ in self._jobs.values() if not job.state.ended)
        passes = (progress for job in running for progress in (job.work, job.verification, job.trimming) if progress)
        return Counter(worker for progress in passes for batch in progress.open.values() for worker in batch.waiting)

    def find(self, spec: JobSpec) -> KnownJob | None:
        """Return the latest job of the same type and paths."""
        return next((known for known in self.list() if known.job.spec.identity == spec.identity), None)

    async def claim(self, job_id: str, waiter: str, fence: str) -> KnownJob:
        """Let a waiter wait for a job with a fresh fence; see :mod:`preheat.claims`."""
        known = await self.get(job_id)
        if not known.job.state.ended:
            await self._change_control(job_id, lambda control: claims.claim(control, waiter, fence))
        return known

    async def cancel(self, job_id: str, waiter: str, fence: str) -> KnownJob:
        """Let a waiter leave after the grace time; a stale fence changes nothing."""
        known = await self.get(job_id)
        leaves_at = time.time() + self._settings.cancel_grace_seconds
        if not known.job.state.ended:
            await self._change_control(
                job_id, lambda control: claims.cancel(control, waiter, fence, leaves_at=leaves_at)
            )
        return known

    async def set_bandwidth(self, job_id: str, bandwidth: int | None) -> KnownJob:
        """Change what a running job may transfer, in bytes per second and worker; none lifts the limit."""
        known = await self.get(job_id)
        if known.job.state.ended:
            raise Conflict(f"The job {job_id} has ended: its bandwidth cannot change.")
        validate_bandwidth(bandwidth)
        await self._change_control(job_id, lambda control: replace(control, bandwidth=bandwidth or 0))
        return known

    def bandwidth(self, job: Job) -> int | None:
        """Return what a job may transfer as things stand, in bytes per second and worker; none is unlimited."""
        control = self._controls.get(job.id)
        changed = control[0].bandwidth if control else None
        return job.spec.options.bandwidth if changed is None else changed or None

    async def set_priority(self, job_id: str, priority: Priority) -> KnownJob:
        """Change which batches of a job go first from now on; those with the workers keep their place."""
        known = await self.get(job_id)
        if known.job.state.ended:
            raise Conflict(f"The job {job_id} has ended: its priority cannot change.")
        await self._change_control(job_id, lambda control: replace(control, priority=priority))
        return known

    async def stop(self, job_id: str) -> KnownJob:
        """Ask a job to stop and return it once it did, or as it is after 20 s."""
        known = await self.get(job_id)
        if known.job.state.ended:
            return known
        await self._change_control(job_id, lambda control: replace(control, stop=True))
        deadline = asyncio.get_running_loop().time() + _STOP_SECONDS
        await self._jobs.wait_until(job_id, lambda job, _: job.state.ended, deadline)
        return await self.get(job_id)

    async def _change_control(self, job_id: str, change: Callable[[JobControl], JobControl]) -> None:
        """Change a job's control record, again if another request changed it meanwhile."""
        for _ in range(_CONTROL_ATTEMPTS):
            entry = await self._engine.get(Bucket.CONTROLS, job_id)
            before = JobControl() if entry is None else msgspec.json.decode(entry.value or b"{}", type=JobControl)
            value = msgspec.json.encode(change(before))
            try:
                revision = await self._engine.put(
                    Bucket.CONTROLS, job_id, value, revision=entry.revision if entry else 0
                )
            except Conflict:
                continue
            self._controls.apply(Entry(key=job_id, value=value, revision=revision))
            return
        raise Conflict(f"Too many requests change the job {job_id} at once.", remedy="Try again.")

    async def _probe(self, spec: JobSpec) -> None:
        """Look at the under store, so that what cannot work is refused and not accepted."""
        if spec.type.lists_cache:
            return
        if spec.index:
            await self._within_probe(spec.index, self._ufs.stat(UfsPath.parse(spec.index)))
        for path in spec.paths:
            await self._within_probe(path, self._find_object(UfsPath.parse(path)))

    async def _within_probe(self, path: str, look: Awaitable[object]) -> None:
        try:
            await asyncio.wait_for(look, self._settings.probe_seconds)
        except TimeoutError as error:
            raise OriginUnavailable(f"path={path!r}: no answer within {self._settings.probe_seconds:.0f} s.") from error

    async def _find_object(self, path: UfsPath) -> None:
        async for page in self._ufs.list(path):
            if page:
                return
        raise ObjectNotFound(f"path={str(path)!r}: there is no such object, and nothing below it.")

    async def _create(self, job: Job, claim: Claim | None = None) -> KnownJob:
        value = msgspec.json.encode(job)
        try:
            revision = await self._engine.put(Bucket.JOBS, job.id, value, revision=0)
        except Conflict:  # a concurrent submit with the same idempotency key was first
            known = await self._lookup(job.id)
            if known is None:
                raise
            return await self._enqueue(replace(known, attached=True), claim)
        self._jobs.apply(Entry(key=job.id, value=value, revision=revision))
        return await self._enqueue(KnownJob(job=job, revision=revision), claim)

    async def _enqueue(self, known: KnownJob, claim: Claim | None = None) -> KnownJob:
        """Bring a recorded job on its way; once more if its submit broke off."""
        job = known.job
        if job.generation or job.state.ended:
            return known
        if not await self._claim_identity(job):
            await self._engine.delete(Bucket.JOBS, job.id)
            if twin := await self._running_twin(job.spec):
                return twin
            raise Conflict("The same job was submitted, and ended, at this moment.", remedy="Submit again.")
        if claim:
            await self._change_control(job.id, lambda control: claims.claim(control, claim.waiter, claim.fence))
        await self._engine.publish(Queue.JOBS, f"{job.spec.options.priority}.{job.id}", b"")
        return known

    async def _running_twin(self, spec: JobSpec) -> KnownJob | None:
        entry = await self._engine.get(Bucket.IDENTITIES, digest(spec.identity))
        if entry is None or entry.value is None:
            return None
        twin = await self._lookup(entry.value.decode())
        if twin is None or twin.job.state.ended:
            return None
        control = self._controls.get(twin.job.id)
        if control and control[0].stop:  # on its way out: wait for it rather than attach to it
            twin = await self.stop(twin.job.id)
        return None if twin.job.state.ended else replace(twin, attached=True)

    async def _claim_identity(self, job: Job) -> bool:
        """Make a job the one of its identity; false if another that has not ended holds it."""
        key = digest(job.spec.identity)
        entry = await self._engine.get(Bucket.IDENTITIES, key)
        if entry is not None and entry.value is not None:
            if entry.value == job.id.encode():
                return True
            holder = await self._lookup(entry.value.decode())
            if holder is not None and not holder.job.state.ended:
                return False
        try:
            await self._engine.put(Bucket.IDENTITIES, key, job.id.encode(), revision=entry.revision if entry else 0)
        except Conflict:
            return False
        return True

    async def _lookup(self, job_id: str) -> KnownJob | None:
        """Return a job from the engine itself: another coordinator may have written it just now."""
        entry = await self._engine.get(Bucket.JOBS, job_id)
        if entry is None or entry.value is None:
            return None
        self._jobs.apply(entry)
        return KnownJob(job=msgspec.json.decode(entry.value, type=Job), revision=entry.revision)

    async def _by_key(self, idempotency_key: str, spec: JobSpec) -> KnownJob | None:
        job_id = await self._reserved(idempotency_key, spec)
        known = await self._lookup(job_id) if job_id else None
        return await self._enqueue(replace(known, attached=True)) if known else None

    async def _reserve(self, idempotency_key: str | None, spec: JobSpec, job_id: str) -> str:
        """Bind an idempotency key to a job that is about to be, and return the job's id.

        Before the job: a submit that breaks off in between is done under the same id when it is repeated.
        """
        if not idempotency_key:
            return job_id
        try:
            value = f"{job_id} {_fingerprint(spec)}".encode()
            await self._engine.put(Bucket.KEYS, digest(idempotency_key), value, revision=0)
        except Conflict:
            return await self._reserved(idempotency_key, spec) or job_id
        return job_id

    async def _reserved(self, idempotency_key: str, spec: JobSpec) -> str | None:
        entry = await self._engine.get(Bucket.KEYS, digest(idempotency_key))
        if entry is None or entry.value is None:
            return None
        job_id, _, fingerprint = entry.value.decode().partition(" ")
        if fingerprint != _fingerprint(spec):
            raise Conflict(
                f"Idempotency-Key={idempotency_key!r} was used for another job, {job_id}.",
                remedy="Use a fresh key for each submit.",
            )
        return job_id


def digest(text: str) -> str:
    """Return a text as a key that the engine takes."""
    return hashlib.sha256(text.encode()).hexdigest()


def _turn(job: Job) -> tuple[int, float]:
    """Return by what WAITING jobs are ordered."""
    return list(Priority).index(job.spec.options.priority), job.submitted_at


def _fingerprint(spec: JobSpec) -> str:
    return hashlib.sha256(msgspec.json.encode(spec)).hexdigest()
