"""The process of ``dag.test()`` runs, one after the other: ``python -m testbed.dag_test RUNS_JSON RESULTS_FILE``.

Airflow takes seconds to be imported, so one process does many runs. RUNS_JSON is a list of ``[dag_id, conf]``.
"""

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

from testbed.airflow import END_OF_RUN


def main(runs: str, results: str) -> None:
    """Run the DAGs and write what came of them as JSON."""
    outcomes = []
    for dag_id, conf in json.loads(runs):
        dag = get_bagged_dag(bundle_names=None, dag_id=dag_id)
        outcomes.append(outcome(dag.test(run_conf=conf)))
        sys.stderr.flush()
        print(END_OF_RUN, flush=True)  # noqa: T201 - for the process that reads the log
    Path(results).write_text(json.dumps(outcomes))


def outcome(run: DagRun) -> dict[str, Any]:
    """Return the states, the returned values and the Asset events of a run."""
    with create_session() as session:
        events = session.execute(
            select(AssetModel.uri, AssetEvent)
            .join(AssetModel, AssetModel.id == AssetEvent.asset_id)
            .where(AssetEvent.source_dag_id == run.dag_id, AssetEvent.source_run_id == run.run_id)
        ).all()
        xcoms = session.scalars(
            select(XComModel).where(
                XComModel.dag_id == run.dag_id, XComModel.run_id == run.run_id, XComModel.key == "return_value"
            )
        )
        return {
            "state": str(run.state),
            "tasks": {name(task): str(task.state) for task in run.get_task_instances(session=session)},
            "xcoms": {name(xcom): XComModel.deserialize_value(xcom) for xcom in xcoms},
            "asset_events": {uri: event.extra for uri, event in events},
            "partitions": {uri: [partition(each) for other, each in events if other == uri] for uri, _ in events},
        }


def name(of: Any) -> str:
    """Return the task of a task instance or of an XCom; of a mapped one, ``task[0]``."""
    return of.task_id if of.map_index < 0 else f"{of.task_id}[{of.map_index}]"


def partition(event: AssetEvent) -> str | None:
    """Return the partition of an Asset event; Airflow 3.1 has none."""
    return getattr(event, "partition_key", None)


if __name__ == "__main__":
    main(*sys.argv[1:])
