"""The coordinator's API as values."""

import json

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_preheat import _client
from airflow_preheat._client import Call, Reply
from airflow_preheat._endpoint import Endpoint
from airflow_preheat.exceptions import (
    PreheatError,
    PreheatJobNotFoundError,
    PreheatRequestError,
    PreheatUnavailableError,
)
from airflow_preheat.jobs import Claim, JobSpec

ENDPOINT = Endpoint(conn_id="cache", url="http://cache:19999", token="s3cret")
CALL = Call(method="GET", path="/v1/workers")
SPEC = JobSpec(type="load", paths=("s3://bucket/a/",), options={"replicas": 2, "bandwidth": None})


def reply(status: int, document: object) -> Reply:
    return Reply(status=status, reason="Because", body=json.dumps(document).encode())


def test_a_submit_may_be_repeated_only_with_a_key():
    with_key, without = _client.submit(SPEC, "key-1"), _client.submit(SPEC, None)

    assert with_key.headers == {"Idempotency-Key": "key-1"}
    assert [_client.retry_delay(with_key, attempt) for attempt in range(5)] == [0.25, 0.5, 1.0, 2.0, None]
    assert _client.retry_delay(without, 0) is None
    assert with_key.body == {"type": "load", "paths": ["s3://bucket/a/"], "options": {"replicas": 2}}


def test_a_poll_waits_whole_seconds_and_no_longer_than_the_coordinator_allows():
    assert _client.get_job("a/b", wait=0, after=3) == Call(method="GET", path="/v1/jobs/a%2Fb")
    assert _client.get_job("j", wait=0.2, after=3).query == {"wait": "1", "after": "3"}
    assert _client.get_job("j", wait=3600, after=None).wait == 60


def test_a_claim_and_its_cancel_have_one_fence_and_may_be_repeated():
    claim = Claim(job_id="a/b", waiter="dag/run/warm/-1")
    calls = [_client.claim_job(claim), _client.cancel_job(claim)]

    assert [call.path for call in calls] == ["/v1/jobs/a%2Fb/claim", "/v1/jobs/a%2Fb/cancel"]
    assert [call.body for call in calls] == [{"waiter": "dag/run/warm/-1", "fence": claim.fence}] * 2
    assert all(_client.retry_delay(call, 0) is not None for call in calls)
    assert claim.fence != Claim(job_id="a/b", waiter="dag/run/warm/-1").fence


def test_the_token_is_sent_as_a_bearer_token():
    assert _client.headers(ENDPOINT, CALL)["Authorization"] == "Bearer s3cret"
    assert "Authorization" not in _client.headers(Endpoint(conn_id="cache", url="http://cache"), CALL)


def test_an_answer_is_its_json_object():
    assert _client.decode(ENDPOINT, CALL, reply(201, {"id": "j"})) == {"id": "j"}


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (400, "invalid_path", PreheatRequestError),
        (401, "unauthorized", PreheatRequestError),
        (403, "access_denied", PreheatRequestError),
        (404, "bucket_not_found", PreheatRequestError),
        (404, "job_not_found", PreheatJobNotFoundError),
        (409, "conflict", PreheatError),
        (412, "version_changed", PreheatError),
        (429, "busy", PreheatUnavailableError),
        (500, "internal", PreheatError),
        (502, "origin_unavailable", PreheatUnavailableError),
        (503, "no_live_worker", PreheatUnavailableError),
        (504, "gateway", PreheatUnavailableError),
    ],
)
def test_a_problem_becomes_the_error_that_airflow_should_see(status, code, error):
    problem = {"code": code, "detail": "What is wrong.", "remedy": "What to do."}

    with pytest.raises(PreheatError) as caught:
        _client.decode(ENDPOINT, CALL, reply(status, problem))

    assert type(caught.value) is error
    assert str(caught.value).startswith("What is wrong. What to do.")
    assert isinstance(caught.value, AirflowFailException) is (error is PreheatRequestError)


def test_an_error_that_is_no_problem_document_is_not_quoted():
    page = Reply(status=502, reason="Bad Gateway", body=b"<html>session=s3cret</html>")

    with pytest.raises(PreheatUnavailableError, match=r"http://cache:19999/v1/workers .* HTTP 502") as caught:
        _client.decode(ENDPOINT, CALL, page)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("answer", [Reply(status=401, reason="", body=b""), reply(401, {"detail": "Expired."})])
def test_a_refused_token_names_the_connection(answer):
    with pytest.raises(PreheatRequestError, match="password of the Airflow connection 'cache'"):
        _client.decode(ENDPOINT, CALL, answer)


@pytest.mark.parametrize(("status", "body"), [(200, b"<html>"), (200, b"[1]"), (302, b"{}"), (204, b"")])
def test_what_is_no_coordinator_is_not_believed(status, body):
    with pytest.raises(PreheatRequestError, match="lead to a Preheat coordinator"):
        _client.decode(ENDPOINT, CALL, Reply(status=status, reason="", body=body))


def test_no_answer_is_explained_by_its_root_cause_and_the_next_step():
    error = OSError("HTTPConnectionPool: max retries")
    error.__cause__ = ConnectionRefusedError(111, "Connection refused")

    text = str(_client.unreachable(ENDPOINT, error))

    assert "http://cache:19999 ([Errno 111] Connection refused)" in text
    assert "preheat up" in text
    assert "connection 'cache'" in text
    assert "s3cret" not in text
