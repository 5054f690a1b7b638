"""The jobs' records as one coordinator knows them, and the changes that any coordinator may make to a job."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from preheat.engine import Bucket, Engine, Entry, is_token
from preheat.errors import Conflict, JobNotFound
from preheat.jobs import Job, JobControl, JobState, Priority
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


class JobRecords:
    """Looks jobs up, and changes their control records."""

    def __init__(self, *, engine: Engine, jobs: BucketView[Job], controls: BucketView[JobControl]) -> None:
        self._engine = engine
        self._jobs = jobs
        self._controls = controls

    def all(self) -> list[KnownJob]:
        """Return every job that this coordinator knows, in no order."""
        return [self.known(job, revision) for job, revision in self._jobs.values()]

    async def get(self, job_id: str) -> KnownJob:
        """Return a job.

        Raises:
            JobNotFound: there is none of this id.
        """
        if known := self.peek(job_id):
            return known
        if is_token(job_id) and (fresh := await self.lookup(job_id)):  # another coordinator's, of this moment
            return fresh
        raise JobNotFound(f"There is no job {job_id!r}.")

    def peek(self, job_id: str) -> KnownJob | None:
        """Return a job if this coordinator has heard of it."""
        known = self._jobs.get(job_id)
        return self.known(*known) if known else None

    async def lookup(self, job_id: str) -> KnownJob | None:
        """Return a job as the engine has it: another coordinator may have written it just now."""
        entry = await self._engine.get(Bucket.JOBS, job_id)
        if entry is None or entry.value is None:
            return None
        self._jobs.apply(entry)
        return self.known(msgspec.json.decode(entry.value, type=Job), entry.revision)

    def note(self, entry: Entry) -> None:
        """Know a record that was just written, before the engine tells."""
        self._jobs.apply(entry)

    def stopping(self, job_id: str) -> bool:
        """Say whether a job was asked to stop."""
        control = self._controls.get(job_id)
        return bool(control and control[0].stop)

    async def stop(self, job_id: str) -> KnownJob:
        """Ask a job to stop and return it once it did, or as it is after 20 s."""
        known = await self.get(job_id)
        if known.job.state.ended:
            return known
        await self.change_control(job_id, lambda control: replace(control, stop=True))
        deadline = asyncio.get_running_loop().time() + _STOP_SECONDS
        await self._jobs.wait_until(job_id, lambda job, _: job.state.ended, deadline)
        return await self.get(job_id)

    async def change_control(self, job_id: str, change: Callable[[JobControl], JobControl]) -> None:
        """Change a job's control record, again if another request changed it meanwhile."""
        for _ in range(_CONTROL_ATTEMPTS):
            entry = await self._engine.get(Bucket.CONTROLS, job_id)
            before = JobControl() if entry is None else msgspec.json.decode(entry.value or b"{}", type=JobControl)
            after = change(before)
            if after == before:  # what nobody hears of needs no write: a late cancel, a renewal by who was replaced
                return
            value = msgspec.json.encode(after)
            try:
                revision = await self._engine.put(
                    Bucket.CONTROLS, job_id, value, revision=entry.revision if entry else 0
                )
            except Conflict:
                continue
            self._controls.apply(Entry(key=job_id, value=value, revision=revision))
            return
        raise Conflict(f"Too many requests change the job {job_id} at once.", remedy="Try again.")

    def known(self, job: Job, revision: int) -> KnownJob:
        """Return a record with what follows from the others."""
        if job.state is not JobState.WAITING:
            return KnownJob(job=job, revision=revision)
        waiting = [other for other, _ in self._jobs.values() if other.state is JobState.WAITING]
        before = sum(_turn(other) < _turn(job) for other in waiting)
        return KnownJob(job=job, revision=revision, queue_position=before + 1)


def _turn(job: Job) -> tuple[int, float]:
    """Return by what WAITING jobs are ordered."""
    return list(Priority).index(job.spec.options.priority), job.submitted_at
