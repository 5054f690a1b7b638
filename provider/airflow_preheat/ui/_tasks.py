"""Which job a task instance has submitted, and with which connection: Airflow's database knows it."""

from __future__ import annotations

from dataclasses import dataclass

from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import select
from sqlalchemy.orm import Session

from airflow_preheat.links import JOB_URL_XCOM_KEY
from airflow_preheat.operators._job import JOB_ID_XCOM_KEY
from airflow_preheat.operators._many import JOB_IDS_XCOM_KEY


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskKey:
    """A task instance."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskJob:
    """The job of a task instance, or its jobs."""

    job_ids: tuple[str, ...]
    """One, or several of a task that loads many datasets."""
    url: str
    """The job's page; empty with several."""
    conn_id: str | None
    """``None`` if Airflow does not know it any more: it keeps the rendered fields of the last runs only."""


def task_job(key: TaskKey) -> TaskJob | None:
    """Return the job of a task instance; ``None`` if it has submitted none."""
    with create_session() as session:
        job_id, url, many = (
            _xcom(session, key, name) for name in (JOB_ID_XCOM_KEY, JOB_URL_XCOM_KEY, JOB_IDS_XCOM_KEY)
        )
        fields = _rendered_fields(session, key)
    if fields is not None and "preheat_conn_id" not in fields:  # of another provider
        return None
    conn_id = fields["preheat_conn_id"] if fields else None
    if isinstance(many, dict):
        job_ids = tuple(job_id for job_id in many.values() if isinstance(job_id, str))  # whoever may edit XComs may lie
        return TaskJob(job_ids=job_ids, url="", conn_id=conn_id)
    if isinstance(job_id, str) and isinstance(url, str):
        return TaskJob(job_ids=(job_id,), url=url, conn_id=conn_id)
    return None


def _xcom(session: Session, task: TaskKey, name: str) -> object:
    entry = session.scalar(
        select(XComModel).where(
            XComModel.dag_id == task.dag_id,
            XComModel.run_id == task.run_id,
            XComModel.task_id == task.task_id,
            XComModel.map_index == task.map_index,
            XComModel.key == name,
        )
    )
    return XComModel.deserialize_value(entry) if entry is not None else None


def _rendered_fields(session: Session, task: TaskKey) -> dict[str, str] | None:
    return session.scalar(
        select(RenderedTaskInstanceFields.rendered_fields).where(
            RenderedTaskInstanceFields.dag_id == task.dag_id,
            RenderedTaskInstanceFields.run_id == task.run_id,
            RenderedTaskInstanceFields.task_id == task.task_id,
            RenderedTaskInstanceFields.map_index == task.map_index,
        )
    )
