"""Alluxio's documented load jobs: the test vectors of its contract, by number, in dialects B and C.

Those of the command line stand in ``test_cli_commands``, those of the worker's ``/v1/load`` (dialect A) in
``tests/integration/test_alluxio_worker``. The fixtures in ``tests/contract/alluxio`` are what the public sources print.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from preheat.api import create_app
from preheat.api._report import json_report, text_report
from preheat.jobs import Job, JobSpec, JobState, Progress, Tally
from preheat.settings import CoordinatorSettings
from preheat.worker.port._alluxio._loads import _shown_progress
from tests.unit.memory_cluster import SETTINGS, Cluster

FIXTURES = Path(__file__).parents[1] / "contract" / "alluxio"
PATH, INDEX = "s3://b/data/", "s3://b/index.txt"
B, C = "/api/v1/master", "/api/v1/load"
MIB = 1 << 20
RUNNING = Job(
    id="j",
    spec=JobSpec(paths=(PATH,)),
    state=JobState.RUNNING,
    submitted_at=0.0,
    work=Progress(listed=Tally(objects=8, bytes=1600 * MIB), done=Tally(objects=3, bytes=640 * MIB), listing_done=True),
)


def text_of(name: str) -> str:
    return (FIXTURES / name).read_text()


def json_of(name: str) -> Any:
    return json.loads(text_of(name))


class Api:
    """The dialects of one coordinator, in short calls."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def submit(self, path: str = PATH, **options: object) -> dict[str, Any]:
        response = await self.http.post(f"{B}/submit_job/load", json={"path": path, "options": options})
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    async def progress(self, **body: object) -> httpx.Response:
        return await self.http.request("GET", f"{B}/progress_job/load", json={"path": PATH} | body)

    async def state(self) -> str:
        return str((await self.progress(format="JSON")).json()["mJobState"])

    async def stop(self, **body: object) -> dict[str, Any]:
        answer: dict[str, Any] = (await self.http.post(f"{B}/stop_job/load", json=body or {"path": PATH})).json()
        return answer


@pytest.fixture
def cluster(cluster: Cluster) -> Cluster:
    cluster.fill(3)
    return cluster


@pytest.fixture
async def idle(cluster: Cluster) -> Cluster:
    await cluster.pause_workers()
    return cluster


@pytest.fixture
async def api(cluster: Cluster) -> AsyncIterator[Api]:
    transport = httpx.ASGITransport(create_app(cluster.coordinator, CoordinatorSettings()))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        yield Api(http)


async def test_01_every_option_may_be_text(api: Api, cluster: Cluster) -> None:
    body = json_of("submit_job.json")
    cluster.origin.write("s3://bucket/dir-1/x", b"x")
    response = await api.http.post(f"{B}/submit_job/load", json=body)
    assert response.status_code == 200, response.text
    answer = response.json()
    job = (await cluster.coordinator.service.get(answer["jobId"])).job
    assert (job.spec.options.replicas, job.spec.options.batch_size) == (2, 300)
    assert (job.spec.options.load_metadata_only, job.spec.options.skip_if_exists) == (True, True)
    assert answer["success"] is True


async def test_03_progress_is_text_unless_asked_otherwise(api: Api, idle: Cluster) -> None:
    await api.submit()
    response = await api.progress()
    assert response.headers["content-type"].startswith("text/plain")
    assert response.text.startswith("\tSettings:\tbandwidth: unlimited\tverify: false\n\tJob State: RUNNING\n")


async def test_04_progress_as_json_and_verbose(api: Api, idle: Cluster) -> None:
    await api.submit()
    for format_, verbose in [("JSON", "true"), ("json", True)]:
        report = (await api.progress(format=format_, verbose=verbose)).json()
        assert (report["mVerbose"], report["mFailedFilesWithReasons"]) == (True, {})


async def test_05_and_06_stop_once_and_again(api: Api, idle: Cluster) -> None:
    await api.submit()
    stopped = {"success": True, "path": PATH, "message": f"Load '{PATH}' is successfully stopped."}
    assert await api.stop() == stopped
    assert await api.state() == "STOPPED"
    gone = f"Cannot find load job for path {PATH}, it might have already been stopped or finished"
    assert await api.stop() == {"success": False, "path": PATH, "message": gone}


async def test_07_a_submit_of_what_runs_changes_its_bandwidth(api: Api, idle: Cluster) -> None:
    first = await api.submit(bandwidth="1048576")
    again = await api.submit(bandwidth="2MiB")
    assert again == {**first, "message": f"Load already running for path '{PATH}' "}
    assert (await api.progress(format="JSON")).json()["mBandwidth"] == 2 * MIB
    assert "\tbandwidth: 2048.00KB/s\tverify: false\n" in (await api.progress()).text
    assert (await api.submit())["jobId"] == first["jobId"]
    assert (await api.progress(format="JSON")).json()["mBandwidth"] == 2 * MIB


