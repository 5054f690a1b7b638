"""The dialects of an Alluxio as requests and answers, by the vectors of its public sources; nothing is sent."""

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_preheat._client import Call, Reply
from airflow_preheat._dialects import choose
from airflow_preheat._dialects_alluxio import AlluxioJobs, AlluxioLoads
from airflow_preheat._dialects_base import Dialect, Talk
from airflow_preheat._dialects_reports import read_progress, read_row
from airflow_preheat._endpoint import Endpoint
from airflow_preheat.exceptions import (
    PreheatError,
    PreheatJobNotFoundError,
    PreheatRequestError,
    PreheatUnavailableError,
)
from airflow_preheat.jobs import Claim, JobSpec, as_bytes

FIXTURES = Path(__file__).parents[1] / "contract" / "alluxio"
ENDPOINT = Endpoint(conn_id="alluxio", url="http://alluxio:19999")
B, C = AlluxioJobs(ENDPOINT), AlluxioLoads(ENDPOINT)
PATH = "s3://bucket/dir-1/"
JOB_ID = "54b88939-de49-46ef-acab-fe489f46d1a0"
OPTIONS = {"replicas": 2, "skipIfExists": True, "verify": None, "fileFilterRegex": ".*[.]bin", "bandwidth": "1MiB"}
SPEC = JobSpec(type="load", paths=(PATH,), options=OPTIONS)
RUNNING = {"id": JOB_ID, "paths": [PATH], "state": "RUNNING"}


def fixture(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


def answer(body: object, status: int = 200) -> Reply:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status=status, reason="Because", body=content)


def run(talk: Talk[Any], *answers: Reply) -> tuple[list[Call], Any]:
    """Answer a conversation's requests one after the other; return the requests, and what came of it."""
    calls, left = [], list(answers)
    try:
        call = next(talk)
        while True:
            calls.append(call)
            call = talk.send(left.pop(0))
    except StopIteration as end:
        assert not left, "it asked too little"
        return calls, end.value


def submit(dialect: Dialect, *answers: Reply) -> tuple[list[Call], Any]:
    return run(dialect.submit(SPEC, "key"), *answers)


def test_b_submits_options_as_text_and_reads_the_progress_by_a_get_with_a_body():
    (submitted, read), job = submit(B, answer(True), answer(fixture("progress_running.json")))

    assert (submitted.method, submitted.path) == ("POST", "/api/v1/master/submit_job/load")
    options = {"replicas": "2", "skipIfExists": "true", "fileFilterRegx": ".*[.]bin", "bandwidth": "1048576"}
    assert submitted.body == {"path": PATH, "options": options}
    assert (read.method, read.path) == ("GET", "/api/v1/master/progress_job/load")
    assert read.body == {"path": PATH, "format": "JSON", "verbose": "true"}
    assert (job["id"], job["paths"], job["state"]) == (PATH, [PATH], "RUNNING")


@pytest.mark.parametrize("dialect", [B, C])
def test_a_submit_may_be_repeated_for_the_second_one_finds_the_job_of_the_first(dialect):
    call = next(dialect.submit(SPEC, None))

    assert call.method == "POST"
    assert call.repeatable


@pytest.mark.parametrize(
    ("body", "attached"),
    [
        (True, False),
        ("5f0f5d3c", False),
        (b"", False),
        ({"success": True, "jobId": "x", "message": f"Load '{PATH}' is successfully submitted. JobId: x\n"}, False),
        ({"success": True, "jobId": "x", "message": f"Load already running for path '{PATH}' \n"}, True),
    ],
)
def test_b_takes_every_form_of_a_submits_answer(body, attached):
    _, job = submit(B, answer(body), answer(fixture("progress_running.json")))

    assert (job["id"], job["attached"]) == (PATH, attached)


