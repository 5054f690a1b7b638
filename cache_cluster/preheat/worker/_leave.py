"""Taking a worker out until its process ends, by way of the engine: what runs before Kubernetes stops a pod.

It needs no coordinator, which may be stopping too, and no admin's token: a worker's machine can write to the engine.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import msgspec

from preheat.engine import Bucket, Engine, connect
from preheat.errors import DeadlineExceeded
from preheat.registry import Heartbeat, WorkerControl
from preheat.settings import EngineSettings

_CONNECT_SECONDS = 5.0


def leave(settings: EngineSettings, worker_id: str, *, seconds: float) -> None:
    """Drain the process that runs as a worker now, and return when its last batch has ended.

    The next process of that name takes part again. Nothing happens if there is none.

    Raises:
        DeadlineExceeded: batches are still in work after ``seconds``.
        EngineUnavailable: NATS does not answer.
    """
    asyncio.run(_leave(replace(settings, connect_seconds=_CONNECT_SECONDS), worker_id, seconds))


async def _leave(settings: EngineSettings, worker_id: str, seconds: float) -> None:
    engine = await connect(settings, name=f"leave-{worker_id}")
    try:
        async with asyncio.timeout(seconds):
            await leave_by(engine, worker_id)
    except TimeoutError as error:
        raise DeadlineExceeded(
            f"{worker_id} has batches in work after {seconds:.0f} s.",
            remedy="What it does not end is done again by other workers.",
        ) from error
    finally:
        await engine.close()


async def leave_by(engine: Engine, worker_id: str) -> None:
    """Ask the worker's present process to leave, and wait until its last batch has ended."""
    entry = await engine.get(Bucket.WORKERS, worker_id)
    if entry is None or entry.value is None:
        return
    heartbeat = msgspec.json.decode(entry.value, type=Heartbeat)
    await _ask(engine, worker_id, heartbeat.started_at)
    async for change in engine.watch(Bucket.WORKERS):
        if change is not None and change.key == worker_id and _has_left(change.value, heartbeat.started_at):
            return


async def _ask(engine: Engine, worker_id: str, started_at: float) -> None:
    known = await engine.get(Bucket.WORKER_CONTROLS, worker_id)
    if known and known.value and msgspec.json.decode(known.value, type=WorkerControl).concerns(started_at):
        return  # it is drained already, and whoever asked for that may have meant longer
    order = msgspec.json.encode(WorkerControl(drained=True, started_at=started_at))
    await engine.put(Bucket.WORKER_CONTROLS, worker_id, order, revision=known.revision if known else 0)


def _has_left(value: bytes | None, started_at: float) -> bool:
    if value is None:
        return True
    heartbeat = msgspec.json.decode(value, type=Heartbeat)
    return heartbeat.started_at != started_at or (heartbeat.leaving and not heartbeat.active_batches)
