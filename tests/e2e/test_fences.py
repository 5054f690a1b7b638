"""Which jobs Airflow may cancel: real triggers are moved, cleared and killed while their jobs run.

Airflow calls a trigger's ``on_kill`` in each of these cases. One Airflow with two triggerers goes through all of
them at once; the jobs are too slow to end by themselves, and are let go when the last cancel has taken effect.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest
import requests

from demo import dataset
from preheat.client import Client
from testbed.airflow import AirflowStandalone
from testbed.airflow_client import AirflowClient, poll
from testbed.local_cluster import LocalCluster
from testbed.s3 import SeaweedFS

TASK = "warm"
SECONDS = 60.0
DATASETS = {"cleared": "cleared", "moved": "moved", "failed": "failed", "one_of_two": "both", "other_of_two": "both"}
"""Which dataset each DAG warms."""
DAG_FILE = f"""
from airflow.sdk import DAG
from airflow_preheat.operators import PreloadOperator

for dag_id, dataset in {DATASETS}.items():
    with DAG(dag_id, schedule=None):
        PreloadOperator(
            task_id="{TASK}",
            path=f"s3://{dataset.BUCKET}/fences/{{dataset}}/",
            bandwidth="8KiB",
            batch_size=1,
            verify=False,
            deferrable=True,
        )