@pytest.mark.parametrize(
    ("reply", "error", "says"),
    [
        (answer(False), PreheatError, "HTTP 200"),
        (
            answer({"success": False, "jobId": "NONE", "message": "Failed to submit load job x: no."}),
            PreheatError,
            "no.",
        ),
        (answer({"message": "Load does not support wildcard path"}, 400), PreheatRequestError, "wildcard"),
        (answer({"status": "Too many jobs running, please submit later."}, 500), PreheatUnavailableError, "Too many"),
        (answer(b"<html>session=s3cret</html>", 500), PreheatError, "HTTP 500"),
    ],
)
@pytest.mark.parametrize("dialect", [B, C])
def test_a_submit_that_is_refused_says_why(dialect, reply, error, says):
    with pytest.raises(error, match=says) as caught:
        submit(dialect, reply)

    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "state", "listed", "loaded", "failed", "size"),
    [
        (fixture("progress_documented.txt"), "SUCCEEDED", 1000, 1000, 0, 125 << 20),
        (fixture("progress_documented.txt").replace(b"\t", b"    "), "SUCCEEDED", 1000, 1000, 0, 125 << 20),
        (fixture("progress_running.txt"), "RUNNING", 3, 3, 0, 1600 << 20),
        (fixture("progress_running.json"), "RUNNING", 3, 3, 0, 1600 << 20),
        (fixture("progress_failed.txt"), "FAILED", 1209, 1208, 1, 0),
        (json.dumps(fixture("progress_running.txt").decode()).encode(), "RUNNING", 3, 3, 0, 1600 << 20),
        (json.dumps({"report": json.loads(fixture("progress_running.json"))}).encode(), "RUNNING", 3, 3, 0, 1600 << 20),
        (
            json.dumps({"jobState": "FAILED (a", "message": fixture("progress_failed.txt").decode()}).encode(),
            "FAILED",
            1209,
            1208,
            1,
            0,
        ),
        (b'{"jobState": "FAILED (alluxio.exception.runtime.InternalRuntimeException"}', "FAILED", 0, 0, 0, 0),
        (b'{"mJobState": "WAITING"}', "WAITING", 0, 0, 0, 0),
        (b'{"mJobState": "RUNNING", "mFailureFilesPercentage": "NaN", "mFailedFileCount": NaN}', "RUNNING", 0, 0, 0, 0),
        (b'{"mJobState": "VERIFYING", "mScannedInodesCount": 9, "mProcessedInodesCount": 4}', "VERIFYING", 9, 4, 0, 0),
        (b"\tJob State: RUNNING\n\tInodes Scanned: 9\n\tInodes Processed: 4\n", "RUNNING", 9, 4, 0, 0),
        (b"\tJob State: STOPPED\n\tBytes Loaded: 5120B\n", "STOPPED", 0, 0, 0, 5120),
    ],
)
def test_every_form_of_a_progress_report_is_read(body, state, listed, loaded, failed, size):
    job = read_progress(body).as_job(job_id=PATH, paths=[PATH], url="u")

    assert job["state"] == state
    assert (job["listed"]["files"], job["loaded"]["files"], job["failed"]["files"]) == (listed, loaded, failed)
    assert job["listed"]["bytes"] == size
    parts = ("loaded", "skipped", "failed", "remaining")
    for unit in ("files", "bytes"):
        assert sum(job[part][unit] for part in parts) == job["listed"][unit]


def test_a_report_says_why_a_job_failed():
    text = read_progress(fixture("progress_failed.txt"))
    failed = {"mJobState": "FAILED", "mFailedFilesWithReasons": {"s3://b/k": "Status code: 5"}, "mFailedFileCount": 1}
    verbose = read_progress(json.dumps(failed | {"mFailureReason": {"message": "Job partially failed."}}).encode())

    assert text.reason.endswith("Job failed because it's not healthy.")
    assert verbose.reason == "Job partially failed."
    assert list(verbose.failures) == [{"path": "s3://b/k", "size": 0, "code": "failed", "message": "Status code: 5"}]


@pytest.mark.parametrize("body", [b"", b"true", b"<html>", b"[1]", b'{"a": 1}', b'{"mJobState": "PAUSED"}'])
def test_what_is_no_report_is_not_believed(body):
    with pytest.raises(PreheatError, match="Alluxio"):
        read_progress(body)


