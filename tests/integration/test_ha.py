"""No single point of failure: three NATS servers, two coordinators, three workers, and kill -9 for one of each."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import fsspec
from msgspec.structs import replace

from preheat.client import Client, JobReport
from preheat.errors import CoordinatorUnreachable
from preheat.jobs import JobOptions, JobSpec, JobState
from testbed.distributed import DistributedCluster, Part, distributed_cluster
from tests.conftest import Bucket

FILES = 240
BYTES = 80_000
BANDWIDTH = 60_000
"""Per worker and second until the last loss: the whole load would take 107 s, so every loss falls into it."""


class Watcher(threading.Thread):
    """Polls a job at one coordinator, as an impatient user would, and keeps every answer."""

    def __init__(self, coordinator: Part, job_id: str) -> None:
        super().__init__(daemon=True)
        self.reports: list[JobReport] = []
        self.failure: Exception | None = None
        self._coordinator = coordinator
        self._job_id = job_id
        self._ended = threading.Event()

    def run(self) -> None:
        with Client(self._coordinator.url, timeout=5) as client:
            while not self._ended.wait(0.05):
                try:
                    self.reports.append(replace(client.job(self._job_id), url=""))  # it names the coordinator
                except CoordinatorUnreachable:
                    continue
                except Exception as error:  # noqa: BLE001 - the test reports it
                    self.failure = error
                    return

    def stop(self) -> None:
        self._ended.set()
        self.join(10)


def test_a_load_survives_the_loss_of_a_leader_an_owner_and_a_worker(s3_server, bucket: Bucket, tmp_path: Path):
    source = random.Random(1)
    data = {f"data/{n:04d}": source.randbytes(source.randint(0, 2 * BYTES)) for n in range(FILES)}
    bucket.put_many(data)
    with distributed_cluster(tmp_path, environment=s3_server.environment()) as cluster:
        with Client(cluster.coordinators[0].url) as client:
            wait_for(lambda: sum(worker.live for worker in client.workers().workers) == 3)
            job = client.submit(load(bucket))
        with Client(cluster.coordinators[1].url) as client:
            assert client.submit(load(bucket)).id == job.id
        with watching(cluster, job.id) as watchers:
            lose_one_of_each(cluster, watchers, job.id)
            with Client(cluster.coordinators[0].url) as client:
                client.change(job.id, bandwidth=0)
            wait_for(lambda: all(watcher.reports[-1].state.ended for watcher in watchers), seconds=70)
        check_history([watcher.reports for watcher in watchers])
        for coordinator in cluster.coordinators:
            with Client(coordinator.url) as client:
                (ended,) = client.jobs().jobs
                assert (ended.state, ended.reason) == (JobState.SUCCEEDED, "")
                assert ended.listed == ended.verified == ended.loaded + ended.skipped
                assert (ended.listed.files, ended.listed.bytes) == (FILES, sum(map(len, data.values())))
                assert [worker.id for worker in client.workers().workers if worker.live] == ["worker-1", "worker-2"]
                assert client.workers().epoch <= 4, "the coordinators disagree about who is live"
            fs = fsspec.filesystem("preheat", coordinator=coordinator.url, skip_instance_cache=True)
            found = fs.cat(fs.find(f"{bucket.name}/data"))
            assert {path.removeprefix(f"{bucket.name}/"): body for path, body in found.items()} == data
            assert fs.stats.misses == 0


def load(bucket: Bucket) -> JobSpec:
    options = JobOptions(batch_size=2, bandwidth=BANDWIDTH, verify=True)
    return JobSpec(paths=(bucket.uri("data/"),), options=options)


@contextmanager
def watching(cluster: DistributedCluster, job_id: str) -> Iterator[list[Watcher]]:
    watchers = [Watcher(coordinator, job_id) for coordinator in cluster.coordinators]
    for watcher in watchers:
        watcher.start()
    try:
        yield watchers
    finally:
        for watcher in watchers:
            watcher.stop()
    assert [watcher.failure for watcher in watchers] == [None] * len(watchers)


def lose_one_of_each(cluster: DistributedCluster, watchers: list[Watcher], job_id: str) -> None:
    """Kill while the job runs, and after each kill wait until the job goes on.

    The server and the coordinator come back, to catch up with what they missed; the worker does not, so that its share
    has to be loaded again by the others.
    """
    wait_for(lambda: loaded(watchers) > FILES * 0.03)
    leader = cluster.nats.leader("KV_preheat_jobs")
    leader.kill()
    wait_for_progress(watchers)
    first, second = cluster.coordinators
    owner, successor = (first, second) if owned(first, job_id) else (second, first)
    owner.kill()
    cluster.workers[0].kill()
    leader.start()
    wait_for(lambda: owned(successor, job_id))
    owner.start()
    wait_for_progress(watchers)
    owner.wait_ready()


def owned(coordinator: Part, job_id: str) -> bool:
    return any(entry["job"] == job_id for entry in coordinator.logged("job_owned"))


def loaded(watchers: list[Watcher]) -> int:
    return max((report.loaded.files for watcher in watchers for report in watcher.reports[-1:]), default=0)


def wait_for_progress(watchers: list[Watcher]) -> None:
    before = loaded(watchers)
    wait_for(lambda: loaded(watchers) > before)
    assert all(watcher.reports[-1].state is JobState.RUNNING for watcher in watchers)


def check_history(histories: list[list[JobReport]]) -> None:
    for history in histories:
        for report in history:
            assert report.listed == report.loaded + report.skipped + report.failed + report.remaining
        check_order(history)
    # The revision orders what different coordinators said.
    check_order(sorted((report for history in histories for report in history), key=lambda report: report.revision))


def check_order(history: list[JobReport]) -> None:
    for before, after in pairwise(history):
        assert before.revision <= after.revision
        for name in ("listed", "loaded", "skipped", "failed"):
            assert getattr(before, name).files <= getattr(after, name).files
            assert getattr(before, name).bytes <= getattr(after, name).bytes
        if before.state.ended:
            assert before == after


def wait_for(condition: Callable[[], bool], *, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.05)
