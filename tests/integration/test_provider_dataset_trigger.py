"""The trigger of an AssetWatcher against a coordinator over real HTTP, run by Airflow's own shared streams."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import structlog
from airflow.sdk import Asset, AssetWatcher
from airflow.sdk.execution_time.context import AssetStateStoreAccessors
from airflow.sdk.module_loading import import_string
from airflow.sdk.serde import deserialize, serialize
from airflow.triggers.shared_stream import SharedStreamManager

from airflow_preheat import _client
from airflow_preheat.assets import warm_asset
from airflow_preheat.triggers import DatasetWarmTrigger
from tests.integration.asset_state import AssetState
from tests.integration.provider_coordinator import Coordinator, running

TOKEN = "s3cret-token"
PATH = "s3://datasets/digits/"
PATIENCE = 30.0


@pytest.fixture
def coordinator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Coordinator]:
    monkeypatch.setattr(_client, "_RETRY_DELAYS", (0.0,))
    with running(Coordinator()) as coordinator:
        connection = {"conn_type": "preheat", "password": TOKEN, "extra": {"url": coordinator.url}}
        monkeypatch.setenv("AIRFLOW_CONN_PREHEAT_DEFAULT", json.dumps(connection))
        yield coordinator


def trigger(state: AssetState | None = None, **changes: Any) -> DatasetWarmTrigger:
    made = DatasetWarmTrigger(**({"path": PATH, "poll_interval": 0.02} | changes))
    made.asset_state_store = state  # type: ignore[assignment]
    return made


@asynccontextmanager
async def triggerer(*triggers: DatasetWarmTrigger) -> AsyncIterator[list[tuple[int, Any]]]:
    """Run triggers as Airflow 3.3 does, and collect what they fire."""
    manager = SharedStreamManager(log=structlog.get_logger())
    events: list[tuple[int, Any]] = []

    async def run(number: int, each: DatasetWarmTrigger) -> None:
        stream = manager.subscribe(trigger_id=number, trigger=each, key=each.shared_stream_key())
        async for event in each.filter_shared_stream(stream):
            events.append((number, event.payload))  # noqa: PERF401 - others look at it meanwhile

    tasks = [asyncio.create_task(run(number, each)) for number, each in enumerate(triggers)]
    try:
        yield events
        assert not any(task.done() for task in tasks), "a watcher has ended"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await manager.stop_all()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


async def polls(coordinator: Coordinator, times: int = 3) -> None:
    """Wait until the coordinator was polled so often again: whatever there was to fire has been fired."""
    before = len(coordinator.sent("GET", "/inventories"))
    await until(lambda: len(coordinator.sent("GET", "/inventories")) >= before + times)


async def test_each_version_fires_once_when_it_is_warm(coordinator: Coordinator):
    async with triggerer(trigger(AssetState(), min_hot_fraction=0.9)) as events:
        await polls(coordinator)
        assert coordinator.sent("GET", "/warmth") == []
        first = coordinator.warm(PATH, 1, hot=89)
        await polls(coordinator)
        assert events == []
        coordinator.warm(PATH, 1, hot=90)
        await until(lambda: bool(events))
        looks = len(coordinator.sent("GET", "/warmth"))
        coordinator.warm(PATH, 1, hot=100)
        await polls(coordinator)
        assert len(coordinator.sent("GET", "/warmth")) == looks
        second = coordinator.warm(PATH, 2)
        await until(lambda: len(events) == 2)
        await polls(coordinator)

    assert [event["dataset_version"] for _, event in events] == [first, second]
    assert events[0][1] == {"path": PATH, "dataset_version": first, "hot_fraction": 0.9, "files": 100, "bytes": 1000}
    assert {request.headers["authorization"] for request in coordinator.received} == {f"Bearer {TOKEN}"}


async def test_a_load_that_lists_the_same_again_fires_nothing(coordinator: Coordinator):
    state = AssetState()
    version = coordinator.warm(PATH, 1)
    async with triggerer(trigger(state)) as events:
        await until(lambda: bool(events))
        coordinator.warm(PATH, 2)
        coordinator.datasets[PATH]["version"] = version
        await polls(coordinator)
    assert len(events) == 1
    assert "inventory-2" in str(state.values)


async def test_a_triggerer_that_restarts_fires_nothing_twice(coordinator: Coordinator):
    state = AssetState()
    fired: list[Any] = []
    for number in (1, 1, 2, 2, 2):
        version = coordinator.warm(PATH, number)
        async with triggerer(trigger(state)) as events:
            await polls(coordinator)
            fired += [event["dataset_version"] for _, event in events]
    assert Counter(fired) == {f"sha256:{1:064x}": 1, version: 1}


async def test_watchers_of_all_datasets_share_one_poll_and_those_of_one_dataset_one_look(coordinator: Coordinator):
    paths = [f"s3://datasets/{number}/" for number in range(10)]
    triggers = [trigger(AssetState(), path=paths[number % 10], poll_interval=0.2) for number in range(1000)]
    async with triggerer(*triggers) as events:
        await polls(coordinator, times=1)
        coordinator.warm(paths[3], 1)
        await until(lambda: len(events) >= 100)
        asked = len(coordinator.sent("GET", "/inventories"))
        await polls(coordinator, times=2)
        assert len(coordinator.sent("GET", "/inventories")) <= asked + 3

    assert {number % 10 for number, _ in events} == {3}
    assert len(events) == 100
    assert len(coordinator.sent("GET", "/warmth")) == 1


async def test_no_error_ends_a_watcher(coordinator: Coordinator):
    async with triggerer(trigger(AssetState())) as events:
        await polls(coordinator)
        for status in (503, 401, 500):
            coordinator.refuse(status, of="/inventories", times=4, detail="Not now.")
        await until(lambda: not coordinator.refusals)
        coordinator.refuse(500, of="/warmth", times=2, detail="Not now.")
        coordinator.warm(PATH, 1)
        await until(lambda: bool(events))
    assert not coordinator.refusals


async def test_nothing_fires_that_could_not_be_remembered(coordinator: Coordinator):
    from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
    from airflow.sdk.execution_time.comms import ErrorResponse

    class Broken(AssetState):
        tries = 0

        async def aset(self, key: str, value: Any) -> None:
            self.tries += 1
            if self.tries < 3:
                raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR))
            await super().aset(key, value)

    state = Broken()
    coordinator.warm(PATH, 1)
    async with triggerer(trigger(state)) as events:
        await until(lambda: bool(events))
        await polls(coordinator)
    assert (len(events), state.tries) == (1, 3)


async def test_assets_that_share_a_trigger_fire_without_a_state(coordinator: Coordinator):
    shared = AssetStateStoreAccessors(inlets=[Asset("one"), Asset("other")])
    coordinator.warm(PATH, 1)
    async with triggerer(trigger(shared)) as events:  # type: ignore[arg-type]
        await until(lambda: bool(events))
        await polls(coordinator)
    assert len(events) == 1


async def test_it_runs_alone_where_airflow_has_neither_streams_nor_state(coordinator: Coordinator):
    coordinator.warm(PATH, 1)
    alone = trigger()
    del alone.asset_state_store
    stream = alone.run()
    async with asyncio.timeout(PATIENCE):
        first = await anext(stream)
        coordinator.warm(PATH, 2)
        second = await anext(stream)
    with suppress(RuntimeError):
        await stream.aclose()
    assert [event.payload["dataset_version"][-1] for event in (first, second)] == ["1", "2"]


def test_airflow_stores_it_as_an_assets_watcher():
    asset = warm_asset(PATH)
    asset.watchers = [AssetWatcher(name="digits", trigger=trigger())]
    path, arguments = trigger(name="digits").serialize()
    restored = import_string(path)(**deserialize(serialize(json.loads(json.dumps(arguments)))))
    assert type(restored) is DatasetWarmTrigger
    assert restored.serialize() == (path, arguments)
    assert restored.hash(path, arguments) != trigger().hash(*trigger().serialize())
    assert trigger(name="a", path="s3://x/").shared_stream_key() == trigger().shared_stream_key()
    assert trigger(preheat_conn_id="eu").shared_stream_key() != trigger().shared_stream_key()
