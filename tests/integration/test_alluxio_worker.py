"""Dialect A: what a worker answers with the help of coordinators and other workers, which it finds by itself."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
import pytest
import uvicorn

from preheat.access import Grant, Role
from preheat.api import create_app
from preheat.engine import Bucket, MemoryEngine
from preheat.paths import UfsPath
from preheat.placement import Member, PlacementMap
from preheat.registry import Beacon
from preheat.settings import CoordinatorSettings
from preheat.store import MemoryStore, path_id
from preheat.tokens import TokenStore
from preheat.ufs import MemoryUnderStore
from preheat.worker._coordinators import ControlPlane
from preheat.worker._forward import Forward
from preheat.worker._reads import ReadService
from preheat.worker.port._alluxio import AlluxioWorker
from preheat.worker.port._server import DataServer
from tests.unit.memory_cluster import SETTINGS, Cluster

PATH = "s3://b/data/"
ANSWERS = json.loads((Path(__file__).parents[1] / "contract" / "alluxio" / "worker_answers.json").read_text())
SECONDS = 20


class ServedCluster(Cluster):
    """A cluster whose coordinator listens, and says where."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        super().__init__(port=self.socket.getsockname()[1])

    @asynccontextmanager
    async def serving(self, *, tokens: TokenStore | None = None) -> AsyncIterator[None]:
        app = create_app(self.coordinator, CoordinatorSettings(port=self.port), tokens=tokens)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        task = asyncio.create_task(server.serve(sockets=[self.socket]))
        await self.start_all()
        try:
            yield
        finally:
            server.should_exit = True
            await task
            await self.stop_all()

    async def listed(self, job_id: str) -> None:
        """Return when a job has listed everything."""
        known = await self.coordinator.service.get(job_id)
        async with asyncio.timeout(SECONDS):
            while not known.job.work.listing_done:
                known = await self.coordinator.service.wait(job_id, after=known.revision, seconds=SECONDS)


class Worker:
    """The data port of a worker, asked as Alluxio's clients do."""

    def __init__(self, url: str, control: ControlPlane, reads: ReadService, http: aiohttp.ClientSession) -> None:
        self.url = url
        self.control = control
        self.reads = reads
        self.headers: dict[str, str] = {}
        self._http = http

    async def knows_a_coordinator(self) -> None:
        async with asyncio.timeout(SECONDS):
            while not self.control.coordinator_urls():
                await asyncio.sleep(0.01)

    async def load(self, operation: str, path: str = PATH, *, method: str = "GET", **params: str) -> dict[str, Any]:
        url, params = f"{self.url}/v1/load", {"path": path, "opType": operation, **params}
        async with self._http.request(method, url, params=params, headers=self.headers) as response:
            assert (response.status, response.content_type) == (200, "text/plain"), await response.text()
            answer: dict[str, Any] = json.loads(await response.text())
        return answer

    async def read(self, target: str) -> tuple[int, bytes]:
        async with self._http.get(f"{self.url}{target}") as response:
            return response.status, await response.read()

    async def get(self, target: str) -> tuple[int, Any]:
        async with self._http.get(f"{self.url}{target}") as response:
            return response.status, json.loads(await response.text())


@asynccontextmanager
async def working(engine: MemoryEngine, origin: MemoryUnderStore | None = None) -> AsyncIterator[Worker]:
    control = ControlPlane()
    store = MemoryStore(capacity=1 << 20)
    reads = ReadService(store, origin or MemoryUnderStore())
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    forward = Forward(reads, worker_id="w", owners=control.owners)
    alluxio = AlluxioWorker(control, reads, store, forward=forward, url="http://127.0.0.9:28080")
    async with (
        DataServer(reads, alluxio=alluxio) as server,
        control.following(engine),
        aiohttp.ClientSession(timeout=timeout) as http,
    ):
        yield Worker(server.url, control, reads, http)
    await alluxio.close()
    await forward.close()
    await reads.close()


@pytest.fixture
async def cluster() -> AsyncIterator[ServedCluster]:
    cluster = ServedCluster()
    async with cluster.serving():
        cluster.fill(3)
        await cluster.pause_workers()
        yield cluster


@pytest.fixture
async def worker(cluster: ServedCluster) -> AsyncIterator[Worker]:
    async with working(cluster.engine) as worker:
        await worker.knows_a_coordinator()
        yield worker


def expected(case: str, job_id: str = "") -> Any:
    return json.loads(json.dumps(ANSWERS[case]).replace("JOB_ID", job_id))


