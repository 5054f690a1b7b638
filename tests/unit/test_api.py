"""The REST API over a real coordinator: the native API, Alluxio's dialect B, and errors as problems."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from tests.unit.memory_cluster import Cluster

CONTRACT = json.loads((Path(__file__).parents[1] / "contract" / "job.json").read_text())
PATH = "s3://b/data/"


def shape(value: object) -> object:
    """Reduce JSON to its keys and kinds of values."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return "list" if isinstance(value, list) else type(value).__name__


async def submit(client: httpx.AsyncClient, **body: object) -> dict[str, object]:
    response = await client.post("/v1/jobs", json={"path": PATH, **body})
    assert response.status_code in (200, 201), response.text
    job: dict[str, object] = response.json()
    return job


async def test_a_job_looks_as_the_contract_says(client: httpx.AsyncClient, cluster: Cluster):
    cluster.fill(20)
    job = await submit(client, options={"verify": True})
    response = await client.get(f"/v1/jobs/{job['id']}", params={"wait": 20, "after": 1 << 50})
    ended = response.json()
    assert shape(ended) == shape(CONTRACT)
    assert (ended["state"], ended["hotFraction"], ended["reason"]) == ("SUCCEEDED", 1.0, "")
    assert ended["listed"] == ended["loaded"] == ended["verified"] == {"files": 20, "bytes": 170}
    assert ended["url"] == f"http://127.0.0.1:19999/jobs/{job['id']}"
    assert ended["options"] == {**CONTRACT["options"], "verify": True}


async def test_submit_attaches_and_remembers_keys(client: httpx.AsyncClient, cluster: Cluster):
    cluster.fill(5)
    await cluster.pause_workers()
    headers = {"Idempotency-Key": "k"}
    first = await client.post("/v1/jobs", json={"paths": [PATH]}, headers=headers)
    assert (first.status_code, first.json()["attached"]) == (201, False)
    for again in ({}, headers):
        response = await client.post("/v1/jobs", json={"paths": [PATH]}, headers=again)
        assert (response.status_code, response.json()["attached"]) == (200, True)
        assert response.json()["id"] == first.json()["id"]


async def test_a_long_poll_returns_when_the_job_changes(client: httpx.AsyncClient, cluster: Cluster):
    cluster.fill(5)
    await cluster.pause_workers()
    job = await submit(client)
    changed = (await client.get(f"/v1/jobs/{job['id']}", params={"wait": 20, "after": job["revision"]})).json()
    assert changed["revision"] > job["revision"]
    assert changed["state"] == "RUNNING"


async def test_lists_pages_newest_first(client: httpx.AsyncClient, cluster: Cluster):
    for number in range(3):
        cluster.origin.write(f"s3://b/{number}/x", b"x")
        await submit(client, path=f"s3://b/{number}/")
    first = (await client.get("/v1/jobs", params={"limit": 2})).json()
    rest = (await client.get("/v1/jobs", params={"limit": 2, "cursor": first["next"]})).json()
    assert [job["paths"] for page in (first, rest) for job in page["jobs"]] == [[f"s3://b/{n}/"] for n in (2, 1, 0)]
    assert rest["next"] is None
    assert (await client.get("/v1/jobs", params={"state": "STOPPED"})).json()["jobs"] == []
    of_path = (await client.get("/v1/jobs", params={"path": "s3://b/1/", "limit": 1})).json()
    assert ([job["paths"] for job in of_path["jobs"]], of_path["next"]) == ([["s3://b/1/"]], None)


async def test_stop(client: httpx.AsyncClient, cluster: Cluster):
    cluster.fill(5)
    await cluster.pause_workers()
    job = await submit(client)
    stopped = (await client.post(f"/v1/jobs/{job['id']}/stop")).json()
    assert (stopped["state"], stopped["reason"]) == ("STOPPED", "Stopped by request.")


