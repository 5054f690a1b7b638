"""A job whose task vanishes does not run for nobody, and that of a task that comes back too late runs again."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_preheat import _client, _watch
from airflow_preheat.exceptions import PreheatJobFailedError, PreheatJobStoppedError
from airflow_preheat.hooks import PreheatHook
from airflow_preheat.operators import PreloadManyOperator, PreloadOperator
from airflow_preheat.triggers import PreloadTrigger
from tests.integration.provider_coordinator import Coordinator, running
from tests.integration.test_provider_operators import PATIENCE, TaskInstance, connect

PATH = "s3://datasets/digits/"
OTHER = "s3://datasets/other/"


@pytest.fixture
def coordinator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Coordinator]:
    monkeypatch.setattr(_client, "_RETRY_DELAYS", (0.0,))
    monkeypatch.setattr(_watch, "_MIN_GAP", 0.01)
    with running(Coordinator()) as coordinator:
        connect(monkeypatch, coordinator.url)
        yield coordinator


@pytest.fixture
def context() -> dict[str, Any]:
    return {"ti": TaskInstance()}


def preload(**arguments: Any) -> PreloadOperator:
    return PreloadOperator(**({"task_id": "warm", "path": PATH, "deferrable": True} | arguments))


def many(**arguments: Any) -> PreloadManyOperator:
    return PreloadManyOperator(**({"task_id": "warm", "datasets": [PATH, OTHER], "deferrable": True} | arguments))


def deferred(operator: PreloadOperator, context: dict[str, Any]) -> Any:
    with pytest.raises(TaskDeferred) as caught:
        operator.execute(context)
    return caught.value.trigger


def killed(*_: object) -> None:
    raise SystemExit


async def fire(trigger: Any) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE):
        return (await anext(trigger.run())).payload


@pytest.mark.parametrize("operator", [preload, many])
@pytest.mark.parametrize("dies", ["claim", "never"])
def test_the_job_of_a_worker_that_dies_before_the_deferral_is_stopped(
    coordinator, context, monkeypatch, operator, dies
):
    if dies == "claim":  # the submit was the last that was heard of it
        monkeypatch.setattr(PreheatHook, "claim", killed)
        with pytest.raises(SystemExit):
            operator().execute(context)
    else:  # no triggerer ever gets what it deferred to
        deferred(operator(), context)
    assert {job["state"] for job in coordinator.jobs.values()} == {"RUNNING"}

    coordinator.let_leases_run_out()

    assert {job["state"] for job in coordinator.jobs.values()} == {"STOPPED"}


@pytest.mark.parametrize("arguments", [{"cancel_on_kill": False}, {"lease": None}, {"wait_policy": {"first": 10}}])
@pytest.mark.parametrize("operator", [preload, many])
def test_a_job_that_is_to_go_on_does(coordinator, context, operator, arguments):
    coordinator.first_facts = {"hotInOrder": 0}
    deferred(operator(**arguments), context)

    coordinator.let_leases_run_out()

    assert {job["state"] for job in coordinator.jobs.values()} == {"RUNNING"}


def test_a_cancel_that_gets_lost_leaves_no_claim_for_ever(coordinator, context):
    deferred(preload(), context)
    coordinator.refuse(503, of="/cancel", times=9, detail="Not now.")
    with pytest.raises(Exception, match="too late"):
        preload().execute_complete(
            context, {"status": "deadline", "job_id": "job-1", "message": "It is too late.", "job": None}
        )

    coordinator.let_leases_run_out()

    assert coordinator.jobs["job-1"]["state"] == "STOPPED"


@pytest.mark.parametrize("streams", [True, False])
async def test_a_trigger_renews_what_it_has_claimed(coordinator, context, streams):
    coordinator.streams = streams
    trigger = await asyncio.to_thread(deferred, preload(lease=0.3), context)
    trigger.wait = replace(trigger.wait, not_before=0.0)
    waiting = asyncio.create_task(fire(trigger))
    await asyncio.to_thread(coordinator.wait_until, lambda: len(coordinator.sent("POST", "/renew")) >= 2)
    coordinator.update("job-1", state="SUCCEEDED")

    assert (await waiting)["status"] == "succeeded"
    (present,) = coordinator.fences.values()
    renewals = [request.body for request in coordinator.sent("POST", "/renew")]
    assert all(body == {"waiter": "nightly/manual__1/warm/-1", "fence": present} for body in renewals)


def test_a_task_that_waits_in_its_worker_renews_too(coordinator, context):
    operator = preload(lease=0.3, deferrable=False, deadline=timedelta(seconds=PATIENCE))
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(operator.execute, context)
        coordinator.wait_until(lambda: len(coordinator.sent("POST", "/renew")) >= 2)
        coordinator.update("job-1", state="SUCCEEDED")
        assert waiting.result(PATIENCE)["job_id"] == "job-1"


async def test_a_trigger_that_returns_too_late_says_so_and_the_task_submits_again(coordinator, context):
    trigger: PreloadTrigger = await asyncio.to_thread(deferred, preload(), context)
    trigger.wait = replace(trigger.wait, not_before=0.0)
    coordinator.let_leases_run_out()

    event = await fire(trigger)
    assert event["status"] == "abandoned"
    with pytest.raises(TaskDeferred) as again:
        await asyncio.to_thread(preload().execute_complete, context, event)
    assert again.value.trigger.wait.job_id == "job-2"
    with pytest.raises(PreheatJobStoppedError, match="as if this task waited no longer"):
        await asyncio.to_thread(preload(on_lost="fail").execute_complete, context, event)


async def test_of_many_those_that_were_stopped_are_submitted_again(coordinator, context):
    trigger = await asyncio.to_thread(deferred, many(), context)
    for part in trigger._waiting:
        part.wait = replace(part.wait, not_before=0.0)
    coordinator.let_leases_run_out()

    event = await fire(trigger)
    with pytest.raises(TaskDeferred) as again:
        await asyncio.to_thread(many().execute_complete, context, event)
    assert {job_id for job_id, *_ in again.value.trigger.jobs} == {"job-3", "job-4"}


async def test_a_task_fails_when_its_first_files_cannot_become_hot_and_leaves_the_job(coordinator, context):
    coordinator.first_facts = {"hotInOrder": 0}
    operator = preload(wait_policy={"first": 1000})
    trigger = await asyncio.to_thread(deferred, operator, context)
    trigger.wait = replace(trigger.wait, not_before=0.0)
    waiting = asyncio.create_task(fire(trigger))
    await asyncio.to_thread(coordinator.wait_until, lambda: bool(coordinator.sent("GET", "/job-1")))
    coordinator.update("job-1", hotInOrderAtMost=1000)
    coordinator.update("job-1", hotInOrder=7, hotInOrderAtMost=999)

    event = await waiting
    assert event["status"] == "unmet"
    with pytest.raises(PreheatJobFailedError, match="only 999 can become hot"):
        await asyncio.to_thread(operator.execute_complete, context, event)
    coordinator.let_grace_pass()
    assert coordinator.jobs["job-1"]["state"] == "STOPPED"
