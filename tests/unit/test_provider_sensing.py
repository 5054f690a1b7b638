"""What sensors find, and how long they wait, with no clock and no coordinator."""

import json
from typing import Any

import pytest

from airflow_preheat._client import Reply
from airflow_preheat._dialects_alluxio import AlluxioJobs
from airflow_preheat._dialects_preheat import PreheatDialect
from airflow_preheat._endpoint import Endpoint
from airflow_preheat._looks import Finding, JobLook, WarmthLook, describe, expected_of
from airflow_preheat._sensing import SensorWait, SensorWatch, failure
from airflow_preheat.exceptions import (
    PreheatError,
    PreheatJobFailedError,
    PreheatJobNotFoundError,
    PreheatJobStoppedError,
    PreheatRequestError,
    PreheatUnreachableError,
)
from tests.integration.provider_coordinator import CONTRACT_JOB, Coordinator, Received

PATH = "s3://datasets/digits/"
ENDPOINT = Endpoint(conn_id="preheat_default", url="http://coordinator")


def talk(coordinator: Coordinator, look: JobLook | WarmthLook, *, wait: float = 0.0) -> Finding:
    """Let a look speak to a coordinator without a socket."""
    conversation = look.talk(ENDPOINT, PreheatDialect(ENDPOINT), wait)
    try:
        call = next(conversation)
        while True:
            query = dict(call.query)
            status, body = coordinator.answer(
                Received(method=call.method, path=call.path, query=query, headers={}, body={})
            )
            call = conversation.send(Reply(status=status, reason="", body=body))
    except StopIteration as end:
        return end.value


def with_jobs(*states: str, **fields: Any) -> Coordinator:
    jobs = [CONTRACT_JOB | {"id": f"job-{n}", "paths": [PATH], "state": state} for n, state in enumerate(states)]
    return Coordinator(jobs={job["id"]: job | fields for job in jobs})


@pytest.mark.parametrize("look", [JobLook(job_id="job-1"), JobLook(path=PATH)])
def test_a_job_is_found_by_its_id_and_by_its_path(look):
    assert talk(with_jobs("FAILED", "RUNNING"), look).result is None
    found = talk(with_jobs("FAILED", "SUCCEEDED"), look)
    assert (found.result["job_id"], found.result["files"]) == ("job-1", 1797)
    with pytest.raises(PreheatJobFailedError, match="The reason."):
        talk(with_jobs("SUCCEEDED", "FAILED", reason="The reason."), look)
    with pytest.raises(PreheatJobStoppedError):
        talk(with_jobs("SUCCEEDED", "STOPPED"), look)


def test_a_job_that_runs_is_waited_for_by_the_coordinator():
    coordinator = with_jobs("RUNNING")
    coordinator.closing = True  # it answers waits at once
    with pytest.raises(PreheatError):
        talk(coordinator, JobLook(path=PATH), wait=20.0)
    with_jobs("SUCCEEDED")
    coordinator.closing = False
    talk(coordinator, JobLook(path=PATH))
    assert [request.query.get("wait") for request in coordinator.received] == [None, None]
