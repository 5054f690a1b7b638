"""An object of more than 5 GB, larger than what 32 bits count: written in parts, loaded, read whole and at its end.

It takes minutes and 20 GB of disk, which is free again afterwards. The workers' memory must not grow with the object.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
import xxhash
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from preheat.client import Client
from preheat.jobs import JobOptions, JobSpec, JobState, JobType
from preheat.mounts import WriteMode
from testbed import SeaweedFS
from testbed.local_cluster import LocalCluster, local_cluster

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]
SIZE = (5 << 30) + 12_345
URI = "s3://large/set/object"
BLOCK = xxhash.xxh3_128(b"block").digest() * (1 << 20)
"""16 MiB, of which each copy in the object begins with its number."""
NEEDED_BYTES = 24 << 30
MOST_RSS_MIB = 400
MOST_SECONDS = 1200.0
"""For one pass over the object, of which two idle cores need one or two minutes: CI's have more to do."""
MOST_CPU_SECONDS = 120.0
"""Of all workers together, in one pass."""
SPANS = [(0, 10), ((1 << 32) - 5, (1 << 32) + 5), (SIZE - 1000, SIZE), (SIZE - 3 * len(BLOCK) - 1, SIZE - len(BLOCK))]


def content(start: int, end: int) -> bytes:
    """Return bytes of the object."""
    first, last = start // len(BLOCK), (end - 1) // len(BLOCK)
    if start >= end:
        return b""
    blocks = b"".join(number.to_bytes(8) + BLOCK[8:] for number in range(first, last + 1))
    return blocks[start - first * len(BLOCK) : end - first * len(BLOCK)]


class Body:
    """The object, as a file that is read once."""

    def __init__(self) -> None:
        self._at = 0

    def read(self, size: int) -> bytes:
        start, self._at = self._at, min(SIZE, self._at + size)
        return content(start, self._at)


@dataclass(frozen=True, kw_only=True)
class Large:
    """A cluster with a mount that may be written, and its origin."""

    origin: SeaweedFS
    cluster: LocalCluster
    s3_urls: tuple[str, ...]
    pids: tuple[int, ...]

    def peak_rss(self) -> int:
        """Return the most memory that a worker has had since this was asked last, in bytes."""
        texts = [Path(f"/proc/{pid}/status").read_text() for pid in self.pids]
        for pid in self.pids:
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        return max(int(re.search(r"VmHWM:\s+(\d+) kB", text)[1]) << 10 for text in texts)  # type: ignore[index]

    def cpu_seconds(self) -> float:
        """Return how long the workers have computed."""
        texts = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self.pids]
        return sum(int(fields[11]) + int(fields[12]) for fields in texts) / os.sysconf("SC_CLK_TCK")

    def ran(self, kind: JobType, **options: Any) -> None:
        with Client(self.cluster.url) as client:
            job = client.submit(JobSpec(type=kind, paths=("s3://large/set/",), options=JobOptions(**options)))
            deadline = time.monotonic() + MOST_SECONDS
            while not job.state.ended:
                assert time.monotonic() < deadline, job
                job = client.job(job.id, wait=10)
        assert (job.state, job.listed.files, job.failed.files) == (JobState.SUCCEEDED, 1, 0), job


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Large]:
    directory = tmp_path_factory.mktemp("large")
    if shutil.disk_usage(directory).free < NEEDED_BYTES:
        pytest.skip(f"There are not {NEEDED_BYTES >> 30} GiB of free disk.")
    try:
        with SeaweedFS(directory / "origin") as origin:
            origin.client().create_bucket(Bucket="large")
            with local_cluster(directory / "cluster", environment=origin.environment()) as cluster:
                parts = json.loads((cluster.data_dir / "cluster.json").read_text())["parts"]
                workers = [part for part in parts if part["name"].startswith("worker-")]
                mount = {"path": "s3://large/set/", "writes": WriteMode.THROUGH}
                requests.put(f"{cluster.url}/v1/mounts/large", json=mount, timeout=10).raise_for_status()
                yield Large(
                    origin=origin,
                    cluster=cluster,
                    s3_urls=tuple(part["s3_url"] for part in workers),
                    pids=tuple(part["process"]["pid"] for part in workers),
                )
    finally:
        shutil.rmtree(directory)


