"""Receipts on their way to Airflow: from the coordinator that signed into XCom, asset events and OpenLineage."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_preheat._looks import JobLook
from airflow_preheat.assets import warm_asset
from airflow_preheat.hooks import PreheatHook
from airflow_preheat.operators import PreloadOperator
from airflow_preheat.sensors import PreloadSensor
from airflow_preheat.triggers import PreloadTrigger
from preheat.receipts import read_keys, verify
from tests.integration.provider_coordinator import CONTRACT_JOB, Coordinator, running
from tests.unit.memory_cluster import Cluster
from tests.unit.served_cluster import serve

PATH = "s3://b/data/"
SIGNED = CONTRACT_JOB["receipt"]


def connect(monkeypatch: pytest.MonkeyPatch, url: str, dialect: str = "preheat") -> None:
    extra = {"url": url, "dialect": dialect, "connect_timeout": 1}
    monkeypatch.setenv("AIRFLOW_CONN_PREHEAT_DEFAULT", json.dumps({"conn_type": "preheat", "extra": extra}))


def context() -> dict[str, Any]:
    names = {"id": "ti", "dag_id": "d", "run_id": "r", "task_id": "warm", "try_number": 1, "map_index": -1}
    task_instance = SimpleNamespace(**names, xcom_push=lambda **_: None)
    return {"ti": task_instance, "outlet_events": OutletEventAccessors()}


def preload(**arguments: Any) -> PreloadOperator:
    settings = {"task_id": "warm", "path": PATH, "deferrable": False, "poll_interval": 0.05}
    return PreloadOperator(**(settings | {"outlets": [warm_asset(PATH)]} | arguments))


class TestWithTheRealCoordinator:
    @pytest.fixture
    async def cluster(self) -> AsyncIterator[Cluster]:
        cluster = Cluster()
        cluster.fill(3)
        await cluster.start_all()
        yield cluster
        await cluster.stop_all()

    @pytest.fixture
    async def url(self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
        async with serve(cluster) as url:
            connect(monkeypatch, url)
            yield url

    async def test_a_tasks_result_and_events_carry_what_the_cluster_signed(self, cluster: Cluster, url: str):
        operator, told = preload(), context()

        result: Any = await asyncio.to_thread(operator.execute, told)

        keys = json.dumps({"keys": await cluster.coordinator.receipts.public_keys()}).encode()
        receipt = verify(result["receipt"], read_keys(keys), now=time.time())
        assert (receipt.sub, receipt.dataset_version) == (result["job_id"], result["dataset_version"])
        assert (receipt.verified.files, receipt.paths) == (3, (PATH,))
        assert told["outlet_events"][warm_asset(PATH)].extra["receipt"] == result["receipt"]
        facet = operator.get_openlineage_facets_on_complete(None).run_facets["preheat_job"]
        assert facet.receipt == result["receipt"]
        assert await asyncio.to_thread(PreheatHook().receipt, result["job_id"]) == result["receipt"]

    @pytest.mark.parametrize("dialect", ["preheat", "alluxio-3.3", "alluxio-3.6"])
    async def test_without_one_the_task_succeeds_as_well(self, url: str, monkeypatch: pytest.MonkeyPatch, dialect: str):
        connect(monkeypatch, url, dialect)
        operator, told = preload(verify=dialect != "preheat"), context()

        result: Any = await asyncio.to_thread(operator.execute, told)

        assert (result["files"], result["receipt"]) == (3, None)
        assert told["outlet_events"][warm_asset(PATH)].extra["receipt"] is None
        assert await asyncio.to_thread(PreheatHook().receipt, result["job_id"]) is None


class TestWithAnyCoordinator:
    @pytest.fixture
    def coordinator(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Coordinator]:
        with running(Coordinator(first_state="SUCCEEDED")) as coordinator:
            connect(monkeypatch, coordinator.url)
            yield coordinator

    def test_one_that_knows_nothing_of_receipts_will_do(self, coordinator: Coordinator):
        submit, answer = coordinator._submit, coordinator.answer

        def without(request: Any) -> tuple[int, bytes]:
            for job in coordinator.jobs.values():
                job.pop("receipt", None)
            return answer(request)

        def submitted(request: Any) -> tuple[int, dict[str, Any]]:
            status, job = submit(request)
            return status, {name: fact for name, fact in job.items() if name != "receipt"}

        coordinator.answer, coordinator._submit = without, submitted  # type: ignore[method-assign]

        result: Any = preload().execute(context())  # type: ignore[arg-type]

        assert (result["job_id"], result["receipt"]) == ("job-1", None)
        assert PreheatHook().receipt("job-1") is None

    def test_a_deferred_task_gets_it_by_the_triggers_event(self, coordinator: Coordinator):
        coordinator.first_state = "RUNNING"
        operator, told = preload(deferrable=True), context()
        with pytest.raises(TaskDeferred) as deferred:
            operator.execute(told)  # type: ignore[arg-type]
        coordinator.update("job-1", state="SUCCEEDED")
        trigger = PreloadTrigger(**(deferred.value.trigger.serialize()[1] | {"not_before": 0.0}))

        async def fired() -> Any:
            async with asyncio.timeout(30):
                return [event.payload async for event in trigger.run()]

        (event,) = asyncio.run(fired())
        result: Any = operator.execute_complete(told, json.loads(json.dumps(event)))  # type: ignore[arg-type]

        assert result["receipt"] == told["outlet_events"][warm_asset(PATH)].extra["receipt"] == SIGNED

    @pytest.mark.parametrize("what", [{"job_id": "job-1"}, {"path": PATH}])
    def test_a_sensor_returns_it_also_of_a_jobs_path(self, coordinator: Coordinator, what: dict[str, str]):
        preload().execute(context())  # type: ignore[arg-type]

        result: Any = PreloadSensor(task_id="wait", deferrable=False, **what).execute(context())  # type: ignore[arg-type]

        assert (result["job_id"], result["receipt"]) == ("job-1", SIGNED)
        assert PreheatHook().look(JobLook(**what)).result == result
