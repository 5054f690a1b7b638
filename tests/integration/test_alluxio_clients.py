"""Alluxio's own Python clients, ``alluxio`` 1.0.0 and ``alluxiofs`` 1.1.17 from PyPI, load through a worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from preheat.client import Client
from preheat.jobs import JobOptions, JobSpec
from testbed.local_cluster import LocalCluster, local_cluster
from tests.conftest import Bucket

ROOT = Path(__file__).parents[2]
CLIENTS = ("alluxio", "alluxiofs")
INSTALL_SECONDS = 240
SECONDS = 60


class Session:
    """A process with one client, asked call by call."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def call(self, method: str, path: str) -> object:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{method} {path}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline() or '"the client process ended"')

    def progress_until(self, path: str, state: str) -> None:
        deadline = time.monotonic() + SECONDS
        while (found := self.call("load_progress", path)) != state:
            assert found in ("RUNNING", "VERIFYING")
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.fixture(scope="session")
def alluxio_python() -> Path:
    """The interpreter that has the clients, made at the first use."""
    environment = {**os.environ, "PYTHON": sys.executable}
    script = ["bash", ROOT / "scripts" / "alluxio-clients.sh"]
    subprocess.run(script, env=environment, check=True, timeout=INSTALL_SECONDS)
    return ROOT / ".venv-alluxio" / "bin" / "python"


@pytest.fixture(scope="module")
def cluster(s3_server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with local_cluster(tmp_path_factory.mktemp("cluster"), environment=s3_server.environment()) as cluster:
        yield cluster


@contextmanager
def client_session(python: Path, kind: str, cluster: LocalCluster) -> Iterator[Session]:
    workers = ",".join(urlsplit(url).netloc for url in cluster.worker_urls)
    script = Path(__file__).with_name("alluxio_client_session.py")
    with subprocess.Popen(
        [python, "-P", script, kind, workers],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1"},
        text=True,
    ) as process:
        try:
            yield Session(process)
        finally:
            process.kill()


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_load_from_submit_to_stop(alluxio_python: Path, cluster: LocalCluster, bucket: Bucket, kind: str):
    names = [f"day 1/{number} +%é" for number in range(20)]
    bucket.put_many({name: name.encode() for name in names})
    path = bucket.uri("day 1/")
    with client_session(alluxio_python, kind, cluster) as session, Client(cluster.url) as preheat:
        assert session.call("load_progress", path) == "STOPPED"  # nobody submitted it, and nothing FAILED
        assert session.call("stop_load", path) is False
        assert session.call("submit_load", path) is True
        session.progress_until(path, "SUCCEEDED")
        (job,) = (job for job in preheat.jobs().jobs if job.paths == (path,))
        assert job.loaded.files == len(names)
        assert session.call("stop_load", path) is False

        slow = JobOptions(bandwidth=1, skip_if_exists=False)
        job = preheat.submit(JobSpec(paths=(path,), options=slow))
        assert session.call("submit_load", path) is True  # it runs already
        assert session.call("load_progress", path) == "RUNNING"
        assert session.call("stop_load", path) is True
        assert session.call("load_progress", path) == "STOPPED"
        assert preheat.job(job.id).state == "STOPPED"


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_load_that_is_refused_is_no_success(alluxio_python: Path, cluster: LocalCluster, bucket: Bucket, kind: str):
    with client_session(alluxio_python, kind, cluster) as session:
        assert session.call("submit_load", bucket.uri("nothing/")) is False
        assert session.call("load", bucket.uri("nothing/")) is False
