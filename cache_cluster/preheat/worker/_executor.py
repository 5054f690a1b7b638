"""The worker's side of jobs: take batches, do each entry, publish one result per batch.

A result is sent only after the page store was flushed, and its batch acknowledged only after the result is stored. So
the batch of a worker that dies is delivered again; entries that the same job cached already are then counted, not
fetched (the store remembers which job loaded an object).
"""

from __future__ import annotations

import asyncio
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
from preheat.worker.fills import Throttle

log = get_logger("worker")
_RETRY_SECONDS = 0.5
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
        self.active = 0
        """Batches in work."""
        self.transfers: Counter[str] = Counter()
        """Bytes that the batches in work have fetched so far, by job."""

    async def run(self) -> None:
        """Execute batches, ``concurrent_batches`` at once; let those in work end when cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._intake.run())
            for _ in range(self._settings.concurrent_batches):
                tasks.create_task(self._work())

    async def _work(self) -> None:
        while True:
            held = await self._intake.next()
            await self._finish(asyncio.create_task(self._handle(held)))

    async def _finish(self, handling: asyncio.Task[None]) -> None:
        """Wait for a batch; when this worker stops, let it end within ``drain_seconds``."""
        try:
            await asyncio.shield(handling)
        except asyncio.CancelledError:
            await asyncio.wait({handling}, timeout=self._settings.drain_seconds)
            handling.cancel()
            raise

    async def _handle(self, held: HeldBatch) -> None:
        batch = msgspec.json.decode(held.data, type=Batch)
        self.active += 1
        try:
            if result := await self.execute(batch):
                subject = f"{batch.job_id}.{batch.id}.{result.worker}"
                await self._engine.publish(Queue.RESULTS, subject, msgspec.json.encode(result))
            await held.ack()
        except EngineUnavailable as error:  # delivered again when the lease ends
            log.warning("A result waits for the engine.", action="result_late", batch=batch.id, error=str(error))
        finally:
            self.active -= 1
            held.drop()

    async def execute(self, batch: Batch) -> BatchResult | None:
        """Do every entry of a batch; an entry that fails does not fail the others. None if its job ended meanwhile."""
        transferred = 0
        limit = self._limit(batch)

        async def throttle(size: int) -> None:
            nonlocal transferred
            transferred += size
            self.transfers[batch.job_id] += size
            if self._ended(batch):  # another job that waits for the same object tries it again
                raise Unavailable("The job that fetched it has ended.")
            await limit.wait(size)

        try:
            outcomes = await self._attempt_all(batch, throttle)
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

    async def _attempt_all(self, batch: Batch, throttle: Throttle) -> list[Outcome | FailedObject]:
        """Attempt the entries, in order but many at once: a task each would cost a small object dear."""
        outcomes: list[Outcome | FailedObject] = [Outcome.DROPPED] * len(batch.entries)
        todo = iter(enumerate(batch.entries))

        async def attempt_some() -> None:
            for number, entry in todo:
                outcomes[number] = await self._attempt(batch, entry, throttle)

        lanes = min(self._settings.concurrent_fetches, len(batch.entries))
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

    async def _attempt(self, batch: Batch, entry: ObjectInfo, throttle: Throttle) -> Outcome | FailedObject:
        """Try an entry until it is done, its error is final, or ``fetch_attempts`` were made."""
        attempt = 1
        while not self._ended(batch):
            try:
                async with self._fetches:
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
            return known[0].bandwidth_in_force(batch.bandwidth) if known else batch.bandwidth

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
