"""The operators against a coordinator over real HTTP; ``tests/e2e`` runs them inside Airflow."""

import asyncio
import json
import logging
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from unittest.mock import ANY

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferralError, TaskDeferralTimeout, TaskDeferred
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_preheat import _client
from airflow_preheat.assets import warm_asset
from airflow_preheat.exceptions import (
    PreheatDeadlineError,
    PreheatError,
    PreheatJobFailedError,
    PreheatJobNotFoundError,
    PreheatJobStoppedError,
    PreheatRequestError,
    PreheatUnavailableError,
    PreheatUnreachableError,
)
from airflow_preheat.operators import PreloadOperator
from tests.integration.provider_coordinator import CONTRACT_JOB, Coordinator, running

TOKEN = "s3cret-token"
PATH = "s3://datasets/digits/"
PATIENCE = 30.0


@dataclass
class TaskInstance:
    """The part of Airflow's task instance that the operators use."""

    id: str = "0198-ti"
    dag_id: str = "nightly"
    run_id: str = "manual__1"
    task_id: str = "warm"
    try_number: int = 1
    map_index: int = -1
    xcoms: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value

    def xcom_pull(self, *, key: str, map_indexes: int) -> Any:
        assert map_indexes == self.map_index
        return self.xcoms.get(key)


@pytest.fixture
def coordinator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Coordinator]:
    monkeypatch.setattr(_client, "_RETRY_DELAYS", (0.0,))
    with running(Coordinator()) as coordinator:
        connect(monkeypatch, coordinator.url)
        yield coordinator


@pytest.fixture
def context() -> dict[str, Any]:
    return {"ti": TaskInstance(), "outlet_events": OutletEventAccessors()}


