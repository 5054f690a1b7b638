"""The process of one ``dag.test()``: ``python -m testbed.dag_test DAG_ID CONF_JSON RESULT_FILE``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from airflow.models.asset import AssetEvent, AssetModel
from airflow.models.dagrun import DagRun
from airflow.models.xcom import XComModel
from airflow.utils.cli import get_bagged_dag
from airflow.utils.session import create_session
from sqlalchemy import select


def main(dag_id: str, conf: str, result: str) -> None:
    """Run the DAG and write what came of it as JSON."""
    dag = get_bagged_dag(bundle_names=None, dag_id=dag_id)
    run = dag.test(run_conf=json.loads(conf))
    Path(result).write_text(json.dumps(outcome(run)))


def outcome(run: DagRun) -> dict[str, Any]:
    """Return the states, the returned values and the Asset events of a run."""
    with create_session() as session:
        events = session.execute(
            select(AssetModel.uri, AssetEvent.extra)
            .join(AssetModel, AssetModel.id == AssetEvent.asset_id)
            .where(AssetEvent.source_dag_id == run.dag_id, AssetEvent.source_run_id == run.run_id)
        )
        xcoms = session.scalars(
            select(XComModel).where(
                XComModel.dag_id == run.dag_id, XComModel.run_id == run.run_id, XComModel.key == "return_value"
            )
        )
        return {
            "state": str(run.state),
            "tasks": {task.task_id: str(task.state) for task in run.get_task_instances(session=session)},
            "xcoms": {xcom.task_id: XComModel.deserialize_value(xcom) for xcom in xcoms},
            "asset_events": dict(events.all()),
        }


if __name__ == "__main__":
    main(*sys.argv[1:])