@pytest.mark.parametrize(
    ("body", "status", "code", "names"),
    [
        ({"path": "s3://b/none/"}, 404, "object_not_found", "s3://b/none/"),
        ({"path": "s3://nope/x/"}, 404, "bucket_not_found", "nope"),
        ({"path": "data/"}, 400, "invalid_path", "data/"),
        ({}, 400, "invalid_request", "path"),
        ({"path": PATH, "paths": [PATH]}, 400, "invalid_request", "one of path, paths and index"),
        ({"path": PATH, "options": {"replicas": 3}}, 400, "invalid_request", "replicas=3"),
        ({"path": PATH, "options": {"replicas": "many"}}, 400, "invalid_request", "options.replicas='many'"),
        ({"path": PATH, "options": {"bandwidth": "fast"}}, 400, "invalid_request", "bandwidth='fast'"),
        ({"path": PATH, "options": {"bandwidth": -1}}, 400, "invalid_request", "options.bandwidth=-1"),
        ({"path": PATH, "options": {"colour": "red"}}, 400, "invalid_request", "options.colour='red'"),
        ({"path": PATH, "options": {"fileFilterRegex": "("}}, 400, "invalid_request", "fileFilterRegex='('"),
        ({"path": PATH, "type": "bake"}, 400, "invalid_request", "type='bake'"),
    ],
)
async def test_a_bad_submit_is_a_problem_that_names_the_value(
    client: httpx.AsyncClient, cluster: Cluster, body: dict[str, object], status: int, code: str, names: str
):
    cluster.fill(1)
    response = await client.post("/v1/jobs", json=body)
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (response.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert names in problem["detail"]
    assert (await client.get("/v1/jobs")).json()["jobs"] == []


@pytest.mark.parametrize("path", ["/v1/jobs/none", "/v1/nothing", "/jobs/none"])
async def test_what_is_not_there_is_a_problem(client: httpx.AsyncClient, path: str):
    response = await client.get(path)
    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")


async def test_without_workers_a_submit_is_refused_and_ready_is_not(client: httpx.AsyncClient, cluster: Cluster):
    cluster.fill(1)
    assert (await client.get("/v1/readyz")).json() == {"status": "ok", "workers": ["worker-0", "worker-1"]}
    assert (await client.get("/v1/readyz", params={"workers": 3})).json()["detail"] == "2 of 3 workers are live."
    for worker in cluster.workers:
        await cluster.kill(worker.settings.id)
    await cluster.live(0)
    response = await client.post("/v1/jobs", json={"path": PATH})
    assert (response.status_code, response.json()["code"]) == (503, "no_live_worker")
    assert "preheat up" in response.json()["remedy"]
    assert (await client.get("/v1/readyz")).status_code == 503
    assert (await client.get("/v1/readyz", params={"workers": 0})).json() == {"status": "ok", "workers": []}
    assert (await client.get("/v1/healthz")).status_code == 200


async def test_workers_and_placement(client: httpx.AsyncClient):
    workers = (await client.get("/v1/workers")).json()
    placement = (await client.get("/v1/placement")).json()
    assert [(worker["id"], worker["live"]) for worker in workers["workers"]] == [("worker-0", True), ("worker-1", True)]
    assert placement["epoch"] == workers["epoch"]
    assert placement["members"][0] == {"id": "worker-0", "url": "http://worker-0", "weight": 1.0, "zone": ""}


async def test_pages_and_metrics_show_the_job_and_escape_it(client: httpx.AsyncClient, cluster: Cluster):
    cluster.origin.write("s3://b/<i>/x", b"x")
    job = await submit(client, path="s3://b/<i>/")
    await cluster.ended(str(job["id"]))
    for page in (await client.get("/"), await client.get(f"/jobs/{job['id']}")):
        assert page.headers["content-type"].startswith("text/html")
        assert "SUCCEEDED" in page.text
        assert "s3://b/&lt;i&gt;/" in page.text
        assert "<i>" not in page.text
    metrics = (await client.get("/metrics")).text
    assert 'preheat_jobs{state="SUCCEEDED"} 1.0' in metrics
    assert "preheat_workers_live 2.0" in metrics


async def test_failures_are_lines_and_can_be_retried(client: httpx.AsyncClient, cluster: Cluster):
    cluster.fill(3)
    await cluster.pause_workers()
    job = await submit(client)
    await client.get(f"/v1/jobs/{job['id']}", params={"wait": 20, "after": job["revision"]})
    early = await client.post(f"/v1/jobs/{job['id']}/retry")
    assert (early.status_code, early.json()["code"]) == (409, "conflict")
    async with asyncio.timeout(5):
        while not (await client.get(f"/v1/jobs/{job['id']}")).json()["listingDone"]:
            await asyncio.sleep(0.01)
    cluster.origin.remove(PATH + "0001")
    cluster.resume_workers()
    await cluster.ended(str(job["id"]))
    lines = (await client.get(f"/v1/jobs/{job['id']}/failures")).text.splitlines()
    assert [json.loads(line)["path"] for line in lines] == [PATH + "0001"]
    cluster.origin.write(PATH + "0001", b"back")
    again = await client.post(f"/v1/jobs/{job['id']}/retry")
    assert again.status_code == 201
    ended = (await client.get(f"/v1/jobs/{again.json()['id']}", params={"wait": 20, "after": 1 << 50})).json()
    assert (ended["state"], ended["listed"]["files"], ended["datasetVersion"]) == ("SUCCEEDED", 1, None)
    assert (await client.get("/v1/jobs/none/failures")).status_code == 404


class TestDialectB:
    """Alluxio 3.3–3.5: submit_job, progress_job (GET with a body), stop_job, list_job."""

    async def test_string_options_are_accepted(self, client: httpx.AsyncClient, cluster: Cluster):
        cluster.fill(3)
        options = {"replicas": "2", "batchSize": "300", "partialListing": "true", "skipIfExists": "true"}
        body = {"path": PATH, "options": options}
        response = (await client.post("/api/v1/master/submit_job/load", json=body)).json()
        assert response["success"] is True
        assert response["message"] == f"Load '{PATH}' is successfully submitted. JobId: {response['jobId']}"
        job = (await cluster.coordinator.service.get(response["jobId"])).job
        assert (job.spec.options.replicas, job.spec.options.batch_size) == (2, 300)

    async def test_progress_takes_a_body_or_a_query(self, client: httpx.AsyncClient, cluster: Cluster):
        cluster.fill(3)
        job = await submit(client)
        await cluster.ended(str(job["id"]))
        url = "/api/v1/master/progress_job/load"
        text = await client.request("GET", url, json={"path": PATH})
        assert text.headers["content-type"].startswith("text/plain")
        assert "\tJob State: SUCCEEDED\n\tFiles Processed: 3\n" in text.text
        report = (await client.get(url, params={"path": PATH, "format": "JSON", "verbose": "true"})).json()
        assert (report["mVerbose"], report["mJobState"], report["mProcessedFileCount"]) == (True, "SUCCEEDED", 3)

    async def test_progress_of_an_unknown_path_is_not_failed_but_not_found(self, client: httpx.AsyncClient):
        response = await client.request("GET", "/api/v1/master/progress_job/load", json={"path": "s3://b/unknown/"})
        assert response.status_code == 404
        assert response.json()["detail"] == "Load for path 's3://b/unknown/' cannot be found."

    async def test_stop_and_list(self, client: httpx.AsyncClient, cluster: Cluster):
        cluster.fill(3)
        await cluster.pause_workers()
        job = await submit(client)
        again = (await client.post("/api/v1/master/submit_job/load", json={"path": PATH})).json()
        assert (again["jobId"], again["message"]) == (job["id"], f"Load already running for path '{PATH}' ")
        for success in (True, False):
            stopped = (await client.post("/api/v1/master/stop_job/load", json={"path": PATH})).json()
            assert stopped["success"] is success
        query = "/api/v1/master/list_job?job-type=LOAD&job-state="
        rows = (await client.post(query + "STOPPED")).json()["results"]
        assert [(row["id"], row["state"]) for row in rows] == [(job["id"], "STOPPED")]
        assert (await client.get(query + "SUCCEEDED")).json()["results"] == []
        assert (await client.get(query + "BAKED")).status_code == 400


class TestDialectC:
    """Alluxio 3.6 and later: /api/v1/load as a resource."""

    URL = "/api/v1/load"

    async def test_submit_and_look(self, client: httpx.AsyncClient, cluster: Cluster):
        cluster.fill(3)
        body = {"paths": [PATH], "options": {"batchSize": 2, "replicas": 2, "skipIfExists": True}}
        job_id = (await client.post(self.URL, json=body)).json()["jobId"]
        await cluster.ended(job_id)
        row = (await client.get(self.URL, params={"id": job_id})).json()
        assert (row["state"], row["scannedFiles"], row["loadedBytes"]) == ("SUCCEEDED", 3, 24)
        assert "failedFiles" not in row
        assert [row["id"] for row in (await client.get(self.URL)).json()["results"]] == [job_id]

    async def test_the_same_paths_twice_are_409_with_the_first_id(self, client: httpx.AsyncClient, cluster: Cluster):
        cluster.fill(3)
        await cluster.pause_workers()
        first = await client.post(self.URL, json={"paths": [PATH]})
        second = await client.post(self.URL, json={"paths": [PATH]})
        assert (first.status_code, second.status_code) == (200, 409)
        assert first.json() == second.json()
        stopped = await client.request("DELETE", self.URL, json={"paths": [PATH]})
        assert stopped.json()["state"] == "STOPPED"

    async def test_sync_answers_at_the_end(self, client: httpx.AsyncClient, cluster: Cluster):
        cluster.fill(3)
        row = (await client.post(self.URL, json={"paths": [PATH], "options": {"sync": True}})).json()
        assert (row["state"], row["loadedNonEmptyFiles"]) == ("SUCCEEDED", 3)

    @pytest.mark.parametrize("body", [None, {}, {"paths": []}, {"paths": [PATH], "x": 1}])
    async def test_an_incomplete_submit_is_400(self, client: httpx.AsyncClient, body: object):
        assert (await client.post(self.URL, json=body)).status_code == 400

    async def test_an_unknown_id_is_404_with_a_status(self, client: httpx.AsyncClient):
        response = await client.get(self.URL, params={"id": "unknown"})
        assert (response.status_code, response.json()) == (404, {"status": "No job found..."})
        assert (await client.request("DELETE", self.URL, json={"id": "unknown"})).status_code == 404


async def test_claims_and_bandwidth_over_rest(client: httpx.AsyncClient, cluster: Cluster):
    cluster.fill(3)
    await cluster.pause_workers()
    job = await submit(client)
    url = f"/v1/jobs/{job['id']}"
    mine = {"waiter": "dag/run/task/-1", "fence": "fence-0001"}
    assert (await client.post(url + "/claim", json=mine)).status_code == 200
    assert (await client.patch(url, json={"bandwidth": "10MiB"})).status_code == 200
    assert (await client.patch(url, json={"bandwidth": 0})).status_code == 400
    assert (await client.post(url + "/cancel", json={**mine, "fence": "fence-0000"})).json()["state"] != "STOPPED"
    assert (await client.post(url + "/cancel", json=mine)).status_code == 200
    ended = (await client.get(url, params={"wait": 20, "after": 1 << 50})).json()
    assert (ended["state"], ended["reason"]) == ("STOPPED", "Everyone who waited for it has left.")
    assert (await client.post("/v1/jobs/none/claim", json=mine)).status_code == 404
    assert (await client.post(url + "/claim", json={"waiter": "x"})).status_code == 400
