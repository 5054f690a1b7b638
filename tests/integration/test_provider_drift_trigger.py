"""The trigger that fires when a dataset has changed at its origin, against a coordinator over real HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from airflow.sdk.module_loading import import_string

from airflow_preheat import _client
from airflow_preheat.triggers import DatasetDriftTrigger
from tests.integration.asset_state import AssetState
from tests.integration.provider_coordinator import Coordinator, running

PATH = "s3://datasets/digits/"
PATIENCE = 30.0


@pytest.fixture
def coordinator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Coordinator]:
    monkeypatch.setattr(_client, "_RETRY_DELAYS", (0.0,))
    with running(Coordinator()) as coordinator:
        connection = {"conn_type": "preheat", "extra": {"url": coordinator.url}}
        monkeypatch.setenv("AIRFLOW_CONN_PREHEAT_DEFAULT", json.dumps(connection))
        yield coordinator


@asynccontextmanager
async def triggerer(state: AssetState | None) -> AsyncIterator[list[dict[str, Any]]]:
    """Run a trigger, made from what Airflow stores of it, and collect what it fires."""
    path, arguments = DatasetDriftTrigger(path=PATH, poll_interval=0.01).serialize()
    trigger = import_string(path)(**json.loads(json.dumps(arguments)))
    trigger.asset_state_store = state
    events: list[dict[str, Any]] = []

    async def run() -> None:
        async for event in trigger.run():
            events.append(event.payload)  # noqa: PERF401 - others look at it meanwhile

    task = asyncio.create_task(run())
    try:
        yield events
        assert not task.done(), "the watcher has ended"
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


async def polls(coordinator: Coordinator, times: int = 3) -> None:
    """Wait until the coordinator was asked so often again: whatever there was to fire has been fired."""
    before = len(coordinator.sent("GET", "/drift"))
    await until(lambda: len(coordinator.sent("GET", "/drift")) >= before + times)


async def test_each_change_fires_once_and_one_back_fires_too(coordinator: Coordinator):
    async with triggerer(AssetState()) as events:
        await polls(coordinator)  # nothing was loaded yet
        first = coordinator.drift(PATH, 1)
        await polls(coordinator)
        assert events == []
        expected = []
        for number in (2, 3, 2):
            expected.append(coordinator.drift(PATH, number))
            await polls(coordinator)

    assert [event["new_version"] for event in events] == expected
    counts = {"changed": 1, "added": 0, "deleted": 0}
    assert events[0] == {"path": PATH, "dataset_version": first, "new_version": expected[0], **counts}
    assert coordinator.sent("GET", "/drift")[0].query == {"path": PATH, "limit": "0", "timeout": "600"}


async def test_a_triggerer_that_restarts_fires_nothing_twice(coordinator: Coordinator):
    state, fired = AssetState(), []
    coordinator.drift(PATH, 2)
    for _ in range(3):
        async with triggerer(state) as events:
            await polls(coordinator)
            fired += events
    assert len(fired) == 1


async def test_airflow_before_3_3_fires_once_for_each_start(coordinator: Coordinator):
    coordinator.drift(PATH, 2)
    async with triggerer(None) as events:
        await polls(coordinator)
    assert len(events) == 1


async def test_no_error_ends_a_watcher(coordinator: Coordinator):
    coordinator.refuse(503, of="/drift", times=5, code="engine_unavailable", detail="Not now.")
    coordinator.refuse(403, of="/drift", times=2, code="forbidden", detail="Not you.")
    async with triggerer(AssetState()) as events:
        await polls(coordinator, times=8)
        coordinator.drift(PATH, 2)
        await until(lambda: bool(events))
    assert len(events) == 1
