"""The sensors against a coordinator over real HTTP: whatever the mode, a wait ends the same way."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import (
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)
from airflow.sdk.module_loading import import_string
from airflow.sdk.serde import deserialize, serialize

from airflow_preheat import _client, sensors
from airflow_preheat.exceptions import (
    PreheatError,
    PreheatJobFailedError,
    PreheatJobNotFoundError,
    PreheatRequestError,
    PreheatUnavailableError,
)
from airflow_preheat.sensors import DatasetWarmSensor, PreloadSensor
from tests.integration.provider_coordinator import CONTRACT_JOB, Coordinator, running

TOKEN = "s3cret-token"
PATH = "s3://datasets/digits/"
MODES = ("poke", "reschedule", "deferrable")
PATIENCE = 30.0
Make = Callable[..., Any]


@pytest.fixture
def coordinator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Coordinator]:
    monkeypatch.setattr(_client, "_RETRY_DELAYS", (0.0,))
    monkeypatch.setattr(sensors, "_report_seconds", lambda: 0.0)
    with running(Coordinator(jobs={"job-1": CONTRACT_JOB | {"id": "job-1", "paths": [PATH]}})) as coordinator:
        connection = {"conn_type": "preheat", "password": TOKEN, "extra": {"url": coordinator.url}}
        monkeypatch.setenv("AIRFLOW_CONN_PREHEAT_DEFAULT", json.dumps(connection))
        yield coordinator


@dataclass
class TaskInstance:
    """The part of Airflow's task instance that sensors use."""

    first: datetime | None = None

    def get_first_reschedule_date(self, context: Any) -> datetime | None:
        return self.first


def job(**arguments: Any) -> PreloadSensor:
    return PreloadSensor(**({"task_id": "wait", "job_id": "job-1", "poke_interval": 0.01} | arguments))


def dataset(**arguments: Any) -> DatasetWarmSensor:
    return DatasetWarmSensor(**({"task_id": "wait", "path": PATH, "poke_interval": 0.01} | arguments))


def run(make: Make, mode: str, **arguments: Any) -> Any:
    """Run a task to its end as Airflow does."""
    if mode == "deferrable":
        return resumed(make(deferrable=True, **arguments))
    context: Any = {"ti": TaskInstance()}
    while True:
        try:
            return make(mode=mode, deferrable=False, **arguments).execute(context)
        except AirflowRescheduleException as again:
            context["ti"].first = context["ti"].first or datetime.now(UTC)
            time.sleep(max(0.0, (again.reschedule_date - datetime.now(UTC)).total_seconds()))


def resumed(sensor: Any) -> Any:
    try:
        return sensor.execute({"ti": TaskInstance()})
    except TaskDeferred as deferral:
        path, arguments = deferral.trigger.serialize()
        assert TOKEN not in json.dumps(arguments)
        trigger = import_string(path)(**deserialize(serialize(json.loads(json.dumps(arguments)))))
        (event,) = asyncio.run(fired(trigger))
        return sensor.resume_execution(deferral.method_name, {"event": event}, {})


async def fired(trigger: Any) -> list[Any]:
    async with asyncio.timeout(PATIENCE):
        return [json.loads(json.dumps(event.payload)) async for event in trigger.run()]


def after(coordinator: Coordinator, requests: int, change: Callable[[], Any]) -> None:
    """Change the coordinator once it was asked so often."""
    answer = coordinator.answer

    def changed(request: Any) -> tuple[int, bytes]:
        if len(coordinator.received) == requests:
            change()
        return answer(request)

    coordinator.answer = changed  # type: ignore[method-assign]


@pytest.mark.parametrize("mode", MODES)
def test_a_dataset_is_waited_for_until_it_is_warm(coordinator: Coordinator, mode: str):
    coordinator.warm(PATH, 1, hot=99)
    after(coordinator, 3, lambda: coordinator.warm(PATH, 1))

    result = run(dataset, mode, version=f"sha256:{1:064x}")

    assert (result["hot_fraction"], result["dataset_version"]) == (1.0, f"sha256:{1:064x}")
    assert coordinator.received[0].query == {"path": PATH, "version": f"sha256:{1:064x}"}
    assert {request.headers["authorization"] for request in coordinator.received} == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("named", [{}, {"job_id": None, "path": PATH}])
def test_a_job_is_waited_for_until_it_has_succeeded(coordinator: Coordinator, mode: str, named: dict[str, Any]):
    coordinator.jobs["job-1"]["state"] = "RUNNING"
    after(coordinator, 3, lambda: coordinator.update("job-1", state="SUCCEEDED"))

    assert run(job, mode, **named)["dataset_version"] == CONTRACT_JOB["datasetVersion"]
    assert coordinator.sent("POST") == []