def connect(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    connection = {"conn_type": "preheat", "password": TOKEN, "extra": {"url": url, "connect_timeout": 1}}
    monkeypatch.setenv("AIRFLOW_CONN_PREHEAT_DEFAULT", json.dumps(connection))


def preload(**arguments: Any) -> PreloadOperator:
    return PreloadOperator(**({"task_id": "warm", "path": PATH, "deferrable": True} | arguments))


def submit(operator: PreloadOperator, context: dict[str, Any]) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    return deferred.value


def event(status: str, **fields: Any) -> dict[str, Any]:
    return {"status": status, "job_id": "job-1", "message": "The reason.", "job": None} | fields


def summary() -> dict[str, Any]:
    keys = {"job_id": "job-1", "url": "u", "paths": [PATH], "files": 1797, "bytes": 201264, "loaded": 1790}
    return keys | {"skipped": 7, "failed": 0, "hot_fraction": 1.0, "dataset_version": CONTRACT_JOB["datasetVersion"]}


def test_it_submits_what_it_was_told_and_defers(coordinator, context):
    operator = preload(replicas="2", verify="false", bandwidth="100MiB", batch_size=50, file_filter_regex="")

    deferral = submit(operator, context)

    assert coordinator.received[0].body == {
        "type": "load",
        "paths": [PATH],
        "options": {"batchSize": 50, "replicas": 2, "verify": False, "skipIfExists": True, "bandwidth": "100MiB"},
        "waiter": "nightly/manual__1/warm/-1",
        "fence": ANY,
        "lease": 1800.0,
    }
    assert (deferral.trigger.wait.job_id, deferral.method_name) == ("job-1", "execute_complete")
    assert timedelta(days=7) < deferral.timeout < timedelta(days=7, minutes=3)  # a little after the default deadline
    assert operator.job_id == "job-1"
    assert context["ti"].xcoms == {"job_id": "job-1", "job_url": f"{coordinator.url}/jobs/job-1"}


def test_a_submit_that_is_repeated_has_the_key_of_its_try(coordinator, context):
    for context["ti"].try_number in (1, 1, 2):
        submit(preload(), context)

    keys = [request.headers["idempotency-key"] for request in coordinator.sent("POST", "/jobs")]
    assert keys == ["airflow-0198-ti-1", "airflow-0198-ti-1", "airflow-0198-ti-2"]


def test_the_next_try_attaches_to_a_job_that_runs_and_starts_one_that_was_stopped_anew(coordinator, context):
    assert submit(preload(), context).trigger.wait.job_id == "job-1"

    context["ti"].try_number = 2
    assert submit(preload(), context).trigger.wait.job_id == "job-1"

    coordinator.update("job-1", state="STOPPED")
    context["ti"].try_number = 3
    assert submit(preload(), context).trigger.wait.job_id == "job-2"


def test_it_claims_the_job_in_the_name_of_the_task_instance(coordinator, context):
    deferral = submit(preload(), context)

    claim = coordinator.received[1]
    assert (claim.method, claim.path) == ("POST", "/v1/jobs/job-1/claim")
    assert claim.body["waiter"] == deferral.trigger.wait.waiter == "nightly/manual__1/warm/-1"


def test_the_next_try_takes_the_place_of_the_one_before(coordinator, context):
    operator, next_operator = preload(), preload()
    submit(operator, context)
    context["ti"].try_number = 2
    submit(next_operator, context)

    operator.on_kill()
    assert coordinator.leaving == set()

    next_operator.on_kill()
    assert coordinator.leaving == {("job-1", "nightly/manual__1/warm/-1")}


async def test_the_trigger_takes_the_place_of_the_process_that_deferred(coordinator, context):
    operator = preload()
    trigger = (await asyncio.to_thread(submit, operator, context)).trigger
    trigger.wait = replace(trigger.wait, not_before=0.0)

    async with asyncio.timeout(PATIENCE):
        running = asyncio.create_task(anext(trigger.run()))
        await asyncio.to_thread(coordinator.wait_until, lambda: bool(coordinator.sent("GET")))
        await asyncio.to_thread(operator.on_kill)
        assert coordinator.leaving == set()
        coordinator.update("job-1", state="SUCCEEDED")
        assert (await running).payload["status"] == "succeeded"


def test_a_claim_that_fails_is_left_to_the_trigger(coordinator, context, capfd):
    coordinator.refuse(503, of="/claim", times=2, detail="Not now.")

    assert submit(preload(), context).trigger.wait.job_id == "job-1"

    (submitted,) = coordinator.sent("POST", "/jobs")
    assert coordinator.fences == {("job-1", "nightly/manual__1/warm/-1"): submitted.body["fence"]}
    assert "job-1 could not be claimed" in capfd.readouterr().out


def test_without_deferral_a_claim_that_fails_is_tried_again(coordinator, context):
    coordinator.refuse(503, of="/claim", times=4, detail="Not now.")
    operator = preload(deferrable=False, deadline=timedelta(seconds=PATIENCE))
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(operator.execute, context)
        coordinator.wait_until(lambda: bool(coordinator.sent("GET")))
        operator.on_kill()
        assert coordinator.leaving == {("job-1", "nightly/manual__1/warm/-1")}
        coordinator.let_grace_pass()
        assert type(waiting.exception(PATIENCE)) is PreheatJobStoppedError


def test_a_job_that_has_ended_already_needs_no_deferral(coordinator, context):
    coordinator.first_state = "SUCCEEDED"

    assert preload().execute(context)["job_id"] == "job-1"


def test_a_trigger_that_cannot_be_stored_fails_before_the_submit(coordinator, context):
    with pytest.raises(TypeError, match="timedelta"):
        preload(poll_interval=timedelta(seconds=5)).execute(context)
    assert coordinator.received == []


def test_the_end_of_the_job_returns_a_summary_and_describes_the_outlets(context):
    outlets = [warm_asset(PATH), warm_asset("s3://datasets/other/")]

    result = preload(outlets=outlets).execute_complete(context, event("succeeded", job=summary()))

    assert result == summary()
    for asset in outlets:
        extra = context["outlet_events"][asset].extra
        assert extra == summary() | {"path": PATH}


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("failed", PreheatJobFailedError),
        ("stopped", PreheatJobStoppedError),
        ("abandoned", PreheatJobStoppedError),
        ("lost", PreheatJobNotFoundError),
        ("unavailable", PreheatUnavailableError),
        ("error", PreheatError),
    ],
)
def test_a_job_without_success_fails_the_task_with_its_reason(coordinator, context, status, error):
    with pytest.raises(PreheatError, match=r"The reason.") as caught:
        preload(outlets=[warm_asset(PATH)], on_lost="fail").execute_complete(context, event(status, job=summary()))

    assert type(caught.value) is error
    assert not isinstance(caught.value, AirflowFailException)
    assert coordinator.received == []


