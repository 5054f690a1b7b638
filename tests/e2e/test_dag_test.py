"""The DAGs by Airflow's own ``dag.test()``, against a real cluster and a real S3 server."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import fsspec
import pytest

from preheat.client import Client
from testbed.airflow import DagTestResult, run_dag_test
from testbed.local_cluster import LocalCluster
from testbed.s3 import SeaweedFS
from tests.e2e.conftest import DAGS_FOLDER, DIGITS, SHARDS

RunDag = Callable[..., DagTestResult]


@pytest.fixture(scope="module")
def run_dag(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> RunDag:
    home = tmp_path_factory.mktemp("airflow")
    return partial(run_dag_test, home=home, dags_folder=DAGS_FOLDER, variables=cluster.airflow_variables)


def test_nightly_warmup_warms_every_dataset_and_says_so_with_its_asset(run_dag: RunDag, cluster: LocalCluster) -> None:
    result = run_dag("nightly_warmup")

    assert (result.state, result.tasks) == ("success", {"warm_digits": "success", "warm_shards": "success"}), result.log
    digits = result.xcoms["warm_digits"]
    assert digits["files"] == digits["loaded"] + digits["skipped"] == len(DIGITS)
    assert digits["bytes"] == sum(map(len, DIGITS.values()))
    assert set(result.asset_events) == {"preheat://datasets/digits", "preheat://datasets/shards"}
    event = result.asset_events["preheat://datasets/digits"]
    with Client(cluster.url) as client:
        job = client.job(event["job_id"])
    assert event["dataset_version"] == job.dataset_version
    assert event["dataset_version"].startswith("sha256:")
    assert (event["files"], event["bytes"]) == (digits["files"], digits["bytes"])
    assert_hot(cluster, DIGITS | SHARDS)


def assert_hot(cluster: LocalCluster, objects: dict[str, bytes]) -> None:
    filesystem = fsspec.filesystem("preheat", coordinator=cluster.url, skip_instance_cache=True)
    paths = {f"datasets/{key}": content for key, content in objects.items()}
    assert filesystem.cat(list(paths)) == paths
    assert (filesystem.stats.hits, filesystem.stats.misses) == (len(paths), 0)


def test_preload_on_demand_submits_what_the_form_says(run_dag: RunDag, cluster: LocalCluster) -> None:
    form = {
        "path": "s3://datasets/shards/",
        "replicas": 2,
        "verify": False,
        "skip_if_exists": False,
        "bandwidth": "50MiB",
        "file_filter_regex": "shards/.*[.]bin",
    }

    result = run_dag("preload_on_demand", conf=form)

    assert result.state == "success", result.log
    with Client(cluster.url) as client:
        job = client.job(result.xcoms["preload"]["job_id"])
    assert job.paths == ("s3://datasets/shards/",)
    options = job.options
    assert (options.replicas, options.verify, options.skip_if_exists) == (2, False, False)
    assert (options.bandwidth, options.file_filter_regex) == (50 * 2**20, "shards/.*[.]bin")


def test_an_unknown_bucket_is_named_in_the_task_log(run_dag: RunDag, origin: SeaweedFS) -> None:
    result = run_dag("preload_on_demand", conf={"path": "s3://no-such-bucket/digits/"})

    assert (result.state, result.tasks) == ("failed", {"preload": "failed"})
    assert "no-such-bucket" in result.log
    assert "Check the bucket's name" in result.log
    assert origin.secret_key not in result.log


SENSORS = """
from airflow.sdk import DAG

from airflow_preheat.operators import PreloadOperator
from airflow_preheat.sensors import DatasetWarmSensor, PreloadSensor

DIGITS = "s3://datasets/digits/"
VERSION = "{{ ti.xcom_pull('warm')['dataset_version'] }}"

with DAG("sensors", default_args={"poke_interval": 0.5, "timeout": 60}):
    PreloadOperator(task_id="warm", path=DIGITS) >> [
        PreloadSensor(task_id="load", path=DIGITS, submitted_after="{{ dag_run.run_after }}"),
        DatasetWarmSensor(task_id="hot", path=DIGITS, version=VERSION, deferrable=False),
        DatasetWarmSensor(task_id="cold", path=DIGITS, version=f"sha256:{0:064x}", timeout=1.5, soft_fail=True),
    ]
"""


def test_sensors_see_what_is_warm_and_time_out_on_what_is_not(run_dag: RunDag, tmp_path: Path) -> None:
    (tmp_path / "sensors.py").write_text(SENSORS)
    result = run_dag("sensors", dags_folder=tmp_path)

    assert result.tasks == {"warm": "success", "load": "success", "hot": "success", "cold": "skipped"}, result.log
    assert result.xcoms["hot"]["dataset_version"] == result.xcoms["warm"]["dataset_version"]
    assert result.xcoms["load"] == result.xcoms["warm"]
    assert "No inventory of s3://datasets/digits/ is kept" in result.log