async def test_a_job_from_submit_to_stop(worker: Worker, cluster: ServedCluster) -> None:
    submitted = await worker.load("submit")
    job_id = submitted["jobId"]
    assert submitted == expected("submit", job_id)
    assert await worker.load("SUBMIT", method="POST", verbose="true") == expected(
        "submit of a path that is loading", job_id
    )
    await cluster.listed(job_id)
    assert await worker.load("progress", verbose="true") == expected("progress")
    assert await worker.load("stop") == expected("stop")
    assert await worker.load("stop") == expected("stop of a path that is not loading")
    assert (await worker.load("progress"))["jobState"] == "STOPPED"
    assert cluster.coordinator.service.list()[0].job.spec.options.skip_if_exists is False


async def test_a_job_until_it_succeeded(worker: Worker, cluster: ServedCluster) -> None:
    cluster.resume_workers()
    options = {"bandwidth": "1000000", "fileFilterRegx": ".*[01]", "verify": "true", "partialListing": "True"}
    submitted = await worker.load("submit", **options)
    await cluster.ended(submitted["jobId"])
    report = await worker.load("progress", progressFormat="JSON", verbose="false")
    assert "jobState" not in report  # as Alluxio's
    shown = json.loads(report["message"].removeprefix(f"Progress for loading path '{PATH}':\n"))
    assert (shown["mJobState"], shown["mProcessedFileCount"], shown["mBandwidth"]) == ("SUCCEEDED", 2, 1_000_000)
    assert (await worker.load("progress"))["jobState"] == "SUCCEEDED"


async def test_a_waiting_job_is_shown_as_running(worker: Worker, cluster: ServedCluster) -> None:
    for number in range(SETTINGS.max_running + 1):
        cluster.origin.write(f"s3://b/{number}/x", b"x")
        submitted = await worker.load("submit", f"s3://b/{number}/")
    assert (await cluster.coordinator.service.get(submitted["jobId"])).job.state == "WAITING"
    assert (await worker.load("progress", submitted["path"]))["jobState"] == "RUNNING"


async def test_a_failed_job_is_shown_up_to_the_next_colon(worker: Worker, cluster: ServedCluster) -> None:
    key = "data/odd\n\tJob State: SUCCEEDED\n"
    cluster.origin.write(f"s3://b/{key}", b"x")
    submitted = await worker.load("submit")
    await cluster.listed(submitted["jobId"])
    cluster.origin.remove(f"s3://b/{key}")
    cluster.resume_workers()
    await cluster.ended(submitted["jobId"])
    progress = await worker.load("progress", verbose="true")
    assert progress["jobState"].startswith("FAILED (1 of 4")
    assert progress["respProperties"]["Files Failed"] == "1"


@pytest.mark.parametrize("bandwidth", ["0", "-1", ""])
async def test_a_bandwidth_that_is_none_is_ignored(worker: Worker, bandwidth: str) -> None:
    assert (await worker.load("submit", bandwidth=bandwidth))["success"] is True
    assert "bandwidth: unlimited" in (await worker.load("progress"))["message"]


async def test_what_cannot_be_done_is_200_and_not_a_success(worker: Worker, cluster: ServedCluster) -> None:
    assert await worker.load("submit", "s3://b/none/") == expected("submit that is refused")
    assert await worker.load("progress", "s3://b/unknown/") == expected("progress of an unknown path")
    for options in ({"colour": "red"}, {"replicas": "3"}, {"verify": "maybe"}, {"fileFilterRegx": "("}):
        answer = await worker.load("submit", **options)
        assert (answer["success"], answer["jobId"]) == (False, "NONE")
        assert next(iter(options)).removesuffix("Regx") in answer["message"]
    assert cluster.coordinator.service.list() == []


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("", "path is missing"),
        ("?opType=submit", "path is missing"),
        ("?path=s3://b/", "opType=''"),
        ("?path=s3://b/&opType=bake", "opType='bake'"),
        ("?path=s3://b/&opType=progress&progressFormat=text", "progressFormat='text'"),
        ("?path=%ff&opType=submit", "UTF-8"),
    ],
)
async def test_what_is_no_request_is_400(worker: Worker, query: str, says: str) -> None:
    status, problem = await worker.get(f"/v1/load{query}")
    assert status == 400
    assert says in problem["detail"]


@pytest.mark.parametrize("key", ["a b", "a+b", "100%", "é/😀", "x&y=z#?"])
async def test_a_key_arrives_as_a_client_encodes_it(worker: Worker, cluster: ServedCluster, key: str) -> None:
    cluster.origin.write(f"s3://b/{key}", b"x")
    assert (await worker.load("submit", f"s3://b/{key}"))["success"] is True
    assert cluster.coordinator.service.list()[0].job.spec.paths == (f"s3://b/{key}",)


