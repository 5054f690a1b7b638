"""The trigger against a coordinator over real HTTP, in an event loop that must not block."""

import asyncio
import json
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from airflow.sdk.module_loading import import_string
from airflow.sdk.serde import deserialize, serialize

from airflow_preheat import _client
from airflow_preheat.exceptions import PreheatUnreachableError
from airflow_preheat.triggers import PreloadTrigger
from tests.integration.provider_coordinator import CONTRACT_JOB, Coordinator, running

TOKEN = "s3cret-token"
WAITER = "dag/run/warm/-1"
PATIENCE = 30.0


@pytest.fixture
def coordinator() -> Iterator[Coordinator]:
    with running(Coordinator(jobs={"job-1": CONTRACT_JOB | {"id": "job-1", "state": "RUNNING"}})) as coordinator:
        yield coordinator


@pytest.fixture(autouse=True)
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    monkeypatch.setattr(_client, "_RETRY_DELAYS", (0.0,))

    def connect(url: str, **extra: object) -> None:
        connection = {"conn_type": "preheat", "password": TOKEN, "extra": {"url": url, "connect_timeout": 1, **extra}}
        monkeypatch.setenv("AIRFLOW_CONN_PREHEAT_DEFAULT", json.dumps(connection))

    return connect


def trigger(**changes: Any) -> PreloadTrigger:
    arguments = {
        "job_id": "job-1",
        "waiter": WAITER,
        "preheat_conn_id": "preheat_default",
        "deadline": time.time() + PATIENCE,
        "poll_interval": 20.0,
        "outage_tolerance": PATIENCE,
        "cancel_on_kill": True,
    }
    return PreloadTrigger(**(arguments | changes))


async def fire(trigger: PreloadTrigger) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE):
        events = [event.payload async for event in trigger.run()]
    assert len(events) == 1
    json.dumps(events[0])
    return events[0]


async def polls(coordinator: Coordinator, *, times: int = 1) -> None:
    """Wait until the coordinator has been polled."""
    await asyncio.to_thread(coordinator.wait_until, lambda: len(coordinator.sent("GET", "/job-1")) >= times)


async def while_waiting(coordinator: Coordinator, waiter: PreloadTrigger, change: Callable[[], None]) -> dict[str, Any]:
    """Fire a trigger, and change the coordinator once the trigger polls it."""
    task = asyncio.create_task(fire(waiter))
    await polls(coordinator)
    change()
    return await task


@asynccontextmanager
async def waiting(coordinator: Coordinator, waiter: PreloadTrigger) -> AsyncIterator[PreloadTrigger]:
    """Run a trigger as the triggerer does, until it is cancelled."""
    polled = len(coordinator.sent("GET", "/job-1"))
    task = asyncio.create_task(fire(waiter))
    try:
        await polls(coordinator, times=polled + 1)
        yield waiter
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def test_it_survives_airflows_serialisation_without_secrets():
    original = trigger(cancel_on_kill=False, not_before=12.5)
    path, arguments = original.serialize()

    restored = import_string(path)(**deserialize(serialize(json.loads(json.dumps(arguments)))))

    assert type(restored) is PreloadTrigger
    assert restored.serialize() == original.serialize()
    assert TOKEN not in json.dumps(original.serialize())


@pytest.mark.parametrize(
    ("state", "status"), [("SUCCEEDED", "succeeded"), ("FAILED", "failed"), ("STOPPED", "stopped")]
)
async def test_it_fires_as_soon_as_the_job_has_ended(coordinator, connect, state, status):
    connect(coordinator.url)
    started = time.monotonic()

    event = await while_waiting(
        coordinator, trigger(), lambda: coordinator.update("job-1", state=state, reason="The reason.")
    )

    assert time.monotonic() - started < 10, "it waited for the next poll"
    assert (event["status"], event["job_id"]) == (status, "job-1")
    assert event["job"]["dataset_version"] == CONTRACT_JOB["datasetVersion"]
    assert ("The reason." in event["message"]) is (status != "succeeded")


