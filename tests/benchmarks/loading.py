"""Loading and listing: each function does one work once with one system and returns the sample."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from tests.benchmarks.bench import Bench, WrongResultError
from tests.benchmarks.comparisons import OURS, Sample
from tests.benchmarks.data import BUCKET, MIB, ROOT, ObjectSet
from tests.benchmarks.metering import Meter, wait_for_ports
from tests.benchmarks.peers import run

_CONNECTIONS_PER_FILE = 1
"""About as many TCP connections does s5cmd open for each small file."""


def _amount(objects: ObjectSet) -> float:
    """Return what a load of a set is counted in: MiB if the objects are large, else files."""
    return objects.count * objects.size / MIB if objects.size >= MIB else objects.count


def load_with_preheat(bench: Bench, objects: ObjectSet) -> Sample:
    """Load a set into the new cluster."""
    os.sync()
    with Meter(bench.pids | {"origin": bench.origin.process.pid}) as meter:
        bench.load(objects)
    origin = meter.cpu.pop("origin")
    return Sample(
        work=f"load-{objects.name}",
        system=OURS,
        amount=_amount(objects),
        seconds=meter.seconds,
        cpu=meter.cpu,
        others={"origin": origin},
    )


def load_with_s5cmd(bench: Bench, objects: ObjectSet) -> Sample:
    """Copy a set to the same disk with s5cmd, by a glob."""
    target = bench.directory / "s5cmd" / objects.name
    target.mkdir(parents=True)
    wait_for_ports(_CONNECTIONS_PER_FILE * objects.count)
    os.sync()
    command = [*_s5cmd(bench), "--log", "error", "cp", f"{objects.uri}*", f"{target}/"]
    with Meter({"origin": bench.origin.process.pid}) as meter:
        run(command, env=bench.environment)
    found = sum(1 for _ in target.iterdir())
    shutil.rmtree(target)
    if found != objects.count:
        raise WrongResultError(f"s5cmd copied {found} objects of {objects.count}.")
    return Sample(
        work=f"load-{objects.name}",
        system="s5cmd",
        amount=_amount(objects),
        seconds=meter.seconds,
        cpu={"s5cmd": meter.children},
        others=meter.cpu,
    )


def list_with_python(bench: Bench, system: str) -> Sample:
    """List all keys with our under store, or with boto3's paginator."""
    command: list[str | Path] = [sys.executable, "-m", "tests.benchmarks.list_keys", system, f"s3://{BUCKET}/{ROOT}"]
    with Meter({"origin": bench.origin.process.pid}) as meter:
        result = json.loads(run(command, env=bench.environment))
    expected = sum(objects.count for objects in bench.settings.sets)
    if result["keys"] != expected:
        raise WrongResultError(f"{system} listed {result['keys']} keys of {expected}.")
    return Sample(
        work="list",
        system=system,
        amount=expected,
        seconds=result["seconds"],
        cpu={system: result["cpu"]},
        others=meter.cpu,
    )


def list_with_s5cmd(bench: Bench) -> Sample:
    """List all keys with ``s5cmd ls``."""
    with Meter({"origin": bench.origin.process.pid}) as meter:
        lines = run([*_s5cmd(bench), "ls", f"s3://{BUCKET}/{ROOT}*"], env=bench.environment).count("\n")
    expected = sum(objects.count for objects in bench.settings.sets)
    if lines != expected:
        raise WrongResultError(f"s5cmd listed {lines} keys of {expected}.")
    return Sample(
        work="list",
        system="s5cmd",
        amount=lines,
        seconds=meter.seconds,
        cpu={"s5cmd": meter.children},
        others=meter.cpu,
    )


def _s5cmd(bench: Bench) -> list[str | Path]:
    """Return how to call s5cmd, which reads no AWS_ENDPOINT_URL."""
    return [bench.peers.s5cmd, "--endpoint-url", bench.origin.endpoint]
