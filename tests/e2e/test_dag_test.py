"""The DAGs by Airflow's own ``dag.test()``, against a real cluster and a real S3 server.

They run in one process, one after the other; the tests look at what came of each.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
import jsonschema
import pytest

from preheat.client import Client
from testbed.airflow import DagTestResult, run_dag_tests
from testbed.local_cluster import LocalCluster
from testbed.s3 import SeaweedFS
from tests.e2e.conftest import DAGS_FOLDER, DIGITS, SHARDS

pytestmark = pytest.mark.timeout(600)  # the first test waits for all runs

FORM = {
    "path": "s3://datasets/shards/",
    "replicas": 2,
    "verify": False,
    "skip_if_exists": False,
    "bandwidth": "50MiB",
    "file_filter_regex": "shards/.*[.]bin",
}
RUNS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "free": ("free_after_training", {}),
    "alluxio": ("warm_alluxio", {}),
    "form": ("preload_on_demand", FORM),
    "wrong bucket": ("preload_on_demand", {"path": "s3://no-such-bucket/digits/"}),
    "nightly": ("nightly_warmup", {}),
    "drift": ("rewarm_on_drift", {}),
    "pinned": ("train_on_pinned_version", {}),
    "regions": ("warm_regions", {}),
    "all regions": ("train_in_all_regions", {}),
    "small": ("preload_with_approval", {"path": "s3://datasets/shards/", "ask_above": "2MiB"}),
    "sensors": ("sensors", {}),
}
Results = Mapping[str, DagTestResult]

FACETS = {"additionalProperties": {"required": ["_producer", "_schemaURL"]}}
DATASETS = {"items": {"required": ["namespace", "name"], "properties": {"facets": FACETS, "outputFacets": FACETS}}}
NAMED = {"required": ["namespace", "name"], "properties": {"facets": FACETS}}
RUN = {"required": ["runId"], "properties": {"runId": {"format": "uuid"}, "facets": FACETS}}
RUN_EVENT = {
    "required": ["eventTime", "eventType", "producer", "schemaURL", "run", "job"],
    "properties": {
        "eventTime": {"format": "date-time"},
        "eventType": {"enum": ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]},
        "run": RUN,
        "job": NAMED,
        "inputs": DATASETS,
        "outputs": DATASETS,
    },
}
"""What OpenLineage's specification, 2-0-2, asks of a run event."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("airflow")


