"""The patterns in ``dags/`` that need a scheduler, a triggerer or a human, on a real Airflow and a real cluster."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from testbed.airflow import AirflowStandalone
from testbed.airflow_client import AirflowClient, poll
from testbed.local_cluster import LocalCluster
from testbed.s3 import SeaweedFS
from tests.e2e.conftest import DAGS_FOLDER

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]

REWARM, TRAIN = "rewarm_on_drift", "train_on_pinned_version"
REGIONS, ALL_REGIONS = "warm_regions", "train_in_all_regions"
APPROVAL, LATE = "preload_with_approval", "nightly_warmup"
PATIENCE = 400.0


@pytest.fixture(scope="module")
def airflow(
    cluster: LocalCluster, origin: SeaweedFS, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AirflowStandalone]:
    home = tmp_path_factory.mktemp("airflow")
    put(origin, "drifting/1.bin", 1000)
    for number in range(128):
        put(origin, f"slow/{number}.bin", 32 * 2**10)
    # The first 10 s of a job are too short for a forecast; the two workers need a minute for this one.
    slow = {"name": "slow", "path": "s3://datasets/slow/", "bandwidth": "32KiB", "batch_size": 4}
    task = {"deadline": "PT45S", "poll_interval": 5, "retries": 0}
    (home / "datasets.yaml").write_text(yaml.safe_dump([slow | task]))
    dags = copy_dags(home / "dags")
    connections = {f"AIRFLOW_CONN_PREHEAT_{region}": f"preheat://{cluster.url[7:]}" for region in ("EU", "US")}
    settings = {"PREHEAT_DATASETS": str(home / "datasets.yaml"), "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "3"}
    variables = cluster.airflow_variables | connections | settings
    with AirflowStandalone(home=home, dags_folder=dags, variables=variables) as standalone:
        yield standalone


@pytest.fixture(scope="module")
def client(airflow: AirflowStandalone) -> AirflowClient:
    client = airflow.client()
    dag_ids = (REWARM, TRAIN, REGIONS, ALL_REGIONS, APPROVAL, LATE)
    client.wait_for_dags(*dag_ids, seconds=PATIENCE)
    for dag_id in dag_ids:
        client.unpause(dag_id)
    return client


def copy_dags(folder: Path) -> Path:
    """Copy the patterns; the watcher gets a dataset of its own, and a look every second."""
    folder.mkdir()
    for name in (REWARM, TRAIN, REGIONS, APPROVAL, LATE):
        text = (DAGS_FOLDER / f"{name}.py").read_text()
        text = text.replace("datasets/shards", "datasets/drifting").replace("poll_interval=300", "poll_interval=1")
        (folder / f"{name}.py").write_text(text)
    return folder


def put(origin: SeaweedFS, key: str, size: int) -> None:
    body = random.Random(key).randbytes(size)
    origin.client().put_object(Bucket="datasets", Key=key, Body=body)


def warm(client: AirflowClient, dag_id: str) -> str:
    run_id = client.trigger(dag_id)
    assert client.wait_for_run(dag_id, run_id, seconds=PATIENCE) == "success", client.failure(dag_id, run_id)
    return run_id


def trained(client: AirflowClient, count: int, dag_id: str = TRAIN) -> list[str]:
    """Wait until a training has run so often, and return the partitions of its runs."""

    def runs() -> list[str] | None:
        found = client.runs(dag_id)
        ended = [run["partition_key"] for run in found if run["state"] in {"success", "failed"}]
        return ended if len(ended) >= count else None

    partitions = poll(runs, seconds=PATIENCE, what=f"{count} runs of {dag_id}")
    assert {run["state"] for run in client.runs(dag_id)} == {"success"}
    return partitions


def test_a_training_runs_once_for_each_version_that_drift_brings(client: AirflowClient, origin: SeaweedFS) -> None:
    first = client.xcom(REWARM, warm(client, REWARM), "warm")["dataset_version"]
    assert trained(client, 1) == [first]

    again = warm(client, REWARM)  # the same version once more
    assert client.asset_events(REWARM, again) == []

    put(origin, "drifting/2.bin", 2000)
    second = trained(client, 2)[1]

    by_watcher = [run["dag_run_id"] for run in client.runs(REWARM) if run["run_type"] == "asset_triggered"]
    assert [client.xcom(REWARM, run_id, "warm")["dataset_version"] for run_id in by_watcher] == [second]
    (report,) = [client.xcom(TRAIN, run["dag_run_id"], "train") for run in client.runs(TRAIN)[1:]]
    assert report == {"version": second, "files": 2, "bytes": 3000}
    warm(client, REWARM)
    assert trained(client, 2) == [first, second]


def test_a_training_starts_once_all_regions_are_warm(client: AirflowClient) -> None:
    run_id = warm(client, REGIONS)

    assert trained(client, 1, ALL_REGIONS) == ["all"]
    (run,) = client.runs(ALL_REGIONS)
    version = client.xcom(REGIONS, run_id, "warm_eu")["dataset_version"]
    assert client.xcom(ALL_REGIONS, run["dag_run_id"], "train") == version


@pytest.mark.parametrize(("answer", "state"), [("Approve", "success"), ("Reject", "skipped")])
def test_a_large_load_asks_first(airflow: AirflowStandalone, client: AirflowClient, answer: str, state: str) -> None:
    run_id = client.trigger(APPROVAL, {"path": "s3://datasets/digits/", "ask_above": "1KiB"})

    # No human answers before the scheduler knows that the task's process has ended; Airflow fails the task then
    # (apache/airflow#71580).
    key = f"dag_id='{APPROVAL}', task_id='approve', run_id='{run_id}'"
    paused = f"executor event with state success for task instance TaskInstanceKey({key}"
    poll(lambda: paused in airflow.log.read_text(), seconds=PATIENCE, what="the question")
    question = client.question(APPROVAL, run_id, "approve")
    assert question["subject"] == "Load s3://datasets/digits/?"
    assert question["body"].strip() == "1797 objects, 130 KiB."
    client.answer(APPROVAL, run_id, "approve", answer)

    assert client.wait_for_run(APPROVAL, run_id, seconds=PATIENCE) == "success"
    states = {task["task_id"]: task["state"] for task in client.task_instances(APPROVAL, run_id)}
    assert states["preload"] == state


def test_an_alarm_tells_in_time_that_a_dataset_will_be_late(client: AirflowClient) -> None:
    run_id = client.trigger(LATE)

    assert client.wait_for_run(LATE, run_id, seconds=PATIENCE) == "failed"
    log = client.task_log(LATE, run_id, "warm_slow")
    alarm, failure = log.find("ALARM: warm_slow will not be warm at 06:00"), log.find("PreheatDeadlineError")
    assert 0 < alarm < failure, log
