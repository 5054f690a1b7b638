"""What dies while tasks wait: workers, triggerers, the coordinator, its state; and what does not end in time.

One Airflow goes through all of it, in the order of the fixtures. Jobs of 40 objects of 64 KiB are held back to 8 KiB a
second each, so that they are running whenever something dies, and are let go afterwards.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from demo import dataset
from preheat.client import Client
from preheat.jobs import JobSpec
from preheat.reports import JobReport
from testbed.airflow import AirflowStandalone
from testbed.airflow_client import AirflowClient, poll
from testbed.local_cluster import LocalCluster
from testbed.s3 import SeaweedFS
from tests.e2e.control_plane import ControlPlane, control_plane
from tests.e2e.runs import SECONDS, TASK, Run, change_database, fill, jobs_of, start, wait_for_jobs

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

OUTAGE_SECONDS = 60.0
DEAD_WORKERS = ("dies_after_submit", "dies_before_deferral")
LATE = ("deadline", "execution_timeout", "no_triggerer")
ON_LOCAL_CLUSTER = ("survivor", *DEAD_WORKERS, *LATE)
OUTAGES = ("outage", "outage_in_worker")
LOST = ("lost_fails", "lost_is_resubmitted")
_UNTIL_ENDED = 2**31 - 1
_WATCHER_STARTS = re.compile(r"trigger ID \d+ starting")
WATCHED = f"s3://{dataset.BUCKET}/fences/watched/"
DAG_FILE = f"""
import os
import signal
from datetime import timedelta
from functools import cached_property

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset, AssetWatcher, get_current_context

from airflow_preheat.hooks import PreheatHook
from airflow_preheat.operators import PreloadOperator
from airflow_preheat.triggers import DatasetWarmTrigger


def die_in_first_try():
    if get_current_context()["ti"].try_number == 1:
        os.kill(os.getpid(), signal.SIGKILL)


class DyingHook(PreheatHook):
    def submit(self, *arguments):
        job = super().submit(*arguments)
        die_in_first_try()
        return job


class DiesAfterSubmit(PreloadOperator):
    @cached_property
    def hook(self):
        return DyingHook(self.preheat_conn_id)


class DiesBeforeDeferral(PreloadOperator):
    def defer(self, **arguments):
        die_in_first_try()
        super().defer(**arguments)


def preload(dag_id, operator=PreloadOperator, **arguments):
    slow = {{"bandwidth": "8KiB", "batch_size": 1, "verify": False, "poll_interval": 5.0}}
    with DAG(dag_id, schedule=None):
        operator(task_id="{TASK}", path=f"s3://{dataset.BUCKET}/fences/{{dag_id}}/", **slow, **arguments)


AGAIN = {{"retries": 1, "retry_delay": timedelta(seconds=1)}}
PLANE = {{"preheat_conn_id": "preheat_plane"}}
preload("survivor")
preload("dies_after_submit", DiesAfterSubmit, **AGAIN)
preload("dies_before_deferral", DiesBeforeDeferral, **AGAIN)
preload("deadline", deadline=timedelta(seconds=40))
preload("execution_timeout", execution_timeout=timedelta(seconds=40))
preload("no_triggerer")
preload("outage", **PLANE)
preload("outage_in_worker", deferrable=False, **PLANE)
preload("lost_fails", on_lost="fail", **PLANE)
preload("lost_is_resubmitted", **PLANE)

watcher = AssetWatcher(name="watched", trigger=DatasetWarmTrigger(path="{WATCHED}", poll_interval=1.0, **PLANE))
with DAG("watches", schedule=[Asset("preheat://{dataset.BUCKET}/fences/watched", watchers=[watcher])]):
    EmptyOperator(task_id="train")
