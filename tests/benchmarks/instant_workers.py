"""Workers that report every batch as done at once: ``python -m tests.benchmarks.instant_workers 3``, until SIGTERM.

They have neither a store nor a data port, and reach the engine by ``PREHEAT_NATS_URL``.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time

import msgspec
import uvloop

from preheat.engine import Bucket, Engine, Lease, Queue, connect
from preheat.jobs import Batch, BatchResult
from preheat.registry import Heartbeat
from preheat.settings import EngineSettings, WorkerSettings

_BEAT_SECONDS = WorkerSettings.heartbeat_seconds
_LEASE_SECONDS = WorkerSettings.batch_lease_seconds
_PULL_SECONDS = 2.0
_BATCHES_AT_ONCE = 32


async def work(engine: Engine, worker_id: str) -> None:
    """Be one worker until cancelled."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_beat(engine, worker_id))
        tasks.create_task(_answer_all(engine, worker_id))


async def _beat(engine: Engine, worker_id: str) -> None:
    heartbeat = Heartbeat(id=worker_id, url=f"http://{worker_id}", capacity=1 << 40, started_at=time.time())
    while True:
        await engine.put(Bucket.WORKERS, worker_id, msgspec.json.encode(heartbeat))
        await asyncio.sleep(_BEAT_SECONDS)


async def _answer_all(engine: Engine, worker_id: str) -> None:
    consumer = await engine.consume(
        Queue.BATCHES, f"{worker_id}.>", name=f"worker-{worker_id}", lease_seconds=_LEASE_SECONDS
    )
    while True:
        leases = await consumer.pull(_BATCHES_AT_ONCE, _PULL_SECONDS)
        await asyncio.gather(*(_answer(engine, worker_id, lease) for lease in leases))


async def _answer(engine: Engine, worker_id: str, lease: Lease) -> None:
    batch = msgspec.json.decode(lease.data, type=Batch)
    result = BatchResult(batch_id=batch.id, job_id=batch.job_id, worker=worker_id, done=batch.tally)
    await engine.publish(Queue.RESULTS, f"{batch.job_id}.{batch.id}.{worker_id}", msgspec.json.encode(result))
    await lease.ack()


async def _work_all(count: int) -> None:
    engine = await connect(EngineSettings(url=os.environ["PREHEAT_NATS_URL"]), name="instant-workers")
    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            tasks.create_task(work(engine, f"worker-{number}"))


def main() -> None:
    """Work until killed."""
    uvloop.run(_work_all(int(sys.argv[1])))


if __name__ == "__main__":
    main()
