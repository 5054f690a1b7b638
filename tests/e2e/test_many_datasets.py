"""Many datasets, and the first of a dataset's files, by ``dag.test()`` on a real cluster and a real S3 server."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

import pytest

from preheat.client import Client
from testbed.airflow import DagTestResult, run_dag_tests
from testbed.local_cluster import LocalCluster
from testbed.s3 import SeaweedFS
from tests.e2e.conftest import DIGITS, SHARDS

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

DAGS = """
from airflow.sdk import DAG, task

from airflow_preheat.operators import PreloadManyOperator, PreloadOperator

DIGITS, SHARDS, GONE = (f"s3://datasets/{name}/" for name in ("digits", "shards", "gone"))

with DAG("mapped"):
    each = PreloadOperator.partial(task_id="each", verify=False, map_index_template="{{ task.path }}")
    each.expand(path=[DIGITS, SHARDS])

with DAG("mapped_kwargs"):
    @task
    def datasets():
        return [{"path": DIGITS, "replicas": 2}, {"path": SHARDS, "wait_policy": {"max_failed_files": 1}}]

    each = PreloadOperator.partial(task_id="each", map_index_template="{{ task.path }} x {{ task.replicas }}")
    each.expand_kwargs(datasets())

with DAG("many"):
    PreloadManyOperator(task_id="all", datasets=[DIGITS, {"path": SHARDS, "replicas": 2}])
    PreloadManyOperator(task_id="most", datasets=[DIGITS, GONE, SHARDS], min_succeeded="{{ 2 }}", deferrable=False)
    PreloadManyOperator(task_id="hasty", datasets=[DIGITS, GONE], fail_fast=True, retries=0)

with DAG("first"):
    first = PreloadOperator(task_id="first", index="s3://datasets/order.txt", wait_policy={"first": "{{ 100 }}"},
                            batch_size=50, bandwidth="{{ '1KiB' }}", skip_if_exists=False)
"""
RUNS = ("mapped", "mapped_kwargs", "many", "first")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("airflow")


@pytest.fixture(scope="module")
def results(cluster: LocalCluster, origin: SeaweedFS, home: Path) -> Mapping[str, DagTestResult]:
    order = "\n".join(sorted(DIGITS, reverse=True)).encode()
    origin.client().put_object(Bucket="datasets", Key="order.txt", Body=order)
    dags = home / "dags"
    dags.mkdir()
    (dags / "many.py").write_text(DAGS)
    runs = run_dag_tests(
        [(name, {}) for name in RUNS], home=home, dags_folder=dags, variables=cluster.airflow_variables
    )
    return dict(zip(RUNS, runs, strict=True))


def names_of(home: Path, dag_id: str) -> list[str]:
    with sqlite3.connect(home / "airflow.db") as database:
        rows = database.execute(
            "select rendered_map_index from task_instance where dag_id = ? and task_id = 'each' order by map_index",
            [dag_id],
        )
        return [row[0] for row in rows]


def test_a_task_can_be_mapped_over_paths(results: Mapping[str, DagTestResult], home: Path) -> None:
    result = results["mapped"]
    assert result.tasks == {"each[0]": "success", "each[1]": "success"}, result.log
    assert [result.xcoms[f"each[{number}]"]["files"] for number in (0, 1)] == [len(DIGITS), len(SHARDS)]
    assert names_of(home, "mapped") == ["s3://datasets/digits/", "s3://datasets/shards/"]


def test_a_task_can_be_mapped_over_what_another_one_returns(
    results: Mapping[str, DagTestResult], cluster: LocalCluster, home: Path
) -> None:
    result = results["mapped_kwargs"]
    assert result.state == "success", result.log
    with Client(cluster.url) as client:
        jobs = [client.job(result.xcoms[f"each[{number}]"]["job_id"]) for number in (0, 1)]
    assert [(job.options.replicas, job.options.max_failed_files) for job in jobs] == [(2, None), (1, 1)]
    assert names_of(home, "mapped_kwargs") == ["s3://datasets/digits/ x 2", "s3://datasets/shards/ x 1"]


def test_one_task_warms_many_datasets(results: Mapping[str, DagTestResult]) -> None:
    result = results["many"]
    assert result.tasks == {"all": "success", "most": "success", "hasty": "failed"}, result.log
    every, most = result.xcoms["all"], result.xcoms["most"]
    assert (every["succeeded"], every["failed"]) == (2, 0)
    assert [item["job"]["files"] for item in every["datasets"]] == [len(DIGITS), len(SHARDS)]
    assert [item["status"] for item in most["datasets"]] == ["succeeded", "error", "succeeded"]
    assert "datasets are not warm" in result.log


def test_a_task_ends_when_the_first_files_are_hot_while_its_job_goes_on(
    results: Mapping[str, DagTestResult], cluster: LocalCluster
) -> None:
    result = results["first"]
    assert result.tasks == {"first": "success"}, result.log
    summary = result.xcoms["first"]
    assert 100 <= summary["hot_in_order"] < len(DIGITS)
    with Client(cluster.url) as client:
        job = client.job(summary["job_id"])
        client.stop(job.id)
    assert job.state == "RUNNING"
    assert job.hot_in_order >= summary["hot_in_order"]
