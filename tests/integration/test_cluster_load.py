"""A whole local cluster on a real S3 server: loads survive crashes, restarts and changes, byte for byte."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import requests

from preheat.client import Client, JobReport
from preheat.errors import AccessDenied, BucketNotFound, NoLiveWorker, ObjectNotFound, OriginUnavailable, VersionChanged
from preheat.fs import PreheatFileSystem
from preheat.jobs import JobOptions, JobSpec, JobState, JobType
from testbed.local_cluster import LocalCluster, local_cluster
from testbed.ports import free_port
from tests.conftest import Bucket

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
ENDED = 1 << 50
"""A revision that no job reaches: a wait for it ends with the job."""


@pytest.fixture(scope="module")
def cluster(s3_server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with local_cluster(tmp_path_factory.mktemp("cluster"), environment=s3_server.environment()) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster.url) as client:
        yield client


def filesystem(cluster: LocalCluster) -> PreheatFileSystem:
    return fsspec.filesystem("preheat", coordinator=cluster.url, skip_instance_cache=True)


def fill(bucket: Bucket, count: int, size: int) -> dict[str, bytes]:
    """Put objects of about a size; the same ones for the same arguments."""
    source = random.Random(count)
    data = {f"data/{n:04d}": source.randbytes(source.randint(0, 2 * size)) for n in range(count)}
    bucket.put_many(data)
    return data


def load(*paths: str, **options: object) -> JobSpec:
    return JobSpec(paths=paths, options=JobOptions(**options))  # type: ignore[arg-type]


def cached_bytes(cluster: LocalCluster, bucket: Bucket) -> dict[str, bytes]:
    """Read everything back through the cache, and insist that all of it was there."""
    fs = filesystem(cluster)
    found = fs.cat(fs.find(f"{bucket.name}/data"))
    assert fs.stats.misses == 0
    return {path.removeprefix(f"{bucket.name}/"): body for path, body in found.items()}


def pid_of(cluster: LocalCluster, part: str) -> int:
    state = json.loads((cluster.data_dir / "cluster.json").read_text())
    return next(int(entry["process"]["pid"]) for entry in state["parts"] if entry["name"] == part)


@pytest.mark.parametrize("part", ["worker-0", "coordinator", "nats-server"])
def test_a_load_survives_kill_9(cluster: LocalCluster, client: Client, bucket: Bucket, part: str):
    """The job, long until its limit is lifted, loses a process; it ends with every object there, and right."""
    data = fill(bucket, 300, 50_000)
    job = client.submit(load(bucket.uri("data/"), batch_size=5, bandwidth=MIB // 4, verify=True))
    while job.loaded.files < 20:
        job = client.job(job.id, wait=30, after=job.revision)
        assert job.state is JobState.RUNNING
    os.kill(pid_of(cluster, part), signal.SIGKILL)
    lift_limit(client, job.id)
    job = settled(client, job.id)
    assert (job.state, job.reason) == (JobState.SUCCEEDED, "")
    assert job.listed == job.loaded == job.verified
    assert job.listed.files == len(data)
    assert job.listed.bytes == sum(map(len, data.values()))
    assert cached_bytes(cluster, bucket) == data


def lift_limit(client: Client, job_id: str) -> None:
    """Let a job go as fast as it can; the coordinator itself, or its engine, may be away for a moment."""
    deadline = time.monotonic() + 60
    while True:
        try:
            client.change(job_id, bandwidth=0)
        except ConnectionError:
            assert time.monotonic() < deadline, "nobody takes the change"
            time.sleep(0.1)
        else:
            return


def settled(client: Client, job_id: str) -> JobReport:
    """Wait for a job's end; the coordinator itself may be away for a moment."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            job = client.job(job_id, wait=10, after=ENDED)
        except ConnectionError:
            time.sleep(0.1)
            continue
        if job.state.ended:
            return job
    raise AssertionError(f"the job {job_id} did not end in time")


