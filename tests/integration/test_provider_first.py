"""A task that ends when the first files are hot, and one that hears that its job is late."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_preheat import _client
from airflow_preheat._watch import is_late
from airflow_preheat.assets import warm_asset
from airflow_preheat.exceptions import PreheatJobFailedError, PreheatRequestError
from airflow_preheat.operators import PreloadOperator
from airflow_preheat.triggers import PreloadTrigger
from tests.integration.provider_coordinator import CONTRACT_JOB, Coordinator, running
from tests.integration.test_provider_many import Store
from tests.integration.test_provider_operators import PATIENCE, TaskInstance, connect

INDEX = "s3://datasets/digits/order.txt"
WAITER = "nightly/manual__1/warm/-1"


@pytest.fixture
def coordinator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Coordinator]:
    monkeypatch.setattr(_client, "_RETRY_DELAYS", (0.0,))
    with running(Coordinator(first_facts={"hotInOrder": 0})) as coordinator:
        connect(monkeypatch, coordinator.url)
        yield coordinator


@pytest.fixture
def context() -> dict[str, Any]:
    return {"ti": TaskInstance(), "outlet_events": OutletEventAccessors()}


def preload(**arguments: Any) -> PreloadOperator:
    defaults = {"task_id": "warm", "index": INDEX, "wait_policy": {"first": "1000"}, "deferrable": True}
    return PreloadOperator(**(defaults | arguments))


def deferred(operator: PreloadOperator, context: dict[str, Any]) -> PreloadTrigger:
    with pytest.raises(TaskDeferred) as caught:
        operator.execute(context)
    trigger = caught.value.trigger
    trigger.wait = replace(trigger.wait, not_before=0.0)
    return trigger


async def fire(trigger: PreloadTrigger) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE):
        return (await anext(trigger.run())).payload


async def test_a_deferred_task_ends_when_its_first_files_are_hot_and_the_job_goes_on(coordinator, context):
    operator = preload(outlets=[warm_asset(INDEX)])
    trigger = await asyncio.to_thread(deferred, operator, context)
    waiting = asyncio.create_task(fire(trigger))
    await asyncio.to_thread(coordinator.wait_until, lambda: bool(coordinator.sent("GET", "/job-1")))
    coordinator.update("job-1", hotInOrder=999)
    coordinator.update("job-1", hotInOrder=1000)

    event = await waiting
    result = await asyncio.to_thread(operator.execute_complete, context, event)
    await trigger.on_kill()
    operator.on_kill()

    assert (result["paths"], result["hot_in_order"]) == ([INDEX], 1000)
    assert coordinator.sent("POST", "/jobs")[0].body["index"] == INDEX
    assert "paths" not in coordinator.sent("POST", "/jobs")[0].body
    assert coordinator.sent("GET", "/job-1")[0].query["hotInOrder"] == "1000"
    assert not coordinator.sent("POST", "/cancel")
    assert coordinator.jobs["job-1"]["state"] == "RUNNING"


def test_a_task_that_waits_here_ends_then_too_and_a_kill_leaves_the_job_alone(coordinator, context):
    operator = preload(deferrable=False, deadline=timedelta(seconds=PATIENCE))
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(operator.execute, context)
        coordinator.wait_until(lambda: bool(coordinator.sent("GET", "/job-1")))
        coordinator.update("job-1", hotInOrder=1200)
        assert waiting.result(PATIENCE)["hot_in_order"] == 1200
    operator.on_kill()
    assert not coordinator.sent("POST", "/cancel")
    assert coordinator.fences.keys() == {("job-1", WAITER)}


def test_what_is_hot_already_needs_no_deferral(coordinator, context):
    coordinator.first_facts = {"hotInOrder": 1000}
    assert preload().execute(context)["job_id"] == "job-1"


@pytest.mark.parametrize(("state", "error"), [("SUCCEEDED", None), ("FAILED", PreheatJobFailedError)])
def test_a_job_that_ends_with_fewer_decides(coordinator, context, state, error):
    coordinator.first_facts, coordinator.first_state = {"hotInOrder": 12}, state
    if error is None:
        assert preload().execute(context)["hot_in_order"] == 12
    else:
        with pytest.raises(error):
            preload().execute(context)


def test_a_failure_that_the_job_may_have_is_none_among_the_first(coordinator, context):
    policy = {"first": 100, "max_failed_files": 5}
    coordinator.first_state = "SUCCEEDED"
    coordinator.first_facts = {"hotInOrder": 12, "failed": {"files": 1, "bytes": 9}}
    context["task_state_store"] = Store()
    with pytest.raises(PreheatJobFailedError, match=r"only 12 files are hot .* 100"):
        preload(wait_policy=policy).execute(context)
    coordinator.first_facts, context["ti"].try_number = {"hotInOrder": 100}, 2
    assert preload(wait_policy=policy).execute(context)["job_id"] == "job-2"


def test_a_partition_that_needs_the_version_is_refused_before_the_submit(coordinator, context, monkeypatch):
    with pytest.raises(PreheatRequestError, match=r"partition='\{version\}' needs .*Name it otherwise"):
        preload(partition="{version}").execute(context)
    monkeypatch.setenv("AIRFLOW_CONN_PREHEAT_DEFAULT", f"preheat://{coordinator.url[7:]}/?dialect=alluxio-3.6")
    with pytest.raises(PreheatRequestError, match=r"partition=.* needs"):
        preload(path="s3://b/", index=None, wait_policy="fully_hot", partition="eu-{version}").execute(context)
    assert coordinator.received == []


@pytest.mark.parametrize("first", [0, -1, "some"])
def test_a_number_that_is_none_is_refused_before_the_submit(coordinator, context, first):
    with pytest.raises(PreheatRequestError, match="first="):
        preload(wait_policy={"first": first}).execute(context)
    assert coordinator.received == []


@pytest.mark.parametrize("arguments", [{"path": "s3://b/"}, {"index": None}, {"index": ""}])
def test_a_path_or_an_index_is_wanted(coordinator, context, arguments):
    with pytest.raises(PreheatRequestError, match="give one of them"):
        preload(**arguments).execute(context)


@pytest.mark.parametrize("dialect", ["alluxio-3.3", "alluxio-3.6"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"wait_policy=.* is not for an Alluxio .*Leave first out"),
        ({"wait_policy": "fully_hot"}, r"index is not for an Alluxio .*Give the paths"),
        ({"wait_policy": "fully_hot", "index": None, "path": "s3://b/", "priority": "high"}, "priority is not for an"),
    ],
)
def test_an_alluxio_has_no_order(coordinator, context, monkeypatch, dialect, arguments, message):
    monkeypatch.setenv("AIRFLOW_CONN_PREHEAT_DEFAULT", f"preheat://{coordinator.url[7:]}/?dialect={dialect}")
    with pytest.raises(PreheatRequestError, match=message):
        preload(**arguments).execute(context)
    assert coordinator.received == []


def late(minutes: int = 60) -> dict[str, Any]:
    finish = datetime.now(tz=UTC) + timedelta(minutes=minutes)
    return {"forecast": {"finishAt": finish.isoformat(), "late": False}}


async def test_a_job_that_turns_late_is_a_warning_once(coordinator, context, capfd):
    operator = preload(deadline=timedelta(minutes=5), poll_interval=1)
    trigger = await asyncio.to_thread(deferred, operator, context)
    waiting = asyncio.create_task(fire(trigger))
    await asyncio.to_thread(coordinator.wait_until, lambda: bool(coordinator.sent("GET", "/job-1")))
    coordinator.update("job-1", **late())
    await asyncio.to_thread(coordinator.wait_until, lambda: len(coordinator.sent("GET", "/job-1")) >= 3)
    coordinator.update("job-1", hotInOrder=1000)
    assert (await waiting)["status"] == "ready"
    warnings = [line for line in capfd.readouterr().out.splitlines() if "is late" in line]
    assert len(warnings) == 1
    assert "Raise its bandwidth or its priority" in warnings[0]


async def test_who_wants_to_know_is_told_once_and_the_wait_goes_on_to_the_same_deadline(coordinator, context):
    told: list[dict[str, Any]] = []

    def broken(_: Any) -> None:
        raise ValueError("Nobody answers the page.")

    coordinator.first_facts |= late()
    operator = preload(deadline=timedelta(minutes=5), on_late_callback=[broken, told.append])
    trigger = await asyncio.to_thread(deferred, operator, context)
    event = await fire(trigger)
    assert (event["status"], event["deadline"]) == ("late", trigger.wait.deadline)

    with pytest.raises(TaskDeferred) as again:
        await asyncio.to_thread(operator.execute_complete, context, event)

    wait = again.value.trigger.wait
    assert told == [context]
    assert (wait.job_id, wait.first, wait.tell_late) == ("job-1", 1000, False)
    assert (wait.deadline, wait.waiter) == (trigger.wait.deadline, WAITER)
    await trigger.on_kill()  # the first trigger's, after its task was resumed
    assert coordinator.leaving == set()
    assert len(coordinator.sent("POST", "/jobs")) == 1


def test_without_deferral_who_wants_to_know_is_told_too(coordinator, context):
    told: list[dict[str, Any]] = []
    coordinator.first_facts |= late()
    deadline = timedelta(minutes=5)
    operator = preload(deferrable=False, deadline=deadline, on_late_callback=told.append, wait_policy="fully_hot")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(operator.execute, context)
        coordinator.wait_until(lambda: bool(coordinator.sent("GET", "/job-1")) and bool(told))
        coordinator.update("job-1", state="SUCCEEDED")
        assert waiting.result(PATIENCE)["job_id"] == "job-1"
    assert told == [context]


def test_late_is_what_the_coordinator_says_or_what_the_tasks_own_deadline_says():
    now = time.time()
    assert is_late(CONTRACT_JOB | late(), now + 60)
    assert not is_late(CONTRACT_JOB | late(), now + 7200)
    assert is_late(CONTRACT_JOB | {"forecast": {"finishAt": None, "late": True}}, now + 7200)
    assert not is_late(CONTRACT_JOB, now)
    assert not is_late(CONTRACT_JOB | {"forecast": {"finishAt": None, "late": False}}, now)


async def test_a_trigger_that_an_earlier_version_stored_can_be_made(coordinator, context):
    trigger = await asyncio.to_thread(deferred, preload(), context)
    stored = {name: value for name, value in asdict(trigger.wait).items() if name not in ("first", "tell_late")}
    assert PreloadTrigger(**stored).wait.first is None
