"""The DAGs on Airflow as people run it: scheduler, triggerer, workers and REST API in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testbed.airflow import AirflowStandalone
from testbed.local_cluster import LocalCluster
from tests.e2e.conftest import DAGS_FOLDER, DIGITS

WARM = "nightly_warmup"
TRAIN = "train_on_warm_dataset"


@pytest.fixture(scope="module")
def airflow(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowStandalone]:
    home = tmp_path_factory.mktemp("airflow")
    with AirflowStandalone(home=home, dags_folder=DAGS_FOLDER, variables=cluster.airflow_variables) as standalone:
        yield standalone


def test_the_warmed_asset_starts_a_training_that_reads_nothing_from_the_origin(airflow: AirflowStandalone) -> None:
    client = airflow.client()
    client.wait_for_dags(WARM, TRAIN)
    client.unpause(TRAIN)
    client.unpause(WARM)

    warm_run = client.trigger(WARM)
    assert client.wait_for_run(WARM, warm_run, seconds=120) == "success", client.failure(WARM, warm_run)
    log = client.task_log(WARM, warm_run, "warm_digits")
    assert "Pausing task as DEFERRED" in log
    assert "Trigger fired event" in log

    train_run = client.wait_for_triggered_run(TRAIN, source=(WARM, warm_run), seconds=60)
    assert client.wait_for_run(TRAIN, train_run, seconds=120) == "success", client.failure(TRAIN, train_run)

    events = {event["uri"]: event["extra"] for event in client.asset_events(WARM, warm_run)}
    warmed = events["preheat://datasets/digits"]
    summary = client.xcom(WARM, warm_run, "warm_digits")
    assert (warmed["files"], warmed["bytes"]) == (len(DIGITS), sum(map(len, DIGITS.values())))
    assert (warmed["job_id"], warmed["dataset_version"]) == (summary["job_id"], summary["dataset_version"])

    report = client.xcom(TRAIN, train_run, "train")
    assert report["dataset_version"] == warmed["dataset_version"]
    assert (report["images"], report["cache_hits"], report["origin_reads"]) == (len(DIGITS), len(DIGITS), 0)
    assert report["accuracy"] > 0.95
