"""``preheat load --dry-run`` and the trace of the environment, against a coordinator that is really there."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest

from preheat.cli import main
from preheat.client import Client
from preheat.engine import Bucket
from preheat.registry import Heartbeat
from tests.unit.memory_cluster import Cluster, load

PATH = "s3://b/data/"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def cluster(cluster: Cluster) -> Cluster:
    cluster.fill(100)
    return cluster


async def run(*arguments: str) -> int:
    def call() -> int:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        return int(ended.value.code or 0)

    return await asyncio.to_thread(call)


async def test_a_dry_run_is_a_table_and_no_job(url: str, capsys: pytest.CaptureFixture[str]):
    assert await run("load", PATH, "--dry-run", "--bandwidth", "1KiB", "--replicas", "2") == 0
    out = capsys.readouterr().out
    assert "Dry run: nothing is loaded" in out
    assert "890 B, on 2 worker(s) each" in out
    assert "3 LIST, 200 GET" in out
    assert "0.87 s at 1.00 KiB/s and worker" in out
    assert "AWS list prices" in out
    rows = [line.split() for line in out.splitlines() if line.startswith("worker-")]
    assert [(row[0], row[1], row[-1]) for row in rows] == [("worker-0", "100", "yes"), ("worker-1", "100", "yes")]
    assert await run("job", "ls", "--json") == 0
    assert json.loads(capsys.readouterr().out)["jobs"] == []


async def test_as_json_it_is_what_the_coordinator_says(url: str, capsys: pytest.CaptureFixture[str]):
    assert await run("load", PATH, "--dry-run", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["objects"], shown["bytes"], shown["seconds"], shown["fits"]) == (100, 890, None, True)
    assert shown["datasetVersion"].startswith("sha256:")


async def test_a_load_that_does_not_fit_is_exit_1(url: str, cluster: Cluster, capsys: pytest.CaptureFixture[str]):
    tiny = Heartbeat(id="tiny", url="http://tiny", capacity=100)
    await cluster.engine.put(Bucket.WORKERS, tiny.id, msgspec.json.encode(tiny))
    await cluster.live(3)
    assert await run("load", PATH, "--dry-run", "--replicas", "3") == 1
    out = capsys.readouterr().out
    assert "NO: add workers or capacity" in out
    assert "unknown: give --bandwidth" in out


async def test_the_traceparent_of_the_environment_goes_along(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRACEPARENT", f"00-{TRACE}-00f067aa0ba902b7-01")
    with Client.from_environment(url) as client:
        job = await asyncio.to_thread(client.submit, load())
    assert job.trace == TRACE
