"""The Fluid operator and its trigger, through Airflow's own Kubernetes hooks, against a server of custom objects."""

import asyncio
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferralTimeout, TaskDeferred
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.sdk.serde import deserialize, serialize

from airflow_preheat._fluid import name_of
from airflow_preheat.exceptions import (
    PreheatDeadlineError,
    PreheatJobFailedError,
    PreheatJobNotFoundError,
    PreheatRequestError,
    PreheatUnavailableError,
)
from airflow_preheat.fluid_trigger import FluidDataLoadTrigger
from airflow_preheat.operators import FluidDataLoadOperator
from tests.integration.kubernetes_api import PATIENCE, TOKEN, KubernetesApi, serving
from tests.integration.test_provider_operators import TaskInstance

NAME = name_of("nightly", "manual__1", "warm", -1)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesApi]:
    with serving(KubernetesApi()) as api:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": {"server": api.url}}],
            "users": [{"name": "u", "user": {"token": TOKEN}}],
        }
        extra = {"kube_config": json.dumps(config), "namespace": "training"}
        connection = {"conn_type": "kubernetes", "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps(connection))
        yield api


@pytest.fixture
def context() -> dict[str, Any]:
    return {"ti": TaskInstance()}


def fluid(**arguments: Any) -> FluidDataLoadOperator:
    defaults = {"task_id": "warm", "dataset": "images", "deferrable": True, "poll_interval": 0.05}
    return FluidDataLoadOperator(**(defaults | arguments))


def deferred(operator: FluidDataLoadOperator, context: dict[str, Any]) -> FluidDataLoadTrigger:
    with pytest.raises(TaskDeferred) as caught:
        operator.execute(context)
    path, arguments = caught.value.trigger.serialize()
    assert path == "airflow_preheat.fluid_trigger.FluidDataLoadTrigger"
    trigger = FluidDataLoadTrigger(**deserialize(json.loads(json.dumps(serialize(arguments)))))
    trigger.wait = replace(trigger.wait, not_before=0.0)
    return trigger


async def fire(trigger: FluidDataLoadTrigger) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE):
        return json.loads(json.dumps((await anext(trigger.run())).payload))


def only(api: KubernetesApi) -> dict[str, Any]:
    (resource,) = api.objects.values()
    return resource


async def test_it_creates_a_data_load_defers_on_its_phase_and_returns_how_it_ended(api, context):
    targets = ["/train", {"path": "/labels", "replicas": 2}]
    operator = fluid(targets=targets, load_metadata="false", spec={"options": {"threads": "8"}})
    trigger = await asyncio.to_thread(deferred, operator, context)
    assert list(api.objects) == [("data.fluid.io", "v1alpha1", "training", "dataloads", NAME)]
    resource = only(api)
    assert resource["spec"] == {
        "dataset": {"name": "images", "namespace": "training"},
        "loadMetadata": False,
        "target": [{"path": "/train"}, {"path": "/labels", "replicas": 2}],
        "options": {"threads": "8"},
    }

    waiting = asyncio.create_task(fire(trigger))
    for phase in ("", "Pending", "Executing"):
        api.set_status(NAME, phase=phase)
        looks = len(api.sent("GET"))
        await asyncio.to_thread(api.wait_until, lambda looks=looks: len(api.sent("GET")) > looks + 1)
    api.set_status(NAME, phase="Complete", duration="1m2s")
    result = await asyncio.to_thread(operator.execute_complete, context, await waiting)

    assert result == {
        "name": NAME,
        "namespace": "training",
        "dataset": "images",
        "phase": "Complete",
        "duration": "1m2s",
    }
    assert api.objects == {}


async def test_one_that_failed_is_explained_and_kept(api, context):
    operator = fluid()
    trigger = await asyncio.to_thread(deferred, operator, context)
    condition = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "4 pods failed."}
    api.set_status(NAME, phase="Failed", conditions=[condition])
    with pytest.raises(PreheatJobFailedError, match=f"BackoffLimitExceeded 4 pods failed.*describe dataload {NAME}"):
        await asyncio.to_thread(operator.execute_complete, context, await fire(trigger))
    assert only(api)["status"]["phase"] == "Failed"