def test_a_deferred_sensor_notices_the_end_of_a_job_at_once(coordinator: Coordinator):
    coordinator.jobs["job-1"]["state"] = "RUNNING"
    started = time.monotonic()
    after(coordinator, 2, lambda: coordinator.update("job-1", state="SUCCEEDED"))

    run(job, "deferrable", poke_interval=20.0)

    assert time.monotonic() - started < 10


WRONG: list[tuple[Make, dict[str, Any], type[Exception]]] = [
    (dataset, {"timeout": 0.05}, AirflowSensorTimeout),
    (job, {"timeout": 0.05, "job_id": "job-2"}, AirflowSensorTimeout),
    (job, {}, PreheatJobFailedError),
    (job, {"job_id": "job-9"}, PreheatJobNotFoundError),
    (job, {"job_id": "", "path": ""}, PreheatRequestError),
    (dataset, {"min_hot_fraction": "2"}, PreheatRequestError),
    (dataset, {"outage_tolerance": 0.0, "path": "s3://away/"}, PreheatUnavailableError),
    (dataset, {"timeout": 0.05, "path": "s3://away/"}, AirflowSensorTimeout),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("make", "arguments", "error"), WRONG)
def test_what_goes_wrong_ends_the_same_way_in_each_mode(
    coordinator: Coordinator, mode: str, make: Make, arguments: dict[str, Any], error: type[Exception]
):
    coordinator.warm(PATH, 1, hot=99)
    coordinator.jobs["job-1"] |= {"state": "FAILED", "reason": "The reason."}
    coordinator.jobs["job-2"] = CONTRACT_JOB | {"id": "job-2", "state": "RUNNING"}
    if arguments.get("path") == "s3://away/":
        coordinator.refuse(503, of="/warmth", times=1000, detail="Not now.")

    with pytest.raises(error) as raised:
        run(make, mode, **arguments)
    assert type(raised.value) is error
    reasons = ("99.00 % hot", "RUNNING", "The reason.", "There is no job", "give one", "between 0 and 1", "Not now.")
    assert any(reason in str(raised.value) for reason in reasons), str(raised.value)
    for gently in ("soft_fail", "never_fail"):
        with pytest.raises(AirflowSkipException):
            run(make, mode, **arguments, **{gently: True})


@pytest.mark.parametrize("mode", MODES)
def test_a_silent_sensor_waits_for_another_job_of_the_path(coordinator: Coordinator, mode: str):
    coordinator.jobs["job-1"]["state"] = "FAILED"
    again = CONTRACT_JOB | {"id": "job-2", "paths": [PATH]}
    after(coordinator, 3, lambda: coordinator.jobs.update({"job-2": again}))

    assert run(job, mode, job_id=None, path=PATH, silent_fail=True)["job_id"] == "job-2"


@pytest.mark.parametrize("mode", MODES)
def test_an_outage_is_waited_out(coordinator: Coordinator, mode: str):
    coordinator.warm(PATH, 1)
    coordinator.refuse(503, times=6, detail="Starting.")

    assert run(dataset, mode)["files"] == 100
    assert len(coordinator.received) == 7


def test_the_time_of_a_rescheduled_sensor_runs_on(coordinator: Coordinator):
    context: Any = {"ti": TaskInstance(first=datetime.now(UTC) - timedelta(seconds=60))}
    coordinator.refuse(503, times=1000, detail="Not now.")

    with pytest.raises(AirflowSensorTimeout, match=r"Not now\."):
        dataset(mode="reschedule", deferrable=False, timeout=30).execute(context)


def test_a_deferral_has_a_deadline_of_its_own_and_one_of_airflow(coordinator: Coordinator):
    with pytest.raises(TaskDeferred) as deferral:
        dataset(deferrable=True, timeout=600, execution_timeout=timedelta(seconds=60)).execute({"ti": TaskInstance()})

    assert 55 < deferral.value.trigger.wait.deadline - time.time() <= 60
    assert timedelta(seconds=60) < deferral.value.timeout < timedelta(seconds=200)
    for error, arguments in ((AirflowSensorTimeout, {}), (AirflowSkipException, {"soft_fail": True})):
        with pytest.raises(error):
            dataset(**arguments).resume_execution("__fail__", {"error": "Trigger timeout"}, {})


def test_an_event_of_another_version_is_named(coordinator: Coordinator):
    with pytest.raises(PreheatError, match="does not know"):
        dataset().execute_complete({}, {"status": "succeeded"})


def test_times_are_checked(coordinator: Coordinator):
    for wrong in ("yesterday", "2026-11-21T02:00:00"):
        with pytest.raises(PreheatRequestError, match="submitted_after"):
            job(job_id=None, path=PATH, submitted_after=wrong).look()
    with pytest.raises(PreheatRequestError, match="is for a path"):
        job(submitted_after="2026-11-21T02:00:00Z").look()
    moment = datetime(2026, 11, 21, tzinfo=UTC)
    assert job(job_id=None, path=PATH, submitted_after=moment).look().submitted_after == moment.isoformat()
