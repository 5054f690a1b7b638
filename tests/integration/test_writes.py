"""Writes to the cache alone, with real processes: what was acknowledged outlives ``kill -9`` and reaches the origin."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from testbed import JuiceFSGateway
from testbed.distributed import DistributedCluster, Part, distributed_cluster
from testbed.local_cluster import LocalCluster, local_cluster

SECONDS = 60.0
SIZES = [0, 1, 100_000, 9_000_000]


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[JuiceFSGateway]:
    with JuiceFSGateway(tmp_path / "s3") as server:
        yield server


def part(cluster: LocalCluster, name: str) -> dict[str, Any]:
    state = json.loads((cluster.data_dir / "cluster.json").read_text())
    return next(entry for entry in state["parts"] if entry["name"] == name)


def kill(cluster: LocalCluster, name: str) -> None:
    os.kill(int(part(cluster, name)["process"]["pid"]), signal.SIGKILL)


def read(url: str, key: str) -> bytes | None:
    try:
        answer = requests.get(f"{url}/v1/data/s3/out/{key}", timeout=5)
    except requests.ConnectionError:
        return None
    return answer.content if answer.status_code == 200 else None


def write(url: str, key: str, body: bytes) -> None:
    """Write until it is acknowledged: the mount is known a moment after it was made."""
    deadline = time.monotonic() + SECONDS
    while (answer := requests.put(f"{url}/v1/data/s3/out/{key}", data=body, timeout=30)).status_code != 200:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.1)


def test_what_was_acknowledged_survives_kill_9_and_reaches_the_origin(origin: JuiceFSGateway, tmp_path: Path):
    s3 = origin.client()
    s3.create_bucket(Bucket="out")
    source = random.Random(5)
    bodies = {f"run/{number}-{size}": source.randbytes(size) for number, size in enumerate(SIZES * 2)}
    with local_cluster(tmp_path / "cluster", environment=origin.environment()) as cluster:
        mount = {"path": "s3://out/", "writes": "async", "writeReplicas": 2}
        assert requests.put(f"{cluster.url}/v1/mounts/out", json=mount, timeout=10).status_code == 201
        origin.stop()
        for number, (key, body) in enumerate(bodies.items()):
            write(cluster.worker_urls[number % 2], key, body)
        for name in ("worker-0", "worker-1", "coordinator", "nats-server"):
            kill(cluster, name)
        deadline = time.monotonic() + SECONDS
        for url in cluster.worker_urls:
            for key, body in bodies.items():
                while read(url, key) != body:
                    assert time.monotonic() < deadline, f"{key} cannot be read at {url}"
                    time.sleep(0.1)
        origin.start()
        deadline = time.monotonic() + SECONDS
        for key, body in bodies.items():
            while (found := stored(s3, key)) is None:
                assert time.monotonic() < deadline, f"{key} is not persisted"
                time.sleep(0.1)
            assert found == body
        for url in cluster.worker_urls:
            assert all(read(url, key) == body for key, body in bodies.items())


def stored(s3: Any, key: str) -> bytes | None:
    try:
        return s3.get_object(Bucket="out", Key=key)["Body"].read()
    except s3.exceptions.NoSuchKey:
        return None


@pytest.mark.long
def test_what_a_killed_worker_held_is_held_by_another_one(origin: JuiceFSGateway, tmp_path: Path):
    """Both holders die, one after the other: between the two deaths a third worker got a copy."""
    bodies = {
        f"{prefix}{number}": random.Random(number).randbytes(300_000) for prefix in ("", "tmp/") for number in range(8)
    }
    origin.client().create_bucket(Bucket="out")
    environment = {**origin.environment(), "PREHEAT_REPAIR_AFTER": "1"}
    with distributed_cluster(tmp_path / "cluster", environment=environment, coordinators=1) as cluster:
        mount = {"path": "s3://out/", "writes": "async", "writeReplicas": 2, "temporary": ["tmp/"]}
        assert requests.put(f"{cluster.coordinators[0].url}/v1/mounts/out", json=mount, timeout=10).status_code == 201
        origin.stop()
        wait_for(lambda: len(live(cluster)) == 3)
        for key, body in bodies.items():
            write(cluster.workers[0].url, key, body)
        first, *others = cluster.workers
        lost = {key for key in bodies if holds(first, key)}
        assert lost
        first.kill()
        wait_for(lambda: all(holds(worker, key) for worker in others for key in lost))
        others[0].kill()
        wait_for(lambda: all(read(others[1].url, key) == body for key, body in bodies.items()))


def live(cluster: DistributedCluster) -> list[str]:
    found = requests.get(f"{cluster.coordinators[0].url}/v1/workers", timeout=5).json()["workers"]
    return [worker["id"] for worker in found if worker["live"]]


def holds(worker: Part, key: str) -> bool:
    """Whether a worker has the bytes itself."""
    url, headers = f"{worker.url}/v1/data/s3/out/{key}", {"Cache-Control": "only-if-cached"}
    return requests.get(url, headers=headers, timeout=5).status_code == 200


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)