def test_the_next_try_goes_on_with_the_data_load_of_the_one_before(api, context):
    deferred(fluid(), context)
    uid = only(api)["metadata"]["uid"]
    context["ti"].try_number = 2
    assert deferred(fluid(), context).wait.name == NAME
    assert only(api)["metadata"]["uid"] == uid

    api.set_status(NAME, phase="Complete")
    assert fluid(delete_when_complete=False).execute(context)["phase"] == "Complete"
    assert only(api)["metadata"]["uid"] == uid


def test_under_a_name_that_was_chosen_nothing_of_somebody_elses_is_taken_for_its_own(api, context):
    def warm(**arguments: Any) -> FluidDataLoadOperator:
        return fluid(name="warm", delete_when_complete=False, **arguments)

    deferred(warm(), context)
    first = only(api)["metadata"]["uid"]
    context["ti"].run_id = "manual__2"
    with pytest.raises(PreheatRequestError, match="an earlier run of this task waits for it"):
        warm().execute(context)
    api.set_status("warm", phase="Complete")
    deferred(warm(), context)
    second = only(api)["metadata"]["uid"]
    assert second != first
    context["ti"].task_id = "other"
    for phase in ("Executing", "Complete", "Failed"):
        api.set_status("warm", phase=phase)
        with pytest.raises(PreheatRequestError, match="was made by somebody else"):
            warm().execute(context)
    with pytest.raises(PreheatDeadlineError):
        warm(deadline="2020-01-01T00:00Z").execute(context)
    assert only(api)["metadata"]["uid"] == second


def test_a_wait_that_cannot_be_stored_fails_before_there_is_a_data_load(api, context):
    with pytest.raises(TypeError, match="not JSON serializable"):
        fluid(poll_interval=timedelta(seconds=1)).execute(context)
    assert api.received == []


def test_one_that_failed_before_is_replaced_when_it_is_gone(api, context):
    deferred(fluid(), context)
    uid = only(api)["metadata"]["uid"]
    api.set_status(NAME, phase="Failed")
    api.finalizing = True
    with ThreadPoolExecutor() as pool:
        again = pool.submit(deferred, fluid(), context)
        api.wait_until(lambda: len(api.sent("POST")) >= 3)
        assert len(api.sent("DELETE")) == 1
        api.finalize()
        again.result(PATIENCE)
    assert only(api)["metadata"]["uid"] != uid


@pytest.mark.parametrize(("state", "gone"), [("failed", True), ("success", True), ("deferred", False), (None, False)])
async def test_a_kill_deletes_it_only_if_the_task_has_ended(api, context, monkeypatch, state, gone):
    states = {"manual__1": {"warm": state}} if state else {}
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(lambda **_: states))
    trigger = await asyncio.to_thread(deferred, fluid(), context)
    trigger.task_instance = SimpleNamespace(dag_id="nightly", task_id="warm", run_id="manual__1", map_index=-1)
    await trigger.on_kill()
    assert (api.objects == {}) is gone


def test_a_kill_while_it_waits_here_deletes_it(api, context):
    operator = fluid(deferrable=False)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(operator.execute, context)
        api.wait_until(lambda: len(api.sent("GET")) >= 2)
        operator.on_kill()
        assert type(waiting.exception(PATIENCE)) is PreheatJobNotFoundError
    assert api.objects == {}
    fluid(delete_on_kill=False).on_kill()
    fluid().on_kill()
    assert len(api.sent("DELETE")) == 1


def test_it_waits_here_if_it_is_not_deferred(api, context):
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(fluid(deferrable=False).execute, context)
        api.wait_until(lambda: bool(api.sent("GET")))
        api.set_status(NAME, phase="Complete")
        assert waiting.result(PATIENCE)["name"] == NAME


