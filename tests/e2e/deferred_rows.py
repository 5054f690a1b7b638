"""Deferred tasks without the work of deferring them: ``python -m tests.e2e.deferred_rows JOBS_FILE [TRIGGERS]``.

Starts a run of the DAG ``deferred``, whose one task is mapped as often as the JSON list has jobs, and writes for each
task instance what a worker writes when it defers: its trigger. Runs with Airflow's environment, for a triggerer that
is started afterwards. TRIGGERS are ``preheat`` or, to compare with, ``airflow``: Airflow's own that wait for a time.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from airflow.models.dagbag import DBDagBag
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.triggers.base import BaseTrigger
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from pendulum import now
from sqlalchemy.orm import Session

from airflow_preheat.triggers import PreloadTrigger

DAG_ID = "deferred"
TASK_ID = "warm"
RUN_ID = "manual__1"


def main(jobs_file: str, triggers: str = "preheat") -> None:
    """Write the rows."""
    with create_session() as session:
        job_ids = json.loads(Path(jobs_file).read_text())
        for instance in create_run(session).get_task_instances(session=session):
            preload = triggers == "preheat"
            trigger = preload_trigger(instance, job_ids[instance.map_index]) if preload else waiting_trigger()
            defer(instance, trigger, session)


def create_run(session: Session) -> DagRun:
    """Start a run of the DAG, which the DAG processor has read."""
    dag = DBDagBag().get_latest_version_of_dag(DAG_ID, session=session)
    assert dag is not None, "run `airflow dags reserialize` first"
    return dag.create_dagrun(
        run_id=RUN_ID,
        run_after=now("UTC"),
        run_type=DagRunType.MANUAL,
        triggered_by=DagRunTriggeredByType.TEST,
        state=DagRunState.RUNNING,
        session=session,
    )


def preload_trigger(instance: TaskInstance, job_id: str) -> BaseTrigger:
    """Return what ``PreloadOperator`` defers to."""
    return PreloadTrigger(
        job_id=job_id,
        waiter=f"{DAG_ID}/{RUN_ID}/{TASK_ID}/{instance.map_index}",
        preheat_conn_id="preheat_default",
        deadline=time.time() + 3600,
        poll_interval=20.0,
        outage_tolerance=300.0,
        cancel_on_kill=True,
    )


def waiting_trigger() -> BaseTrigger:
    """Return a trigger that does next to nothing."""
    return DateTimeTrigger(now("UTC").add(hours=1))


def defer(instance: TaskInstance, trigger: BaseTrigger, session: Session) -> None:
    """Let a task instance wait."""
    row = Trigger.from_object(trigger)
    session.add(row)
    session.flush()
    instance.try_number = 1
    instance.state = TaskInstanceState.DEFERRED
    instance.trigger_id = row.id
    instance.next_method = "execute_complete"
    instance.start_date = now("UTC")


if __name__ == "__main__":
    main(*sys.argv[1:])