@pytest.mark.parametrize(
    "reply",
    [
        answer({"detail": f"Load for path '{PATH}' cannot be found.", "code": "job_not_found"}, 404),
        answer(f"Load for path '{PATH}' cannot be found.".encode()),
        answer({"message": f"Load for path '{PATH}' cannot be found.", "jobState": "FAILED"}),
        answer({"status": f"Load for path '{PATH}' cannot be found."}, 500),
    ],
)
def test_b_tells_an_unknown_path_from_a_failed_job(reply):
    with pytest.raises(PreheatJobNotFoundError):
        run(B.get_job(PATH, wait=0.0, after=None), reply)


@pytest.mark.parametrize(
    "stopped",
    [
        answer(True),
        answer(False),
        answer(
            {"success": False, "message": f"Cannot find load job for path {PATH}, it might have already been stopped"}
        ),
        answer({"message": "Load job cannot be found."}, 404),
    ],
)
def test_b_stops_and_a_job_that_has_ended_is_no_error(stopped):
    claim = Claim(job_id=PATH, waiter="w")

    (stop, _), job = run(B.cancel(claim), stopped, answer({"mJobState": "STOPPED"}))

    assert (stop.method, stop.path, stop.body) == ("POST", "/api/v1/master/stop_job/load", {"path": PATH})
    assert job["state"] == "STOPPED"


def test_b_has_one_path_for_a_job():
    spec = JobSpec(type="load", paths=(PATH, "s3://bucket/b/"), options={})

    with pytest.raises(PreheatRequestError, match=r"expand\(path"):
        next(B.submit(spec, None))


@pytest.mark.parametrize("dialect", [B, C])
def test_what_an_alluxio_cannot_do_is_refused_before_anything_is_sent(dialect):
    with pytest.raises(PreheatRequestError, match="type=move"):
        next(dialect.submit(JobSpec(type="move", paths=(PATH,), options={}), None))
    with pytest.raises(PreheatRequestError, match="minHotFraction is not for an Alluxio"):
        next(dialect.submit(JobSpec(type="load", paths=(PATH,), options={"minHotFraction": 0.9}), None))


def test_c_submits_and_reads_the_job_by_its_id():
    (submitted, read), job = submit(C, answer({"id": JOB_ID}), answer(RUNNING))

    options = {"replicas": 2, "skipIfExists": True, "fileFilterRegex": ".*[.]bin", "bandwidth": 1048576}
    assert submitted.body == {"paths": [PATH], "options": options}
    assert (read.method, read.path, read.query) == ("GET", "/api/v1/load", {"id": JOB_ID})
    assert (job["id"], job["attached"]) == (JOB_ID, False)


@pytest.mark.parametrize(
    ("submitted", "job_id"),
    [
        (answer({"jobId": JOB_ID}), JOB_ID),
        (answer(JOB_ID), JOB_ID),
        (answer(f"Load job {JOB_ID} is submitted.".encode()), JOB_ID),
        (answer({"alias": "nightly"}), "nightly"),
        (answer({"id": JOB_ID}, 409), JOB_ID),
        (answer({"status": f"resumed {JOB_ID}"}, 409), JOB_ID),
    ],
)
def test_c_takes_every_form_of_a_submits_answer(submitted, job_id):
    (_, read), job = submit(C, submitted, answer(RUNNING))

    assert read.query == {"id" if job_id == JOB_ID else "alias": job_id}
    assert (job["id"], job["attached"]) == (job_id, submitted.status == 409)


@pytest.mark.parametrize("submitted", [answer({"status": "An identical job is already scheduled"}, 409), answer(True)])
def test_c_finds_a_job_that_has_no_name_by_its_paths(submitted):
    others = [
        {"id": "x", "paths": ["s3://bucket/b/"], "state": "RUNNING"},
        RUNNING | {"id": "old", "state": "FAILED", "startTime": "2026-11-21T02:00:00Z"},
        {"id": "index", "index": "s3://bucket/index.txt", "state": "RUNNING"},
    ]

    (_, listed), job = submit(C, submitted, answer({"results": [*others, RUNNING]}))

    assert listed.query == {}
    assert (job["id"], job["state"]) == (JOB_ID, "RUNNING")


def test_c_without_a_job_of_these_paths_says_so():
    with pytest.raises(PreheatJobNotFoundError, match=PATH):
        submit(C, answer(True), answer({"results": []}))