async def test_the_deadline_deletes_it(api, context):
    operator = fluid(deadline=timedelta(seconds=0.5))
    trigger = await asyncio.to_thread(deferred, operator, context)
    with pytest.raises(PreheatDeadlineError, match="had not ended by the task's deadline"):
        await asyncio.to_thread(operator.execute_complete, context, await fire(trigger))
    assert api.objects == {}
    with pytest.raises(PreheatDeadlineError, match="has passed"):
        await asyncio.to_thread(fluid(deadline="2020-01-01T00:00Z").execute, context)
    assert len(api.sent("POST")) == 1


def test_a_broken_trigger_leaves_no_data_load(api, context):
    deferred(fluid(), context)
    with pytest.raises(TaskDeferralTimeout):
        fluid().resume_execution("__fail__", {"error": "Trigger timeout"}, context)
    assert api.objects == {}


async def test_an_api_server_that_is_away_is_waited_for_as_long_as_is_tolerated(api, context):
    operator = fluid(outage_tolerance=PATIENCE)
    trigger = await asyncio.to_thread(deferred, operator, context)
    waiting = asyncio.create_task(fire(trigger))
    api.away = True
    looks = len(api.sent("GET"))
    await asyncio.to_thread(api.wait_until, lambda: len(api.sent("GET")) > looks + 2)
    assert not waiting.done()
    trigger.wait = replace(trigger.wait, outage_tolerance=0.0)
    event = await fire(trigger)
    with pytest.raises(PreheatUnavailableError, match=r"does not answer about DataLoad training/.*Waited 0 s"):
        operator.execute_complete(context, event)
    api.away = False
    api.set_status(NAME, phase="Complete")
    assert (await waiting)["status"] == "complete"


async def test_one_that_somebody_deleted_is_lost(api, context):
    operator = fluid()
    trigger = await asyncio.to_thread(deferred, operator, context)
    api.objects.clear()
    with pytest.raises(PreheatJobNotFoundError, match="is not there"):
        operator.execute_complete(context, await fire(trigger))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"forbidden": frozenset({"POST"})}, PreheatRequestError, r"HTTP 403.*May the Airflow connection's account"),
        ({"kinds": frozenset()}, PreheatJobNotFoundError, "is Fluid installed"),
    ],
)
def test_a_refusal_says_what_to_do(api, context, change, error, message):
    for name, value in change.items():
        setattr(api, name, value)
    with pytest.raises(error, match=message):
        fluid().execute(context)


@pytest.mark.parametrize("target", [{"replicas": 2}, {"path": "/", "copies": 2}, {"path": ""}])
def test_a_target_without_a_path_is_refused(api, context, target):
    with pytest.raises(PreheatRequestError, match="Write a path, or a mapping with path and replicas"):
        fluid(targets=[target]).execute(context)
    assert api.received == []


def test_names_are_those_of_helm_releases_and_differ():
    names = [
        name_of("nightly", "manual__1", "warm", -1),
        name_of("nightly", "manual__1", "warm", 0),
        name_of("nightly", "manual__2", "warm", -1),
        name_of("a" * 80, "r", "Task.Group_B", -1),
        name_of("7", "r", "8", -1),
        name_of("日本", "r", "語", -1),
    ]
    assert len(set(names)) == len(names)
    for name in names:
        assert len(name) <= 53
        assert name[0].isalpha()
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert names[0].startswith("nightly-warm-")


def test_without_the_extra_it_says_what_to_install(context, monkeypatch):
    monkeypatch.setitem(sys.modules, "airflow.providers.cncf.kubernetes.hooks.kubernetes", None)
    monkeypatch.delitem(sys.modules, "airflow_preheat._fluid_client", raising=False)
    with pytest.raises(PreheatRequestError, match=r"pip install 'airflow-provider-preheat\[fluid\]'"):
        fluid().execute(context)