"""


@dataclass(kw_only=True)
class Run:
    """A run of one of the DAGs, and the job that its task waits for."""

    airflow: AirflowStandalone
    client: AirflowClient
    cluster: LocalCluster
    dag_id: str
    run_id: str
    job_id: str = ""
    outlived_grace: bool = False

    def wait_for_trigger(self, *, try_number: int = 1, triggers: int = 1) -> None:
        """Wait until so many triggers have claimed the job for a try."""
        poll(
            lambda: sum("is RUNNING" in log for log in self.trigger_logs(try_number)) >= triggers,
            seconds=SECONDS,
            what=f"the trigger of {self.dag_id}, try {try_number}",
        )

    def wait_for_cancel(self) -> None:
        """Wait until the trigger of the first try has cancelled the job."""
        poll(
            lambda: any(f"{self.job_id} was cancelled" in log for log in self.trigger_logs(1)),
            seconds=SECONDS,
            what=f"the cancel of {self.dag_id}'s first trigger",
        )

    def trigger_logs(self, try_number: int) -> list[str]:
        """Return what a try has logged in each triggerer."""
        folder = self.airflow.home / "logs" / f"dag_id={self.dag_id}" / f"run_id={self.run_id}" / f"task_id={TASK}"
        return [log.read_text() for log in folder.glob(f"attempt={try_number}.log.trigger.*")]

    def current_job_id(self) -> str:
        return str(self.client.xcom(self.dag_id, self.run_id, TASK, key="job_id"))

    def job_state(self) -> str:
        with Client(self.cluster.url) as client:
            return client.job(self.job_id).state

    def let_go(self) -> None:
        """Lift the limit of a job, so that it ends; one that has ended refuses."""
        requests.patch(f"{self.cluster.url}/v1/jobs/{self.job_id}", json={"bandwidth": None}, timeout=SECONDS)

    def outcome(self) -> str:
        return self.client.wait_for_run(self.dag_id, self.run_id, seconds=SECONDS)


@pytest.fixture(scope="module")
def airflow(
    origin: SeaweedFS, cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AirflowStandalone]:
    s3 = origin.client()
    for name in set(DATASETS.values()):
        for number in range(40):
            s3.put_object(Bucket=dataset.BUCKET, Key=f"fences/{name}/{number}", Body=bytes(64 * 2**10))
    home = tmp_path_factory.mktemp("airflow")
    dags = tmp_path_factory.mktemp("dags")
    (dags / "fences.py").write_text(DAG_FILE)
    with (
        AirflowStandalone(home=home, dags_folder=dags, variables=cluster.airflow_variables) as standalone,
        standalone.another_triggerer(),
    ):
        yield standalone


@pytest.fixture(scope="module")
def runs(airflow: AirflowStandalone, cluster: LocalCluster) -> dict[str, Run]:
    """The runs, some time after Airflow has cancelled the job of each."""
    client = airflow.client()
    runs = start(airflow, client, cluster)

    client.clear("cleared", runs["cleared"].run_id, TASK)
    move_trigger(airflow, "moved")
    client.mark("one_of_two", runs["one_of_two"].run_id, TASK, "failed")
    for dag_id in ("cleared", "moved", "one_of_two"):
        runs[dag_id].wait_for_cancel()
    runs["cleared"].wait_for_trigger(try_number=2)
    runs["moved"].wait_for_trigger(triggers=2)

    client.mark("failed", runs["failed"].run_id, TASK, "failed")
    poll(lambda: runs["failed"].job_state() == "STOPPED", seconds=SECONDS, what="the grace of the last cancel")
    for run in runs.values():
        run.outlived_grace = run.job_state() == "RUNNING"
        run.let_go()
    return runs


def start(airflow: AirflowStandalone, client: AirflowClient, cluster: LocalCluster) -> dict[str, Run]:
    """Start a run of every DAG, and wait until a trigger has claimed the job of each."""
    client.wait_for_dags(*DATASETS)
    runs: dict[str, Run] = {}
    for dag_id in DATASETS:
        client.unpause(dag_id)
        run_id = client.trigger(dag_id)
        runs[dag_id] = Run(airflow=airflow, client=client, cluster=cluster, dag_id=dag_id, run_id=run_id)
    for run in runs.values():
        run.wait_for_trigger()
        run.job_id = run.current_job_id()
    return runs


def move_trigger(airflow: AirflowStandalone, dag_id: str) -> None:
    """Give the trigger of a deferred task to the other triggerer, as Airflow does after a late heartbeat."""
    find_trigger = "SELECT t.id, t.triggerer_id FROM trigger t JOIN task_instance i ON i.trigger_id = t.id"
    find_other = "SELECT id FROM job WHERE job_type = 'TriggererJob' AND state = 'running' AND id != ?"
    with closing(sqlite3.connect(airflow.home / "airflow.db", timeout=SECONDS)) as database:
        trigger, triggerer = database.execute(f"{find_trigger} WHERE i.dag_id = ?", (dag_id,)).fetchone()
        (other,) = poll(
            lambda: database.execute(find_other, (triggerer,)).fetchone(), seconds=SECONDS, what="another triggerer"
        )
        with database:
            database.execute("UPDATE trigger SET triggerer_id = ? WHERE id = ?", (other, trigger))


def test_a_task_that_is_cleared_while_deferred_attaches_to_its_job_again(runs: dict[str, Run]) -> None:
    run = runs["cleared"]

    assert run.outlived_grace
    assert run.outcome() == "success"
    assert run.current_job_id() == run.job_id
    assert f"Going on with Preheat job {run.job_id}" in run.client.task_log(run.dag_id, run.run_id, TASK, try_number=2)


def test_a_trigger_that_is_moved_leaves_its_job_to_the_next_triggerer(runs: dict[str, Run]) -> None:
    run = runs["moved"]

    assert run.outlived_grace
    assert run.outcome() == "success"
    assert [task["try_number"] for task in run.client.task_instances(run.dag_id, run.run_id)] == [1]


def test_a_task_that_is_marked_failed_while_deferred_stops_its_job_after_the_grace(runs: dict[str, Run]) -> None:
    run = runs["failed"]

    assert run.job_state() == "STOPPED"
    assert run.outcome() == "failed"
    run.wait_for_cancel()


def test_a_job_of_two_dags_outlives_the_task_of_one_of_them(runs: dict[str, Run]) -> None:
    killed, other = runs["one_of_two"], runs["other_of_two"]

    assert killed.job_id == other.job_id
    assert other.outlived_grace
    assert killed.outcome() == "failed"
    assert other.outcome() == "success"
    assert other.current_job_id() == other.job_id
