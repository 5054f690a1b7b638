"""A real training loop on warmed data reads nothing from the under store, whatever becomes of a worker meanwhile."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import requests
from sklearn.datasets import load_digits

from preheat.client import Client
from preheat.jobs import JobOptions, JobSpec, JobState
from testbed.local_cluster import LocalCluster, local_cluster
from tests.conftest import Bucket
from tests.integration.fs_workers import ecosystems_python, skip_without_torch

EPOCHS = 4
SAMPLES = 640
ENDED = 1 << 50
SECONDS = 90


@pytest.fixture(scope="module")
def python() -> Path:
    python = ecosystems_python()
    skip_without_torch(python)
    return python


@pytest.fixture(scope="module")
def cluster(s3_server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    directory = tmp_path_factory.mktemp("cluster")
    with local_cluster(directory, environment=s3_server.environment(), workers=3) as cluster:
        yield cluster


def images() -> dict[str, bytes]:
    """Return handwritten digits, each as an .npz file."""
    digits, found = load_digits(), {}
    for number in range(SAMPLES):
        file = io.BytesIO()
        np.savez(file, image=digits.images[number], label=digits.target[number])
        found[f"{number:05}.npz"] = file.getvalue()
    return found


def shards(samples: dict[str, bytes]) -> dict[str, bytes]:
    """Return them in ten tar files."""
    names, found = sorted(samples), {}
    for shard in range(10):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as tar:
            for name in names[shard::10]:
                entry = tarfile.TarInfo(name)
                entry.size = len(samples[name])
                tar.addfile(entry, io.BytesIO(samples[name]))
        found[f"{shard}.tar"] = file.getvalue()
    return found


def checksum(samples: dict[str, bytes]) -> int:
    return sum(int.from_bytes(hashlib.sha256(body).digest()[:6], "big") for body in samples.values())


def warm(cluster: LocalCluster, uri: str) -> None:
    with Client(cluster.url) as client:
        job = client.submit(JobSpec(paths=(uri,), options=JobOptions(replicas=2, verify=True)))
        assert client.job(job.id, wait=30, after=ENDED).state is JobState.SUCCEEDED


def origin_reads(cluster: LocalCluster) -> dict[str, int]:
    """Return what each worker that answers has read from the under store since it started."""
    found = {}
    for url in cluster.worker_urls:
        try:
            found[url] = requests.get(f"{url}/v1/stats", timeout=5).json()["originReads"]
        except requests.ConnectionError:
            continue
    return found


def kill(cluster: LocalCluster, part: str) -> None:
    state = json.loads((cluster.data_dir / "cluster.json").read_text())
    os.kill(next(int(entry["process"]["pid"]) for entry in state["parts"] if entry["name"] == part), signal.SIGKILL)


def train(
    python: Path, cluster: LocalCluster, *arguments: str, meanwhile: Callable[[], None] = lambda: None
) -> list[dict[str, float]]:
    """Run the loop, do something behind its first batch, and return what it told from there on."""
    with subprocess.Popen(
        [python, "-P", Path(__file__).with_name("fs_training.py"), *arguments],
        env={"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1", "PREHEAT_COORDINATOR_URL": cluster.url},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline()) == {"began": 1}
            meanwhile()
            told, _ = process.communicate("go on\n" * 2, timeout=SECONDS)
            assert process.returncode == 0
        finally:
            process.kill()
    return [json.loads(line) for line in told.splitlines()]


@pytest.mark.timeout(2 * SECONDS)
def test_training_reads_nothing_from_the_under_store(python: Path, cluster: LocalCluster, bucket: Bucket) -> None:
    samples = images()
    bucket.put_many({f"images/{name}": body for name, body in samples.items()})
    bucket.put_many({f"shards/{name}": body for name, body in shards(samples).items()})
    warm(cluster, bucket.uri("images/"))
    warm(cluster, bucket.uri("shards/"))
    before = origin_reads(cluster)
    expected = {"samples": EPOCHS * SAMPLES, "checksum": EPOCHS * checksum(samples)}
    told = train(python, cluster, "items", f"{bucket.name}/images", "shards", f"{bucket.name}/shards")
    assert [line for line in told if "samples" in line] == [expected] * 2
    assert [line["loss"] < 1 for line in told if line.get("epoch") == EPOCHS - 1] == [True] * 2
    assert origin_reads(cluster) == before

    kill_one = partial(kill, cluster, "worker-1")
    assert train(python, cluster, "items", f"{bucket.name}/images", meanwhile=kill_one)[-1] == expected
    survivors = {url: count for url, count in before.items() if url != cluster.worker_urls[1]}
    after = origin_reads(cluster)
    assert survivors.items() <= after.items()
    assert after.get(cluster.worker_urls[1], 0) == 0, "it was started again, and has read something"
