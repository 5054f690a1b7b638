"""The provider with earlier Airflows, each in an environment of its own, against a real cluster."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from demo import dataset
from testbed.airflow import airflow_environment
from testbed.local_cluster import LocalCluster
from testbed.s3 import SeaweedFS
from tests.e2e.conftest import DIGITS

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
INSTALL_SECONDS = 400
CHECK_SECONDS = 600
CHECKS = ["python", "-P", "tests/e2e/compat_checks.py"]
UNIT_TESTS = [
    f"tests/unit/test_provider_{name}.py" for name in ("deadlines", "dialects", "endpoint", "jobs", "sensing", "watch")
]
"""Those that are about the provider alone."""
DIGITS_PATH = f"s3://{dataset.BUCKET}/digits/"
SHARDS_PATH = f"s3://{dataset.BUCKET}/shards/"
DAG_FILE = f"""
import asyncio

from airflow.sdk import DAG, task

from airflow_preheat.assets import warm_asset
from airflow_preheat.operators import PreloadOperator
from airflow_preheat.sensors import DatasetWarmSensor, PreloadSensor
from airflow_preheat.triggers import DatasetWarmTrigger


@task
def watch():
    async def first_event():
        async for event in DatasetWarmTrigger(path="{DIGITS_PATH}", poll_interval=0.5).run():
            return event.payload

    return asyncio.run(asyncio.wait_for(first_event(), 60))


with DAG("compat", schedule=None, default_args={{"preheat_conn_id": "preheat_default"}}):
    deferred = PreloadOperator(
        task_id="deferred", path="{DIGITS_PATH}", deferrable=True, outlets=[warm_asset("{DIGITS_PATH}")]
    )
    in_worker = PreloadOperator(task_id="in_worker", path="{SHARDS_PATH}", deferrable=False)
    sensors = [
        DatasetWarmSensor(task_id="hot", path="{DIGITS_PATH}", deferrable=False, poke_interval=0.5),
        DatasetWarmSensor(task_id="hot_deferred", path="{SHARDS_PATH}", deferrable=True, poke_interval=0.5),
        PreloadSensor(task_id="load", path="{DIGITS_PATH}", deferrable=True),
    ]
    deferred >> in_worker >> sensors >> watch()
"""


@pytest.fixture(scope="module", params=["3.1", "3.2"])
def python(request: pytest.FixtureRequest) -> Path:
    """The interpreter of an environment with this Airflow, which is made at need."""
    subprocess.run(["bash", "scripts/compat.sh", request.param], cwd=ROOT, check=True, timeout=INSTALL_SECONDS)
    return ROOT / ".venv-compat" / request.param / "bin" / "python"


def run(command: list[str], python: Path, home: Path, variables: Mapping[str, str] | None = None) -> str:
    """Run a command in the environment and return its output."""
    environment = airflow_environment(home=home, dags_folder=home, variables=variables)
    environment["PATH"] = f"{python.parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=CHECK_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_every_module_can_be_imported_and_the_metadata_is_valid(python: Path, tmp_path: Path) -> None:
    version = run([*CHECKS, "modules"], python, tmp_path).split()[-1]

    assert version.startswith(python.parts[-3])


def test_the_unit_tests_of_the_provider_alone_pass(python: Path, tmp_path: Path) -> None:
    options = ["--noconftest", "-q", "-p", "no:cacheprovider", "-o", "filterwarnings=default"]
    output = run(["python", "-m", "pytest", *options, *UNIT_TESTS], python, tmp_path)

    assert " passed" in output


def test_operators_sensors_and_the_watcher_work(
    python: Path, cluster: LocalCluster, origin: SeaweedFS, tmp_path: Path
) -> None:
    (tmp_path / "compat.py").write_text(DAG_FILE)
    settings = cluster.airflow_variables | {"AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "0"}

    run(["airflow", "db", "migrate"], python, tmp_path, settings)
    log = run([*CHECKS, "dag", "compat", str(tmp_path / "result.json")], python, tmp_path, settings)

    result = json.loads((tmp_path / "result.json").read_text())
    assert set(result["tasks"].values()) == {"success"}, log
    warmed = result["xcoms"]["deferred"]
    assert warmed["files"] == len(DIGITS)
    assert [event["dataset_version"] for event in result["events"]] == [warmed["dataset_version"]]
    versions = [result["xcoms"][task]["dataset_version"] for task in ("hot", "load", "watch")]
    assert versions == [warmed["dataset_version"]] * 3