async def test_08_a_submit_of_what_was_stopped_runs_again(api: Api, idle: Cluster) -> None:
    first = await api.submit()
    await api.stop()
    second = await api.submit()
    assert await api.state() == "RUNNING"
    assert second["jobId"] != first["jobId"]  # differs on purpose: a terminal state never changes


async def test_09_a_submit_after_the_end_is_a_new_job(api: Api, cluster: Cluster) -> None:
    first = await api.submit()
    await cluster.ended(first["jobId"])
    second = await api.submit()
    assert second["jobId"] != first["jobId"]
    assert "successfully submitted" in second["message"]


async def test_10_progress_of_an_unknown_path(api: Api) -> None:
    response = await api.progress(path="s3://b/unknown/")
    assert response.status_code == 404
    assert response.json()["detail"] == "Load for path 's3://b/unknown/' cannot be found."


def test_11_and_12_the_report_to_the_byte() -> None:
    assert text_report(RUNNING) == text_of("progress_running.txt")
    assert json_report(RUNNING) == json_of("progress_running.json")
    assert list(json_report(RUNNING)) == list(json_of("progress_running.json"))


@pytest.mark.parametrize("spaced", [False, True])
def test_14_the_documented_report_is_understood(spaced: bool) -> None:
    report = text_of("progress_documented.txt")
    shown = _shown_progress(PATH, report.replace("\t", "    ") if spaced else report)
    assert shown["jobState"] == "SUCCEEDED"
    found = shown["respProperties"]
    assert (found["Files Processed"], found["Bytes Loaded"], found["Throughput"]) == ("1000", "125.00MB", "2509.80KB/s")
    assert (found["Block load failure rate"], found["Files Failed"]) == ("0.00%", "0")


def test_15_a_failed_report_is_understood() -> None:
    shown = _shown_progress(PATH, text_of("progress_failed.txt"))
    assert shown["jobState"] == "FAILED (alluxio.exception.runtime.InternalRuntimeException"


