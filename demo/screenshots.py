"""Pictures of the demo's DAGs as Airflow's UI shows them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from testbed.airflow import AirflowStandalone
from testbed.browser import Browser

_VIEWPORT = "document.querySelector('.react-flow__viewport').style.transform"


def take_screenshots(airflow: AirflowStandalone, runs: Mapping[str, str], *, folder: Path, profile: Path) -> None:
    """Write ``DAG_ID.png`` for each run: its graph, with the Assets and DAGs that it is tied to.

    Args:
        airflow: where the runs are.
        runs: run ids by DAG id.
        folder: where the pictures go.
        profile: a directory for the browser's own files; it must not exist.
    """
    client = airflow.client()
    storage = {f"dependencies-{dag_id}": json.dumps("all") for dag_id in runs}
    with Browser(profile=profile, width=1440, height=620) as browser:
        browser.set_cookie(name="_token", value=client.token, url=airflow.url)
        browser.set_local_storage({"default_dag_view": json.dumps("graph"), **storage})
        for dag_id, run_id in runs.items():
            browser.goto(f"{airflow.url}/dags/{dag_id}/runs/{quote(run_id)}")
            for task in client.task_instances(dag_id, run_id):
                browser.wait_for(_task_shows(task["task_id"], "success"))
            browser.wait_until_still(_VIEWPORT)
            browser.screenshot(folder / f"{dag_id}.png")


def _task_shows(task_id: str, state: str) -> str:
    node = f'[data-testid="rf__node-{task_id}"]'
    return f"document.querySelector({json.dumps(node)})?.textContent.includes({json.dumps(state)})"