async def test_progress_of_the_job_does_not_make_it_poll_faster(coordinator, connect):
    connect(coordinator.url)

    def progress_then_end() -> None:
        for _ in range(50):
            coordinator.update("job-1", state="RUNNING")
        coordinator.update("job-1", state="SUCCEEDED")

    await while_waiting(coordinator, trigger(), progress_then_end)

    assert len(coordinator.sent("GET")) == 1
    assert coordinator.sent("GET")[0].query["wait"] == "20"


async def test_it_sends_the_token_and_never_logs_it(coordinator, connect, caplog, capfd):
    connect(coordinator.url)
    coordinator.refuse(503, times=1, detail="Not now.")
    coordinator.update("job-1", state="SUCCEEDED")

    with caplog.at_level(logging.DEBUG):
        event = await fire(trigger())
    logged = caplog.text + capfd.readouterr().out

    assert {request.headers["authorization"] for request in coordinator.received} == {f"Bearer {TOKEN}"}
    assert TOKEN not in logged + json.dumps(event)
    assert "Trying again" in logged


async def test_the_event_loop_is_free_while_it_waits(coordinator, connect):
    connect(coordinator.url)
    coordinator.refuse(503, times=2, detail="Not now.")
    late: list[float] = []

    async def tick() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            late.append(time.monotonic() - before)

    ticker = asyncio.create_task(tick())
    await fire(trigger(deadline=time.time() + 2))
    ticker.cancel()

    assert len(late) > 20
    assert max(late) < 0.7, "the loop stood still for most of the wait"


async def test_it_gives_up_at_the_deadline(coordinator, connect):
    connect(coordinator.url)

    event = await fire(trigger(deadline=time.time() + 0.5))

    assert (event["status"], event["job"]) == ("deadline", None)
    assert "job-1" in event["message"]


async def test_a_deadline_that_has_passed_while_nobody_ran_it_ends_the_wait_at_once(coordinator, connect):
    connect(coordinator.url)

    assert (await fire(trigger(deadline=time.time() - 60)))["status"] == "deadline"
    assert coordinator.received == []


async def test_an_outage_is_waited_out(coordinator, connect):
    connect(coordinator.url)
    coordinator.refuse(503, times=3, detail="Starting.")
    coordinator.update("job-1", state="SUCCEEDED")

    assert (await fire(trigger()))["status"] == "succeeded"
    assert len(coordinator.received) == 4
    assert coordinator.sent("POST", "/job-1/claim") == coordinator.received


async def test_a_coordinator_that_restarts_is_found_again(connect):
    with running(Coordinator(jobs={"job-1": CONTRACT_JOB | {"id": "job-1", "state": "RUNNING"}})) as first:
        connect(first.url)
        waiter = asyncio.create_task(fire(trigger()))
        await polls(first)
    assert not waiter.done()

    port = int(first.url.rpartition(":")[2])
    with running(Coordinator(jobs={"job-1": CONTRACT_JOB | {"id": "job-1"}}), port):
        assert (await waiter)["status"] == "succeeded"


async def test_a_coordinator_that_stays_away_is_named(connect):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{holder.getsockname()[1]}"
        connect(url)

        event = await fire(trigger(outage_tolerance=0.0))

    assert event["status"] == "unavailable"
    assert url in event["message"]
    assert "preheat up" in event["message"]


async def test_a_job_that_the_coordinator_has_lost_is_reported(coordinator, connect):
    connect(coordinator.url)

    event = await fire(trigger(job_id="job-9"))

    assert (event["status"], event["job_id"]) == ("lost", "job-9")


async def test_it_claims_the_job_in_the_name_of_the_task_before_it_polls(coordinator, connect):
    connect(coordinator.url)

    async with waiting(coordinator, trigger()):
        pass

    claim, poll = coordinator.received
    assert (claim.method, claim.path, claim.body["waiter"]) == ("POST", "/v1/jobs/job-1/claim", WAITER)
    assert coordinator.fences == {("job-1", WAITER): claim.body["fence"]}
    assert (poll.method, poll.path) == ("GET", "/v1/jobs/job-1")


