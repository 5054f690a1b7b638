"""Which job a task instance has submitted, and with which connection: Airflow's database knows it."""

from __future__ import annotations

from dataclasses import dataclass

from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import select
from sqlalchemy.orm import Session

from airflow_preheat._endpoint import DEFAULT_CONN_ID
from airflow_preheat.operators._job import JOB_ID_XCOM_KEY

_NOT_MAPPED = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskJob:
    """The job of a task instance."""

    job_id: str
    conn_id: str


def task_job(dag_id: str, run_id: str, task_id: str, map_index: str) -> TaskJob | None:
    """Return the job of a task instance; ``None`` if it has submitted none.

    ``map_index`` is a text: Airflow's UI leaves the placeholder in its place if the task is not mapped.
    """
    index = int(map_index) if map_index.isdecimal() else _NOT_MAPPED
    with create_session() as session:
        job_id = _job_id(session, dag_id, run_id, task_id, index)
        if job_id is None:
            return None
        return TaskJob(job_id=job_id, conn_id=_conn_id(session, dag_id, run_id, task_id, index))


def _job_id(session: Session, dag_id: str, run_id: str, task_id: str, map_index: int) -> str | None:
    entry = session.scalar(
        select(XComModel).where(
            XComModel.dag_id == dag_id,
            XComModel.run_id == run_id,
            XComModel.task_id == task_id,
            XComModel.map_index == map_index,
            XComModel.key == JOB_ID_XCOM_KEY,
        )
    )
    job_id = XComModel.deserialize_value(entry) if entry is not None else None
    return job_id if isinstance(job_id, str) else None


def _conn_id(session: Session, dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    """Return the connection that the task's template fields name; of old runs these are not kept."""
    fields = session.scalar(
        select(RenderedTaskInstanceFields.rendered_fields).where(
            RenderedTaskInstanceFields.dag_id == dag_id,
            RenderedTaskInstanceFields.run_id == run_id,
            RenderedTaskInstanceFields.task_id == task_id,
            RenderedTaskInstanceFields.map_index == map_index,
        )
    )
    return str((fields or {}).get("preheat_conn_id") or DEFAULT_CONN_ID)
