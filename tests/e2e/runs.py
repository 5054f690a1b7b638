"""Runs of DAGs with one task that waits for a job: what tests that kill things have in common."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus

import requests

from demo import dataset
from preheat.client import Client
from testbed.airflow import AirflowStandalone
from testbed.airflow_client import AirflowClient, poll
from testbed.s3 import SeaweedFS

TASK = "warm"
SECONDS = 300.0


@dataclass(kw_only=True)
class Run:
    """A run of a DAG, and the job that its task waits for."""

    airflow: AirflowStandalone
    client: AirflowClient
    url: str
    """The coordinator's."""
    dag_id: str
    run_id: str
    job_id: str = ""
    outlived_grace: bool = False

    def wait_for_trigger(self, *, try_number: int = 1, triggers: int = 1) -> None:
        """Wait until so many triggers have claimed the job for a try."""
        poll(
            lambda: self.claims(try_number) >= triggers,
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

    def claims(self, try_number: int) -> int:
        """Return how many triggers have seen that the job runs."""
        return sum("is RUNNING" in log for log in self.trigger_logs(try_number))

    def trigger_logs(self, try_number: int) -> list[str]:
        """Return what a try has logged in each triggerer."""
        folder = self.airflow.home / "logs" / f"dag_id={self.dag_id}" / f"run_id={self.run_id}" / f"task_id={TASK}"
        return [log.read_text() for log in folder.glob(f"attempt={try_number}.log.trigger.*")]

    def current_job_id(self) -> str:
        """Return the job that the task has told of last."""
        return str(self.client.xcom(self.dag_id, self.run_id, TASK, key="job_id"))

    def job_state(self) -> str:
        """Return the state of the job."""
        with Client(self.url) as client:
            return client.job(self.job_id).state

    def let_go(self) -> None:
        """Lift the limit of the job, so that it ends; one that has ended refuses."""
        answer = requests.patch(f"{self.url}/v1/jobs/{self.job_id}", json={"bandwidth": None}, timeout=SECONDS)
        assert answer.ok or answer.status_code == HTTPStatus.CONFLICT, answer.text

    def outcome(self) -> str:
        """Return the state in which the run has ended."""
        return self.client.wait_for_run(self.dag_id, self.run_id, seconds=SECONDS)

    def log(self, *, try_number: int = 1) -> str:
        """Return the log of a try of the task."""
        return self.client.task_log(self.dag_id, self.run_id, TASK, try_number=try_number)

    def all_logs(self) -> str:
        """Return what the first try has logged so far, in workers and in triggerers."""
        return "\n".join([self.log(), *self.trigger_logs(1)])

    def tries(self) -> int:
        """Return how often the task was tried."""
        (task,) = self.client.task_instances(self.dag_id, self.run_id)
        return int(task["try_number"])


def start(airflow: AirflowStandalone, urls: dict[str, str]) -> dict[str, Run]:
    """Start a run of each DAG; ``urls`` has the coordinator of each."""
    client = airflow.client()
    client.wait_for_dags(*urls, seconds=SECONDS)
    runs: dict[str, Run] = {}
    for dag_id, url in urls.items():
        client.unpause(dag_id)
        run_id = client.trigger(dag_id)
        runs[dag_id] = Run(airflow=airflow, client=client, url=url, dag_id=dag_id, run_id=run_id)
    return runs


def wait_for_jobs(runs: Iterable[Run]) -> None:
    """Wait until a trigger has claimed the job of each run, and note the job."""
    for run in runs:
        run.wait_for_trigger()
        run.job_id = run.current_job_id()


def fill(origin: SeaweedFS, names: Iterable[str], *, objects: int = 40) -> None:
    """Put datasets at the origin, of objects that at 8 KiB a second keep one of a worker's two slots for 8 s each."""
    s3 = origin.client()
    keys = [f"fences/{name}/{number}" for name in names for number in range(objects)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: s3.put_object(Bucket=dataset.BUCKET, Key=key, Body=bytes(64 * 2**10)), keys))


def jobs_of(url: str, name: str) -> list[str]:
    """Return the ids of all jobs that there have ever been of a dataset."""
    query = {"path": f"s3://{dataset.BUCKET}/fences/{name}/"}
    answer = requests.get(f"{url}/v1/jobs", params=query, timeout=SECONDS)
    answer.raise_for_status()
    return [job["id"] for job in answer.json()["jobs"]]


def change_database(airflow: AirflowStandalone, statement: str, *values: object) -> None:
    """Change a row of Airflow's database behind its back."""
    with closing(sqlite3.connect(airflow.home / "airflow.db", timeout=SECONDS)) as database, database:
        assert database.execute(statement, values).rowcount == 1
