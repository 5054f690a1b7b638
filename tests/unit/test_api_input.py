"""Bad input: each is a problem that names the value, nothing is a 500, and no half-made job stays behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import httpx
import pytest
from structlog.testing import capture_logs

from preheat.engine import Bucket
from tests.unit.memory_cluster import Cluster
from tests.unit.served_cluster import serve

PATH = "s3://b/data/"
JSON = {"Content-Type": "application/json"}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def cluster(cluster: Cluster) -> Cluster:
    cluster.fill(3)
    return cluster


def problem(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    shown = response.json()
    assert shown["status"] == status
    assert {"type", "title", "code", "detail", "remedy"} <= shown.keys()
    return str(shown["detail"])


def option(name: str, text: str) -> bytes:
    """Return a submit as it stands on the wire: JSON has more spellings than Python writes."""
    return f'{{"path": "{PATH}", "options": {{"{name}": {text}}}}}'.encode()


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b"", "body is missing"),
        (b"{", "not JSON"),
        (b"[1]", "[1]"),
        (b'"text"', "'text'"),
        (b"\xff\xfe", "not JSON"),
        (b'{"path": "' + b"\xff" + b'"}', "cannot be read"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"path":' + b"[" * 900 + b"]" * 900 + b"}", "path="),
        (b'{"path": 7}', "path=7"),
        (b'{"paths": "s3://b/x"}', "paths='s3://b/x'"),
        (b'{"paths": []}', "one of path, paths and index"),
        (b'{"paths": ["s3://b/x", 1]}', "paths.1=1"),
        (b'{"path": "s3://b/\\u0000"}', "\\x00"),
        (b'{"path": "s3://b/\\ud800"}', "not valid Unicode"),
        (b'{"paths": ["s3://b/\\ud800"]}', "surrogates not allowed"),
        (b'{"\\ud800": 1, "path": "s3://b/x"}', ""),
        (json.dumps({"path": "s3://b/" + "é" * 1025}).encode(), "2050 bytes"),
        (json.dumps({"paths": [f"s3://b/{'x' * 1000}{n}" for n in range(400)]}).encode(), "index file"),
        (json.dumps({"paths": ["s3://b/x"] * 1001}).encode(), "1000 items"),
        (option("minHotFraction", "NaN"), "minHotFraction=nan"),
        (option("minHotFraction", "1e400"), "minHotFraction=inf"),
        (option("minHotFraction", "1.1"), "minHotFraction=1.1"),
        (option("bandwidth", "9" * 5000), "4300 digits"),
        (option("bandwidth", "9" * 50), "bandwidth=9999"),
        (option("bandwidth", f'"{"9" * 400}PiB"'), "bandwidth='999"),
        (option("bandwidth", "true"), "bandwidth=True"),
        (option("replicas", "2.5"), "replicas=2.5"),
        (option("replicas", "1e30"), "replicas=1e+30"),
        (option("maxFailedFiles", "-1"), "maxFailedFiles=-1"),
        (option("maxFailedFiles", str(1 << 70)), "maxFailedFiles="),
        (option("priority", '"urgent"'), "priority='urgent'"),
        (option("deadline", '"tomorrow"'), "deadline='tomorrow'"),
        (option("deadline", '"2030-01-01T00:00:00"'), "deadline="),
        (option("deadline", '"0001-01-01T00:00:00+14:00"'), "before the year 1"),
        (option("deadline", '"9999-12-31T23:59:59-14:00"'), "after 9999"),
        (option("deadline", '"1971-01-01T00:00:00Z"'), "has passed"),
        (option("fileFilterRegex", '"a{1001}"'), "fileFilterRegex="),
        (option("fileFilterRegex", '"\\ud800"'), "fileFilterRegex="),
        (option("fileFilterRegex", '"' + "(" * 600 + ")" * 390 + '"'), "fileFilterRegex="),
        (b'{"path": "s3://b/data/", "waiter": "w"}', "both waiter and fence"),
        (b'{"path": "s3://b/data/", "waiter": "\\udfff", "fence": "12345678"}', "waiter="),
        (b'{"path": "s3://b/data/", "fence": "short", "waiter": "w"}', "fence='short'"),
    ],
)
async def test_a_bad_body(client: httpx.AsyncClient, body: bytes, names: str):
    detail = problem(await client.post("/v1/jobs", content=body, headers=JSON), 400)
    assert names in detail
    assert len(detail) < 3000
    assert (await client.get("/v1/jobs")).json()["jobs"] == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
async def test_a_body_of_another_kind_is_415(client: httpx.AsyncClient, kind: str | None):
    headers = {"Content-Type": kind} if kind else {}
    response = await client.post("/v1/jobs", content=b'{"path": "s3://b/data/"}', headers=headers)
    assert "not application/json" in problem(response, 415)
    assert response.json()["remedy"] == "Send the header Content-Type: application/json."


@pytest.mark.parametrize(
    ("method", "path", "status", "names"),
    [
        ("GET", "/v1/jobs?stat=RUNNING", 400, "stat='RUNNING'"),
        ("GET", "/v1/jobs?limit=0", 400, "limit='0'"),
        ("GET", "/v1/jobs?limit=" + "9" * 5000, 400, "limit="),
        ("GET", "/v1/jobs?state=BAKED", 400, "state.0='BAKED'"),
        ("GET", "/v1/jobs/x?wait=nan", 400, "wait='nan'"),
        ("GET", "/v1/jobs/x?wait=61s", 400, "wait='61s'"),
        ("GET", "/v1/jobs/x?wait=-1", 400, "wait='-1'"),
        ("GET", "/v1/jobs/x?wait=5h", 400, "wait='5h'"),
        ("GET", "/v1/jobs/x?after=" + "9" * 30, 400, "after="),
        ("GET", "/v1/jobs/%00", 404, "\\x00"),
        ("GET", "/v1/jobs/%FF", 404, ""),
        ("GET", "/v1/jobs/a%2Fb", 404, "/v1/jobs/a/b"),
        ("GET", "/v1/jobs/" + "x" * 3000, 404, "xxx"),
        ("GET", "/v2/jobs", 404, "/v2/jobs"),
        ("PUT", "/v1/jobs", 405, "PUT"),
        ("POST", "/v1/workers/none/drain", 404, "none"),
    ],
)
async def test_a_bad_address(client: httpx.AsyncClient, method: str, path: str, status: int, names: str):
    response = await client.request(method, path)
    assert names in problem(response, status)
    if status == 405:
        assert "GET" in response.headers["allow"]


@pytest.mark.parametrize(
    "key", ["with space", "100%", "%41", "a+b", "//", "/x", "ключ", "a\u0301", "q?a=b#c", "x" * 1024]
)
async def test_odd_keys_are_kept_as_they_are(client: httpx.AsyncClient, cluster: Cluster, key: str):
    uri = f"s3://odd/{key}"
    cluster.origin.write(uri, b"here")
    job = (await client.post("/v1/jobs", json={"path": uri})).json()
    ended = (await client.get(f"/v1/jobs/{job['id']}?wait=20s&after={1 << 50}")).json()
    assert (ended["state"], ended["paths"], ended["listed"]) == ("SUCCEEDED", [uri], {"files": 1, "bytes": 4})
    assert cluster.cached(uri) == [b"here"]


async def test_a_change_needs_something_to_change(client: httpx.AsyncClient, cluster: Cluster):
    await cluster.pause_workers()
    url = f"/v1/jobs/{(await client.post('/v1/jobs', json={'path': PATH})).json()['id']}"
    assert "bandwidth, priority or both" in problem(await client.patch(url, json={}), 400)
    assert (await client.patch(url, json={"priority": "high"})).status_code == 200
    assert (await client.patch(url, json={"bandwidth": None})).status_code == 200
    assert "priority='top'" in problem(await client.patch(url, json={"priority": "top"}), 400)


async def test_a_body_that_says_it_is_too_large_is_not_read(client: httpx.AsyncClient):
    response = await client.post("/v1/jobs", content=b" " * ((1 << 20) + 1), headers=JSON)
    assert "larger than 1.00 MiB" in problem(response, 413)
    assert response.headers["connection"] == "close"


async def test_a_body_without_a_length_is_read_up_to_the_limit(client: httpx.AsyncClient):
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1 << 16
            yield b" " * (1 << 16)

    response = await client.post("/v1/jobs", content=endless(), headers=JSON)
    assert "larger than 1.00 MiB" in problem(response, 413)
    assert sent <= (1 << 20) + (2 << 16)


async def test_a_body_that_does_not_end_is_408(cluster: Cluster, monkeypatch):
    monkeypatch.setattr("preheat.api._limits._MAX_BODY_SECONDS", 0.2)
    async with serve(cluster) as url, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
        head = "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        writer.write(head.encode())
        answer = await reader.read()  # to the end: the connection is closed
        writer.close()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"application/problem+json" in answer


async def test_what_nobody_foresaw_is_a_logged_problem(client: httpx.AsyncClient, cluster: Cluster, monkeypatch):
    def broken() -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(cluster.coordinator.service, "unfinished_batches", broken)
    with capture_logs() as logs:
        response = await client.get("/v1/workers", headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"})
    assert problem(response, 500) == "ZeroDivisionError: oh"
    assert [line["path"] for line in logs if line.get("action") == "request_failed"] == ["/v1/workers"]


async def test_a_trace_is_continued_into_the_answer_and_the_job(client: httpx.AsyncClient):
    headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    response = await client.post("/v1/jobs", json={"path": PATH}, headers=headers)
    version, trace, span, flags = response.headers["traceresponse"].split("-")
    assert (version, trace, flags) == ("00", TRACE, "01")
    assert span != "00f067aa0ba902b7"
    assert response.json()["trace"] == TRACE
    fresh = await client.get("/v1/workers", headers={"traceparent": "junk"})
    assert fresh.headers["traceresponse"].split("-")[1] != TRACE


async def test_a_claim_comes_with_the_submit(client: httpx.AsyncClient, cluster: Cluster):
    await cluster.pause_workers()
    claim = {"waiter": "dag/run/task", "fence": "fence-0001"}
    job = (await client.post("/v1/jobs", json={"path": PATH, **claim})).json()
    stale = {**claim, "fence": "fence-0000"}
    assert (await client.post(f"/v1/jobs/{job['id']}/cancel", json=stale)).status_code == 200
    assert (await client.post(f"/v1/jobs/{job['id']}/cancel", json=claim)).status_code == 200
    ended = (await client.get(f"/v1/jobs/{job['id']}?wait=20s&after={1 << 50}")).json()
    assert (ended["state"], ended["reason"]) == ("STOPPED", "Everyone who waited for it has left.")
    assert ended["abandoned"]


async def test_a_claim_may_have_a_lease_that_is_renewed(client: httpx.AsyncClient, cluster: Cluster):
    await cluster.pause_workers()
    claim = {"waiter": "dag/run/task", "fence": "fence-0001"}
    for body, status in (({**claim, "lease": 60}, 201), ({"lease": 60}, 400), ({**claim, "lease": 1}, 400)):
        assert (await client.post("/v1/jobs", json={"path": PATH, **body})).status_code == status
    (known,) = cluster.coordinator.service.list()
    url = f"/v1/jobs/{known.job.id}"

    async def renewed(fence: str) -> bool:
        before = await cluster.engine.get(Bucket.CONTROLS, known.job.id)
        answer = await client.post(f"{url}/renew", json={**claim, "fence": fence})
        assert answer.json()["id"] == known.job.id
        return await cluster.engine.get(Bucket.CONTROLS, known.job.id) != before

    assert await renewed("fence-0001")
    assert not await renewed("fence-0000")  # it has been replaced: nothing is written, and nobody told
    assert (
        await client.post(f"{url}/claim", json={**claim, "fence": "fence-0002", "lease": 86400.5})
    ).status_code == 200
    assert not await renewed("fence-0001")
    assert (await client.post(f"{url}/cancel", json={**claim, "lease": 60})).status_code == 400
    assert (await client.post("/v1/jobs/none/renew", json=claim)).status_code == 404
