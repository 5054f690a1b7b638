"""Operators of all job types, their deadlines, and what they keep for the next try, over real HTTP."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import ANY

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_preheat import _client
from airflow_preheat.exceptions import PreheatDeadlineError
from airflow_preheat.operators import (
    CopyOperator,
    FreeOperator,
    MoveOperator,
    PersistOperator,
    PreloadOperator,
    RebalanceOperator,
    ReplicateOperator,
)
from airflow_preheat.operators._job import JobOperator
from tests.integration.provider_coordinator import Coordinator, running

PATH = "s3://datasets/digits/"
TO = "s3://archive/digits/"


@dataclass
class TaskInstance:
    """The part of Airflow's task instance that the operators use."""

    id: str = "0198-ti"
    dag_id: str = "nightly"
    run_id: str = "manual__1"
    task_id: str = "warm"
    try_number: int = 1
    map_index: int = -1
    xcoms: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value


class StateStore(dict[str, Any]):
    """Airflow's store of a task's state, as far as it is used: JSON values that survive tries."""

    def set(self, key: str, value: Any) -> None:
        self[key] = json.loads(json.dumps(value))

    def delete(self, key: str) -> None:
        self.pop(key, None)


@pytest.fixture
def coordinator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Coordinator]:
    monkeypatch.setattr(_client, "_RETRY_DELAYS", (0.0,))
    with running(Coordinator()) as coordinator:
        connection = {"conn_type": "preheat", "extra": {"url": coordinator.url}}
        monkeypatch.setenv("AIRFLOW_CONN_PREHEAT_DEFAULT", json.dumps(connection))
        yield coordinator


@pytest.fixture
def context() -> dict[str, Any]:
    return {"ti": TaskInstance(), "outlet_events": {}, "task_state_store": StateStore()}


def deferred(operator: JobOperator, context: dict[str, Any]) -> Any:
    """Return how the trigger of a task waits."""
    with pytest.raises(TaskDeferred) as caught:
        operator.execute(context)
    return caught.value.trigger.wait


def preload(**arguments: Any) -> PreloadOperator:
    return PreloadOperator(**({"task_id": "warm", "path": PATH, "deferrable": True} | arguments))


def next_try(context: dict[str, Any]) -> dict[str, Any]:
    """Return what Airflow gives to the next try: another task instance, the same state."""
    number = context["ti"].try_number + 1
    return context | {"ti": TaskInstance(id=f"0198-ti-{number}", try_number=number)}


@pytest.mark.parametrize(
    ("operator", "arguments", "body"),
    [
        (FreeOperator, {"path": [PATH, TO]}, {"type": "free", "paths": [PATH, TO], "options": {}}),
        (PersistOperator, {"batch_size": "9"}, {"type": "persist", "options": {"batchSize": 9}}),
        (RebalanceOperator, {"file_filter_regex": "a.*"}, {"type": "rebalance", "options": {"fileFilterRegex": "a.*"}}),
        (ReplicateOperator, {"replicas": "2"}, {"type": "replicate", "options": {"replicas": 2}}),
        (
            CopyOperator,
            {"destination": TO, "bandwidth": "1MiB"},
            {"type": "copy", "destination": TO, "options": {"skipIfExists": True, "bandwidth": "1MiB"}},
        ),
        (
            MoveOperator,
            {"destination": TO, "skip_if_exists": "false"},
            {"type": "move", "destination": TO, "options": {"skipIfExists": False}},
        ),
    ],
)
@pytest.mark.parametrize("deferrable", [True, False])
def test_every_type_of_job_is_submitted_and_waited_for(coordinator, context, operator, arguments, body, deferrable):
    coordinator.first_state = "RUNNING" if deferrable else "SUCCEEDED"
    task = operator(task_id="t", deferrable=deferrable, **({"path": PATH} | arguments))

    if deferrable:
        assert deferred(task, context).job_id == "job-1"
        task.on_kill()
        assert coordinator.leaving == {("job-1", "nightly/manual__1/warm/-1")}
    else:
        assert task.execute(context)["job_id"] == "job-1"
    assert coordinator.received[0].body == {"paths": [PATH], "waiter": ANY, "fence": ANY, "lease": 1800.0} | body


@pytest.mark.parametrize(
    ("policy", "options"),
    [
        ("fully_hot", {}),
        ({"min_hot_fraction": 0.99}, {"minHotFraction": 0.99}),
        ({"min_hot_fraction": "0.5", "max_failed_files": "10"}, {"minHotFraction": 0.5, "maxFailedFiles": 10}),
        ({"min_hot_fraction": ""}, {}),
    ],
)
def test_the_wait_policy_is_the_jobs_criterion(policy, options):
    every = {"replicas": 1, "verify": True, "skipIfExists": True}

    assert preload(wait_policy=policy).spec().as_json()["options"] == every | options


