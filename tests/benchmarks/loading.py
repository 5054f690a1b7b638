"""Loading and listing: each function does one work once with one system and returns the sample."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from tests.benchmarks.bench import Bench, WrongResultError
from tests.benchmarks.comparisons import OURS, Sample
from tests.benchmarks.data import BUCKET, MIB, ROOT, ObjectSet, content
from tests.benchmarks.metering import Meter, wait_for_ports
from tests.benchmarks.peers import run

_CONNECTIONS_PER_FILE = 1
"""About as many TCP connections does s5cmd open for each small file."""


def amount_of(objects: ObjectSet) -> float:
    """Return what a load of a set is counted in: MiB if the objects are large, else files."""
    return objects.count * objects.size / MIB if objects.size >= MIB else objects.count


def load_with_preheat(bench: Bench, objects: ObjectSet) -> Sample:
    """Load a set that the cluster does not hold."""
    os.sync()
    with Meter({**bench.pids, **bench.origin.pids}) as meter:
        bench.load(objects)
    return Sample(
        work=f"{bench.origin.work}-{objects.name}",
        system=OURS,
        amount=amount_of(objects),
        seconds=meter.seconds,
        cpu={name: seconds for name, seconds in meter.cpu.items() if name not in bench.origin.pids},
        others={name: meter.cpu[name] for name in bench.origin.pids},
    )


def load_with_s5cmd(bench: Bench, objects: ObjectSet) -> Sample:
    """Copy a set to the same disk with s5cmd, by a glob."""
    target = bench.directory / "s5cmd" / objects.name
    target.mkdir(parents=True)
    wait_for_ports(bench.origin.port, _CONNECTIONS_PER_FILE * objects.count)
    os.sync()
    command = [*_s5cmd(bench), "--log", "error", "cp", f"{objects.uri}*", f"{target}/"]
    with Meter(bench.origin.pids) as meter:
        run(command, env=bench.origin.environment)
    _check_files(target, objects)
    shutil.rmtree(target)
    return Sample(
        work=f"{bench.origin.work}-{objects.name}",
        system="s5cmd",
        amount=amount_of(objects),
        seconds=meter.seconds,
        cpu={"s5cmd": meter.children},
        others=meter.cpu,
    )


def _check_files(directory: Path, objects: ObjectSet) -> None:
    sizes = [file.stat().st_size for file in directory.iterdir()]
    if sizes != [objects.size] * objects.count:
        raise WrongResultError(f"s5cmd copied {len(sizes)} objects of {objects.count}, or not all of them.")
    for key in objects.checked:
        if (directory / Path(key).name).read_bytes() != content(key, objects.size):
            raise WrongResultError(f"s5cmd's file has other bytes than the source of {key}.")


def list_with_python(bench: Bench, system: str) -> Sample:
    """List all keys with our under store, or with boto3's paginator."""
    command: list[str | Path] = [sys.executable, "-m", "tests.benchmarks.list_keys", system, f"s3://{BUCKET}/{ROOT}"]
    with Meter(bench.origin.pids) as meter:
        result = json.loads(run(command, env=bench.origin.environment))
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
    with Meter(bench.origin.pids) as meter:
        lines = run([*_s5cmd(bench), "ls", f"s3://{BUCKET}/{ROOT}*"], env=bench.origin.environment).count("\n")
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