async def test_a_path_may_be_encoded_in_part(worker: Worker, cluster: ServedCluster) -> None:
    """Alluxio decodes ``%2F``, ``%3A`` and ``%3F`` alone; that much works in either spelling."""
    for text in ("s3://b/data/", "s3%3A%2F%2Fb%2Fdata%2F"):
        status, answer = await worker.get(f"/v1/load?path={text}&opType=submit")
        assert (status, answer["success"], answer["path"]) == (200, True, PATH)


async def test_without_a_coordinator_nothing_is_failed() -> None:
    async with working(MemoryEngine()) as worker:
        assert await worker.load("progress") == expected("progress without a coordinator")
        assert (await worker.load("submit"))["success"] is False
        assert "No coordinator answers" in (await worker.load("stop"))["message"]


async def test_a_coordinator_that_is_gone_is_passed_over(worker: Worker, cluster: ServedCluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        gone = Beacon(id="gone", url=f"http://127.0.0.1:{closed.getsockname()[1]}", started_at=0)
    await cluster.engine.put(Bucket.COORDINATORS, gone.id, msgspec.json.encode(gone))
    async with asyncio.timeout(SECONDS):
        while len(worker.control.coordinator_urls()) < 2:
            await asyncio.sleep(0.01)
    assert worker.control.coordinator_urls()[0] == gone.url
    assert (await worker.load("submit"))["success"] is True


async def test_a_coordinator_that_stops_withdraws(worker: Worker, cluster: ServedCluster) -> None:
    await cluster.kill("coordinator-0")
    async with asyncio.timeout(SECONDS):
        while worker.control.coordinator_urls():
            await asyncio.sleep(0.01)


async def test_node_names_the_owner(worker: Worker, cluster: ServedCluster) -> None:
    async with asyncio.timeout(SECONDS):
        while worker.control.owner_url(PATH) is None:
            await asyncio.sleep(0.01)
    for uri in (PATH, "s3://b/a+b", "s3://b/x%20y", "s3://b/1", "s3://b/2"):
        owner = cluster.coordinator.cluster.placement.owners(uri.replace("%20", " "))[0]
        assert await worker.get(f"/v1/node?path={uri}") == (
            200, {"Host": urlsplit(owner.url).hostname, "HttpServerPort": 80},
        )  # fmt: skip


@pytest.mark.parametrize("query", ["", "?path=", "?path=nonsense", "?path=s3://b/x"])
async def test_node_names_itself_where_the_owner_is_not_known(query: str) -> None:
    async with working(MemoryEngine()) as worker:
        assert await worker.get(f"/v1/node{query}") == (200, {"Host": "127.0.0.9", "HttpServerPort": 28080})


async def test_an_id_is_known_if_any_worker_knows_it() -> None:
    engine, origin = MemoryEngine(), MemoryUnderStore()
    for name in ("listed", "cached"):
        origin.write(f"s3://b/{name}/x", name.encode())
    async with working(engine, origin) as one, working(engine, origin) as other:
        members = (
            Member(id="gone", url="http://127.0.0.1:9"),
            *(Member(id=each.url, url=each.url) for each in (one, other)),
        )
        await engine.put(Bucket.CLUSTER, "placement", msgspec.json.encode(PlacementMap(members=members)))
        async with asyncio.timeout(SECONDS):
            while not (one.control.owners("x", 1) and other.control.owners("x", 1)):
                await asyncio.sleep(0.01)
        await one.get("/v1/files?path=s3://b/listed")
        await one.reads.fetch(UfsPath.parse("s3://b/cached/x"), info=None)
        for name in ("listed", "cached"):
            target = f"/v1/file/{path_id(f's3://b/{name}/x')}/page/0"
            assert await other.read(target) == (200, name.encode())
        status, body = await other.read(f"/v1/file/{path_id('s3://b/neither')}/page/0")
        assert (status, json.loads(body)["code"]) == (500, "unknown_path_id")


async def test_the_callers_token_is_passed_on() -> None:
    cluster = ServedCluster()
    tokens = TokenStore(cluster.engine)
    following = asyncio.create_task(tokens.follow())
    _, token = await tokens.create(grant=Grant(role=Role.SUBMIT))
    async with cluster.serving(tokens=tokens), working(cluster.engine) as worker:
        cluster.fill(1)
        await worker.knows_a_coordinator()
        refused = await worker.load("submit")
        assert refused["success"] is False
        assert "token" in refused["message"]
        worker.headers["Authorization"] = f"Bearer {token.text}"
        assert (await worker.load("submit"))["success"] is True
    following.cancel()
