"""Jobs on a cluster as ``preheat up`` starts it: how soon they start, how fast they skip, what a crash does again."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from preheat.client import Client
from preheat.errors import CoordinatorUnreachable
from preheat.jobs import JobOptions, JobSpec
from preheat.reports import JobReport
from testbed.local_cluster import LocalCluster, local_cluster
from testbed.s3 import SeaweedFS
from tests.benchmarks.bench import WORKERS, WrongResultError
from tests.benchmarks.comparisons import spent
from tests.benchmarks.data import BUCKET, ObjectSet, content
from tests.benchmarks.goals import Measurement
from tests.benchmarks.metering import Meter, cluster_pids
from tests.benchmarks.origin_proxy import OriginProxy
from tests.benchmarks.peers import run

VICTIMS = ("coordinator", "worker-0", "nats-server")
_LOAD_SECONDS = 300.0
_RESTART_SECONDS = 60.0
_POLL_SECONDS = 0.02
_MOMENT_SECONDS = 0.002
_QUIET_SECONDS = 0.5
_AT_LEAST = 50
"""Reads of the origin that must come before a kill, to be sure that the load is under way at that moment."""
_WAIT_SECONDS = 60.0
_ENDED = 1 << 50
"""A revision that no job reaches: a wait for it ends with the job."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Some objects to load, and where they are."""

    name: str
    uri: str
    count: int
    environment: Mapping[str, str] = field(default_factory=dict)
    """How to reach them."""
    pids: Mapping[str, int] = field(default_factory=dict)
    """Who serves them."""

    @classmethod
    def on_s3(cls, origin: SeaweedFS, objects: ObjectSet) -> Dataset:
        """Return a set that was uploaded."""
        return cls(
            name="s3",
            uri=objects.uri,
            count=objects.count,
            environment=origin.environment(),
            pids={"origin": origin.process.pid},
        )

    @classmethod
    def of_files(cls, directory: Path, objects: ObjectSet) -> Dataset:
        """Write a set as files."""
        for key in objects.keys():  # noqa: SIM118 - not a dict
            file = directory / key
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content(key, objects.size))
        return cls(name="files", uri=f"file://{directory.resolve()}/{objects.prefix}", count=objects.count)


@contextmanager
def watched_cluster(origin: SeaweedFS, directory: Path) -> Iterator[tuple[LocalCluster, OriginProxy]]:
    """Run a cluster that reaches its origin through a proxy."""
    with OriginProxy(origin.port) as proxy:
        environment = {**origin.environment(), "AWS_ENDPOINT_URL": proxy.endpoint}
        with local_cluster(directory, environment=environment, workers=WORKERS) as cluster:
            yield cluster, proxy


def first_read(cluster: LocalCluster, proxy: OriginProxy, objects: ObjectSet, work: str) -> Measurement:
    """Submit a load of a set, and return how long it took until the first of its objects was asked for."""
    _until_quiet(proxy)
    with Client(cluster.url) as client:
        client.check_health()  # the connection is there
        started = time.perf_counter()
        job = client.submit(JobSpec(paths=(objects.uri,), options=JobOptions(skip_if_exists=False)))
        acknowledged = time.perf_counter() - started
        deadline = time.monotonic() + _LOAD_SECONDS
        while (read := proxy.first_read(f"{BUCKET}/{objects.prefix}", since=started)) is None:
            if time.monotonic() > deadline:
                raise WrongResultError(f"Nothing of {objects.uri} was read from the origin.")
            time.sleep(_MOMENT_SECONDS)
        client.stop(job.id)
    return Measurement(
        work=work, value=(read - started) * 1e3, detail=f"acknowledged after {acknowledged * 1e3:.0f} ms"
    )


def _until_quiet(proxy: OriginProxy) -> None:
    """Return when the batches in work of a job that was stopped have ended."""
    reads = -1
    deadline = time.monotonic() + _LOAD_SECONDS
    while reads != (reads := proxy.reads):
        if time.monotonic() > deadline:
            raise WrongResultError("The origin is still read, though no job runs.")
        time.sleep(_QUIET_SECONDS)