def test_c_reads_the_documented_job():
    _, job = run(C.get_job(JOB_ID, wait=0.0, after=None), answer(fixture("rest_job.json")))

    assert (job["id"], job["state"], job["hotFraction"]) == (JOB_ID, "SUCCEEDED", 1.0)
    assert job["loaded"] == job["listed"] == {"files": 1, "bytes": 10485760}


def test_c_counts_what_was_there_as_skipped_when_all_is_done():
    row = {"state": "SUCCEEDED", "scannedFiles": 10, "loadedNonEmptyFiles": 4, "skippedBytes": 7, "totalBytes": 9}

    job = read_row(row).as_job(job_id=JOB_ID, paths=[PATH], url="u")
    assert (job["skipped"], job["hotFraction"]) == ({"files": 6, "bytes": 7}, 1.0)

    job = read_row(row | {"state": "RUNNING"}).as_job(job_id=JOB_ID, paths=[PATH], url="u")
    assert (job["remaining"]["files"], job["hotFraction"]) == (6, 0.4)


def test_c_finds_the_job_in_a_list_where_a_version_ignores_the_id():
    rows = [RUNNING | {"id": "other"}, RUNNING | {"state": "WAITING"}]

    _, job = run(C.get_job(JOB_ID, wait=0.0, after=None), answer({"results": rows}))

    assert job["state"] == "WAITING"


@pytest.mark.parametrize("reply", [answer({"status": "No job found..."}, 404), answer({"results": []}), answer({})])
def test_c_names_an_unknown_job(reply):
    with pytest.raises(PreheatJobNotFoundError):
        run(C.get_job(JOB_ID, wait=0.0, after=None), reply)


def test_c_stops_by_the_id_or_by_the_paths_whichever_is_understood():
    claim, stopped = Claim(job_id=JOB_ID, waiter="w"), answer(RUNNING | {"state": "STOPPED"})

    (_, stop, _), job = run(C.cancel(claim), answer(RUNNING), answer(b""), stopped)
    assert (stop.method, stop.path, stop.body) == ("DELETE", "/api/v1/load", {"id": JOB_ID})
    assert job["state"] == "STOPPED"

    (_, _, stop, _), job = run(C.cancel(claim), answer(RUNNING), answer({"status": "?"}, 400), answer(b""), stopped)
    assert stop.body == {"paths": [PATH]}

    (_,), job = run(C.cancel(claim), stopped)
    assert job["state"] == "STOPPED", "there is nothing left to stop"


OK, LISTED = answer({"status": "ok"}), answer({"results": []})
NOTHING = answer(b"<html>", 404)


@pytest.mark.parametrize(
    ("answers", "name"),
    [
        ([OK], "preheat"),
        ([NOTHING, LISTED], "alluxio-3.6"),
        ([answer(b"<html>Alluxio</html>"), LISTED], "alluxio-3.6"),
        ([NOTHING, NOTHING, LISTED], "alluxio-3.3"),
        ([NOTHING, answer(b"<html>Alluxio</html>"), answer([])], "alluxio-3.3"),
    ],
)
def test_the_dialect_is_asked_for(answers, name):
    assert run(choose(ENDPOINT), *answers)[1].name == name


def test_what_speaks_no_dialect_is_said_so():
    with pytest.raises(PreheatRequestError, match="neither a Preheat coordinator nor an Alluxio"):
        run(choose(ENDPOINT), NOTHING, NOTHING, answer(b"<html>"))


@pytest.mark.parametrize("name", ["preheat", "alluxio-3.3", "alluxio-3.6"])
def test_a_dialect_that_the_connection_names_is_not_asked_for(name):
    calls, dialect = run(choose(Endpoint(conn_id="c", url="http://c", dialect=name)))

    assert (calls, dialect.name) == ([], name)


@pytest.mark.parametrize(
    ("text", "size"), [("1MiB", 1 << 20), ("1MB", 10**6), ("2k", 2048), ("1.5 GiB/s", 3 << 29), (512, 512), ("7B", 7)]
)
def test_sizes_are_those_of_the_coordinator(text, size):
    assert as_bytes("bandwidth", text) == size


def test_what_is_no_size_is_named():
    with pytest.raises(PreheatRequestError, match="bandwidth='fast'"):
        as_bytes("bandwidth", "fast")
