"""How a job is accepted: looked at, bound to its idempotency key and its identity, recorded, and put on its way.

The steps are in this order so that a submit may break off after any of them and be repeated: nothing is done twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import Awaitable
from dataclasses import dataclass, replace

import msgspec

from preheat import claims
from preheat.coordinator._cluster import ClusterView
from preheat.coordinator._pinned import Pinned, check_pins
from preheat.coordinator._records import JobRecords, KnownJob
from preheat.coordinator._validation import validate
from preheat.engine import Bucket, Engine, Entry, Queue
from preheat.errors import Conflict, ObjectNotFound, OriginUnavailable
from preheat.jobs import Job, JobControl, JobSpec
from preheat.keys import key_of
from preheat.paths import UfsPath
from preheat.ufs import UnderStore

_PROBES_AT_ONCE = 16
"""Paths of one submit that are looked at together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """Who waits for a job; see :mod:`preheat.claims`."""

    waiter: str
    fence: str
    lease: float | None = None
    """Seconds for which it holds without a renewal; none is for ever."""

    def apply(self, control: JobControl) -> JobControl:
        """Return the control record with this claim, made now."""
        return claims.claim(control, self.waiter, self.fence, lease=self.lease, now=time.time())


class Submission:
    """Accepts jobs.

    Args:
        engine: keeps them.
        ufs: is asked for the first object of each path, within ``probe_seconds``.
        cluster: says how many workers there are.
        records: the jobs there are.
        pinned: says what may not be written.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        ufs: UnderStore,
        cluster: ClusterView,
        records: JobRecords,
        probe_seconds: float,
        pinned: Pinned,
    ) -> None:
        self._engine = engine
        self._ufs = ufs
        self._cluster = cluster
        self._records = records
        self._probe_seconds = probe_seconds
        self._pinned = pinned

    async def submit(
        self, spec: JobSpec, *, idempotency_key: str | None = None, claim: Claim | None = None, trace: str = ""
    ) -> KnownJob:
        """Accept a job durably, or return the one that does the same already.

        Args:
            spec: what is to be done.
            idempotency_key: a second submit with it returns the first one's job.
            claim: who waits for a new job from its first moment on; an attached one is left for the caller to claim.
            trace: the trace id of the request.

        Raises:
            InvalidRequest: an option or a path cannot be used.
            NoLiveWorker: nobody could do it.
            ReadOnly: it would write below a pin.
            BucketNotFound, ObjectNotFound, AccessDenied, OriginUnavailable: the first look at a path failed.
            Conflict: the idempotency key was used for another spec.
        """
        if idempotency_key and (known := await self._by_key(idempotency_key, spec)):
            return known
        validate(spec, live_workers=len(self._cluster.live()))
        check_pins(spec, self._pinned)
        known = await self._running_twin(spec)
        if known is None and not spec.retry_of:
            await self._probe(spec)
        job_id = await self._reserve(idempotency_key, spec, known.job.id if known else str(uuid.uuid4()))
        if known is None:
            known = await self._create(Job(id=job_id, spec=spec, submitted_at=time.time(), trace=trace), claim)
        return known

    async def _probe(self, spec: JobSpec) -> None:
        """Look at the under store, so that what cannot work is refused and not accepted."""
        if spec.type.lists_cache:
            return
        if spec.index:
            await self._within_probe(spec.index, self._ufs.stat(UfsPath.parse(spec.index)))
        for first in range(0, len(spec.paths), _PROBES_AT_ONCE):
            paths = spec.paths[first : first + _PROBES_AT_ONCE]
            await asyncio.gather(*(self._within_probe(path, self._find_object(UfsPath.parse(path))) for path in paths))
        if spec.destination:
            await self._within_probe(spec.destination, self._has_objects(UfsPath.parse(spec.destination)))

    async def _within_probe(self, path: str, look: Awaitable[object]) -> None:
        try:
            await asyncio.wait_for(look, self._probe_seconds)
        except TimeoutError as error:
            raise OriginUnavailable(f"path={path!r}: no answer within {self._probe_seconds:.0f} s.") from error

    async def _find_object(self, path: UfsPath) -> None:
        if not await self._has_objects(path):
            raise ObjectNotFound(f"path={str(path)!r}: there is no such object, and nothing below it.")

    async def _has_objects(self, path: UfsPath) -> bool:
        async for page in self._ufs.list(path):
            if page:
                return True
        return False

    async def _create(self, job: Job, claim: Claim | None = None) -> KnownJob:
        value = msgspec.json.encode(job)
        try:
            revision = await self._engine.put(Bucket.JOBS, job.id, value, revision=0)
        except Conflict:  # a concurrent submit with the same idempotency key was first
            known = await self._records.lookup(job.id)
            if known is None:
                raise
            return await self._enqueue(replace(known, attached=True), claim)
        self._records.note(Entry(key=job.id, value=value, revision=revision))
        return await self._enqueue(self._records.known(job, revision), claim)

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
            await self._records.change_control(job.id, claim.apply)
        await self._engine.publish(Queue.JOBS, f"{job.spec.options.priority}.{job.id}", b"")
        return known

    async def latest(self, spec: JobSpec) -> KnownJob | None:
        """Return the last job of a spec's identity, as the engine has it."""
        entry = await self._engine.get(Bucket.IDENTITIES, key_of(spec.identity))
        return await self._records.lookup(entry.value.decode()) if entry and entry.value else None

    async def _running_twin(self, spec: JobSpec) -> KnownJob | None:
        twin = await self.latest(spec)
        if twin is None or twin.job.state.ended:
            return None
        if self._records.stopping(twin.job.id):  # on its way out: wait for it rather than attach to it
            twin = await self._records.stop(twin.job.id)
        return None if twin.job.state.ended else replace(twin, attached=True)

    async def _claim_identity(self, job: Job) -> bool:
        """Make a job the one of its identity; false if another that has not ended holds it."""
        key = key_of(job.spec.identity)
        entry = await self._engine.get(Bucket.IDENTITIES, key)
        if entry is not None and entry.value is not None:
            if entry.value == job.id.encode():
                return True
            holder = await self._records.lookup(entry.value.decode())
            if holder is not None and not holder.job.state.ended:
                return False
        try:
            await self._engine.put(Bucket.IDENTITIES, key, job.id.encode(), revision=entry.revision if entry else 0)
        except Conflict:
            return False
        return True

    async def _by_key(self, idempotency_key: str, spec: JobSpec) -> KnownJob | None:
        job_id = await self._reserved(idempotency_key, spec)
        known = await self._records.lookup(job_id) if job_id else None
        return await self._enqueue(replace(known, attached=True)) if known else None

    async def _reserve(self, idempotency_key: str | None, spec: JobSpec, job_id: str) -> str:
        """Bind an idempotency key to a job that is about to be, and return the job's id.

        Before the job: a submit that breaks off in between is done under the same id when it is repeated.
        """
        if not idempotency_key:
            return job_id
        try:
            value = f"{job_id} {_fingerprint(spec)}".encode()
            await self._engine.put(Bucket.KEYS, key_of(idempotency_key), value, revision=0)
        except Conflict:
            return await self._reserved(idempotency_key, spec) or job_id
        return job_id

    async def _reserved(self, idempotency_key: str, spec: JobSpec) -> str | None:
        entry = await self._engine.get(Bucket.KEYS, key_of(idempotency_key))
        if entry is None or entry.value is None:
            return None
        job_id, _, fingerprint = entry.value.decode().partition(" ")
        if fingerprint != _fingerprint(spec):
            raise Conflict(
                f"Idempotency-Key={idempotency_key!r} was used for another job, {job_id}.",
                remedy="Use a fresh key for each submit.",
            )
        return job_id


def _fingerprint(spec: JobSpec) -> str:
    return hashlib.sha256(msgspec.json.encode(spec)).hexdigest()
