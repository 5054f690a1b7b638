"""A random history from a seed: clients submit, processes die, the engine and the origin fail, all of it is noted."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any
from unittest.mock import patch

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from preheat.coordinator import _cached, _index_file
from preheat.errors import EngineUnavailable
from preheat.settings import SchedulerSettings
from tests.faults import clients, virtual_time
from tests.faults.connection import EngineFaults
from tests.faults.history import History
from tests.faults.observer import Observer
from tests.faults.origin import FaultyOrigin, OriginFaults
from tests.faults.processes import COORDINATORS, WORKERS, CoordinatorProcess, Machines, Process, WorkerProcess
from tests.faults.workloads import COPIED, INDEX, LOADS, NAMED, NAMED_BELOW, Workload

QUIET_SECONDS = 900.0
"""How long after the last fault everything may take to end."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much happens in one history."""

    seconds: float = 90.0
    """How long the faults go on."""
    clients: int = 3


def simulate(seed: int, size: Size = Size(), workload: Workload = LOADS) -> History:
    """Run one history in virtual time; the same seed gives the same one. Pages and blocks of listings are small."""
    random, keys = Random(seed), Random(seed)
    with (
        patch("uuid.uuid4", lambda: uuid.UUID(int=random.getrandbits(128), version=4)),
        patch.object(Ed25519PrivateKey, "generate", lambda: Ed25519PrivateKey.from_private_bytes(keys.randbytes(32))),
        patch.object(_cached, "_PAGE_OBJECTS", 10),
        patch.object(_index_file, "_BLOCK_LINES", 5),
        patch.object(_index_file, "_CHUNK_BYTES", 100),
    ):
        return virtual_time.run(Scenario(seed, random, size, workload).run())


