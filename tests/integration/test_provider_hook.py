"""The hook against a coordinator over real HTTP."""

import json
import logging
import socket
import traceback
from collections.abc import Iterator

import pytest

from airflow_preheat import _client
from airflow_preheat.exceptions import (
    PreheatJobNotFoundError,
    PreheatRequestError,
    PreheatUnavailableError,
    PreheatUnreachableError,
)
from airflow_preheat.hooks import PreheatHook
from airflow_preheat.jobs import Claim, JobSpec
from tests.integration.provider_coordinator import Coordinator, running

TOKEN = "s3cret-token"
SPEC = JobSpec(type="load", paths=["s3://bucket/a/"], options={"replicas": 2})


def connect(monkeypatch: pytest.MonkeyPatch, url: str, **extra: object) -> PreheatHook:
    connection = {"conn_type": "preheat", "password": TOKEN, "extra": {"url": url, "connect_timeout": 1, **extra}}
    monkeypatch.setenv("AIRFLOW_CONN_PREHEAT_DEFAULT", json.dumps(connection))
    return PreheatHook()


@pytest.fixture(autouse=True)
def _no_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_client, "_RETRY_DELAYS", (0.0, 0.0))


@pytest.fixture
def coordinator() -> Iterator[Coordinator]:
    with running(Coordinator()) as coordinator:
        yield coordinator


@pytest.fixture
def hook(coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch) -> PreheatHook:
    return connect(monkeypatch, coordinator.url)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_a_job_is_submitted_read_listed_and_stopped(hook, coordinator):
    job = hook.submit(SPEC, "key-1")

    assert (job["id"], job["state"], job["paths"]) == ("job-1", "RUNNING", ["s3://bucket/a/"])
    assert coordinator.received[0].body["options"] == {"replicas": 2}
    assert hook.get_job("job-1")["id"] == "job-1"
    assert [listed["id"] for listed in hook.list_jobs(limit=10)["jobs"]] == ["job-1"]
    assert coordinator.received[-1].query == {"limit": "10"}
    assert hook.stop("job-1")["state"] == "STOPPED"
    assert [worker["id"] for worker in hook.workers()] == ["worker-0", "worker-1"]


def test_the_same_key_makes_one_job(hook, coordinator):
    assert hook.submit(SPEC, "key-1")["id"] == "job-1"
    coordinator.update("job-1", state="SUCCEEDED")

    assert hook.submit(SPEC, "key-1")["id"] == "job-1"
    assert hook.submit(SPEC, "key-2")["id"] == "job-2"


def test_a_job_is_claimed_and_cancelled(hook, coordinator):
    hook.submit(SPEC)
    claim, other = Claim(job_id="job-1", waiter="me"), Claim(job_id="job-1", waiter="me")

    assert hook.claim(claim)["state"] == "RUNNING"
    assert hook.cancel(other)["state"] == "RUNNING"
    assert coordinator.leaving == set()
    assert hook.cancel(claim)["state"] == "RUNNING"
    coordinator.let_grace_pass()
    assert hook.claim(claim)["state"] == "STOPPED"


def test_every_request_carries_the_token(hook, coordinator):
    hook.submit(SPEC)
    hook.workers()

    assert {request.headers["authorization"] for request in coordinator.received} == {f"Bearer {TOKEN}"}


