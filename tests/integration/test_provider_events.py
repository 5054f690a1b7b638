"""Many triggers and one stream of a coordinator's events, over real HTTP."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.triggers.base import BaseTrigger

from airflow_preheat import _client
from airflow_preheat.triggers import PreloadTrigger
from tests.integration.provider_coordinator import CONTRACT_JOB, PATIENCE, Coordinator, running

NUMBER = 20


@pytest.fixture
def coordinator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Coordinator]:
    monkeypatch.setattr(_client, "_RETRY_DELAYS", (0.0,))
    jobs = {f"job-{n}": CONTRACT_JOB | {"id": f"job-{n}", "state": "RUNNING"} for n in range(NUMBER)}
    with running(Coordinator(jobs=jobs, streams=True)) as coordinator:
        connection = {"conn_type": "preheat", "extra": {"url": coordinator.url, "connect_timeout": 1}}
        monkeypatch.setenv("AIRFLOW_CONN_PREHEAT_DEFAULT", json.dumps(connection))
        yield coordinator


def trigger(number: int) -> PreloadTrigger:
    return PreloadTrigger(
        job_id=f"job-{number}",
        waiter=f"dag/run/warm/{number}",
        preheat_conn_id="preheat_default",
        deadline=time.time() + PATIENCE,
        poll_interval=20.0,
        outage_tolerance=PATIENCE,
        cancel_on_kill=True,
    )


async def fire(trigger: PreloadTrigger) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE):
        (event,) = [event.payload async for event in trigger.run()]
    return dict(event)


@asynccontextmanager
async def waiting(coordinator: Coordinator, number: int = NUMBER) -> AsyncIterator[list[asyncio.Task[dict[str, Any]]]]:
    """Let triggers wait, each of which has looked at its job since there was a stream."""
    tasks = [asyncio.create_task(fire(trigger(n))) for n in range(number)]
    await asyncio.to_thread(coordinator.wait_until, lambda: looks(coordinator) == number)
    yield tasks
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def looks(coordinator: Coordinator) -> int:
    return sum(request.method == "GET" for request in coordinator.received)


async def test_triggers_share_a_stream_and_ask_for_nothing_more(coordinator: Coordinator) -> None:
    async with waiting(coordinator) as tasks:
        for n in range(NUMBER):
            await asyncio.to_thread(coordinator.update, f"job-{n}", state="SUCCEEDED")
        events = await asyncio.gather(*tasks)

    assert {(event["status"], event["job_id"]) for event in events} == {
        ("succeeded", f"job-{n}") for n in range(NUMBER)
    }
    assert (coordinator.opened, looks(coordinator)) == (1, NUMBER)
    assert all("wait" not in request.query for request in coordinator.received)


async def test_a_job_that_ends_while_the_stream_is_broken_is_seen_as_soon_as_there_is_another(
    coordinator: Coordinator,
) -> None:
    async with waiting(coordinator, 2) as tasks:
        coordinator.break_streams()
        await asyncio.to_thread(coordinator.update, "job-0", state="FAILED")
        assert (await tasks[0])["status"] == "failed"
        await asyncio.to_thread(coordinator.wait_until, lambda: coordinator.opened == 2)
        await asyncio.to_thread(coordinator.update, "job-1", state="STOPPED")
        assert (await tasks[1])["status"] == "stopped"


async def test_changes_that_do_not_end_a_wait_end_nothing(coordinator: Coordinator) -> None:
    async with waiting(coordinator, 1) as tasks:
        await asyncio.to_thread(coordinator.update, "job-1", state="SUCCEEDED")
        await asyncio.to_thread(coordinator.update, "job-0", state="VERIFYING")
        done, _ = await asyncio.wait(tasks, timeout=1.5)
        assert not done
        await asyncio.to_thread(coordinator.update, "job-0", state="SUCCEEDED")
        assert (await tasks[0])["status"] == "succeeded"
    assert looks(coordinator) == 1


async def test_a_job_that_is_lost_while_the_stream_is_broken_is_said_so(coordinator: Coordinator) -> None:
    async with waiting(coordinator, 1) as tasks:
        coordinator.jobs.clear()
        coordinator.break_streams()
        assert (await tasks[0])["status"] == "lost"


@pytest.mark.parametrize(("state", "stops"), [("failed", True), ("deferred", False), ("scheduled", False)])
async def test_before_airflow_3_3_a_trigger_finds_out_itself_that_its_task_was_killed(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch, state: str, stops: bool
) -> None:
    monkeypatch.delattr(BaseTrigger, "on_kill")
    states = {"run": {"warm": state}}
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(lambda **_: states))
    killed = trigger(0)
    killed.task_instance = SimpleNamespace(dag_id="dag", run_id="run", task_id="warm", map_index=-1)
    run = asyncio.create_task(fire(killed))
    await asyncio.to_thread(coordinator.wait_until, lambda: looks(coordinator) == 1)

    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run

    coordinator.let_grace_pass()
    assert (coordinator.jobs["job-0"]["state"] == "STOPPED") is stops
