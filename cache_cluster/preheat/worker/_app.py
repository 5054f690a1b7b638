"""The worker process: the page store, its ports, the batches, and a heartbeat that says so."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from preheat.engine import Bucket, Engine, connect
from preheat.event_loop import run_until_cancelled
from preheat.jobs import JobControl
from preheat.logs import configure_logging, get_logger
from preheat.registry import WorkerControl
from preheat.settings import WorkerSettings
from preheat.store import PageStore
from preheat.tls_renewal import follow_trust
from preheat.views import BucketView
from preheat.worker._actions import Actions
from preheat.worker._executor import BatchExecutor
from preheat.worker._heart import Heart
from preheat.worker._parts import Parts
from preheat.worker._readiness import Readiness

log = get_logger("worker")


def run_worker(settings: WorkerSettings) -> None:
    """Run a worker until SIGINT or SIGTERM.

    Raises:
        InvalidRequest: others reach its address without a token, or a file of the settings cannot be used.
        StoreInUse: another process has ``settings.data_dir`` open.
        EngineUnavailable: NATS does not answer.
    """
    settings.access.check_host(settings.host)
    configure_logging()
    run_until_cancelled(_serve(settings))


def _at_signals(do: Callable[[], object]) -> None:
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, do)


async def _serve(settings: WorkerSettings) -> None:
    stopping, starting = asyncio.Event(), asyncio.current_task()
    assert starting is not None
    _at_signals(starting.cancel)  # the first process of a container has no default: it would wait for the engine
    parts = Parts(settings)
    try:
        await parts.start()
        engine = await connect(settings.engine, name=settings.id)
        try:
            async with parts.following(engine) as s3_url:
                _at_signals(stopping.set)
                await _work(
                    settings,
                    engine,
                    parts.store,
                    parts.actions,
                    stopping,
                    s3_url=s3_url,
                    readiness=parts.readiness,
                )
        finally:
            await engine.close()
    finally:
        await parts.stop()


async def _work(
    settings: WorkerSettings,
    engine: Engine,
    store: PageStore,
    actions: Actions,
    stopping: asyncio.Event,
    *,
    s3_url: str = "",
    readiness: Readiness | None = None,
) -> None:
    """Execute batches until asked to stop; then leave the placement map, and let the batches in work end."""
    controls = BucketView(engine, Bucket.CONTROLS, JobControl)
    executor = BatchExecutor(engine=engine, actions=actions, controls=controls, settings=settings)
    orders = BucketView(engine, Bucket.WORKER_CONTROLS, WorkerControl)
    heart = Heart(
        settings, engine=engine, store=store, executor=executor, orders=orders, s3_url=s3_url, readiness=readiness
    )
    async with asyncio.TaskGroup() as tasks:
        following = [tasks.create_task(view.follow()) for view in (controls, orders)]
        beating = tasks.create_task(heart.beat())
        executing = tasks.create_task(executor.run())
        trusting = tasks.create_task(follow_trust())
        log.info("The worker serves.", action="serving", worker=settings.id, url=heart.url, s3_url=s3_url)
        await stopping.wait()
        beating.cancel()
        await heart.leave()
        executing.cancel()
        for task in (*following, trusting):
            task.cancel()
