"""One task for many datasets, against a coordinator over real HTTP."""

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferralTimeout, TaskDeferred
from airflow.sdk.execution_time.context import OutletEventAccessors
from airflow.sdk.serde import deserialize, serialize

from airflow_preheat import _client
from airflow_preheat._many import Quorum
from airflow_preheat.assets import warm_asset
from airflow_preheat.exceptions import PreheatDeadlineError, PreheatJobFailedError, PreheatRequestError
from airflow_preheat.many_trigger import PreloadManyTrigger
from airflow_preheat.operators import PreloadManyOperator, _many
from tests.integration.provider_coordinator import ENDED, Coordinator, running
from tests.integration.test_provider_operators import PATIENCE, TaskInstance, connect

PATHS = [f"s3://datasets/{name}/" for name in ("a", "b", "c", "d")]


class Store(dict[str, Any]):
    """Airflow's state of a task, as far as it is used."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value

    def delete(self, key: str) -> None:
        self.pop(key, None)


@pytest.fixture
def coordinator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Coordinator]:
    monkeypatch.setattr(_client, "_RETRY_DELAYS", (0.0,))
    monkeypatch.setattr(_many, "_POLL_SECONDS", 0.1)
    with running(Coordinator()) as coordinator:
        connect(monkeypatch, coordinator.url)
        yield coordinator


@pytest.fixture
def context() -> dict[str, Any]:
    return {"ti": TaskInstance(), "outlet_events": OutletEventAccessors(), "task_state_store": Store()}


def many(**arguments: Any) -> PreloadManyOperator:
    return PreloadManyOperator(**({"task_id": "warm", "datasets": PATHS, "deferrable": True} | arguments))


def deferred(operator: PreloadManyOperator, context: dict[str, Any]) -> PreloadManyTrigger:
    with pytest.raises(TaskDeferred) as caught:
        operator.execute(context)
    trigger = caught.value.trigger
    path, arguments = trigger.serialize()
    assert path == "airflow_preheat.many_trigger.PreloadManyTrigger"
    stored = deserialize(json.loads(json.dumps(serialize(arguments))))
    stored["wait"]["not_before"] = 0.0
    return PreloadManyTrigger(**stored)


async def through(
    operator: PreloadManyOperator, context: dict[str, Any], coordinator: Coordinator, change: Callable[[], None]
) -> Any:
    """Run the task from its submits to its end; ``change`` comes when all jobs are polled."""
    trigger = await asyncio.to_thread(deferred, operator, context)
    async with asyncio.timeout(PATIENCE):
        firing = asyncio.ensure_future(anext(trigger.run()))
        polled = {f"/v1/jobs/{job_id}" for job_id, _, _ in trigger.jobs}
        await asyncio.to_thread(
            coordinator.wait_until, lambda: polled <= {request.path for request in coordinator.sent("GET")}
        )
        change()
        event = json.loads(json.dumps((await firing).payload))
    return await asyncio.to_thread(operator.execute_complete, context, event)


def by_path(coordinator: Coordinator) -> dict[str, str]:
    return {job["source"][0]: job_id for job_id, job in coordinator.jobs.items()}


def end(coordinator: Coordinator, **states: str) -> Callable[[], None]:
    """Return what lets the jobs end so, by the last letter of their paths."""

    def change() -> None:
        for path, job_id in by_path(coordinator).items():
            if state := states.get(path[-2]):
                coordinator.update(job_id, state=state, reason="" if state == "SUCCEEDED" else "Access denied.")

    return change


ALL = dict.fromkeys("abcd", "SUCCEEDED")


async def test_all_are_submitted_as_told_waited_for_at_once_and_summed_up(coordinator, context):
    datasets = [
        PATHS[0],
        {"path": PATHS[1], "replicas": 3, "priority": "high", "wait_policy": {"max_failed_files": "2"}},
        {"index": "s3://datasets/c/", "verify": "false"},
    ]
    operator = many(datasets=datasets, bandwidth="1GiB", outlets=[warm_asset(PATHS[0]), warm_asset("s3://x/")])

    summary = await through(operator, context, coordinator, end(coordinator, **ALL))

    assert (summary["succeeded"], summary["failed"]) == (3, 0)
    assert [item["dataset"] for item in summary["datasets"]] == [PATHS[0], PATHS[1], "s3://datasets/c/"]
    assert {item["job"]["job_id"] for item in summary["datasets"]} == set(coordinator.jobs)
    for item in summary["datasets"]:  # a thousand share one XCom: nothing twice, and nothing that the job's page has
        assert set(item["job"]) == {"job_id", "url", "files", "bytes", "failed", "dataset_version"}
        assert len(json.dumps(item)) < 400
    bodies = {
        request.body.get("index", str(request.body.get("paths"))): request.body
        for request in coordinator.sent("POST", "/jobs")
    }
    assert bodies["s3://datasets/c/"]["options"]["verify"] is False
    assert bodies[str([PATHS[1]])]["options"] == {
        "replicas": 3,
        "priority": "high",
        "maxFailedFiles": 2,
        "verify": True,
        "skipIfExists": True,
        "bandwidth": "1GiB",
    }
    waiters = {waiter for _, waiter in coordinator.fences}
    assert len(waiters) == 3
    assert all(waiter.startswith("nightly/manual__1/warm/-1/") for waiter in waiters)
    keys = {request.headers["idempotency-key"] for request in coordinator.sent("POST", "/jobs")}
    assert len(keys) == 3
    assert context["outlet_events"][operator.outlets[0]].extra["path"] == PATHS[0]
    assert context["task_state_store"] == {}


def test_what_airflow_stores_of_many_jobs_is_small(coordinator, context):
    one, two = (len(json.dumps(deferred(many(datasets=PATHS[:count]), context).serialize()[1])) for count in (1, 2))
    assert two - one < 80


async def test_one_that_fails_fails_the_task_after_all_have_ended(coordinator, context):
    with pytest.raises(
        PreheatJobFailedError, match=r"1 of 4 datasets are not warm:\n  s3://datasets/b/: failed.*Access denied"
    ):
        await through(many(), context, coordinator, end(coordinator, **{**ALL, "b": "FAILED"}))
    assert not coordinator.sent("POST", "/cancel")


@pytest.mark.parametrize("wanted", [3, "3", 0.75, 0.6])
async def test_enough_are_enough_and_outlets_are_those_of_warm_datasets(coordinator, context, wanted):
    operator = many(min_succeeded=wanted, outlets=[warm_asset(path) for path in PATHS])
    summary = await through(operator, context, coordinator, end(coordinator, **{**ALL, "b": "FAILED"}))
    assert (summary["succeeded"], summary["failed"]) == (3, 1)
    assert [item["status"] for item in summary["datasets"]] == ["succeeded", "failed", "succeeded", "succeeded"]
    assert [outlet.uri for outlet in operator.outlets] == [warm_asset(path).uri for path in PATHS if path != PATHS[1]]


async def test_fail_fast_cancels_the_rest(coordinator, context):
    operator = many(fail_fast=True, min_succeeded=3)
    change = end(coordinator, a="FAILED", b="FAILED")
    with pytest.raises(PreheatJobFailedError, match=r"(?s)4 of 4 datasets.*cancelled. Given up"):
        await through(operator, context, coordinator, change)
    coordinator.let_grace_pass()
    assert {job["state"] for job in coordinator.jobs.values()} == {"FAILED", "STOPPED"}


async def test_a_submit_that_is_refused_is_one_failure(coordinator, context):
    coordinator.refuse(404, of="/jobs", code="bucket_not_found", detail="There is no bucket.", remedy="Make it.")
    with pytest.raises(PreheatJobFailedError, match=r"1 of 4 .*\n.*There is no bucket. Make it."):
        await through(many(), context, coordinator, end(coordinator, **ALL))


async def test_a_kill_while_deferred_cancels_each(coordinator, context):
    trigger = await asyncio.to_thread(deferred, many(), context)
    running = asyncio.ensure_future(anext(trigger.run()))
    await asyncio.to_thread(coordinator.wait_until, lambda: len(coordinator.sent("GET")) >= 4)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await trigger.on_kill()
    coordinator.let_grace_pass()
    assert {job["state"] for job in coordinator.jobs.values()} == {"STOPPED"}


def test_a_kill_while_it_waits_here_cancels_each(coordinator, context):
    operator = many(deferrable=False, deadline=timedelta(seconds=PATIENCE))
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(operator.execute, context)
        coordinator.wait_until(lambda: len(coordinator.sent("POST", "/claim")) >= 4)
        coordinator.wait_until(lambda: len(coordinator.jobs) == 4 and len(coordinator.sent("POST", "/claim")) >= 8)
        operator.on_kill()
        coordinator.let_grace_pass()
        assert isinstance(waiting.exception(PATIENCE), PreheatJobFailedError)
    assert {job["state"] for job in coordinator.jobs.values()} == {"STOPPED"}


def test_it_waits_here_if_it_is_not_deferred(coordinator, context):
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(many(deferrable=False).execute, context)
        coordinator.wait_until(lambda: len(coordinator.sent("POST", "/claim")) >= 8)
        end(coordinator, **ALL)()
        assert waiting.result(PATIENCE)["succeeded"] == 4


def test_a_broken_trigger_leaves_no_job_without_a_waiter(coordinator, context):
    operator = many()
    deferred(operator, context)
    with pytest.raises(TaskDeferralTimeout):
        many().resume_execution("__fail__", {"error": "Trigger timeout"}, context)
    coordinator.let_grace_pass()
    assert {job["state"] for job in coordinator.jobs.values()} == {"STOPPED"}


async def test_the_deadline_cancels_those_that_go_on(coordinator, context):
    operator = many(deadline=timedelta(seconds=1))
    trigger = await asyncio.to_thread(deferred, operator, context)
    coordinator.update("job-1", state="SUCCEEDED")
    async with asyncio.timeout(PATIENCE):
        event = (await anext(trigger.run())).payload
    with pytest.raises(PreheatDeadlineError, match="3 of 4 datasets are not warm"):
        await asyncio.to_thread(operator.execute_complete, context, event)
    coordinator.let_grace_pass()
    assert sorted(job["state"] for job in coordinator.jobs.values()) == ["STOPPED"] * 3 + ["SUCCEEDED"]


def test_the_next_try_goes_on_with_the_jobs_of_the_one_before(coordinator, context):
    deferred(many(), context)
    submits = len(coordinator.sent("POST", "/jobs"))
    paths = by_path(coordinator)
    coordinator.update(paths[PATHS[0]], state="SUCCEEDED")
    coordinator.update(paths[PATHS[1]], state="FAILED")
    context["ti"].try_number = 2

    trigger = deferred(many(), context)

    assert len(coordinator.sent("POST", "/jobs")) == submits + 1
    assert len(trigger.jobs) == 3
    assert trigger.outcomes[0]["status"] == "succeeded"
    assert len(coordinator.jobs) == 5


def test_jobs_that_the_coordinator_has_lost_are_submitted_again(coordinator, context):
    deferred(many(), context)
    coordinator.jobs.clear()
    lost = [{"status": "lost", "job_id": f"job-{number}", "message": "Unknown.", "job": None} for number in range(4)]
    with pytest.raises(TaskDeferred):
        many().execute_complete(context, {"outcomes": lost})
    assert len(coordinator.jobs) == 4


def test_all_that_has_ended_already_needs_no_deferral(coordinator, context):
    coordinator.first_state = "SUCCEEDED"
    assert many().execute(context)["succeeded"] == 4
    assert all(job["state"] in ENDED for job in coordinator.jobs.values())


def test_a_kill_during_a_submit_leaves_no_job_without_a_waiter(coordinator, context, monkeypatch):
    operator = many(parallel_submits=1)
    submit = coordinator._submit

    def killed_meanwhile(request: Any) -> Any:
        operator.on_kill()
        return submit(request)

    monkeypatch.setattr(coordinator, "_submit", killed_meanwhile)
    with ThreadPoolExecutor() as pool:
        task = pool.submit(operator.execute, context)
        coordinator.wait_until(lambda: bool(coordinator.leaving))
        coordinator.let_grace_pass()
        assert isinstance(task.exception(PATIENCE), PreheatJobFailedError)
    assert [job["state"] for job in coordinator.jobs.values()] == ["STOPPED"]


def test_a_try_after_the_deadline_cancels_the_jobs_of_the_one_before(coordinator, context):
    deferred(many(), context)
    with pytest.raises(PreheatDeadlineError, match="has passed"):
        many(deadline="2020-01-01T00:00Z").execute(context)
    coordinator.let_grace_pass()
    assert {job["state"] for job in coordinator.jobs.values()} == {"STOPPED"}


async def test_datasets_that_have_no_asset_are_warmed_too(coordinator, context):
    datasets = ["file:///data/a/", "s3://datasets/what?/b/"]
    operator = many(datasets=datasets, outlets=[warm_asset(PATHS[0])])
    assert (await through(operator, context, coordinator, end(coordinator, **ALL)))["succeeded"] == 2


async def test_a_callback_of_the_dags_defaults_does_not_make_a_late_job_a_failure(coordinator, context):
    operator = many(default_args={"on_late_callback": print})
    trigger = await asyncio.to_thread(deferred, operator, context)
    assert trigger.wait["tell_late"] is False


def test_a_tolerated_failure_among_the_first_files_is_loaded_anew_by_the_next_try(coordinator, context):
    policy = {"first": 100, "max_failed_files": 5}
    coordinator.first_state = "SUCCEEDED"
    coordinator.first_facts = {"hotInOrder": 12, "failed": {"files": 1, "bytes": 9}}
    with pytest.raises(PreheatJobFailedError, match="12 files"):
        many(datasets=PATHS[:1], wait_policy=policy).execute(context)
    coordinator.first_facts, context["ti"].try_number = {"hotInOrder": 100}, 2
    assert many(datasets=PATHS[:1], wait_policy=policy).execute(context)["succeeded"] == 1
    assert len(coordinator.jobs) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"datasets": "['s3://b/']"}, "datasets=.* is not a list"),
        ({"datasets": {"path": "s3://b/"}}, "datasets=.* is not a list"),
        ({"partition": "eu/{version}", "wait_policy": {"first": 3}}, "partition='eu/{version}' needs"),
        ({"datasets": [{"paths": "s3://b/"}]}, r"dataset=.*Write a path, or a mapping with path or index"),
        ({"datasets": [7]}, "dataset=7 is not known"),
        ({"datasets": [{"replicas": 2}]}, "give one of them"),
        ({"min_succeeded": 5}, "min_succeeded=5 is neither"),
        ({"min_succeeded": "most"}, "min_succeeded='most' is neither"),
        ({"min_succeeded": 1.5}, "min_succeeded=1.5 is neither"),
    ],
)
def test_what_cannot_be_used_is_refused_before_a_submit(coordinator, context, arguments, message):
    with pytest.raises(PreheatRequestError, match=message):
        many(**arguments).execute(context)
    assert not coordinator.sent("POST")


def test_what_it_does_not_take_is_refused_by_the_dag():
    for name in ("path", "index", "on_late_callback"):
        with pytest.raises(TypeError, match="neither path, index nor on_late_callback"):
            many(**{name: "x"})


def test_a_quorum_is_over_when_it_cannot_be_met_any_more_if_that_is_wanted():
    failed: Any = {"status": "failed", "job_id": "j", "message": "", "job": None}
    patient, hasty = Quorum(count=3, wanted=2), Quorum(count=3, wanted=2, fail_fast=True)
    for outcomes, over in (([None] * 3, False), ([failed, None, None], False), ([failed, failed, None], True)):
        assert hasty.is_over(outcomes) is over
        assert not patient.is_over(outcomes)
    assert patient.is_over([failed] * 3)