def test_a_restart_keeps_jobs_and_data(s3_server, bucket: Bucket, tmp_path: Path):
    data = fill(bucket, 50, 20_000)
    with local_cluster(tmp_path, environment=s3_server.environment()) as cluster, Client(cluster.url) as client:
        before = settled(client, client.submit(load(bucket.uri("data/"))).id)
    bucket.delete("data/0007")  # what is read below does not come from the origin
    with local_cluster(tmp_path, environment=s3_server.environment()) as cluster, Client(cluster.url) as client:
        after = client.job(before.id)
        assert (after.state, after.loaded) == (JobState.SUCCEEDED, before.loaded)
        fs = filesystem(cluster)
        paths = {f"{bucket.name}/{key}": body for key, body in data.items()}
        assert fs.cat(list(paths)) == paths
        assert fs.stats.misses == 0


def test_a_changed_object_is_never_served_as_the_other_version(cluster: LocalCluster, client: Client, bucket: Bucket):
    old, new = b"o" * (3 * MIB), b"n" * (3 * MIB)
    path = f"{bucket.name}/data/x"
    old_etag = bucket.put("data/x", old)
    first = settled(client, client.submit(load(bucket.uri("data/"))).id)
    fs = filesystem(cluster)
    with fs.open(path, block_size=MIB) as reader:
        assert reader.read(MIB) == old[:MIB]
        new_etag = bucket.put("data/x", new)

        # Who has no wish gets the cached version, under its own name.
        assert fs.info(path)["etag"] == old_etag
        assert fs.cat(path) == old

        # The next load sees the new version and replaces the old one, whole.
        second = settled(client, client.submit(load(bucket.uri("data/"))).id)
        assert (second.state, second.loaded.files, second.skipped.files) == (JobState.SUCCEEDED, 1, 0)
        assert second.dataset_version != first.dataset_version
        fresh = filesystem(cluster)
        assert fresh.info(path)["etag"] == new_etag
        assert fresh.cat(path) == new

        # The reader in the middle of the old version is told, and given none of the new one.
        with pytest.raises(VersionChanged):
            reader.read()


def test_a_second_load_is_only_a_look(cluster: LocalCluster, client: Client, bucket: Bucket):
    fill(bucket, 20, 1000)
    settled(client, client.submit(load(bucket.uri("data/"))).id)
    again = settled(client, client.submit(load(bucket.uri("data/"), verify=True)).id)
    assert (again.skipped.files, again.loaded.files, again.verified.files) == (20, 0, 20)


def test_file_paths_load_too(cluster: LocalCluster, client: Client, tmp_path: Path):
    for number in range(30):
        file = tmp_path / f"{number % 3}" / f"{number}.bin"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"%d" % number)
    job = settled(client, client.submit(load(f"file://{tmp_path}/", verify=True)).id)
    assert (job.state, job.verified.files) == (JobState.SUCCEEDED, 30)
    fs = filesystem(cluster)
    assert fs.cat(f"preheat://{tmp_path}/1/13.bin") == b"13"
    assert fs.stats.hits == 1


def test_wrong_paths_are_refused_with_the_value_and_the_remedy(client: Client, bucket: Bucket):
    fill(bucket, 1, 10)
    with pytest.raises(BucketNotFound, match=r"no-such-bucket.*AWS_ENDPOINT_URL"):
        client.submit(load("s3://no-such-bucket/data/"))
    with pytest.raises(ObjectNotFound, match=f"{bucket.uri('none/')}.*Check the path"):
        client.submit(load(bucket.uri("none/")))
    assert not [job for job in client.jobs(limit=1000).jobs if job.paths[0].endswith(("no-such-bucket/data/", "none/"))]