"""


@pytest.fixture(scope="module")
def plane(origin: SeaweedFS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("plane"), environment=origin.environment()) as running:
        yield running


@pytest.fixture(scope="module")
def airflow(
    origin: SeaweedFS, cluster: LocalCluster, plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AirflowStandalone]:
    fill(origin, [*ON_LOCAL_CLUSTER, *OUTAGES, *LOST])
    fill(origin, ["survivor"], objects=400)
    dags = tmp_path_factory.mktemp("dags")
    (dags / "crashes.py").write_text(DAG_FILE)
    variables = cluster.airflow_variables | {
        "AIRFLOW_CONN_PREHEAT_PLANE": plane.connection,
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
    }
    home = tmp_path_factory.mktemp("airflow")
    with AirflowStandalone(home=home, dags_folder=dags, variables=variables) as standalone:
        try:
            yield standalone
        finally:
            standalone.kill_triggerers()


@pytest.fixture(scope="module")
def runs(airflow: AirflowStandalone, cluster: LocalCluster, plane: ControlPlane) -> dict[str, Run]:
    """The runs, each as soon as its job is waited for in the triggerer, or in a worker."""
    urls = dict.fromkeys(ON_LOCAL_CLUSTER, cluster.url) | dict.fromkeys(OUTAGES, plane.coordinator.url)
    runs = start(airflow, urls)
    for dag_id in DEAD_WORKERS:
        runs[dag_id].wait_for_trigger(try_number=2)
        runs[dag_id].job_id = runs[dag_id].current_job_id()
    deferred = set(runs) - {*DEAD_WORKERS, "outage_in_worker"}
    wait_for_jobs(runs[dag_id] for dag_id in deferred)
    in_worker = runs["outage_in_worker"]
    poll(lambda: "is RUNNING" in in_worker.log(), seconds=SECONDS, what="the task that waits in a worker")
    in_worker.job_id = in_worker.current_job_id()
    return runs


@pytest.fixture(scope="module")
def outage(airflow: AirflowStandalone, plane: ControlPlane, runs: dict[str, Run]) -> dict[str, list[str]]:
    """The coordinator was away for a minute: the jobs that there are of each dataset when all of it is over."""
    gone_at = time.monotonic()
    plane.coordinator.kill()
    for dag_id in OUTAGES:
        run = runs[dag_id]
        poll(lambda run=run: "Trying again" in run.all_logs(), seconds=SECONDS, what=f"{dag_id} to notice")
    change_database(  # as if its deadline had passed, and no triggerer had been there to see it
        airflow,
        "UPDATE task_instance SET trigger_timeout = '2020-01-01 00:00:00.000000' WHERE dag_id = ?",
        "no_triggerer",
    )
    time.sleep(max(0.0, gone_at + OUTAGE_SECONDS - time.monotonic()))
    plane.coordinator.start()
    plane.wait_ready()
    for dag_id in OUTAGES:
        runs[dag_id].let_go()
        assert runs[dag_id].outcome() == "success", runs[dag_id].log()
    return {dag_id: jobs_of(runs[dag_id].url, dag_id) for dag_id in OUTAGES}


@pytest.fixture(scope="module")
def loss(
    airflow: AirflowStandalone, plane: ControlPlane, runs: dict[str, Run], outage: dict[str, list[str]]
) -> dict[str, str]:
    """The state of the cluster was lost: the jobs that their tasks had waited for."""
    assert outage
    runs |= (lost := start(airflow, dict.fromkeys(LOST, plane.coordinator.url)))
    wait_for_jobs(lost.values())
    job_ids = {dag_id: run.job_id for dag_id, run in lost.items()}
    plane.lose_state()
    return job_ids


@pytest.fixture(scope="module")
def versions(
    airflow: AirflowStandalone,
    origin: SeaweedFS,
    plane: ControlPlane,
    runs: dict[str, Run],
    loss: dict[str, str],
) -> Iterator[list[str]]:
    """The versions of a dataset that became warm: one before, and one during or after each of three crashes."""
    resubmitted(runs, loss).let_go()  # so that nothing is slow there any more
    client = airflow.client()
    client.unpause("watches")
    versions = [load_watched(origin, plane, 1)]
    wait_for_runs(client, 1)
    with ExitStack() as stack:
        for crash in (1, 2, 3):
            airflow.kill_triggerers()
            if crash == 2:  # while there is no triggerer
                versions.append(load_watched(origin, plane, crash + 1))
            stack.enter_context(airflow.another_triggerer())
            runs["survivor"].wait_for_trigger(triggers=crash + 1)
            wait_for_watcher(airflow.home / "triggerer.log", starts=crash)
            if crash != 2:
                versions.append(load_watched(origin, plane, crash + 1))
            wait_for_runs(client, crash + 1)
        yield versions


def resubmitted(runs: dict[str, Run], loss: dict[str, str]) -> Run:
    """Return the run whose lost job was submitted again, as soon as it was."""
    run = runs["lost_is_resubmitted"]
    poll(lambda: run.current_job_id() != loss[run.dag_id], seconds=SECONDS, what="another job")
    run.job_id = run.current_job_id()
    return run


def load_watched(origin: SeaweedFS, plane: ControlPlane, number: int) -> str:
    """Warm another version of the dataset that is watched; return it."""
    origin.client().put_object(Bucket=dataset.BUCKET, Key=f"fences/watched/{number}", Body=bytes(number))
    with Client(plane.coordinator.url) as client:
        job = client.submit(JobSpec(paths=(WATCHED,)))
        ended = poll(lambda: _ended(client.job(job.id, wait=30, after=_UNTIL_ENDED)), seconds=SECONDS, what="the load")
    assert ended.state == "SUCCEEDED", ended
    return str(ended.dataset_version)


def _ended(job: JobReport) -> JobReport | None:
    return job if job.state.ended else None


def wait_for_runs(client: AirflowClient, count: int) -> None:
    poll(
        lambda: len(client.triggering_events("watches")) >= count,
        seconds=SECONDS,
        what=f"run {count} of what watches",
    )


def wait_for_watcher(log: Path, *, starts: int) -> None:
    """Wait until the trigger of the watcher, which has no task, has been started so often."""
    poll(lambda: len(_WATCHER_STARTS.findall(log.read_text())) >= starts, seconds=SECONDS, what=f"start {starts}")


@pytest.mark.parametrize("dag_id", DEAD_WORKERS)
def test_a_worker_that_dies_before_its_task_is_deferred_leaves_its_job_to_the_next_try(
    runs: dict[str, Run], dag_id: str
) -> None:
    run = runs[dag_id]  # whose second trigger has seen its job running
    run.let_go()

    assert run.outcome() == "success"
    assert run.tries() == 2
    assert jobs_of(run.url, dag_id) == [run.job_id]


@pytest.mark.parametrize(
    ("dag_id", "message"),
    [
        ("deadline", "had not ended by the task's deadline"),
        ("execution_timeout", "had not ended by the task's deadline"),
        ("no_triggerer", "TaskDeferralTimeout"),
    ],
)
@pytest.mark.usefixtures("outage")
def test_a_job_that_does_not_end_in_time_is_cancelled_and_its_task_says_so(
    runs: dict[str, Run], dag_id: str, message: str
) -> None:
    run = runs[dag_id]

    assert run.outcome() == "failed"
    assert message in run.log()
    assert f"{run.job_id} was cancelled" in run.log()
    poll(lambda: run.job_state() == "STOPPED", seconds=SECONDS, what="the end of the grace")


@pytest.mark.parametrize("dag_id", OUTAGES)
def test_a_coordinator_that_is_away_for_a_minute_is_waited_for(
    runs: dict[str, Run], outage: dict[str, list[str]], dag_id: str
) -> None:
    run = runs[dag_id]

    assert run.outcome() == "success"
    assert run.tries() == 1
    assert outage[dag_id] == [run.job_id]


def test_a_lost_job_fails_the_task_if_it_is_told_so(runs: dict[str, Run], loss: dict[str, str]) -> None:
    run = runs["lost_fails"]

    assert run.outcome() == "failed"
    assert "PreheatJobNotFoundError" in run.log()
    assert loss["lost_fails"] in run.log()


def test_a_lost_job_is_submitted_again_in_the_same_try(runs: dict[str, Run], loss: dict[str, str]) -> None:
    run = resubmitted(runs, loss)
    run.let_go()

    assert run.outcome() == "success"
    assert run.tries() == 1
    assert "It is submitted again" in run.log()
    assert jobs_of(run.url, run.dag_id) == [run.job_id]


@pytest.mark.usefixtures("versions")
def test_a_deferred_task_outlives_three_triggerers_with_one_job(runs: dict[str, Run]) -> None:
    run = runs["survivor"]
    assert run.job_state() == "RUNNING"
    run.let_go()

    assert run.outcome() == "success"
    assert run.tries() == 1
    assert jobs_of(run.url, run.dag_id) == [run.job_id]


def test_a_watcher_starts_one_run_for_each_version_across_three_triggerers(
    airflow: AirflowStandalone, versions: list[str]
) -> None:
    events = airflow.client().triggering_events("watches")

    assert [event["extra"]["payload"]["dataset_version"] for event in events] == versions
    assert len(set(versions)) == 4
