"""Libraries of .venv-ecosystems, each in a process of its own, read warmed data through a worker, and write."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from preheat.paths import UfsPath
from preheat.ufs import MemoryUnderStore
from tests.integration.fs_workers import Loop, WritableWorker, ecosystems_python, skip_without_torch

SECONDS = 60


@pytest.fixture(scope="module")
def python() -> Path:
    return ecosystems_python()


def run(python: Path, *arguments: str, workers: str = "") -> str:
    done = subprocess.run(
        [python, "-P", Path(__file__).with_name("fs_ecosystems.py"), *arguments],
        env={"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1", "PREHEAT_WORKERS": workers},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def data(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data")
    run(python, "make", str(directory))
    return directory


@pytest.fixture(scope="module")
def worker(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WritableWorker]:
    """One that has all of the data cached."""
    loop, origin = Loop(), MemoryUnderStore()
    worker = WritableWorker(loop, origin, tmp_path_factory.mktemp("worker"))
    for file in sorted(path for path in data.rglob("*") if path.is_file()):
        uri = f"s3://b/data/{file.relative_to(data)}"
        loop.run(fetch, worker, uri, origin.write(uri, file.read_bytes()))
    yield worker
    worker.stop()
    loop.close()


async def fetch(worker: WritableWorker, uri: str, info: Any) -> None:
    await worker.reads.fetch(UfsPath.parse(uri), info=info)


@pytest.mark.parametrize(
    "library", ["datasets", "duckdb", "pandas", "polars", "pyarrow", "torch", "webdataset", "zarr"]
)
def test_it_reads_from_the_cache_alone(python: Path, data: Path, worker: WritableWorker, library: str) -> None:
    if library in {"torch", "webdataset"}:
        skip_without_torch(python)
    before = worker.reads.counters.origin_reads
    counted = json.loads(run(python, f"read_{library}", str(data), workers=worker.url))
    assert counted["hits"] > 0
    assert counted["misses"] == 0
    assert worker.reads.counters.origin_reads == before


@pytest.mark.parametrize("library", ["duckdb", "pandas", "pyarrow", "torch", "zarr"])
def test_it_writes_through(python: Path, data: Path, worker: WritableWorker, library: str) -> None:
    if library == "torch":
        skip_without_torch(python)
    run(python, f"write_{library}", str(data), workers=worker.url)


def test_the_plain_client_says_what_a_fallback_needs(python: Path, data: Path) -> None:
    assert "Install preheat[server]" in run(python, "refuse_origin", str(data))