def skip(cluster: LocalCluster, dataset: Dataset) -> Measurement:
    """Load a dataset that is hot already, from the submit to its end."""
    with Client(cluster.url) as client, Meter({**cluster_pids(cluster), **dataset.pids}) as meter:
        job = _ended(client, client.submit(JobSpec(paths=(dataset.uri,))))
    _expect(job, dataset, skipped=True)
    assert job.started_at
    assert job.finished_at
    running = (job.finished_at - job.started_at).total_seconds()
    return Measurement(
        work=f"skip-{dataset.name}",
        value=dataset.count / meter.seconds,
        detail=f"{spent(meter.seconds, meter.cpu)}; {meter.seconds - running:.2f} s of it before the job ran;"
        f" one listing alone takes {_listing_seconds(dataset):.2f} s",
    )


def load(cluster: LocalCluster, dataset: Dataset) -> None:
    """Load a dataset."""
    with Client(cluster.url) as client:
        _expect(_ended(client, client.submit(JobSpec(paths=(dataset.uri,)))), dataset, skipped=False)


def redo(cluster: LocalCluster, proxy: OriginProxy, dataset: Dataset) -> Measurement:
    """Kill one process of each kind in the midst of one load, and count what the origin was asked for twice.

    Each is killed at a moment when the origin is being read, and after the job has gone on from the kill before.
    """
    kills, started = [], time.perf_counter()
    with Client(cluster.url) as client:
        job = client.submit(JobSpec(paths=(dataset.uri,)))
        for number, victim in enumerate(VICTIMS, start=1):
            job = _until_loaded(client, job.id, job.loaded.files + 1)
            at = _until_read(proxy, max(proxy.reads + _AT_LEAST, dataset.count * number // (len(VICTIMS) + 1)))
            kills.append(f"{victim} after {at:,} reads")
            _kill(cluster, victim)
        job = _until_loaded(client, job.id, sys.maxsize)
    _expect(job, dataset, skipped=False)
    reads = proxy.reads
    return Measurement(
        work="redo",
        value=100 * (reads - dataset.count) / dataset.count,
        detail=f"{reads:,} reads of {dataset.count:,} objects; killed: {', '.join(kills)};"
        f" {time.perf_counter() - started:.0f} s with all waits for leases",
    )


def _until_read(proxy: OriginProxy, count: int) -> int:
    """Return when the origin has just been asked so often, or a little more."""
    deadline = time.monotonic() + _LOAD_SECONDS
    while (reads := proxy.reads) < count:
        if time.monotonic() > deadline:
            raise WrongResultError(f"The origin was read {reads} times and not {count}: use a larger set.")
        time.sleep(_MOMENT_SECONDS)
    return reads


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


def _until_loaded(client: Client, job_id: str, files: int) -> JobReport:
    """Poll a job until it has loaded some files or ended, also while its coordinator is away."""
    deadline = time.monotonic() + _LOAD_SECONDS
    while time.monotonic() < deadline:
        try:
            job = client.job(job_id)
        except CoordinatorUnreachable:
            job = None
        if job and (job.loaded.files >= files or job.state.ended):
            return job
        time.sleep(_POLL_SECONDS)
    raise WrongResultError(f"The job {job_id} came to nothing within {_LOAD_SECONDS:.0f} s.")


def _ended(client: Client, job: JobReport) -> JobReport:
    deadline = time.monotonic() + _LOAD_SECONDS
    while not job.state.ended and time.monotonic() < deadline:
        job = client.job(job.id, wait=_WAIT_SECONDS, after=_ENDED)
    return job


def _expect(job: JobReport, dataset: Dataset, *, skipped: bool) -> None:
    done = job.skipped if skipped else job.loaded
    if job.state != "SUCCEEDED" or done.files != dataset.count:
        raise WrongResultError(f"The load of {dataset.uri} is {job.state} with {done} of {job.listed}: {job.reason}")


def _listing_seconds(dataset: Dataset) -> float:
    command: list[str | Path] = [sys.executable, "-m", "tests.benchmarks.list_keys", "preheat", dataset.uri]
    return float(json.loads(run(command, env=dataset.environment))["seconds"])