@pytest.mark.parametrize("policy", ["warm", {"last": 100}, {"min_hot_fraction": 2}, {"min_hot_fraction": "most"}])
def test_a_wait_policy_that_is_none_fails_without_a_retry(policy):
    with pytest.raises(AirflowFailException, match=r"wait_policy|min_hot_fraction"):
        preload(wait_policy=policy).spec()


def test_deadlines_and_policies_may_be_templates():
    assert {"deadline", "wait_policy", "path", "batch_size"} <= set(PreloadOperator.template_fields)
    assert {"destination", "deadline"} <= set(MoveOperator.template_fields)


def test_a_time_of_the_day_counts_from_the_start_of_the_run(coordinator, context):
    started = datetime.now(tz=UTC)
    due = started + timedelta(minutes=5)
    context["dag_run"] = SimpleNamespace(start_date=started)

    wait = deferred(preload(deadline=f"{due:%H:%M:%S} UTC"), context)

    assert wait.deadline == due.replace(microsecond=0).timestamp()


def test_a_deadline_that_has_passed_before_the_submit_is_said_so(coordinator, context):
    context["dag_run"] = SimpleNamespace(start_date=datetime.now(tz=UTC) - timedelta(hours=3))
    due = datetime.now(tz=UTC) - timedelta(hours=1)

    with pytest.raises(PreheatDeadlineError, match=r"UTC' has passed.* clear the DAG run"):
        preload(deadline=f"{due:%H:%M} UTC").execute(context)
    assert coordinator.received == []


def test_a_job_whose_task_may_wait_no_longer_is_cancelled(coordinator, context):
    deferred(preload(), context)
    passed = datetime.now(tz=UTC) - timedelta(seconds=1)

    with pytest.raises(PreheatDeadlineError):
        preload(deadline=passed).execute(next_try(context))

    coordinator.let_grace_pass()
    assert coordinator.jobs["job-1"]["state"] == "STOPPED"


def test_a_job_that_has_succeeded_before_the_deadline_is_a_success_after_it(coordinator, context):
    deferred(preload(), context)
    coordinator.update("job-1", state="SUCCEEDED")
    passed = datetime.now(tz=UTC) - timedelta(seconds=1)

    assert preload(deadline=passed).execute(next_try(context))["job_id"] == "job-1"


@pytest.mark.parametrize("deferrable", [True, False])
def test_the_next_try_goes_on_with_a_job_that_has_succeeded_meanwhile(coordinator, context, deferrable):
    move = MoveOperator(task_id="t", path=PATH, destination=TO, deferrable=True)
    deferred(move, context)
    coordinator.update("job-1", state="SUCCEEDED")

    again = MoveOperator(task_id="t", path=PATH, destination=TO, deferrable=deferrable)
    assert again.execute(next_try(context))["job_id"] == "job-1"

    assert len(coordinator.sent("POST", "/jobs")) == 1
    assert context["task_state_store"] == {}, "a later run of the task starts anew"


def test_the_next_try_goes_on_with_a_job_that_runs(coordinator, context):
    deferred(preload(), context)

    again = next_try(context)
    assert deferred(preload(), again).job_id == "job-1"

    assert len(coordinator.sent("POST", "/jobs")) == 1
    assert again["ti"].xcoms == {"job_id": "job-1", "job_url": f"{coordinator.url}/jobs/job-1"}


@pytest.mark.parametrize("state", ["FAILED", "STOPPED"])
def test_the_next_try_does_not_go_on_with_a_job_without_success(coordinator, context, state):
    deferred(preload(), context)
    coordinator.update("job-1", state=state)

    assert deferred(preload(), next_try(context)).job_id == "job-2"


def test_the_next_try_does_not_go_on_with_a_job_for_something_else(coordinator, context):
    deferred(preload(), context)
    coordinator.update("job-1", state="SUCCEEDED")

    assert deferred(preload(replicas=2), next_try(context)).job_id == "job-2"


def test_the_next_try_submits_again_if_the_coordinator_has_lost_the_job(coordinator, context):
    deferred(preload(), context)
    coordinator.jobs.clear()

    assert deferred(preload(), next_try(context)).job_id == "job-2"
    assert len(coordinator.sent("POST", "/jobs")) == 2


def test_nothing_is_kept_if_told_so_or_where_airflow_has_no_place_for_it(coordinator, context):
    deferred(preload(durable=False), context)
    assert context["task_state_store"] == {}

    del context["task_state_store"]
    assert deferred(preload(), context).job_id == "job-1"