@pytest.mark.parametrize(
    ("environment", "error", "names"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong-secret-value"}, AccessDenied, "AWS_SECRET_ACCESS_KEY"),
        ({"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}, OriginUnavailable, "AWS_ENDPOINT_URL"),
    ],
    ids=["wrong-credentials", "unreachable-endpoint"],
)
def test_an_origin_that_refuses_or_is_away_ends_the_submit(
    s3_server, tmp_path: Path, environment: dict[str, str], error: type[Exception], names: str
):
    variables = {**s3_server.environment(), **environment}
    with local_cluster(tmp_path, environment=variables, workers=1) as cluster, Client(cluster.url) as client:
        with pytest.raises(error, match=names) as caught:
            client.submit(load("s3://some-bucket/data/"))
        assert "s3://some-bucket/data/" in str(caught.value)
        assert not client.jobs().jobs
    logs = "".join(log.read_text() for log in (tmp_path / "logs").glob("*.log"))
    for secret in (variables["AWS_SECRET_ACCESS_KEY"], variables["AWS_ACCESS_KEY_ID"]):
        assert secret not in logs
        assert secret not in str(caught.value)


def test_without_a_live_worker_a_submit_is_refused(s3_server, bucket: Bucket, tmp_path: Path):
    fill(bucket, 1, 10)
    with local_cluster(tmp_path, environment=s3_server.environment(), workers=1) as cluster:
        os.kill(pid_of(cluster, "worker-0"), signal.SIGSTOP)  # alive for its supervisor, silent for the cluster
        try:
            with Client(cluster.url) as client:
                while any(worker.live for worker in client.workers().workers):
                    client.check_health()
                with pytest.raises(NoLiveWorker, match="preheat worker"):
                    client.submit(load(bucket.uri("data/")))
        finally:
            os.kill(pid_of(cluster, "worker-0"), signal.SIGCONT)


def test_the_readme_reads_what_was_warmed(
    cluster: LocalCluster, client: Client, s3_client: Any, monkeypatch: pytest.MonkeyPatch
):
    """The README's second example, as it stands there."""
    s3_client.create_bucket(Bucket="datasets")
    images = Bucket(name="datasets", client=s3_client)
    images.put_many({f"images/{number}.png": b"%d" % number for number in range(5)})
    settled(client, client.submit(load("s3://datasets/images/", verify=True)).id)
    monkeypatch.setenv("PREHEAT_COORDINATOR_URL", cluster.url)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(blocks[1], names)
    assert names["batch"] == {f"datasets/images/{number}.png": b"%d" % number for number in range(5)}
    assert names["fs"].stats.misses == 0


def test_copies_come_from_other_workers(cluster: LocalCluster, client: Client, bucket: Bucket):
    data = fill(bucket, 40, 50_000)
    assert settled(client, client.submit(load(bucket.uri("data/"))).id).state is JobState.SUCCEEDED
    before = counters(cluster)
    key = next(iter(data))
    for url in cluster.worker_urls:  # one of them is the wrong one
        assert read(url, bucket, key) == data[key]
    assert gained(cluster, before, "originReads", "peerReads") == [0, 1]
    replicate = JobSpec(type=JobType.REPLICATE, paths=(bucket.uri("data/"),), options=JobOptions(replicas=2))
    assert settled(client, client.submit(replicate).id).state is JobState.SUCCEEDED
    assert gained(cluster, before, "originReads", "peerReads", "originBytes") == [0, len(data), 0]
    for url in cluster.worker_urls:
        assert all(read(url, bucket, key, **{"Cache-Control": "only-if-cached"}) == body for key, body in data.items())


def read(url: str, bucket: Bucket, key: str, **headers: str) -> bytes:
    with requests.get(f"{url}/v1/data/s3/{bucket.name}/{key}", headers=headers, timeout=10) as response:
        response.raise_for_status()
        return response.content


def counters(cluster: LocalCluster) -> Counter[str]:
    """Return the sums of the workers' counters."""
    total: Counter[str] = Counter()
    for url in cluster.worker_urls:
        total.update(requests.get(f"{url}/v1/stats", timeout=10).json())
    return total


def gained(cluster: LocalCluster, before: Counter[str], *names: str) -> list[int]:
    now = counters(cluster)
    return [now[name] - before[name] for name in names]
