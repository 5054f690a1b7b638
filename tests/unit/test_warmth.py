"""How warm a dataset is: what is expected beside what the live workers hold, counted so that doubt is cold."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import pairwise
from typing import Any
from unittest.mock import ANY

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preheat.access import Grant, Role, acting_for
from preheat.cli import main
from preheat.coordinator import _catalog
from preheat.coordinator._cached import CachedPage, MemoryCachedListing
from preheat.coordinator._heat import heat_of
from preheat.coordinator._warmth import WarmthMeter
from preheat.engine import MemoryEngine
from preheat.errors import DeadlineExceeded, Forbidden
from preheat.inventories import Inventories
from preheat.jobs import JobSpec, JobState, JobType
from preheat.paths import UfsPath
from preheat.placement import Member
from preheat.store import MemoryStore, PageStore
from preheat.ufs import MemoryUnderStore
from preheat.versions import ObjectInfo
from tests.unit.memory_cluster import Cluster, load

PATH = "s3://b/data/"
OBJECTS = 10


def info(key: str, etag: str = "e", size: int = 1) -> ObjectInfo:
    return ObjectInfo(key=key, size=size, etag=etag, last_modified=1.5)


LISTINGS = st.dictionaries(st.text("abé", max_size=3), st.tuples(st.sampled_from("ef"), st.integers(0, 2))).map(
    lambda objects: [info(key, *objects[key]) for key in sorted(objects)]
)
CUTS = st.lists(st.integers(0, 9), max_size=5)


async def paged(objects: Sequence[ObjectInfo], cuts: Sequence[int]) -> AsyncIterator[Sequence[ObjectInfo]]:
    bounds = [0, *sorted(min(cut, len(objects)) for cut in cuts), len(objects)]
    for start, end in pairwise(bounds):
        if start < end:
            yield objects[start:end]


@given(LISTINGS, CUTS, st.lists(st.tuples(LISTINGS, CUTS), max_size=3))
async def test_heat_is_what_a_count_of_sets_finds(
    expected: list[ObjectInfo], cuts: list[int], held: list[tuple[list[ObjectInfo], list[int]]]
):
    heat = await heat_of(paged(expected, cuts), [paged(*worker) for worker in held])
    versions = [{(item.key, item.etag, item.size) for item in listing} for listing, _ in held]
    copies = {item: sum((item.key, item.etag, item.size) in each for each in versions) for item in expected}
    hot = [item for item, count in copies.items() if count]
    assert (heat.expected.objects, heat.expected.bytes) == (len(expected), sum(item.size for item in expected))
    assert (heat.hot.objects, heat.hot.bytes) == (len(hot), sum(item.size for item in hot))
    assert heat.fewest_copies == min(copies.values(), default=None)
    assert heat.fraction == (len(hot) / len(expected) if expected else 0.0)


@pytest.fixture
def cluster(cluster: Cluster) -> Cluster:
    cluster.fill(OBJECTS)
    return cluster


async def done(cluster: Cluster, spec: JobSpec) -> str:
    known = await cluster.coordinator.service.submit(spec)
    assert await cluster.ended(known.job.id) is JobState.SUCCEEDED
    return f"sha256:{(await cluster.coordinator.service.get(known.job.id)).job.work.version}"


async def warmth(client: httpx.AsyncClient, path: str = PATH, status: int = 200, **params: str) -> dict[str, Any]:
    response = await client.get("/v1/warmth", params={"path": path, **params})
    assert response.status_code == status, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def test_a_path_that_nobody_loaded_is_listed_and_cold(client: httpx.AsyncClient, cluster: Cluster):
    cold = await warmth(client)
    assert (cold["source"], cold["inventory"], cold["listedAt"]) == ("listing", None, None)
    assert (cold["expected"]["files"], cold["hot"], cold["hotFraction"]) == (OBJECTS, {"files": 0, "bytes": 0}, 0.0)
    assert (cold["complete"], cold["reason"], cold["fewestCopies"]) == (True, "", 0)
    nothing = await warmth(client, "s3://b/none/")
    assert (nothing["hotFraction"], nothing["fewestCopies"]) == (0.0, None)
    assert "Nothing is listed at or below s3://b/none/" in nothing["reason"]


async def test_a_loaded_path_is_hot_until_copies_go(client: httpx.AsyncClient, cluster: Cluster):
    version = await done(cluster, load(replicas=2))
    hot = await warmth(client)
    assert (hot["source"], hot["version"], hot["hotFraction"], hot["fewestCopies"]) == ("inventory", version, 1.0, 2)
    assert hot["hot"] == hot["expected"]
    cluster.workers[0].store.delete(f"{PATH}0003")
    assert ((await warmth(client))["hotFraction"], (await warmth(client))["fewestCopies"]) == (1.0, 1)
    cluster.workers[1].store.delete(f"{PATH}0003")
    cooler = await warmth(client)
    assert (cooler["hotFraction"], cooler["hot"]["files"], cooler["fewestCopies"]) == (0.9, OBJECTS - 1, 0)
    assert (await warmth(client, f"{PATH}0003"))["hotFraction"] == 0.0
    assert (await warmth(client, f"{PATH}0004"))["hotFraction"] == 1.0


async def test_the_command_prints_it_and_exits_by_it(url: str, cluster: Cluster, capsys: pytest.CaptureFixture[str]):
    async def run(*arguments: str) -> tuple[object, str]:
        with pytest.raises(SystemExit) as ended:
            await asyncio.to_thread(main, ["fs", "warmth", PATH, *arguments])
        return ended.value.code, capsys.readouterr().out

    assert await run() == (1, ANY)
    version = await done(cluster, load())
    code, printed = await run("--version", version)
    assert (code, f"{version} (version, " in printed, "hot            10 files, 80 B" in printed) == (0, True, True), (
        printed
    )
    code, printed = await run("--json")
    assert (code, json.loads(printed)["hotFraction"]) == (0, 1.0)


async def test_only_the_expected_version_is_hot(client: httpx.AsyncClient, cluster: Cluster):
    first = await done(cluster, load())
    await client.post("/v1/pins", json={"path": PATH})
    cluster.origin.write(f"{PATH}0003", b"new")
    second = await done(cluster, load(load_metadata_only=True))
    pinned = await warmth(client)
    assert (pinned["source"], pinned["version"], pinned["hotFraction"]) == ("pin", first, 1.0)
    latest = await warmth(client, version=second)
    assert (latest["source"], latest["version"], latest["hotFraction"]) == ("version", second, 0.9)
    assert (await warmth(client, version=first))["hotFraction"] == 1.0
    unknown = await warmth(client, status=409, version=f"sha256:{'0' * 64}")
    assert first in unknown["remedy"]
    assert second in unknown["remedy"]
    assert (await warmth(client, status=400, version="md5:1"))["code"] == "invalid_request"


async def test_a_worker_that_does_not_answer_holds_nothing(
    client: httpx.AsyncClient, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_catalog, "_pause", lambda failures: 0.0)
    await done(cluster, load())
    alone = len(list(cluster.workers[1].store.scan("s3://b/")))
    assert 0 < alone < OBJECTS
    del cluster.stores["http://worker-0"]
    answer = await warmth(client)
    assert (answer["complete"], answer["hot"]["files"]) == (False, alone)
    assert "worker-0 does not say what it holds" in answer["reason"]
    del cluster.stores["http://worker-1"]
    answer = await warmth(client)
    assert (answer["complete"], answer["hotFraction"]) == (False, 0.0)


class Interrupted(MemoryCachedListing):
    """Workers of which something becomes known while they are asked."""

    def __init__(self, stores: Mapping[str, PageStore], *, page: int = 3) -> None:
        super().__init__(stores)
        self.page = page
        self.asked: list[str] = []
        self.stuck = asyncio.Event()
        self.members = [Member(id=url.removeprefix("http://"), url=url, started_at=1.0) for url in stores]

    async def list(self, worker_url: str, path: UfsPath, *, after: str, limit: int) -> CachedPage:
        self.asked.append(worker_url)
        if len(self.asked) == 4:
            await self.interrupt()
        return await super().list(worker_url, path, after=after, limit=min(limit, self.page))

    async def interrupt(self) -> None:
        """Nothing becomes known."""


ORIGIN = MemoryUnderStore(page_size=4)
LISTED = [ORIGIN.write(f"{PATH}{number:04d}", b"x") for number in range(OBJECTS)]


def filled(*workers: range) -> dict[str, PageStore]:
    stores: dict[str, PageStore] = {
        f"http://w{number}": MemoryStore(capacity=1 << 20) for number in range(len(workers))
    }
    for store, numbers in zip(stores.values(), workers, strict=True):
        for number in numbers:
            uri, etag = f"{PATH}{number:04d}", LISTED[number].etag
            with store.writer(uri, etag=etag, size=1, last_modified=1.0) as writer:
                writer.append(b"x")
                writer.commit()
    return stores


def meter(listing: Interrupted) -> WarmthMeter:
    return WarmthMeter(
        ufs=ORIGIN,
        inventories=Inventories(MemoryEngine()),
        cached=listing,
        members=lambda: listing.members,
        listing_attempts=1,
    )


async def test_what_a_worker_said_before_it_fell_silent_does_not_count(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_catalog, "_pause", lambda failures: 0.0)

    class Dying(Interrupted):
        async def interrupt(self) -> None:
            self._stores = {url: store for url, store in self._stores.items() if url != "http://w0"}

    found = await meter(Dying(filled(range(OBJECTS), range(6, 8)))).measure(PATH, seconds=10)
    assert (found.heat.hot.objects, found.complete, found.live) == (2, False, 1)


async def test_a_worker_that_restarted_meanwhile_is_asked_again():
    stores = filled(range(OBJECTS))

    class Restarting(Interrupted):
        async def interrupt(self) -> None:
            self._stores = filled(range(2))
            self.members = [Member(id="w0", url="http://w0", started_at=2.0)]

    found = await meter(Restarting(stores)).measure(PATH, seconds=10)
    assert (found.heat.hot.objects, found.complete) == (2, True)


async def test_counting_ends_in_time_and_when_it_is_cancelled():
    class Hanging(Interrupted):
        async def interrupt(self) -> None:
            self.stuck.set()
            await asyncio.Event().wait()

    with pytest.raises(DeadlineExceeded):
        await meter(Hanging(filled(range(OBJECTS)))).measure(PATH, seconds=0.05)
    listing = Hanging(filled(range(OBJECTS)))
    counting = asyncio.create_task(meter(listing).measure(PATH, seconds=60))
    await listing.stuck.wait()
    counting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await counting


async def test_nobody_live_is_cold_and_other_peoples_paths_are_refused():
    listing = Interrupted({})
    found = await meter(listing).measure(PATH, seconds=10)
    assert (found.heat.fraction, found.complete, found.reason) == (0.0, False, "No worker is live.")
    with acting_for(Grant(role=Role.READ, prefixes=("s3://b/other/",))), pytest.raises(Forbidden):
        await meter(listing).measure(PATH, seconds=10)


async def test_freeing_makes_cold(client: httpx.AsyncClient, cluster: Cluster):
    await done(cluster, load())
    await done(cluster, JobSpec(type=JobType.FREE, paths=(PATH,)))
    assert (await warmth(client))["hotFraction"] == 0.0