def client_of(url: str) -> Any:
    config = Config(s3={"addressing_style": "path"}, read_timeout=MOST_SECONDS, retries={"total_max_attempts": 1})
    credentials = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "us-east-1"}
    return boto3.client("s3", endpoint_url=url, config=config, **credentials)


def hash_of(pieces: Iterator[bytes]) -> tuple[int, str]:
    found, size = xxhash.xxh3_128(), 0
    for piece in pieces:
        found.update(piece)
        size += len(piece)
    return size, found.hexdigest()


def check_reads(large: Large) -> None:
    """Look at the object, and read parts of it, at every worker's ports."""
    for url in large.s3_urls:
        client = client_of(url)
        assert client.head_object(Bucket="large", Key="object")["ContentLength"] == SIZE
        for start, end in SPANS:
            answer = client.get_object(Bucket="large", Key="object", Range=f"bytes={start}-{end - 1}")
            assert answer["ContentRange"] == f"bytes {start}-{end - 1}/{SIZE}"
            assert answer["Body"].read() == content(start, end), (url, start)
    for url in large.cluster.worker_urls:
        target = f"{url}/v1/data/s3/large/set/object"
        assert requests.head(target, timeout=60).headers["Content-Length"] == str(SIZE)
        assert requests.get(target, headers={"Range": "bytes=-7"}, timeout=60).content == content(SIZE - 7, SIZE)
        assert requests.get(target, headers={"Range": f"bytes={SIZE}-"}, timeout=60).status_code == 416


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What one step took."""

    seconds: float
    cpu_seconds: float
    """Of all workers."""
    rss_mib: int
    """The most that a worker had."""


def test_an_object_of_five_gigabytes(large: Large, capsys: pytest.CaptureFixture[str]) -> None:
    spent: dict[str, Spent] = {}

    @contextmanager
    def measured(what: str) -> Iterator[None]:
        began, computed = time.monotonic(), large.cpu_seconds()
        yield
        seconds, computing = time.monotonic() - began, large.cpu_seconds() - computed
        found = Spent(seconds=round(seconds, 1), cpu_seconds=round(computing, 1), rss_mib=large.peak_rss() >> 20)
        spent[what] = found
        with capsys.disabled():
            sys.stdout.write(f"\n{what}: {found}")
        assert found.seconds < MOST_SECONDS
        assert found.cpu_seconds < MOST_CPU_SECONDS

    expected = hash_of(content(start, min(SIZE, start + len(BLOCK))) for start in range(0, SIZE, len(BLOCK)))
    parts = TransferConfig(multipart_chunksize=64 << 20, max_concurrency=2)
    with measured("written"):
        client_of(large.s3_urls[0]).upload_fileobj(Body(), "large", "object", Config=parts)
    assert large.origin.client().head_object(Bucket="large", Key="set/object")["ContentLength"] == SIZE
    with measured("ranges"):
        check_reads(large)
    large.ran(JobType.FREE)
    with measured("ranges of what is not cached"):
        check_reads(large)
    with measured("loaded and verified"):
        large.ran(JobType.LOAD, verify=True)
    check_reads(large)
    for number, url in enumerate(large.s3_urls):  # at one of them it is passed on
        with measured(f"read at worker {number}"):
            body = client_of(url).get_object(Bucket="large", Key="object")["Body"]
            assert hash_of(body.iter_chunks(1 << 20)) == expected
    assert max(step.rss_mib for step in spent.values()) < MOST_RSS_MIB, spent
