"""The worker's side of jobs: take batches, do each entry, publish one result per batch.

A result is sent only after the page store was flushed, and its batch acknowledged only after the result is stored. So
the batch of a worker that dies is delivered again; entries that the same job cached already are then counted, not
fetched (the store remembers which job loaded an object).
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Sequence

import msgspec

from preheat.engine import Engine, Queue
from preheat.errors import EngineUnavailable, PreheatError, Unavailable
from preheat.jobs import Batch, BatchResult, FailedObject, JobControl, Tally
from preheat.logs import get_logger
from preheat.settings import WorkerSettings
from preheat.versions import ObjectInfo
from preheat.views import BucketView
from preheat.worker._actions import Actions, Outcome
from preheat.worker._bandwidth import BandwidthLimit
from preheat.worker._intake import HeldBatch, Intake
from preheat.worker._limited import Lane, LimitedBatches, Permits, Work
from preheat.worker.fills import Throttle

log = get_logger("worker")
_RETRY_SECONDS = 0.5
_AGAIN_SECONDS = 0.5
"""Until a batch comes again that found its job's line too long."""
_MAX_LIMITS = 32
_MESSAGE = 300
"""Characters that are reported of a failure: a result names many."""


class BatchExecutor:
    """Executes this worker's batches until it is cancelled."""

    def __init__(
        self, *, engine: Engine, actions: Actions, controls: BucketView[JobControl], settings: WorkerSettings
    ) -> None:
        self._engine = engine
        self._actions = actions
        self._controls = controls
        self._settings = settings
        self._intake = Intake(engine, settings.id, lease_seconds=settings.batch_lease_seconds)
        self._fetches = asyncio.Semaphore(settings.concurrent_fetches)
        self._limits: dict[str, BandwidthLimit] = {}
        self._limited = LimitedBatches(settings.concurrent_fetches)
        self._handling: set[asyncio.Task[None]] = set()
        self.active = 0
        """Batches in work."""
        self.transfers: Counter[str] = Counter()
        """Bytes that the batches in work have fetched so far, by job."""
        controls.listeners.add(self._look_again)

    async def run(self) -> None:
        """Execute batches until cancelled, and then let those in work end within ``drain_seconds``.

        ``concurrent_batches`` are in work at once. Those of jobs with a bandwidth limit are so beside them, for they
        mostly wait: one for each job.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._intake.run())
                for _ in range(self._settings.concurrent_batches):
                    tasks.create_task(self._work(tasks))
        finally:
            await self._drain()

    async def _work(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            held = await self._intake.next()
            work = self.receive(held.data)
            if self._limit(work.batch).rate is None or not self._limited.concerns(work.batch):
                await self._do(tasks, held, work)
            elif self._limited.add(held):
                self._begin_limited(tasks)
            else:
                await held.release(_AGAIN_SECONDS)

    def receive(self, data: bytes) -> Work:
        """Decode a batch, for :meth:`execute`."""
        return Work(batch=msgspec.json.decode(data, type=Batch), permits=Permits(self._fetches))

    async def _do(self, tasks: asyncio.TaskGroup, held: HeldBatch, work: Work) -> None:
        """Do a batch in a slot; it leaves that if its job gets a limit meanwhile, and has to wait."""
        handling = self._begin(held, work)
        await asyncio.wait({handling, work.permits.stepped_aside}, return_when=asyncio.FIRST_COMPLETED)
        if work.is_aside:
            tasks.create_task(self._finish_limited(tasks, work, handling))
        else:
            await handling

    def _begin_limited(self, tasks: asyncio.TaskGroup) -> None:
        while held := self._limited.next():
            work = self.receive(held.data)
            self._step_aside(work)
            tasks.create_task(self._finish_limited(tasks, work, self._begin(held, work)))

    async def _finish_limited(self, tasks: asyncio.TaskGroup, work: Work, handling: asyncio.Task[None]) -> None:
        await asyncio.wait({handling, work.ending}, return_when=asyncio.FIRST_COMPLETED)
        self._begin_limited(tasks)
        await asyncio.shield(handling)
        self._limited.end(work)
        self._begin_limited(tasks)

    def _step_aside(self, work: Work) -> None:
        if not work.is_aside:
            self._limited.begin(work, self._limit(work.batch).rate or math.inf)

    def _look_again(self, job_id: str) -> None:
        """Follow a change of what is asked of a job: a lifted limit needs no line."""
        if limit := self._limits.get(job_id):
            self._limited.quicken(job_id, limit.rate or math.inf)
            for held in () if limit.rate else self._limited.take_line(job_id):
                self._intake.put_back(held)

    def _begin(self, held: HeldBatch, work: Work) -> asyncio.Task[None]:
        handling = asyncio.create_task(self._handle(held, work))
        self._handling.add(handling)
        handling.add_done_callback(self._handling.discard)
        return handling

    async def _drain(self) -> None:
        self._limited.drop_lines()
        if self._handling:
            _, late = await asyncio.wait(self._handling, timeout=self._settings.drain_seconds)
            for handling in late:
                handling.cancel()
        self._limited = LimitedBatches(self._settings.concurrent_fetches)

    async def _handle(self, held: HeldBatch, work: Work) -> None:
        batch = work.batch
        self.active += 1
        try:
            if result := await self.execute(work):
                subject = f"{batch.job_id}.{batch.id}.{result.worker}"
                await self._engine.publish(Queue.RESULTS, subject, msgspec.json.encode(result))
            await held.ack()
        except EngineUnavailable as error:  # delivered again when the lease ends
            log.warning("A result waits for the engine.", action="result_late", batch=batch.id, error=str(error))
        finally:
            self.active -= 1
            held.drop()

    async def execute(self, work: Work) -> BatchResult | None:
        """Do every entry of a batch; an entry that fails does not fail the others. None if its job ended meanwhile."""
        batch, transferred = work.batch, 0
        limit = self._limit(batch)

        def step_aside() -> None:
            self._step_aside(work)

        async def throttle(size: int) -> None:
            nonlocal transferred
            transferred += size
            self.transfers[batch.job_id] += size
            if self._ended(batch):  # another job that waits for the same object tries it again
                raise Unavailable("The job that fetched it has ended.")
            await limit.wait(size, step_aside)

        try:
            outcomes = await self._attempt_all(work, throttle)
        finally:
            self.transfers[batch.job_id] -= transferred
            self.transfers += Counter()  # drops what is zero
        if Outcome.DROPPED in outcomes:
            return None
        outcomes = self._settled(batch, outcomes)
        skipped = [entry for entry, outcome in zip(batch.entries, outcomes, strict=True) if outcome is Outcome.SKIPPED]
        done = [entry for entry, outcome in zip(batch.entries, outcomes, strict=True) if outcome is Outcome.DONE]
        return BatchResult(
            batch_id=batch.id,
            job_id=batch.job_id,
            worker=self._settings.id,
            done=_tally(done),
            skipped=_tally(skipped),
            failed=tuple(outcome for outcome in outcomes if isinstance(outcome, FailedObject)),
            first_failed=_first_failed(batch, outcomes),
        )

    async def _attempt_all(self, work: Work, throttle: Throttle) -> list[Outcome | FailedObject]:
        """Attempt the entries, in order but many at once: a task each would cost a small object dear."""
        entries = work.batch.entries
        outcomes: list[Outcome | FailedObject] = [Outcome.DROPPED] * len(entries)
        todo = iter(enumerate(entries))

        async def attempt_some() -> None:
            lane = Lane(work.permits)
            try:
                for number, entry in todo:
                    outcomes[number] = await self._attempt(work, entry, throttle, lane)
                    work.note_done()
            finally:
                lane.leave()

        lanes = min(self._settings.concurrent_fetches, len(entries))
        await asyncio.gather(*(attempt_some() for _ in range(lanes)))
        return outcomes

    def _settled(self, batch: Batch, outcomes: list[Outcome | FailedObject]) -> list[Outcome | FailedObject]:
        """Return the outcomes once what they report survives this process; without that nothing counts as done."""
        try:
            self._actions.flush()
        except PreheatError as error:
            log.warning("The page store could not be flushed.", action="flush_failed", batch=batch.id, error=str(error))
            return [
                _failed(batch, entry, error) if isinstance(outcome, Outcome) else outcome
                for entry, outcome in zip(batch.entries, outcomes, strict=True)
            ]
        return outcomes

    async def _attempt(self, work: Work, entry: ObjectInfo, throttle: Throttle, lane: Lane) -> Outcome | FailedObject:
        """Try an entry until it is done, its error is final, or ``fetch_attempts`` were made."""
        batch, attempt = work.batch, 1
        while not self._ended(batch):
            await lane.begin(entry)
            try:
                return await self._actions.do(batch, entry, throttle)
            except PreheatError as error:
                if self._ended(batch):
                    break
                if not error.retryable or attempt >= self._settings.fetch_attempts:
                    return _failed(batch, entry, error)
            except Exception as error:
                path = batch.root + entry.key
                log.exception("An entry met an unexpected error.", action="entry_crashed", path=path)
                return FailedObject(path=path, size=entry.size, code="internal", message=repr(error)[:_MESSAGE])
            lane.leave()
            await asyncio.sleep(_RETRY_SECONDS * 2 ** (attempt - 1))
            attempt += 1
        return Outcome.DROPPED

    def _ended(self, batch: Batch) -> bool:
        known = self._controls.get(batch.job_id)
        return bool(known and known[0].stop)

    def _limit(self, batch: Batch) -> BandwidthLimit:
        """Return the limit that all of a job's fetches here share; it follows the job's control record."""

        def limit() -> int | None:
            known = self._controls.get(batch.job_id)
            if known is None:
                return batch.bandwidth
            return None if known[0].stop else known[0].bandwidth_in_force(batch.bandwidth)

        shared = self._limits.setdefault(batch.job_id, BandwidthLimit(limit))
        if len(self._limits) > _MAX_LIMITS:
            del self._limits[next(iter(self._limits))]
        return shared


def _failed(batch: Batch, entry: ObjectInfo, error: PreheatError) -> FailedObject:
    return FailedObject(path=batch.root + entry.key, size=entry.size, code=error.code, message=str(error)[:_MESSAGE])


def _first_failed(batch: Batch, outcomes: Sequence[Outcome | FailedObject]) -> int | None:
    numbered = zip(batch.numbers, outcomes, strict=False)
    return next((number for number, outcome in numbered if isinstance(outcome, FailedObject)), None)


def _tally(entries: list[ObjectInfo]) -> Tally:
    return Tally(objects=len(entries), bytes=sum(entry.size for entry in entries))
