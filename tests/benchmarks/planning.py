"""Planning and its memory: synthetic listings, so that no origin is the bound."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from testbed.nats import NatsServer
from testbed.processes import ChildProcess
from tests.benchmarks.bench import WrongResultError
from tests.benchmarks.data import MIB
from tests.benchmarks.goals import Measurement
from tests.benchmarks.peers import run

_WORKERS = 3


def plan(count: int, replicas: int) -> Measurement:
    """Plan a synthetic listing in a process of its own.

    The rate is that of its CPU time: what one thread of pure computing reaches with a core to itself.
    """
    result = json.loads(run([sys.executable, "-m", "tests.benchmarks.plan_keys", str(count), str(replicas)]))
    if result["keys"] != count:
        raise WrongResultError(f"{result['keys']} keys of {count} were planned.")
    return Measurement(
        work=f"plan-{replicas}",
        value=count / result["cpu"],
        detail=f"CPU {result['cpu']:.2f} s of {result['seconds']:.2f} s, {result['batches']:,} batches",
    )


def compare_memory(few: int, many: int, directory: Path) -> Measurement:
    """Run a short and a long job, each with a new coordinator and engine, and compare the coordinators' peaks."""
    short, long = (_long_job(count, directory / f"keys-{count}") for count in (few, many))
    peaks = f"{short['peak'] / MIB:.1f} MiB with {few:,} keys and {long['peak'] / MIB:.1f} MiB with {many:,}"
    return Measurement(
        work="memory",
        value=long["peak"] / short["peak"],
        detail=f"{peaks}, of which {long['before'] / MIB:.1f} MiB before the submit; {long['seconds']:.0f} s",
    )


def _long_job(count: int, directory: Path) -> dict[str, Any]:
    directory.mkdir(parents=True)
    with NatsServer(directory) as nats:
        env = {"PREHEAT_NATS_URL": nats.url}
        workers = [sys.executable, "-m", "tests.benchmarks.instant_workers", str(_WORKERS)]
        with ChildProcess(workers, log=directory / "workers.log", env=env, name="instant workers", grace=1):
            command = [sys.executable, "-m", "tests.benchmarks.long_job", str(count), str(_WORKERS)]
            result: dict[str, Any] = json.loads(run(command, env=env))
    if result["state"] != "SUCCEEDED" or result["keys"] != count:
        raise WrongResultError(f"The job of {count} keys is {result}.")
    return result
