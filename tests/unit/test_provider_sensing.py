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
    with pytest.raises(PreheatJobFailedError, match="The reason"):
        talk(with_jobs("SUCCEEDED", "FAILED", reason="The reason."), look)
    with pytest.raises(PreheatJobStoppedError):
        talk(with_jobs("SUCCEEDED", "STOPPED"), look)


def test_a_job_that_runs_is_waited_for_by_the_coordinator():
    conversation = JobLook(path=PATH).talk(ENDPOINT, PreheatDialect(ENDPOINT), 20.0)
    assert next(conversation).query == {"type": "load", "path": PATH, "limit": "1"}
    running = json.dumps({"jobs": [CONTRACT_JOB | {"id": "job-7", "state": "RUNNING"}]}).encode()
    poll = conversation.send(Reply(status=200, reason="", body=running))
    assert (poll.path, poll.query["wait"]) == ("/v1/jobs/job-7", "20")


def test_a_job_that_does_not_exist_is_waited_for_by_its_path_only():
    with pytest.raises(PreheatJobNotFoundError):
        talk(Coordinator(), JobLook(job_id="job-9"))
    missing = talk(Coordinator(), JobLook(path=PATH))
    assert (missing.result, missing.note) == (None, f"There is no load of {PATH} yet.")


def test_yesterdays_load_does_not_count():
    coordinator = with_jobs("FAILED", submittedAt="2026-11-20T02:00:00Z")
    look = JobLook(path=PATH, submitted_after="2026-11-20T03:00:00.5+01:00")
    assert talk(coordinator, look).result is None
    coordinator.jobs["job-0"] |= {"state": "SUCCEEDED", "submittedAt": "2026-11-20T02:00:01Z"}
    assert talk(coordinator, look).result is not None


def test_a_dataset_is_warm_from_the_fraction_on():
    coordinator = Coordinator()
    version = coordinator.warm(PATH, 1, hot=98)
    look = WarmthLook(path=PATH, min_hot_fraction=0.98)
    expected = {"path": PATH, "dataset_version": version, "hot_fraction": 0.98, "files": 100, "bytes": 1000}
    assert talk(coordinator, look).result == expected
    cold = talk(coordinator, WarmthLook(path=PATH))
    assert cold.result is None
    assert "is 98.00 % hot: 98 of 100 files, 980 B of 1000 B" in cold.note


def test_doubt_is_cold():
    coordinator = Coordinator()
    coordinator.warm(PATH, 1)
    assert talk(coordinator, WarmthLook(path=PATH)).result is not None
    unknown = talk(coordinator, WarmthLook(path=PATH, version=f"sha256:{2:064x}"))
    assert (unknown.result, unknown.note.endswith("Load it.")) == (None, True)
    coordinator.datasets[PATH]["listed"] = {"files": 0, "bytes": 0}
    assert talk(coordinator, WarmthLook(path=PATH, min_hot_fraction=0.0)).result is None


def test_what_is_not_quite_hot_does_not_look_hot():
    tally = {"files": 10**6, "bytes": 10**6}
    almost = {"hotFraction": 1 - 1e-6, "hot": tally, "expected": tally, "path": PATH, "version": "v", "source": "pin"}
    line = describe(almost | {"inventory": None, "complete": False, "reason": "worker-1 does not answer."})
    assert "99.99 % hot" in line
    assert line.endswith("worker-1 does not answer.")


def test_an_alluxio_tells_no_warmth_and_knows_jobs_by_their_paths():
    dialect = AlluxioJobs(ENDPOINT)
    with pytest.raises(PreheatRequestError, match="PreloadSensor"):
        next(WarmthLook(path=PATH).talk(ENDPOINT, dialect, 0.0))
    assert next(JobLook(path=PATH).talk(ENDPOINT, dialect, 0.0)).body["path"] == PATH


def listed(path: str, minute: int, *, pinned: bool = False) -> dict[str, Any]:
    return {"id": f"{path}-{minute}", "path": path, "listedAt": f"2026-11-21T02:{minute:02}:00Z", "pinned": pinned}


def test_the_pinned_inventory_counts_and_then_the_last_one():
    whole, part, other = listed("s3://b/x/", 1), listed("s3://b/x/y", 2), listed("s3://b/xy/", 3)
    assert expected_of([whole, part, other], "s3://b/x/y/1") is part
    assert expected_of([listed("s3://b/x/", 0, pinned=True), whole, part], "s3://b/x/y/1")["pinned"]
    assert expected_of([whole, part, other], "s3://b/x/z") is whole
    assert expected_of([whole, part, other], "s3://b/") is None


def watch(**changes: Any) -> SensorWatch:
    values = {"preheat_conn_id": "c", "deadline": 1000.0, "poke_interval": 60.0, "outage_tolerance": 30.0}
    return SensorWatch(wait=SensorWait(**(values | changes)))


def test_looks_are_an_interval_apart_and_end_at_the_deadline():
    waiting = watch()
    waiting.seen("98 % hot.")
    assert waiting.pause(100.0, 101.0) == 59.0
    assert waiting.pause(100.0, 170.0) == 0.0
    assert waiting.pause(990.0, 990.0) == 10.0
    assert (waiting.time_left(999.0), waiting.time_left(1001.0)) == (1.0, 0.0)
    assert waiting.expired() == {"error": "timeout", "message": "The sensor has timed out. 98 % hot.", "result": None}


def test_an_outage_is_waited_out_as_long_as_it_is_tolerated():
    waiting, away = watch(), PreheatUnreachableError("Nobody answers.")
    assert not waiting.is_final(away, 100.0)
    assert waiting.pause(100.0, 100.0) == 5.0
    assert not waiting.is_final(away, 129.0)
    waiting.seen("98 % hot.")
    assert not waiting.is_final(away, 135.0)
    assert waiting.is_final(away, 165.0)
    assert failure(away) == {"error": "PreheatUnreachableError", "message": "Nobody answers.", "result": None}


def test_other_errors_end_the_wait_unless_it_is_silent_and_the_request_is_right():
    waiting, silent = watch(), watch(silent=True)
    assert waiting.is_final(PreheatJobFailedError("It failed."), 100.0)
    assert not silent.is_final(PreheatJobFailedError("It failed."), 100.0)
    assert not silent.is_final(PreheatUnreachableError("Nobody answers."), 999.0)
    assert silent.is_final(PreheatRequestError("No such bucket."), 100.0)
