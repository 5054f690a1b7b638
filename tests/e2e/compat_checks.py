"""What must hold in every environment that the provider is installed in: ``python -P tests/e2e/compat_checks.py …``.

``modules`` imports each and validates the metadata; ``dag DAG_ID FILE`` runs a DAG and writes what came of it. It runs
without the rest of the tests, which these environments cannot import.
"""

from __future__ import annotations

import json
import pkgutil
import sys
from importlib import import_module
from importlib.resources import files
from pathlib import Path

import airflow
import jsonschema
from airflow.models.asset import AssetEvent
from airflow.models.xcom import XComModel
from airflow.utils.cli import get_bagged_dag
from airflow.utils.session import create_session
from sqlalchemy import select

import airflow_preheat
from airflow_preheat.get_provider_info import get_provider_info

OF_EXTRAS = {"airflow_preheat._fluid_client"}
"""Modules that need what an extra of the provider installs."""


def check_modules() -> None:
    """Import every module, compare the provider's metadata with the schema of this Airflow, and print its version."""
    for module in pkgutil.walk_packages(airflow_preheat.__path__, "airflow_preheat."):
        if module.name not in OF_EXTRAS:
            import_module(module.name)
    schema = json.loads((files(airflow) / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)
    print(airflow.__version__)  # noqa: T201 - its answer


def run_dag(dag_id: str, result: str) -> None:
    """Run a DAG by ``dag.test()``; write the states of its tasks, what they returned, and its Asset events."""
    run = get_bagged_dag(bundle_names=None, dag_id=dag_id).test()
    with create_session() as session:
        xcoms = session.scalars(
            select(XComModel).where(XComModel.run_id == run.run_id, XComModel.key == "return_value")
        ).all()
        outcome = {
            "tasks": {task.task_id: str(task.state) for task in run.get_task_instances(session=session)},
            "xcoms": {xcom.task_id: XComModel.deserialize_value(xcom) for xcom in xcoms},
            "events": list(session.scalars(select(AssetEvent.extra).where(AssetEvent.source_run_id == run.run_id))),
        }
    Path(result).write_text(json.dumps(outcome))


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    {"modules": check_modules, "dag": run_dag}[command](*arguments)
