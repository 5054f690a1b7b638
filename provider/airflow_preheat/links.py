"""Buttons on the page of a task instance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import BaseOperator, BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk.types import TaskInstanceKey  # Airflow 3.1 has it elsewhere

JOB_URL_XCOM_KEY = "job_url"
"""Where the operators leave the job's page as soon as the job exists."""


class PreheatJobLink(BaseOperatorLink):
    """Links a task instance to its job's page on the coordinator's dashboard."""

    name = "Preheat job"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 - Airflow's signature
        """Return the job's URL, or an empty string if the task submitted none."""
        from airflow.sdk.execution_time.xcom import XCom  # noqa: PLC0415 - DAG files and every Airflow process import this module

        return XCom.get_value(ti_key=ti_key, key=JOB_URL_XCOM_KEY) or ""
