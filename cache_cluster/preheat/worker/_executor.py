"""The worker's side of jobs: pull batches, do each entry, publish one result per batch.

A batch is acknowledged only after its result is stored, so a worker that dies has it delivered again; entries that the
same job cached already are then counted, not fetched (the store remembers which job loaded an object).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum, auto

import msgspec

from preheat.engine import Consumer, Engine, Lease, Queue
from preheat.errors import EngineUnavailable, PreheatError
from preheat.jobs import Action, Batch, BatchResult, FailedObject, JobControl, Tally
from preheat.logs import get_logger
from preheat.paths import UfsPath
from preheat.settings import WorkerSettings
from preheat.store import CachedObject, PageStore
from preheat.versions import ObjectInfo
from preheat.views import BucketView
from preheat.worker._reads import ReadService
from preheat.worker._throttle import Throttle

log = get_logger("worker")
_PULL_SECONDS = 2.0
_RETRY_SECONDS = 0.5
_MAX_THROTTLES = 32


class Outcome(Enum):
    """What became of an entry that did not fail."""

    DONE = auto()
    SKIPPED = auto()


class BatchExecutor:
    """Executes this worker's batches until it is cancelled."""

    def __init__(
        self,
        *,
        engine: Engine,
        store: PageStore,
        reads: ReadService,
        controls: BucketView[JobControl],
        settings: WorkerSettings,
    ) -> None:
        self._engine = engine
        self._store = store
        self._reads = reads
        self._controls = controls
        self._settings = settings
        self._fetches = asyncio.Semaphore(settings.concurrent_fetches)
        self._throttles: dict[str, Throttle] = {}
        self.active = 0
        """Batches in work."""

    async def run(self) -> None:
        """Pull and execute batches, ``concurrent_batches`` at once; let those in work end when cancelled."""
        consumer = await self._engine.consume(
            Queue.BATCHES,
            f"{self._settings.id}.>",
            name=f"worker-{self._settings.id}",
            lease_seconds=self._settings.batch_lease_seconds,
        )
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._settings.concurrent_batches):
                tasks.create_task(self._work(consumer))

    async def _work(self, consumer: Consumer) -> None:
        while True:
            try:
                leases = await consumer.pull(1, _PULL_SECONDS)
            except EngineUnavailable as error:
                log.warning("No batches: the engine is away.", action="pull_failed", error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            for lease in leases:
                await self._finish(asyncio.create_task(self._handle(lease)))

    async def _finish(self, handling: asyncio.Task[None]) -> None:
        """Wait for a batch; when this worker stops, let it end within ``drain_seconds``."""
        try:
            await asyncio.shield(handling)
        except asyncio.CancelledError:
            await asyncio.wait({handling}, timeout=self._settings.drain_seconds)
            handling.cancel()
            raise

    async def _handle(self, lease: Lease) -> None:
        batch = msgspec.json.decode(lease.data, type=Batch)
        renewal = asyncio.create_task(self._renew(lease))
        self.active += 1
        try:
            result = await self.execute(batch)
            subject = f"{batch.job_id}.{batch.id}.{result.worker}"
            await self._engine.publish(Queue.RESULTS, subject, msgspec.json.encode(result))
            await lease.ack()
        except EngineUnavailable as error:  # delivered again when the lease ends
            log.warning("A result waits for the engine.", action="result_late", batch=batch.id, error=str(error))
        finally:
            self.active -= 1
            renewal.cancel()

    async def _renew(self, lease: Lease) -> None:
        while True:
            await asyncio.sleep(self._settings.batch_lease_seconds / 3)
            try:
                await lease.renew()
            except EngineUnavailable:
                log.warning("A batch's lease could not be renewed.", action="renew_failed", batch=lease.subject)

    async def execute(self, batch: Batch) -> BatchResult:
        """Do every entry of a batch; an entry that fails does not fail the others."""
        do = self._verify if batch.action is Action.VERIFY else self._fetch
        outcomes = await asyncio.gather(*(self._attempt(do, batch, entry) for entry in batch.entries))
        skipped = [entry for entry, outcome in zip(batch.entries, outcomes, strict=True) if outcome is Outcome.SKIPPED]
        done = [entry for entry, outcome in zip(batch.entries, outcomes, strict=True) if outcome is Outcome.DONE]
        return BatchResult(
            batch_id=batch.id,
            job_id=batch.job_id,
            worker=self._settings.id,
            done=_tally(done),
            skipped=_tally(skipped),
            failed=tuple(outcome for outcome in outcomes if isinstance(outcome, FailedObject)),
        )

    async def _attempt(
        self, do: Callable[[Batch, ObjectInfo], Awaitable[Outcome]], batch: Batch, entry: ObjectInfo
    ) -> Outcome | FailedObject:
        """Try an entry until it is done, its error is final, or ``fetch_attempts`` were made."""
        path = batch.root + entry.key
        attempt = 1
        while True:
            try:
                async with self._fetches:
                    return await do(batch, entry)
            except PreheatError as error:
                if not error.retryable or attempt >= self._settings.fetch_attempts:
                    return FailedObject(path=path, size=entry.size, code=error.code, message=str(error))
            except Exception as error:
                log.exception("An entry met an unexpected error.", action="entry_crashed", path=path)
                return FailedObject(path=path, size=entry.size, code="internal", message=repr(error))
            await asyncio.sleep(_RETRY_SECONDS * 2 ** (attempt - 1))
            attempt += 1

    async def _fetch(self, batch: Batch, entry: ObjectInfo) -> Outcome:
        cached = self._store.lookup(batch.root + entry.key)
        if cached is not None and _is_version(cached, entry):
            if cached.job_id == batch.job_id:
                return Outcome.DONE
            if batch.skip_if_exists:
                return Outcome.SKIPPED
        await self._load(batch, entry)
        return Outcome.DONE

    async def _verify(self, batch: Batch, entry: ObjectInfo) -> Outcome:
        """Read the cached bytes back; what is missing, older or corrupt is fetched, and read back once more."""
        cached = self._store.lookup(batch.root + entry.key)
        if cached is None or not _is_version(cached, entry):
            cached = await self._load(batch, entry)
        await asyncio.to_thread(self._store.verify, cached)
        return Outcome.DONE

    async def _load(self, batch: Batch, entry: ObjectInfo) -> CachedObject:
        return await self._reads.fetch(
            UfsPath.parse(batch.root + entry.key),
            info=entry,
            job_id=batch.job_id,
            throttle=self._throttle(batch),
        )

    def _throttle(self, batch: Batch) -> Callable[[int], Awaitable[None]]:
        """Return the limit that all of a job's fetches here share; it follows the job's control record."""

        def limit() -> int | None:
            known = self._controls.get(batch.job_id)
            changed = known[0].bandwidth if known else None
            return batch.bandwidth if changed is None else changed or None

        throttle = self._throttles.setdefault(batch.job_id, Throttle(limit))
        if len(self._throttles) > _MAX_THROTTLES:
            del self._throttles[next(iter(self._throttles))]
        return throttle.wait


def _is_version(cached: CachedObject, entry: ObjectInfo) -> bool:
    return (cached.etag, cached.size) == (entry.etag, entry.size)


def _tally(entries: list[ObjectInfo]) -> Tally:
    return Tally(objects=len(entries), bytes=sum(entry.size for entry in entries))
