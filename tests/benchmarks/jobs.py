"""Jobs on a cluster as ``preheat up`` starts it: how soon they start, how fast they skip, what a crash does again."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from preheat.client import Client, JobReport
from preheat.errors import CoordinatorUnreachable
from preheat.jobs import JobSpec
from testbed.local_cluster import LocalCluster, local_cluster
from testbed.s3 import SeaweedFS
from tests.benchmarks.bench import WORKERS, WrongResultError
from tests.benchmarks.data import BUCKET, ObjectSet
from tests.benchmarks.goals import Measurement
from tests.benchmarks.metering import Meter, cluster_pids
from tests.benchmarks.origin_proxy import OriginProxy
from tests.benchmarks.peers import run

VICTIMS = ("coordinator", "worker-0", "nats-server")
_LOAD_SECONDS = 300.0
_RESTART_SECONDS = 60.0
_POLL_SECONDS = 0.02
_WAIT_SECONDS = 60.0
_ENDED = 1 << 50
"""A revision that no job reaches: a wait for it ends with the job."""


@contextmanager
def watched_cluster(origin: SeaweedFS, directory: Path) -> Iterator[tuple[LocalCluster, OriginProxy]]:
    """Run a cluster that reaches its origin through a proxy."""
    with OriginProxy(origin.port) as proxy:
        environment = {**origin.environment(), "AWS_ENDPOINT_URL": proxy.endpoint}
        with local_cluster(directory, environment=environment, workers=WORKERS) as cluster:
            yield cluster, proxy


def first_byte(cluster: LocalCluster, proxy: OriginProxy, objects: ObjectSet) -> Measurement:
    """Submit a load of a set, and return how long it took until the first of its objects was asked for."""
    with Client(cluster.url) as client:
        client.check_health()  # the connection is there
        started = time.perf_counter()
        job = client.submit(JobSpec(paths=(objects.uri,)))
        acknowledged = time.perf_counter() - started
        _expect(_ended(client, job), objects, skipped=False)
    first = proxy.reads(f"{BUCKET}/{objects.prefix}")[0] - started
    return Measurement(work="first-byte", value=first * 1e3, detail=f"acknowledged after {acknowledged * 1e3:.0f} ms")


def skip(cluster: LocalCluster, origin: SeaweedFS, objects: ObjectSet) -> Measurement:
    """Load a set that is hot already, from the submit to its end."""
    pids = cluster_pids(cluster) | {"origin": origin.process.pid}
    with Client(cluster.url) as client, Meter(pids) as meter:
        job = _ended(client, client.submit(JobSpec(paths=(objects.uri,))))
    _expect(job, objects, skipped=True)
    assert job.started_at and job.finished_at
    ran = (job.finished_at - job.started_at).total_seconds()
    spent = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in sorted(meter.cpu.items(), key=lambda i: -i[1]))
    return Measurement(
        work="skip",
        value=objects.count / meter.seconds,
        detail=f"{meter.seconds:.2f} s, of which {ran:.2f} s running; the listing alone takes"
        f" {_listing_seconds(origin, objects):.2f} s; CPU: {spent}",
    )


def load(cluster: LocalCluster, objects: ObjectSet) -> None:
    """Load a set."""
    with Client(cluster.url) as client:
        _expect(_ended(client, client.submit(JobSpec(paths=(objects.uri,)))), objects, skipped=False)


def redo(cluster: LocalCluster, proxy: OriginProxy, objects: ObjectSet) -> Measurement:
    """Kill one process of each kind in the midst of one load, and count what the origin was asked for twice."""
    before = len(proxy.reads(f"{BUCKET}/{objects.prefix}"))
    with Client(cluster.url) as client:
        job = client.submit(JobSpec(paths=(objects.uri,)))
        counts = []
        for number, victim in enumerate(VICTIMS, start=1):
            share = objects.count * number // (len(VICTIMS) + 1)
            _until(client, job.id, lambda now, share=share: now.loaded.files >= share or now.state.ended)
            _kill(cluster, victim)
            counts.append(len(proxy.reads(f"{BUCKET}/{objects.prefix}")) - before)
        job = _until(client, job.id, lambda now: now.state.ended)
    _expect(job, objects, skipped=False)
    reads = len(proxy.reads(f"{BUCKET}/{objects.prefix}")) - before
    twice = reads - objects.count
    at = ", ".join(f"{victim} after {count:,} reads" for victim, count in zip(VICTIMS, counts, strict=True))
    return Measurement(
        work="redo",
        value=100 * twice / objects.count,
        detail=f"{reads:,} reads of {objects.count:,} objects; killed: {at}",
    )


def _kill(cluster: LocalCluster, name: str) -> None:
    """Kill a process and wait until its supervisor has started it again."""
    pid = cluster_pids(cluster)[name]
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + _RESTART_SECONDS
    while _pid(cluster, name) in (pid, None):
        if time.monotonic() > deadline:
            raise WrongResultError(f"{name} was not started again within {_RESTART_SECONDS:.0f} s.")
        time.sleep(_POLL_SECONDS)


def _pid(cluster: LocalCluster, name: str) -> int | None:
    state = json.loads((cluster.data_dir / "cluster.json").read_text())
    process = next(part["process"] for part in state["parts"] if part["name"] == name)
    return process and int(process["pid"])


def _until(client: Client, job_id: str, condition: Callable[[JobReport], bool]) -> JobReport:
    """Poll a job until a condition holds, also while its coordinator is away."""
    deadline = time.monotonic() + _LOAD_SECONDS
    while time.monotonic() < deadline:
        try:
            job = client.job(job_id)
        except CoordinatorUnreachable:
            job = None
        if job and condition(job):
            return job
        time.sleep(_POLL_SECONDS)
    raise WrongResultError(f"The job {job_id} came to nothing within {_LOAD_SECONDS:.0f} s.")


def _ended(client: Client, job: JobReport) -> JobReport:
    deadline = time.monotonic() + _LOAD_SECONDS
    while not job.state.ended and time.monotonic() < deadline:
        job = client.job(job.id, wait=_WAIT_SECONDS, after=_ENDED)
    return job


def _expect(job: JobReport, objects: ObjectSet, *, skipped: bool) -> None:
    done = job.skipped if skipped else job.loaded
    if job.state != "SUCCEEDED" or done.files != objects.count:
        raise WrongResultError(f"The load of {objects.uri} is {job.state} with {done} of {job.listed}: {job.reason}")


def _listing_seconds(origin: SeaweedFS, objects: ObjectSet) -> float:
    command: list[str | Path] = [sys.executable, "-m", "tests.benchmarks.list_keys", "preheat", objects.uri]
    return float(json.loads(run(command, env=origin.environment()))["seconds"])
