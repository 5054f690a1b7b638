"""The button that leads from a task instance to its job."""

from typing import Any

import pytest
from airflow.sdk import BaseOperator
from airflow.sdk.execution_time.xcom import XCom
from airflow.sdk.types import TaskInstanceKey

from airflow_preheat.links import PreheatJobLink

KEY = TaskInstanceKey(dag_id="d", task_id="warm", run_id="r", try_number=1, map_index=2)


@pytest.mark.parametrize(("stored", "link"), [("http://cache/jobs/job-1", "http://cache/jobs/job-1"), (None, "")])
def test_it_is_the_url_that_the_task_left(monkeypatch, stored, link):
    asked: list[dict[str, Any]] = []

    def get_one(**key: Any) -> Any:
        asked.append(key)
        return stored

    monkeypatch.setattr(XCom, "get_one", get_one)

    assert PreheatJobLink().get_link(BaseOperator(task_id="warm"), ti_key=KEY) == link
    assert asked == [{"key": "job_url", "task_id": "warm", "dag_id": "d", "run_id": "r", "map_index": 2}]
