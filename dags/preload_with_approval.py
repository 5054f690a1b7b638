"""Loads what somebody asks for; above a size, only if somebody else agrees.

Press **Trigger** and fill in the form. A dry run tells the size: it lists the dataset, and loads nothing. Whoever
may answer finds the question under **Required Actions**.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, Param, task

from airflow_preheat.hooks import PreheatHook
from airflow_preheat.jobs import as_bytes, human_size
from airflow_preheat.operators import PreloadOperator


@task
def estimate(*, params: dict[str, Any]) -> dict[str, Any]:
    """Return what the load would take."""
    answer = PreheatHook().estimate(params["path"])
    return {name: answer[name] for name in ("objects", "bytes", "fits")} | {"size": human_size(answer["bytes"])}


@task.branch
def ask_if_large(load: dict[str, Any], *, params: dict[str, Any]) -> str:
    """Go on without asking if it is small and there is room for it."""
    small = load["fits"] and load["bytes"] <= as_bytes("ask_above", params["ask_above"])
    return "preload" if small else "approve"


with DAG(
    dag_id="preload_with_approval",
    schedule=None,
    params={
        "path": Param("s3://datasets/digits/", type="string", title="Path", description="What to load."),
        "ask_above": Param("10TiB", type="string", title="Ask above", description="A size, such as 500GiB."),
    },
    doc_md=__doc__,
    tags=["preheat"],
):
    approve = ApprovalOperator(
        task_id="approve",
        subject="Load {{ params.path }}?",
        body="""{% set load = ti.xcom_pull('estimate') -%}
{{ load.objects }} objects, {{ load.size }}. {{ '' if load.fits else 'It does not fit beside what is cached.' }}""",
        defaults="Reject",
        response_timeout=timedelta(hours=12),
    )
    # One of the two tasks before it is skipped or was not asked.
    preload = PreloadOperator(
        task_id="preload", path="{{ params.path }}", trigger_rule="none_failed_min_one_success", retries=3
    )
    ask_if_large(estimate()) >> [approve, preload]
    approve >> preload
