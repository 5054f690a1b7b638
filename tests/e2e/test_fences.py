"""Which jobs Airflow may cancel: real triggers are moved, cleared and killed while their jobs run.

Airflow calls a trigger's ``on_kill`` in each of these cases. One Airflow with two triggerers goes through all of
them at once; the jobs are too slow to end by themselves, and are let go when the last cancel has taken effect.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from demo import dataset
from preheat.client import Client
from testbed.airflow import AirflowStandalone
from testbed.airflow_client import poll
from testbed.local_cluster import LocalCluster
from testbed.s3 import SeaweedFS
from tests.e2e.runs import SECONDS, TASK, Run, fill, jobs_of, start, wait_for_jobs

ORPHAN = "orphan"
TIMEOUT = "timeout"
DATASETS = {name: name for name in ("cleared", "moved", "failed", "ended", "deleted")} | {
    "one_of_two": "both",
    "other_of_two": "both",
}
"""Which dataset each DAG warms."""
DAG_FILE = f"""
import os
import signal
from datetime import timedelta
from functools import cached_property

from airflow.sdk import DAG
from airflow_preheat.hooks import PreheatHook
from airflow_preheat.operators import PreloadOperator


class DyingHook(PreheatHook):
    def submit(self, *arguments):
        super().submit(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)


class DiesAfterSubmit(PreloadOperator):
    @cached_property
    def hook(self):
        return DyingHook(self.preheat_conn_id)


def preload(dag_id, dataset, operator=PreloadOperator, **arguments):
    with DAG(dag_id, schedule=None):
        operator(
            task_id="{TASK}",
            path=f"s3://{dataset.BUCKET}/fences/{{dataset}}/",
            bandwidth="8KiB",
            batch_size=1,
            verify=False,
            **arguments,
        )


for dag_id, dataset in {DATASETS}.items():
    preload(dag_id, dataset, deferrable=True)
preload("{ORPHAN}", "{ORPHAN}", DiesAfterSubmit, deferrable=True, lease=10.0)
preload("{TIMEOUT}", "{TIMEOUT}", deferrable=False, execution_timeout=timedelta(seconds=30))
"""


@pytest.fixture(scope="module")
def airflow(
    origin: SeaweedFS, cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AirflowStandalone]:
    fill(origin, {*DATASETS.values(), ORPHAN, TIMEOUT})
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
    runs = start(airflow, dict.fromkeys((*DATASETS, ORPHAN, TIMEOUT), cluster.url))
    others = {dag_id: runs.pop(dag_id) for dag_id in (ORPHAN, TIMEOUT)}
    wait_for_jobs(runs.values())

    client.clear("cleared", runs["cleared"].run_id, TASK)
    move_trigger(airflow, "moved")
    client.mark("one_of_two", runs["one_of_two"].run_id, TASK, "failed")
    for dag_id in ("cleared", "moved", "one_of_two"):
        runs[dag_id].wait_for_cancel()
    runs["cleared"].wait_for_trigger(try_number=2)
    runs["moved"].wait_for_trigger(triggers=2)

    client.mark("failed", runs["failed"].run_id, TASK, "failed")
    client.mark_run("ended", runs["ended"].run_id, "failed")
    client.delete_dag("deleted")
    for dag_id in ("failed", "ended", "deleted"):
        poll(lambda run=runs[dag_id]: run.job_state() == "STOPPED", seconds=SECONDS, what=f"{dag_id}'s grace")
    for run in runs.values():
        run.outlived_grace = run.job_state() == "RUNNING"
        run.let_go()
    return runs | others


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
    assert f"Going on with Preheat job {run.job_id}" in run.log(try_number=2)


def test_a_trigger_that_is_moved_leaves_its_job_to_the_next_triggerer(runs: dict[str, Run]) -> None:
    run = runs["moved"]

    assert run.outlived_grace
    assert run.outcome() == "success"
    assert run.tries() == 1


def test_a_task_that_is_marked_failed_while_deferred_stops_its_job_after_the_grace(runs: dict[str, Run]) -> None:
    run = runs["failed"]

    assert run.job_state() == "STOPPED"
    assert run.outcome() == "failed"
    run.wait_for_cancel()


def test_a_run_that_is_marked_failed_stops_the_job_of_its_task_after_the_grace(runs: dict[str, Run]) -> None:
    run = runs["ended"]

    assert run.job_state() == "STOPPED"
    assert run.outcome() == "failed"
    run.wait_for_cancel()


def test_a_dag_that_is_deleted_while_its_task_is_deferred_stops_the_job(runs: dict[str, Run]) -> None:
    assert runs["deleted"].job_state() == "STOPPED"


def test_a_worker_that_dies_after_its_submit_and_is_not_tried_again_leaves_no_orphan(runs: dict[str, Run]) -> None:
    run = runs[ORPHAN]
    (run.job_id,) = jobs_of(run.url, ORPHAN)

    assert run.outcome() == "failed"
    poll(lambda: run.job_state() == "STOPPED", seconds=SECONDS, what="the end of the lease")
    assert run.tries() == 1
    with Client(run.url) as client:
        assert "not heard of for 10 s" in client.job(run.job_id).reason


def test_the_execution_timeout_of_a_task_that_does_not_defer_stops_the_job(runs: dict[str, Run]) -> None:
    run = runs[TIMEOUT]

    assert run.outcome() == "failed"
    run.job_id = run.current_job_id()
    assert f"{run.job_id} was cancelled" in run.log()
    assert "AirflowTaskTimeout" in run.log()
    poll(lambda: run.job_state() == "STOPPED", seconds=SECONDS, what="the end of the grace")


def test_a_job_of_two_dags_outlives_the_task_of_one_of_them(runs: dict[str, Run]) -> None:
    killed, other = runs["one_of_two"], runs["other_of_two"]

    assert killed.job_id == other.job_id
    assert other.outlived_grace
    assert killed.outcome() == "failed"
    assert other.outcome() == "success"
    assert other.current_job_id() == other.job_id