def test_a_job_that_the_coordinator_has_lost_is_submitted_again(coordinator, context):
    submit(preload(), context)
    coordinator.jobs.clear()

    with pytest.raises(TaskDeferred):
        preload().execute_complete(context, event("lost"))

    assert list(coordinator.jobs) == ["job-2"]


def test_a_passed_deadline_cancels_the_job_and_fails_the_task(coordinator, context):
    submit(preload(), context)

    with pytest.raises(PreheatDeadlineError, match=r"The reason."):
        preload().execute_complete(context, event("deadline"))
    coordinator.let_grace_pass()
    assert coordinator.jobs["job-1"]["state"] == "STOPPED"


@pytest.mark.parametrize(
    "odd", [None, {}, {"status": "success"}, {"status": "succeeded"}, {"status": "x", "job_id": "j"}]
)
def test_an_event_of_another_kind_is_refused(context, odd):
    with pytest.raises(PreheatError, match="does not know"):
        preload().execute_complete(context, odd)


@pytest.mark.parametrize(("reason", "error"), [("Trigger timeout", TaskDeferralTimeout), ("Boom", TaskDeferralError)])
def test_a_broken_trigger_leaves_no_job_without_a_waiter(coordinator, context, reason, error):
    submit(preload(), context)

    with pytest.raises(error):
        preload().resume_execution("__fail__", {"error": reason}, context)
    coordinator.let_grace_pass()
    assert coordinator.jobs["job-1"]["state"] == "STOPPED"


def test_a_kill_stops_the_job_after_the_grace(coordinator, context):
    operator = preload()
    submit(operator, context)

    operator.on_kill()

    assert coordinator.jobs["job-1"]["state"] == "RUNNING"
    coordinator.let_grace_pass()
    assert coordinator.jobs["job-1"]["state"] == "STOPPED"


def test_a_kill_leaves_the_job_alone_if_told_so_and_before_there_is_one(coordinator, context):
    preload().on_kill()
    operator = preload(cancel_on_kill=False)
    submit(operator, context)
    operator.on_kill()

    assert not coordinator.sent("POST", "/cancel")


@pytest.mark.parametrize("give_up", ["kill", "deadline", "broken trigger"])
def test_a_job_that_another_task_waits_for_goes_on(coordinator, context, give_up):
    operator = preload()
    submit(operator, context)
    submit(preload(), {**context, "ti": TaskInstance(dag_id="other")})

    if give_up == "kill":
        operator.on_kill()
    elif give_up == "deadline":
        with pytest.raises(PreheatDeadlineError):
            operator.execute_complete(context, event("deadline"))
    else:
        with pytest.raises(TaskDeferralError):
            operator.resume_execution("__fail__", {"error": "Boom"}, context)

    coordinator.let_grace_pass()
    assert coordinator.fences.keys() == {("job-1", "other/manual__1/warm/-1")}
    assert coordinator.jobs["job-1"]["state"] == "RUNNING"
    assert not coordinator.sent("POST", "/stop")


def test_without_deferral_it_waits_here(coordinator, context):
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(preload(deferrable=False, deadline=timedelta(seconds=PATIENCE)).execute, context)
        coordinator.wait_until(lambda: bool(coordinator.sent("GET")))
        coordinator.update("job-1", state="SUCCEEDED")
        result = waiting.result(PATIENCE)

    assert result["dataset_version"] == CONTRACT_JOB["datasetVersion"]


