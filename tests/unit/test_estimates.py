"""Dry runs: the sums are those of the job that follows, and nothing is done meanwhile."""

from __future__ import annotations

import httpx
import pytest

from preheat.estimates import Estimator, Prices, cost
from preheat.jobs import JobOptions, JobSpec
from preheat.placement import Member, PlacementMap
from preheat.registry import Heartbeat
from preheat.versions import ObjectInfo
from tests.unit.memory_cluster import Cluster

PATH = "s3://b/data/"
MEMBERS = tuple(Member(id=name, url="") for name in ("a", "b", "c"))
PLACEMENT = PlacementMap(epoch=1, members=MEMBERS)
WORKERS = [Heartbeat(id=name, url="", capacity=1000, used=300) for name in ("a", "b", "c", "elsewhere")]


def listing(count: int, size: int = 10) -> list[ObjectInfo]:
    return [ObjectInfo(key=f"k{number:05}", size=size, etag="e", last_modified=0) for number in range(count)]


def estimator(*pages: list[ObjectInfo], root: str = "s3://b/", **options: object) -> Estimator:
    built = Estimator(JobSpec(paths=(root,), options=JobOptions(**options)), PLACEMENT)  # type: ignore[arg-type]
    for page in pages:
        built.add(root, page)
    return built


class TestSums:
    def test_each_replica_is_fetched_and_stored(self):
        result = estimator(listing(100), listing(50), replicas=2).result(WORKERS)
        assert (result.listed.objects, result.listed.bytes) == (150, 1500)
        assert (result.list_requests, result.get_requests) == (2, 300)
        assert sum(worker.load.objects for worker in result.workers) == 300
        assert sum(worker.load.bytes for worker in result.workers) == 3000
        assert [worker.id for worker in result.workers] == ["a", "b", "c"]

    def test_the_slowest_worker_sets_the_time(self):
        result = estimator(listing(90), bandwidth=100).result(WORKERS)
        assert result.seconds == max(worker.load.bytes for worker in result.workers) / 100
        assert estimator(listing(90)).result(WORKERS).seconds is None

    @pytest.mark.parametrize(("size", "fits"), [(1000, True), (1001, False)])
    def test_what_is_cached_makes_room(self, size: int, *, fits: bool):
        result = estimator(listing(1, size), replicas=3).result(WORKERS)
        assert [(worker.free, worker.evictable, worker.fits) for worker in result.workers] == [(700, 300, fits)] * 3
        assert result.fits is fits

    def test_metadata_takes_no_get_and_no_room(self):
        result = estimator(listing(100, 10**9), load_metadata_only=True).result(WORKERS)
        assert (result.get_requests, result.fits) == (0, True)
        assert sum(worker.load.objects for worker in result.workers) == 100

    def test_verifying_lists_twice_and_files_are_free(self):
        assert estimator(listing(9), verify=True).result(WORKERS).list_requests == 2
        files = estimator(listing(9), root="file:///").result(WORKERS)
        assert (files.list_requests, files.get_requests, cost(files, Prices())) == (0, 0, (0, 0))

    def test_the_cost_is_that_of_the_price_list(self):
        result = estimator(listing(1000), listing(1000), listing(1000), replicas=2).result(WORKERS)
        assert cost(result, Prices()) == (0.000015, 0.0024)
        assert cost(result, Prices(list_per_1000=1000, get_per_1000=1)) == (3, 6)


@pytest.fixture
def cluster(cluster: Cluster) -> Cluster:
    cluster.fill(100)
    return cluster


async def test_a_dry_run_tells_what_the_load_then_does(client: httpx.AsyncClient, cluster: Cluster):
    body = {
        "path": PATH,
        "options": {"fileFilterRegex": ".*[05]", "bandwidth": "1MiB"},
        "waiter": "w",
        "fence": "f" * 8,
    }
    estimate = (await client.post("/v1/estimates", json=body)).json()
    assert (await client.get("/v1/jobs")).json()["jobs"] == []
    job = (await client.post("/v1/jobs", json=body)).json()
    ended = (await client.get(f"/v1/jobs/{job['id']}?wait=20s&after={1 << 50}")).json()
    assert {"files": estimate["objects"], "bytes": estimate["bytes"]} == ended["loaded"]
    assert estimate["objects"] == 20
    assert estimate["datasetVersion"] == ended["datasetVersion"]
    held = {worker.settings.id: worker.store.usage() for worker in cluster.workers}
    assert {share["id"]: share["objects"] for share in estimate["workers"]} == {
        name: usage.objects for name, usage in held.items()
    }
    assert estimate["seconds"] == max(share["bytes"] for share in estimate["workers"]) / (1 << 20)
    assert estimate["requests"] == {"list": 3, "get": 20}  # pages of 40 objects
    assert estimate["fits"] is True


async def test_prices_of_ones_own(client: httpx.AsyncClient):
    prices = {"listPer1000": 1, "getPer1000": 10, "currency": "EUR", "basis": "Our contract."}
    shown = (await client.post("/v1/estimates", json={"path": PATH, "prices": prices})).json()["cost"]
    assert shown == {"list": 0.003, "get": 1.0, "total": 1.003, "currency": "EUR", "basis": "Our contract."}


async def test_an_index_file_names_what_is_missing(client: httpx.AsyncClient, cluster: Cluster):
    cluster.origin.write("s3://b/index", f"{PATH}0001\n{PATH}none\n".encode())
    estimate = (await client.post("/v1/estimates", json={"index": "s3://b/index"})).json()
    assert (estimate["objects"], estimate["missing"]) == (1, 1)


@pytest.mark.parametrize(
    ("body", "query", "status", "names"),
    [
        ({"path": PATH, "type": "free"}, "", 400, "type=free"),
        ({"path": PATH, "options": {"replicas": 3}}, "", 400, "replicas=3"),
        ({"path": "s3://b/none/"}, "", 404, "s3://b/none/"),
        ({"path": "s3://nope/"}, "", 404, "nope"),
        ({"path": PATH, "prices": {"getPer1000": -1}}, "", 400, "prices.getPer1000=-1"),
        ({"path": PATH}, "?timeout=0s", 400, "timeout='0s'"),
        ({"path": PATH}, "?timeout=11m", 400, "timeout='11m'"),
        ({"path": PATH}, "?timeout=1ms", 504, "did not end within 0.001 s"),
    ],
)
async def test_what_cannot_be_estimated(
    client: httpx.AsyncClient, cluster: Cluster, body: dict[str, object], query: str, status: int, names: str
):
    cluster.fill(5000)
    response = await client.post(f"/v1/estimates{query}", json=body)
    assert (response.status_code, names in response.json()["detail"]) == (status, True), response.text