async def test_every_run_has_a_fence_of_its_own(coordinator, connect):
    connect(coordinator.url)
    coordinator.update("job-1", state="SUCCEEDED")
    waiter = trigger()

    await fire(waiter)
    await fire(waiter)
    await fire(trigger())

    fences = [claim.body["fence"] for claim in coordinator.sent("POST", "/claim")]
    assert len(set(fences)) == len(fences) == 3


async def test_a_job_that_has_ended_when_it_is_claimed_needs_no_poll(coordinator, connect):
    connect(coordinator.url)
    coordinator.update("job-1", state="SUCCEEDED")

    assert (await fire(trigger()))["status"] == "succeeded"

    assert coordinator.sent("GET") == []


async def test_a_kill_stops_the_job_after_the_grace(coordinator, connect):
    connect(coordinator.url)
    async with waiting(coordinator, trigger()) as killed:
        await killed.on_kill()
    assert coordinator.jobs["job-1"]["state"] == "RUNNING"

    coordinator.let_grace_pass()

    assert coordinator.jobs["job-1"]["state"] == "STOPPED"
    assert {request.headers["authorization"] for request in coordinator.received} == {f"Bearer {TOKEN}"}


async def test_a_trigger_that_was_replaced_cannot_cancel_the_job_of_its_successor(coordinator, connect):
    connect(coordinator.url)
    async with waiting(coordinator, trigger()) as old, waiting(coordinator, trigger()):
        await old.on_kill()

        assert coordinator.sent("POST", "/cancel")
        assert coordinator.leaving == set()


async def test_a_trigger_that_comes_within_the_grace_takes_back_the_cancel_of_the_one_before(coordinator, connect):
    connect(coordinator.url)
    async with waiting(coordinator, trigger()) as old:
        await old.on_kill()
    assert coordinator.leaving == {("job-1", WAITER)}

    async with waiting(coordinator, trigger()):
        coordinator.let_grace_pass()

        assert coordinator.jobs["job-1"]["state"] == "RUNNING"


async def test_a_job_of_two_tasks_is_stopped_when_both_are_killed(coordinator, connect):
    connect(coordinator.url)
    async with waiting(coordinator, trigger()) as one, waiting(coordinator, trigger(waiter="other/run/t/0")) as other:
        await one.on_kill()
        coordinator.let_grace_pass()
        assert coordinator.jobs["job-1"]["state"] == "RUNNING"

        await other.on_kill()
        coordinator.let_grace_pass()
        assert coordinator.jobs["job-1"]["state"] == "STOPPED"


async def test_a_kill_leaves_the_job_alone_if_told_so(coordinator, connect):
    connect(coordinator.url)

    async with waiting(coordinator, trigger(cancel_on_kill=False)) as killed:
        await killed.on_kill()

    assert coordinator.sent("POST", "/cancel") == []


async def test_a_kill_before_it_ran_leaves_the_job_to_those_who_claimed_it(coordinator, connect):
    connect(coordinator.url)

    await trigger().on_kill()

    assert coordinator.received == []


async def test_a_kill_that_does_not_get_through_is_logged(coordinator, connect, capfd):
    connect(coordinator.url)
    async with waiting(coordinator, trigger()) as killed:
        coordinator.refuse(503, times=9, detail="Not now.")
        await killed.on_kill()

    assert "job-1 could not be cancelled: Not now." in capfd.readouterr().out


async def test_a_ca_certificate_that_cannot_be_read_is_said_so_without_its_path(connect, tmp_path):
    connect("https://127.0.0.1:1", ca_cert=str(tmp_path / "missing.pem"))

    with pytest.raises(PreheatUnreachableError) as caught:
        await fire(trigger())

    logged = str(caught.value)
    assert "ca_cert: No such file" in logged
    assert "missing.pem" not in logged
    assert "CA certificate" in logged


async def test_the_event_is_held_back_until_the_worker_has_reported(coordinator: Coordinator, connect):
    connect(coordinator.url)
    coordinator.jobs["job-1"]["state"] = "SUCCEEDED"
    not_before = time.time() + 0.5

    assert (await fire(trigger(not_before=not_before)))["status"] == "succeeded"

    assert time.time() >= not_before