@pytest.fixture(scope="module")
def results(cluster: LocalCluster, home: Path) -> Results:
    dags = shutil.copytree(DAGS_FOLDER, home / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    (dags / "sensors.py").write_text(SENSORS)
    runs = run_dag_tests(list(RUNS.values()), home=home, dags_folder=dags, variables=settings(cluster, home))
    return dict(zip(RUNS, runs, strict=True))


def settings(cluster: LocalCluster, home: Path) -> dict[str, str]:
    """Return the environment of Airflow: two more connections to the cluster, one to its Alluxio dialect, lineage."""
    extras: dict[str, dict[str, str]] = {
        "PREHEAT_EU": {},
        "PREHEAT_US": {},
        "ALLUXIO_DEFAULT": {"dialect": "alluxio-3.6"},
    }
    lineage = {"type": "file", "log_file_path": str(home / "lineage.jsonl"), "append": True}
    return cluster.airflow_variables | {
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(lineage),
        **{
            f"AIRFLOW_CONN_{name}": json.dumps({"conn_type": "preheat", "extra": {"url": cluster.url} | extra})
            for name, extra in extras.items()
        },
    }


def size(objects: Mapping[str, bytes], prefix: str) -> tuple[int, int]:
    bodies = [body for key, body in objects.items() if key.startswith(prefix)]
    return len(bodies), sum(map(len, bodies))


def test_nightly_warmup_warms_every_dataset_and_says_so_with_its_asset(results: Results, cluster: LocalCluster) -> None:
    result = results["nightly"]

    assert (result.state, result.tasks) == ("success", {"warm_digits": "success", "warm_shards": "success"}), result.log
    digits, shards = result.xcoms["warm_digits"], result.xcoms["warm_shards"]
    assert digits["files"] == digits["loaded"] + digits["skipped"] == len(DIGITS)
    assert digits["bytes"] == sum(map(len, DIGITS.values()))
    assert result.partitions == {
        "preheat://datasets/digits": [None],
        "preheat://datasets/shards": [shards["dataset_version"]],
    }
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


def test_preload_on_demand_submits_what_the_form_says(results: Results, cluster: LocalCluster) -> None:
    result = results["form"]

    assert result.state == "success", result.log
    with Client(cluster.url) as client:
        job = client.job(result.xcoms["preload"]["job_id"])
    assert job.paths == ("s3://datasets/shards/",)
    options = job.options
    assert (options.replicas, options.verify, options.skip_if_exists) == (2, False, False)
    assert (options.bandwidth, options.file_filter_regex) == (50 * 2**20, "shards/.*[.]bin")


def test_an_unknown_bucket_is_named_in_the_task_log(results: Results, origin: SeaweedFS) -> None:
    result = results["wrong bucket"]

    assert (result.state, result.tasks) == ("failed", {"preload": "failed"})
    assert "no-such-bucket" in result.log
    assert "Check the bucket's name" in result.log
    assert origin.secret_key not in result.log


def test_a_version_that_was_told_of_is_not_told_of_again_by_another_dag(results: Results) -> None:
    result = results["drift"]

    assert result.state == "success", result.log
    version = results["nightly"].xcoms["warm_shards"]["dataset_version"]
    assert result.xcoms["warm"]["dataset_version"] == version
    assert result.partitions == {}
    assert f"preheat://datasets/shards has been {version} since the run" in result.log


def test_a_training_reads_the_version_that_it_has_pinned(results: Results, cluster: LocalCluster) -> None:
    result = results["pinned"]

    assert result.state == "success", result.log
    report = result.xcoms["train"]
    assert report["version"] == results["nightly"].xcoms["warm_shards"]["dataset_version"]
    assert (report["files"], report["bytes"]) == size(SHARDS, "shards/")
    with Client(cluster.url) as client:
        assert client.pins().pins == ()


def test_each_region_is_a_partition_of_one_asset(results: Results) -> None:
    result = results["regions"]

    assert result.state == "success", result.log
    assert {uri: set(keys) for uri, keys in result.partitions.items()} == {
        "preheat://datasets/digits/test": {"eu", "us"}
    }
    assert results["all regions"].state == "success", results["all regions"].log


def test_what_was_warmed_for_one_training_is_freed_after_it(results: Results) -> None:
    result = results["free"]

    assert result.state == "success", result.log
    read = result.xcoms["train"]
    assert (read["images"], read["bytes"]) == size(DIGITS, "digits/train/")
    assert result.xcoms["free"]["loaded"] == result.xcoms["warm"]["files"] == read["images"]


def test_a_small_load_needs_no_approval(results: Results) -> None:
    result = results["small"]

    assert result.state == "success", result.log
    assert (result.tasks["approve"], result.tasks["preload"]) == ("skipped", "success")
    assert result.xcoms["estimate"] == {"objects": 2, "bytes": 2 * 2**20, "fits": True, "size": "2 MiB"}


def test_an_alluxio_is_driven_by_a_connection(results: Results) -> None:
    result = results["alluxio"]

    assert result.state == "success", result.log
    loaded = [result.xcoms[f"warm[{number}]"] for number in range(2)]
    assert [(job["files"], job["hot_fraction"], job["dataset_version"]) for job in loaded] == [
        (len(DIGITS), 1.0, None),
        (len(SHARDS), 1.0, None),
    ]


def lineage(home: Path, job: str, kind: str = "COMPLETE") -> dict[str, Any]:
    """Return the one event of its kind that OpenLineage was told of a task."""
    events = [json.loads(line) for line in (home / "lineage.jsonl").read_text().splitlines()]
    (event,) = [event for event in events if event["job"]["name"] == job and event["eventType"] == kind]
    jsonschema.validate(event, RUN_EVENT, format_checker=jsonschema.FormatChecker())
    return event


def names(datasets: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(dataset["namespace"], dataset["name"]) for dataset in datasets]


def test_openlineage_is_told_which_version_went_from_where_to_where(results: Results, home: Path) -> None:
    event = lineage(home, "nightly_warmup.warm_digits")

    digits = results["nightly"].xcoms["warm_digits"]
    assert names(event["inputs"]) == [("s3://datasets", "digits")]
    assert names(event["outputs"]) == [("preheat://datasets", "digits")]
    for dataset in (*event["inputs"], *event["outputs"]):
        assert dataset["facets"]["version"]["datasetVersion"] == digits["dataset_version"]
    written = event["outputs"][0]["outputFacets"]["outputStatistics"]
    assert (written["fileCount"], written["size"]) == size(DIGITS, "digits/")
    job = event["run"]["facets"]["preheat_job"]
    assert (job["jobId"], job["url"], job["hotFraction"]) == (digits["job_id"], digits["url"], 1.0)


def test_openlineage_is_told_of_a_failure_and_of_what_was_freed(results: Results, home: Path) -> None:
    failed = lineage(home, "preload_on_demand.preload", "FAIL")
    assert names(failed["outputs"]) == [("preheat://no-such-bucket", "digits")]
    assert failed["outputs"][0]["facets"] == failed["outputs"][0]["outputFacets"] == {}

    freed = lineage(home, "free_after_training.free")
    assert names(freed["outputs"]) == [("preheat://datasets", "digits/train")]
    assert freed["outputs"][0]["facets"]["lifecycleStateChange"]["lifecycleStateChange"] == "DROP"


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


def test_sensors_see_what_is_warm_and_time_out_on_what_is_not(results: Results) -> None:
    result = results["sensors"]

    assert result.tasks == {"warm": "success", "load": "success", "hot": "success", "cold": "skipped"}, result.log
    assert result.xcoms["hot"]["dataset_version"] == result.xcoms["warm"]["dataset_version"]
    assert result.xcoms["load"] == result.xcoms["warm"]
    assert "No inventory of s3://datasets/digits/ is kept" in result.log