async def test_17_and_25_too_many_jobs_wait(api: Api, idle: Cluster) -> None:
    """Alluxio refuses the 101st; here a job too many is WAITING, which dialect B shows as RUNNING."""
    jobs = []
    for number in range(SETTINGS.max_running + 1):
        idle.origin.write(f"s3://b/{number}/x", b"x")
        jobs.append(await api.submit(f"s3://b/{number}/"))
    service = idle.coordinator.service
    waiting = await service.get(jobs[-1]["jobId"])
    while (await service.get(jobs[-2]["jobId"])).job.state is JobState.WAITING:
        await service.wait(jobs[-2]["jobId"], after=(await service.get(jobs[-2]["jobId"])).revision, seconds=5)
    assert waiting.job.state is JobState.WAITING
    assert (await api.progress(path=f"s3://b/{SETTINGS.max_running}/", format="JSON")).json()["mJobState"] == "RUNNING"
    row = (await api.http.get(C, params={"id": waiting.job.id})).json()
    assert row["state"] == "WAITING"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"bandwidth": 0}, "bandwidth should be greater than 0 if provided, get 0"),
        ({"bandwidth": "-1"}, "bandwidth"),
        ({"bandwidth": -5}, "bandwidth should be greater than 0 if provided, get -5"),
        ({"replicas": "0"}, "numReplica should be at least 1"),
        ({"fileFilterRegx": "a", "fileFilterRegex": "b"}, "fileFilterRegex"),
        ({"verify": "maybe"}, "verify"),
        ({"batchSize": "many"}, "batchSize"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_18_bad_options_are_400_and_no_job(api: Api, options: dict[str, object], says: str) -> None:
    response = await api.http.post(f"{B}/submit_job/load", json={"path": PATH, "options": options})
    assert response.status_code == 400
    assert says in response.json()["detail"]
    assert (await api.http.get(f"{B}/list_job")).json() == {"results": []}


@pytest.mark.parametrize("bandwidth", ["", " ", None])
async def test_an_empty_bandwidth_is_no_limit(api: Api, bandwidth: str | None) -> None:
    await api.submit(bandwidth=bandwidth)
    assert "mBandwidth" not in (await api.progress(format="JSON")).json()
    response = await api.http.post(C, json={"paths": ["s3://b/"], "options": {"bandwidth": bandwidth}})
    assert response.status_code == 200, response.text


async def test_20_list_and_unknown_id(api: Api) -> None:
    assert (await api.http.get(C)).json() == {"results": []}
    for params in ({"id": "unknown"}, {"alias": "unknown"}):
        response = await api.http.get(C, params=params)
        assert (response.status_code, response.json()) == (404, {"status": "No job found..."})


async def test_21_a_job_has_the_documented_fields(api: Api, cluster: Cluster) -> None:
    body = {"paths": [PATH], "options": {"sync": True, "bandwidth": "1GiB", "verify": "true"}}
    row = (await api.http.post(C, json=body)).json()
    documented = json_of("rest_job.json")
    assert set(row) - set(documented) == {"alias"}
    assert {name: type(row[name]) for name in row.keys() & documented} == {
        name: type(documented[name]) for name in row.keys() & documented
    }
    assert (row["state"], row["loadedBytes"], row["scannedFiles"], row["loadedNonEmptyFiles"]) == (
        "SUCCEEDED",
        24,
        3,
        3,
    )
    assert not {"failedFiles", "skippedBytes", "errorMessage", "index"} & set(row)  # "empty value will be omitted"


@pytest.mark.parametrize(
    "body",
    [None, {}, {"paths": []}, {"paths": [PATH], "index": INDEX}, {"paths": [PATH], "options": {"loadPolicy": "X"}}],
)
async def test_22_an_incomplete_submit_is_400(api: Api, body: object) -> None:
    assert (await api.http.post(C, json=body)).status_code == 400


async def test_23_the_same_paths_twice_are_409_with_the_first_id(api: Api, idle: Cluster) -> None:
    first, second = [await api.http.post(C, json={"paths": [PATH]}) for _ in range(2)]
    assert (first.status_code, second.status_code) == (200, 409)
    assert first.json() == second.json()
    assert first.json()["jobId"] == first.json()["id"]


async def test_a_job_is_found_by_its_alias(api: Api, idle: Cluster) -> None:
    idle.origin.write("s3://b/other/x", b"x")
    named = (await api.http.post(C, json={"paths": [PATH], "alias": "nightly"})).json()
    random = (await api.http.post(C, json={"paths": ["s3://b/other/"]})).json()
    assert named["alias"] == "nightly"
    for answer in (named, random):
        row = (await api.http.get(C, params={"alias": answer["alias"]})).json()
        assert (row["id"], row["alias"]) == (answer["id"], answer["alias"])
    taken = await api.http.post(C, json={"paths": ["s3://b/"], "alias": "nightly"})
    assert (taken.status_code, set(taken.json())) == (409, {"status"})
    stopped = await api.http.request("DELETE", C, params={"alias": "nightly"})
    assert (stopped.json()["id"], stopped.json()["state"]) == (named["id"], "STOPPED")
    assert (await api.http.post(C, json={"paths": ["s3://b/"], "alias": "nightly"})).status_code == 200


async def test_a_load_policy_skips_what_has_not_changed(api: Api, cluster: Cluster) -> None:
    async def load(**options: object) -> dict[str, Any]:
        row: dict[str, Any] = (
            await api.http.post(C, json={"paths": [PATH], "options": {"sync": True} | options})
        ).json()
        return row

    await load()
    cluster.origin.write(f"{PATH}0001", b"changed")
    row = await load(loadPolicy="IF_CHANGED")
    assert (row["loadedBytes"], row["skippedBytes"]) == (7, 16)
    assert (await load())["loadedBytes"] == 23


async def test_an_index_file_identifies_a_job_as_a_path_does(api: Api, idle: Cluster) -> None:
    idle.origin.write(INDEX, f"{PATH}0001\n".encode())
    response = await api.http.post(f"{B}/submit_job/load", json={"indexFile": INDEX})
    assert response.json()["message"] == f"Load '{INDEX}' is successfully submitted. JobId: {response.json()['jobId']}"
    for name in ("indexFile", "index"):
        again = await api.http.post(f"{B}/submit_job/load", json={name: INDEX})
        assert again.json()["jobId"] == response.json()["jobId"]
    query = await api.http.get(f"{B}/progress_job/load", params={"indexFile": INDEX})
    assert "Job State: RUNNING" in query.text
    assert (await api.http.post(C, json={"index": INDEX})).status_code == 409
    rows = (await api.http.get(f"{B}/list_job", params={"job-type": "LOAD"})).json()["results"]
    assert [(row["indexFile"], row["type"]) for row in rows] == [(INDEX, "LOAD")]
    assert (await api.stop(indexFile=INDEX))["success"] is True


@pytest.mark.parametrize("body", [{}, {"path": PATH, "indexFile": INDEX}, {"path": ""}, {"path": PATH, "x": 1}])
async def test_a_job_is_named_in_one_way(api: Api, body: dict[str, object]) -> None:
    for method, url in [("POST", "submit_job"), ("GET", "progress_job"), ("POST", "stop_job")]:
        assert (await api.http.request(method, f"{B}/{url}/load", json=body)).status_code == 400
    assert (await api.http.get(f"{B}/progress_job/load", params=body)).status_code == 400


async def test_list_job_tells_types_and_states(api: Api, idle: Cluster) -> None:
    await api.submit()
    await api.http.post("/v1/jobs", json={"type": "free", "path": PATH})
    for query, types in [
        ("", ["FREE", "LOAD"]),
        ("job-type=LOAD", ["LOAD"]),
        ("job-type=load&job-state=all", ["LOAD"]),
        ("job-type=FREE&job-state=SUCCEEDED", []),
        ("job-type=MOVE", []),
    ]:
        for method in ("GET", "POST"):
            rows = (await api.http.request(method, f"{B}/list_job?{query}")).json()["results"]
            assert [row["type"] for row in rows] == types
    for query in ("job-type=BAKE", "job-state=BAKED", "state=RUNNING"):
        assert (await api.http.get(f"{B}/list_job?{query}")).status_code == 400