def test_the_environment_neither_redirects_a_request_nor_replaces_its_token(hook, coordinator, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")

    hook.workers()

    assert coordinator.received[0].headers["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_read_is_repeated_while_the_coordinator_is_unavailable(hook, coordinator, status):
    coordinator.refuse(status, times=2, detail="Not now.")

    assert len(hook.workers()) == 2
    assert len(coordinator.received) == 3


def test_the_repetitions_are_bounded(hook, coordinator):
    coordinator.refuse(503, times=9, detail="No worker is live.", remedy="Start one.")

    with pytest.raises(PreheatUnavailableError, match=r"No worker is live. Start one."):
        hook.workers()
    assert len(coordinator.received) == 3


def test_a_submit_with_a_key_is_repeated_with_the_same_key(hook, coordinator):
    coordinator.refuse(503, times=2)

    assert hook.submit(SPEC, "key-1")["id"] == "job-1"
    assert [request.headers["idempotency-key"] for request in coordinator.received] == ["key-1"] * 3


def test_a_submit_without_a_key_is_sent_once(hook, coordinator):
    coordinator.refuse(503, detail="Not now.")

    with pytest.raises(PreheatUnavailableError, match=r"Not now."):
        hook.submit(SPEC)
    assert len(coordinator.received) == 1


@pytest.mark.parametrize(("status", "code"), [(400, "invalid_path"), (403, "access_denied"), (404, "bucket_not_found")])
def test_what_the_user_got_wrong_is_not_repeated_and_is_explained(hook, coordinator, status, code):
    coordinator.refuse(status, code=code, detail="path='x': no.", remedy="Write s3://.")

    with pytest.raises(PreheatRequestError, match=r"path='x': no. Write s3://."):
        hook.submit(SPEC, "key-1")
    assert len(coordinator.received) == 1


def test_an_unknown_job_is_named(hook):
    with pytest.raises(PreheatJobNotFoundError, match="/v1/jobs/job-9"):
        hook.get_job("job-9")


def test_an_unreachable_coordinator_is_named_with_the_next_step(monkeypatch):
    url = f"http://127.0.0.1:{free_port()}"

    with pytest.raises(PreheatUnreachableError) as caught:
        connect(monkeypatch, url).submit(SPEC, "key-1")

    text = str(caught.value)
    assert url in text
    assert "Connection refused" in text
    assert "preheat up" in text
    assert "'preheat_default'" in text


def test_a_coordinator_that_does_not_answer_in_time_is_unreachable(monkeypatch):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        hook = connect(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}", request_timeout=0.1)

        with pytest.raises(PreheatUnreachableError, match="timed out"):
            hook.workers()


def test_a_ca_certificate_that_cannot_be_read_is_said_so_without_its_path(monkeypatch, tmp_path):
    hook = connect(monkeypatch, f"https://127.0.0.1:{free_port()}", ca_cert=str(tmp_path / "missing.pem"))

    with pytest.raises(PreheatUnreachableError, match=r"the file of ca_cert.*CA certificate") as caught:
        hook.workers()
    assert "missing.pem" not in "".join(traceback.format_exception(caught.value))


def test_what_is_no_coordinator_is_said_so(hook, coordinator):
    coordinator.refuse(200, body=b"<html>Welcome</html>")

    with pytest.raises(PreheatRequestError, match="lead to a Preheat coordinator"):
        hook.workers()


def test_the_connection_test_counts_live_workers(hook, coordinator):
    assert hook.test_connection() == (True, f"The coordinator at {coordinator.url} has 1 live of 2 workers.")

    coordinator.refuse(200, body=b'{"epoch": 1, "workers": []}')
    assert hook.test_connection() == (
        False,
        f"The coordinator at {coordinator.url} has 0 live of 0 workers. Start one with `preheat worker`.",
    )


def test_the_connection_test_of_a_missing_coordinator_says_what_to_do(monkeypatch):
    passed, message = connect(monkeypatch, f"http://127.0.0.1:{free_port()}").test_connection()

    assert not passed
    assert "preheat up" in message


def test_the_token_is_in_no_log_and_in_no_error(hook, coordinator, caplog, capfd):
    coordinator.refuse(503, times=9, detail="Not now.")

    with caplog.at_level(logging.DEBUG), pytest.raises(PreheatUnavailableError) as caught:
        hook.submit(SPEC, "key-1")

    logged = caplog.text + "".join(capfd.readouterr())
    assert "Trying again" in logged
    assert TOKEN not in logged + str(caught.value)
