"""Reading the progress of jobs from one coordinator while others wait for them: a real coordinator process and NATS."""

from __future__ import annotations

import asyncio
import json
import random
import select
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from preheat.engine import Bucket, Engine, connect
from preheat.jobs import Job, JobSpec, JobState, OpenBatch, Progress, Tally, WorkerShare
from preheat.settings import EngineSettings
from testbed.nats import NatsServer
from testbed.ports import free_port
from testbed.processes import ChildProcess, answers
from tests.benchmarks.bench import WrongResultError
from tests.benchmarks.goals import Measurement
from tests.benchmarks.metering import cpu_seconds
from tests.benchmarks.peers import run

_ENDED, _RUNNING, _WAITING = 950, 10, 40
"""Jobs known, by their states."""
_WAITERS = 500
_READERS = 16
"""Connections that read."""
_WORKERS = ("worker-0", "worker-1", "worker-2")
_OPEN_BATCHES = 24
_BATCH = Tally(objects=200, bytes=200 * 4096)
_NOT_LOST_SECONDS = 3600.0
"""The jobs were submitted so far in the future that no coordinator takes them for ones that it should queue again."""
_ANSWER_SECONDS = 20.0
_NEVER = 1 << 50
"""A revision that no job reaches."""


@dataclass(frozen=True, kw_only=True)
class Polled:
    """A coordinator that is up and knows a thousand jobs."""

    port: int
    pid: int
    engine_settings: EngineSettings
    jobs: tuple[Job, ...]

    @property
    def running(self) -> list[Job]:
        """The jobs that waiters wait for."""
        return [job for job in self.jobs if job.state is JobState.RUNNING]


@contextmanager
def polled(directory: Path) -> Iterator[Polled]:
    """Run NATS with the records of a thousand jobs, and a coordinator."""
    directory.mkdir(parents=True)
    jobs, port = tuple(_jobs()), free_port()
    with NatsServer(directory) as nats:
        settings = EngineSettings(url=nats.url)
        asyncio.run(_write(settings, jobs))
        coordinator = ChildProcess(
            [Path(sys.executable).with_name("preheat"), "coordinator", "--port", str(port)],
            log=directory / "coordinator.log",
            env={"PREHEAT_NATS_URL": nats.url},
            name="coordinator",
        )
        with coordinator:
            coordinator.wait_ready(answers(f"http://127.0.0.1:{port}/v1/healthz"))
            yield Polled(port=port, pid=coordinator.pid, engine_settings=settings, jobs=jobs)


def poll(coordinator: Polled, seconds: float) -> list[Measurement]:
    """Read the progress of all jobs in turn while others wait, and check that these were waiting indeed."""
    order = {
        "host": "127.0.0.1",
        "port": coordinator.port,
        "requests": [{"target": f"/v1/jobs/{job.id}", "range": ""} for job in coordinator.jobs],
        "connections": _READERS,
        "seconds": seconds,
    }
    with _waiting(coordinator) as waiters:
        cpu = cpu_seconds(coordinator.pid)
        result = json.loads(run([sys.executable, "-m", "tests.benchmarks.http_load"], stdin=json.dumps(order)))
        cpu = cpu_seconds(coordinator.pid) - cpu
        if ready := select.select(waiters, (), (), 0)[0]:
            raise WrongResultError(f"{len(ready)} of {_WAITERS} waiters did not wait.")
        answered = _end_and_answer(coordinator, waiters)
    detail = (
        f"p50 {result['p50'] * 1e3:.1f} ms, p99 {result['p99'] * 1e3:.1f} ms with {_READERS} connections;"
        f" CPU: coordinator {cpu:.2f} s, load generator {result['cpu']:.2f} s of {result['seconds']:.2f} s;"
        f" the waiters were answered within {answered:.2f} s when their jobs ended"
    )
    return [
        Measurement(work="poll", value=result["requests"] / result["seconds"], detail=detail),
        Measurement(work="poll-p99", value=result["p99"] * 1e3, detail="as in the row above"),
    ]


@contextmanager
def _waiting(coordinator: Polled) -> Iterator[list[socket.socket]]:
    """Open the long polls, and return when the coordinator has them all."""
    running = coordinator.running
    waiters = [
        _ask(coordinator.port, f"/v1/jobs/{running[n % len(running)].id}?wait=60&after={_NEVER}")
        for n in range(_WAITERS)
    ]
    try:
        with _ask(coordinator.port, "/v1/healthz") as last:  # accepted after all the others
            _body_of(last)
        yield waiters
    finally:
        for waiter in waiters:
            waiter.close()


def _end_and_answer(coordinator: Polled, waiters: list[socket.socket]) -> float:
    """End the jobs that are waited for, check that every waiter hears of it, and return within how many seconds."""
    started = time.perf_counter()
    ended = [replace(job, state=JobState.SUCCEEDED, finished_at=time.time()) for job in coordinator.running]
    asyncio.run(_write(coordinator.engine_settings, ended))
    states = {json.loads(_body_of(waiter))["state"] for waiter in waiters}
    if states != {JobState.SUCCEEDED}:
        raise WrongResultError(f"Waiters were told {states}.")
    seconds = time.perf_counter() - started
    asyncio.run(_write(coordinator.engine_settings, coordinator.running))
    return seconds


def _ask(port: int, target: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), _ANSWER_SECONDS)
    connection.sendall(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    return connection


def _body_of(connection: socket.socket) -> bytes:
    answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise WrongResultError(f"The coordinator answered {head.decode(errors='replace')!r}.")
    return body


async def _write(settings: EngineSettings, jobs: list[Job] | tuple[Job, ...]) -> None:
    """Write records as a coordinator does."""
    engine = await connect(settings, name="bench")
    try:
        await asyncio.gather(*(_put(engine, job) for job in jobs))
    finally:
        await engine.close()


async def _put(engine: Engine, job: Job) -> None:
    await engine.put(Bucket.JOBS, job.id, msgspec.json.encode(job))


def _jobs() -> list[Job]:
    """Return a thousand jobs as they are some time into a coordinator's life."""
    states = [JobState.SUCCEEDED] * _ENDED + [JobState.RUNNING] * _RUNNING + [JobState.WAITING] * _WAITING
    random.Random(1).shuffle(states)
    return [_job(number, state) for number, state in enumerate(states)]


def _job(number: int, state: JobState) -> Job:
    now = time.time() + _NOT_LOST_SECONDS
    job = Job(
        id=f"00000000-0000-4000-8000-{number:012d}",
        spec=JobSpec(paths=(f"s3://datasets/imagenet/shard-{number:05d}/",)),
        state=state,
        submitted_at=now + number,
    )
    if state is JobState.WAITING:
        return job
    done = Tally(objects=100_000, bytes=100_000 * 4096)
    shares = {worker: WorkerShare(batches=170, done=Tally(objects=33_000, bytes=33_000 * 4096)) for worker in _WORKERS}
    work = Progress(listed=done, done=done, shares=shares, batches=500, listing_done=True, version="ab" * 32)
    if state is JobState.SUCCEEDED:
        return replace(job, started_at=now, finished_at=now + 60, generation=1, work=work)
    opened = {f"fetch-1-{n}": OpenBatch(tally=_BATCH, waiting=(_WORKERS[n % 3],)) for n in range(_OPEN_BATCHES)}
    listed = sum([_BATCH] * _OPEN_BATCHES, done)
    running = replace(work, listed=listed, open=opened, cursor=f"imagenet/shard-{number:05d}/99999", listing_done=False)
    return replace(job, started_at=now, generation=1, owner="coordinator", work=running)