def test_without_deferral_a_failure_is_explained_with_the_first_files(coordinator, context):
    failures = [{"path": "s3://datasets/digits/1.png", "size": 1, "code": "access_denied", "message": "Denied."}]
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(preload(deferrable=False, deadline=timedelta(seconds=PATIENCE)).execute, context)
        coordinator.wait_until(lambda: bool(coordinator.sent("GET")))
        coordinator.update("job-1", state="FAILED", reason="1 file failed.", failures=failures)
        error = waiting.exception(PATIENCE)

    assert type(error) is PreheatJobFailedError
    assert "1 file failed." in str(error)
    assert "s3://datasets/digits/1.png: Denied. (access_denied)" in str(error)


def test_without_deferral_a_passed_deadline_cancels_the_job(coordinator, context):
    with pytest.raises(PreheatDeadlineError, match=r"job-1 .* goes on if others wait for it"):
        preload(deferrable=False, deadline=timedelta(seconds=0.5)).execute(context)

    coordinator.let_grace_pass()
    assert coordinator.jobs["job-1"]["state"] == "STOPPED"


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (400, "invalid_path", PreheatRequestError),
        (404, "bucket_not_found", PreheatRequestError),
        (502, "origin_unavailable", PreheatUnavailableError),
        (503, "no_live_worker", PreheatUnavailableError),
    ],
)
def test_a_refused_submit_fails_with_detail_and_remedy(coordinator, context, status, code, error):
    coordinator.refuse(status, times=9, code=code, detail="What is wrong.", remedy="What to do.")

    with pytest.raises(PreheatError, match=r"What is wrong. What to do.") as caught:
        preload().execute(context)

    assert type(caught.value) is error
    assert isinstance(caught.value, AirflowFailException) is (error is PreheatRequestError), "a retry cannot help"


def test_an_unreachable_coordinator_is_named_with_the_next_step(context, coordinator, monkeypatch):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        connect(monkeypatch, f"http://127.0.0.1:{holder.getsockname()[1]}")

        with pytest.raises(PreheatUnreachableError, match="preheat up"):
            preload().execute(context)


def test_values_that_cannot_be_used_fail_without_a_retry(coordinator, context):
    with pytest.raises(AirflowFailException, match="replicas='two'"):
        preload(replicas="two").execute(context)


def test_several_paths_are_one_job(coordinator, context):
    coordinator.first_state = "SUCCEEDED"

    preload(path=[PATH, "s3://datasets/b/"]).execute(context)

    assert coordinator.received[0].body["paths"] == [PATH, "s3://datasets/b/"]


def test_the_token_is_in_no_log_xcom_trigger_or_event(coordinator, context, caplog, capfd):
    asset = warm_asset(PATH)
    operator = preload(outlets=[asset])

    with caplog.at_level(logging.DEBUG):
        deferral = submit(operator, context)
        operator.execute_complete(context, event("succeeded", job=summary()))

    logged = caplog.text + capfd.readouterr().out
    stored = [context["ti"].xcoms, context["outlet_events"][asset].extra, deferral.trigger.serialize()]
    assert "job-1" in logged
    assert TOKEN not in logged + json.dumps(stored)


def test_templates_reach_every_argument_that_a_form_offers():
    fields = set(PreloadOperator.template_fields)

    assert PreloadOperator.template_fields[0] == "preheat_conn_id"
    assert {"path", "replicas", "verify", "skip_if_exists", "bandwidth", "batch_size", "file_filter_regex"} <= fields


def test_a_kill_during_the_submit_leaves_no_job_without_a_waiter(coordinator, context, monkeypatch):
    operator, submit_job = preload(), coordinator._submit

    def killed_meanwhile(request: Any) -> Any:
        operator.on_kill()
        return submit_job(request)

    monkeypatch.setattr(coordinator, "_submit", killed_meanwhile)
    with ThreadPoolExecutor() as pool:
        task = pool.submit(operator.execute, context)
        coordinator.wait_until(lambda: bool(coordinator.leaving))
        coordinator.let_grace_pass()
        assert isinstance(task.exception(PATIENCE), PreheatJobStoppedError)