class Scenario:
    """One history while it happens."""

    def __init__(self, seed: int, random: Random, size: Size, workload: Workload) -> None:
        self.random = random
        self.size = size
        self.workload = workload
        self.history = History(seed=seed)
        self._engine_faults = EngineFaults()
        self._origin_faults = OriginFaults()
        self.origin = FaultyOrigin(self._origin_faults, random)
        settings = SchedulerSettings(max_running=random.choice(workload.max_running))
        self.machines = Machines(random, engine_faults=self._engine_faults, origin=self.origin, settings=settings)
        self.coordinators: dict[str, CoordinatorProcess] = {}
        self.workers: dict[str, WorkerProcess] = {}
        self._supervisors: set[asyncio.Task[None]] = set()
        self._stopped: set[str] = set()

    async def run(self) -> History:
        """Let everything happen, then let it come to rest, and return what was seen."""
        self._fill_origin()
        observer = Observer(self)
        for name in (*COORDINATORS, *WORKERS):
            self._start(name)
        async with asyncio.TaskGroup() as tasks:
            watching = [tasks.create_task(watch) for watch in observer.watches()]
            reading = [tasks.create_task(clients.read_at_random(self)) for _ in range(self.workload.readers)]
            submitting = [tasks.create_task(clients.submit_at_random(self, n)) for n in range(self.size.clients)]
            with suppress(TimeoutError):
                await asyncio.wait_for(self._fail_at_random(), self.size.seconds)
            self._heal()
            await self._come_to_rest(submitting, observer)
            for task in (*watching, *reading, *submitting):
                task.cancel()
        await observer.look_around()
        await self._end_processes()
        return self.history

    def note(self, event: str) -> None:
        """Write down what was done, for the person who reads a failure."""
        self.history.events.append(f"{time.time() % 100_000:8.1f} {event}")

    def serving(self) -> list[CoordinatorProcess]:
        """Return the coordinators that answer."""
        return [process for process in self.coordinators.values() if process.serving]

    def write_some(self, dataset: str) -> None:
        """Bring new objects and new versions into a dataset, as somebody else does."""
        for number in range(self.random.randint(1, self.workload.objects)):
            self.origin.write(uri := f"{dataset}{number:03d}", self._body(uri))

    def _fill_origin(self) -> None:
        for dataset in self.workload.datasets:
            for number in range(self.random.randint(1, 2 * self.workload.objects)):
                self.origin.write(uri := f"{dataset}{number:03d}", self._body(uri))
        if NAMED in self.workload.datasets:
            self._write_index()

    def _write_index(self) -> None:
        """Name some objects, up to two that were never there, and a directory."""
        known = {uri for uri, _ in self.origin.versions if uri.startswith(NAMED)}
        names = sorted(uri for uri in known if not uri.startswith(NAMED_BELOW))
        names = self.random.sample(names, self.random.randint(1, len(names)))
        names += [f"{NAMED}none-{number}" for number in range(self.random.randint(0, 2))]
        lines = [name.removeprefix("s3://b/") for name in sorted(names)]
        lines.insert(self.random.randint(0, len(lines)), f"{NAMED_BELOW}\n")
        self.origin.write(INDEX, "\n".join(lines).encode())

    def _body(self, uri: str) -> bytes:
        """Return new bytes. No two versions of what is copied have one size: a copy job would not tell them apart."""
        size = self.random.choice((0, 1, 50, 100, 200))
        if uri.startswith(COPIED):
            sizes = {len(body) for (known, _), body in self.origin.versions.items() if known == uri}
            size = self.random.choice([size for size in range(250) if size not in sizes])
        return self.random.randbytes(size)

    def _start(self, name: str) -> None:
        if name in COORDINATORS:
            self.coordinators[name] = self.machines.start_coordinator(name)
            self._supervise(name, self.coordinators[name])
        else:
            self.workers[name] = self.machines.start_worker(name)
            self._supervise(name, self.workers[name])

    def _supervise(self, name: str, process: Process) -> None:
        """Start a process again when it ends on its own; and note an end that nothing excuses."""

        async def supervise() -> None:
            error = await process.ended()
            if error is not None and not _is_excused(error):
                self.history.mishaps.append(f"{process.name} crashed: {error!r}")
            await asyncio.sleep(1)
            if self._process(name) is process and name not in self._stopped:
                self._start(name)

        self._supervisors.add(asyncio.create_task(supervise()))

    def _process(self, name: str) -> Process:
        return self.coordinators[name] if name in COORDINATORS else self.workers[name]

    async def _fail_at_random(self) -> None:
        faults: list[Callable[[], Coroutine[Any, Any, None]]] = [
            self._lose_process,
            self._lose_process,
            self._lose_process,
            self._pause_process,
            self._pause_process,
            self._stop_worker,
            self._trouble_engine,
            self._trouble_engine,
            self._trouble_origin,
            self._change_origin,
        ]
        async with asyncio.TaskGroup() as tasks:
            while True:
                await asyncio.sleep(self.random.expovariate(1 / 6))
                tasks.create_task(self.random.choice(faults)())

    async def _lose_process(self) -> None:
        name = self.random.choice((*COORDINATORS, *WORKERS))
        if name in self._stopped:
            return
        lost_disk = name in WORKERS and self.random.random() < 0.4
        self.note(f"kill {name}{' and its disk' if lost_disk else ''}")
        self._stopped.add(name)
        self._process(name).kill()
        if lost_disk:
            del self.machines.stores[name]
            self.history.losses.append((time.time(), name))
        await self._start_later(name)

    async def _stop_worker(self) -> None:
        name = self.random.choice(WORKERS)
        if name in self._stopped:
            return
        self.note(f"stop {name}")
        self._stopped.add(name)
        self.workers[name].stop()
        await self.workers[name].ended()
        await self._start_later(name)

    async def _start_later(self, name: str) -> None:
        await asyncio.sleep(self.random.choice((0.5, 3, 15, 30)))
        self.note(f"start {name}")
        self._stopped.discard(name)
        self._start(name)

    async def _pause_process(self) -> None:
        name = self.random.choice((*COORDINATORS, *WORKERS))
        connection = self._process(name).connection
        self.note(f"pause {name}")
        connection.pause()
        since = time.time()
        await asyncio.sleep(self.random.uniform(1, 30))
        connection.resume()
        self.history.slow.append((since, time.time(), name))
        self.note(f"resume {name}")

    async def _trouble_engine(self) -> None:
        kind = self.random.choice(
            ("refused", "answer_lost", "ack_lost", "delivered_twice", "watch_restarted", "latency")
        )
        await self._trouble(self._engine_faults, kind, 2.0 if kind == "latency" else self.random.choice((0.05, 0.3)))

    async def _trouble_origin(self) -> None:
        kind = self.random.choice(("refused", "reset", "truncated", "stalled", "latency"))
        value = {"latency": 20.0, "truncated": 0.02, "stalled": 0.02}.get(kind, self.random.choice((0.05, 0.4)))
        await self._trouble(self._origin_faults, kind, value)

    async def _trouble(self, faults: EngineFaults | OriginFaults, kind: str, value: float) -> None:
        self.note(f"{type(faults).__name__} {kind}={value}")
        setattr(faults, kind, value)
        since = time.time()
        await asyncio.sleep(self.random.uniform(2, 20))
        setattr(faults, kind, getattr(type(faults)(), kind))
        if faults is self._engine_faults:
            self.history.slow.append((since, time.time(), ""))

    async def _change_origin(self) -> None:
        dataset = self.random.choice(self.workload.datasets)
        uri = f"{dataset}{self.random.randrange(2 * self.workload.objects):03d}"
        if dataset == NAMED and self.random.random() < 0.3:
            self.note(f"write {INDEX}")
            self._write_index()
        elif self.random.random() < 0.3:
            self.note(f"delete {uri}")
            self.origin.remove(uri)
        else:
            self.note(f"write {uri}")
            self.origin.write(uri, self._body(uri))

    def _heal(self) -> None:
        """End every fault; what was killed starts again."""
        self.note("heal")
        for faults in (self._engine_faults, self._origin_faults):
            vars(faults).update(vars(type(faults)()))
        for process in (*self.coordinators.values(), *self.workers.values()):
            process.connection.resume()
        for name in sorted(self._stopped):
            self._stopped.discard(name)
            self._process(name).kill()  # one that was asked to stop may not have ended yet
            self._start(name)

    async def _come_to_rest(self, submitting: list[asyncio.Task[None]], observer: Observer) -> None:
        deadline = asyncio.get_running_loop().time() + QUIET_SECONDS
        done, waiting = await asyncio.wait(submitting, timeout=QUIET_SECONDS)
        for task in done:
            task.result()
        if waiting:
            self.history.mishaps.append(f"I8 {len(waiting)} clients still wait")
        while observer.unfinished() and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(1)
        await asyncio.sleep(60)  # redeliveries, and a round of tidying up
        self.history.ended_at = time.time()

    async def _end_processes(self) -> None:
        for supervisor in self._supervisors:
            supervisor.cancel()
        for process in (*self.coordinators.values(), *self.workers.values()):
            process.kill()
        await asyncio.gather(*self._supervisors, return_exceptions=True)


def _is_excused(error: BaseException) -> bool:
    """Whether a process may end with this: it was killed, or the engine was away when it started."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_excused(inner) for inner in error.exceptions)
    return isinstance(error, (asyncio.CancelledError, EngineUnavailable))
