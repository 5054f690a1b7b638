"""Server-sent events: what a client is told, from where it resumes, and what it costs those who are not concerned."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import msgspec
import pytest

from preheat.access import Grant, Role, acting_for
from preheat.api._answers import JobViews
from preheat.api._events import Connection, EventHub, Filter
from preheat.datasets import Dataset
from preheat.engine import Bucket
from preheat.jobs import Job, JobState
from tests.unit.memory_cluster import Cluster, load
from tests.unit.served_cluster import serve


@dataclass(frozen=True)
class Event:
    kind: str
    data: dict[str, object]
    id: int


@pytest.fixture
def cluster(cluster: Cluster) -> Cluster:
    cluster.fill(20)
    return cluster


@pytest.fixture
async def url(cluster: Cluster) -> AsyncIterator[str]:
    async with serve(cluster) as url:
        yield url


@asynccontextmanager
async def events(url: str, query: str = "", **headers: str) -> AsyncIterator[AsyncIterator[Event]]:
    async with (
        httpx.AsyncClient(timeout=10) as client,
        client.stream("GET", f"{url}/v1/events{query}", headers=headers) as response,
    ):
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield parse(response.aiter_lines())


async def parse(lines: AsyncIterator[str]) -> AsyncIterator[Event]:
    fields: dict[str, str] = {}
    async for line in lines:
        if not line and fields:
            yield Event(fields["event"], json.loads(fields["data"]), int(fields["id"]))
            fields = {}
        elif line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value


async def until(stream: AsyncIterator[Event], kind: str, **facts: object) -> list[Event]:
    """Return the events up to the first of this kind with these facts."""
    seen = []
    async with asyncio.timeout(10):
        async for event in stream:
            seen.append(event)
            if event.kind == kind and facts.items() <= event.data.items():
                return seen
    raise AssertionError(seen)


async def test_a_job_is_told_to_its_end_as_get_shows_it(cluster: Cluster, url: str):
    async with events(url) as stream:
        start = await until(stream, "worker", id="worker-1", live=True)
        assert [event.kind for event in start] == ["placement", "worker", "worker"]
        job = (await cluster.coordinator.service.submit(load())).job
        told = await until(stream, "job", id=job.id, state="SUCCEEDED")
    async with httpx.AsyncClient() as client:
        assert told[-1].data == (await client.get(f"{url}/v1/jobs/{job.id}")).json()
    revisions = [event.data["revision"] for event in told if event.kind == "job"]
    assert revisions == sorted(revisions)


async def test_a_filtered_client_hears_of_its_job_at_once_and_of_no_other(cluster: Cluster, url: str):
    await cluster.pause_workers()
    mine = (await cluster.coordinator.service.submit(load())).job
    cluster.origin.write("s3://b/other/x", b"x")
    async with events(url, f"?job={mine.id}") as stream:
        await until(stream, "job", id=mine.id)
        await cluster.coordinator.service.submit(load("s3://b/other/"))
        await cluster.coordinator.service.stop(mine.id)
        told = await until(stream, "job", id=mine.id, state="STOPPED")
    assert {event.data["id"] for event in told} == {mine.id}


async def test_a_state_filter_tells_what_is_and_comes_into_it(cluster: Cluster, url: str):
    first = (await cluster.coordinator.service.submit(load())).job
    await cluster.ended(first.id)
    async with events(url, "?state=SUCCEEDED") as stream:
        await until(stream, "job", id=first.id)
        second = (await cluster.coordinator.service.submit(load())).job
        told = await until(stream, "job", id=second.id)
    assert [event.data["state"] for event in told] == ["SUCCEEDED"]


async def test_resuming_tells_what_was_missed_and_no_more(cluster: Cluster, url: str):
    first = (await cluster.coordinator.service.submit(load())).job
    await cluster.ended(first.id)
    async with events(url, "?state=SUCCEEDED") as stream:
        last = (await until(stream, "job", id=first.id))[-1].id
    second = (await cluster.coordinator.service.submit(load())).job
    await cluster.ended(second.id)
    async with events(url, "", **{"Last-Event-ID": str(last)}) as stream:
        told = await until(stream, "job", state="SUCCEEDED")
    assert [event.data["id"] for event in told if event.kind == "job"] == [second.id]


async def test_an_id_of_a_lost_past_starts_over(cluster: Cluster, url: str):
    await cluster.pause_workers()
    job = (await cluster.coordinator.service.submit(load())).job
    async with events(url, "", **{"Last-Event-ID": str(1 << 40)}) as stream:
        await until(stream, "job", id=job.id)


async def test_a_lost_worker_is_told(cluster: Cluster, url: str):
    async with events(url) as stream:
        await until(stream, "worker", id="worker-1", live=True)
        await cluster.kill("worker-1")
        told = await until(stream, "worker", id="worker-1", live=False)
        if not any(event.kind == "placement" and len(event.data["members"]) == 1 for event in told):
            await until(stream, "placement")


async def test_a_datasets_phases_and_conditions_are_told_and_not_its_progress(cluster: Cluster, url: str):
    async with events(url) as stream, httpx.AsyncClient(base_url=url) as client:
        await until(stream, "worker", id="worker-1", live=True)
        body = {"path": "s3://b/data/", "preload": {"enabled": True}}
        assert (await client.put("/v1/datasets/images", json=body)).status_code == 201
        told: list[Event] = []
        while not told or told[-1].data["status"]["phase"] != "Loaded":  # type: ignore[index] # of JSON
            told += await until(stream, "dataset.status", name="images")
        assert told[-1].data == (await client.get("/v1/datasets/images")).json()
        assert len([event for event in told if event.kind == "dataset.status"]) < 20
        async with events(url) as late:
            await until(late, "dataset.status", name="images")
        await client.delete("/v1/datasets/images")
        assert (await until(stream, "dataset-gone"))[-1].data == {"name": "images"}


async def test_a_dataset_is_told_to_nobody_whose_token_is_bound_to_other_paths(cluster: Cluster):
    hub = EventHub(cluster.coordinator, JobViews(cluster.coordinator, base_url="http://test"))
    datasets = cluster.coordinator.datasets
    for name in ("mine", "other"):
        await datasets.declare(Dataset(name=name, path=f"s3://b/{name}/"))
    with acting_for(Grant(role=Role.READ, prefixes=("s3://b/mine/",))):
        stream = hub.stream(Filter(), after=None)
        told = await anext(stream) + await anext(stream)
    assert told.count(b"event: dataset.status\n") == 1
    assert b"s3://b/mine/" in told
    assert b"s3://b/other/" not in told
    await stream.aclose()


async def test_a_stop_of_the_server_ends_streams_and_long_polls_and_breaks_none_off(cluster: Cluster):
    await cluster.pause_workers()
    job = (await cluster.coordinator.service.submit(load())).job
    async with httpx.AsyncClient(timeout=20) as client, asyncio.TaskGroup() as tasks:
        async with serve(cluster) as url:
            poll = tasks.create_task(client.get(f"{url}/v1/jobs/{job.id}?wait=60s&after={1 << 50}"))
            streams = [tasks.create_task(client.get(f"{url}/v1/events{query}")) for query in ("", f"?job={job.id}")]
            async with asyncio.timeout(5):
                while not cluster.coordinator.jobs._waiters:
                    await asyncio.sleep(0.01)
            async with events(url) as stream:  # connected after the others
                await until(stream, "job", id=job.id)
            started = time.monotonic()
        assert time.monotonic() - started < 4  # before uvicorn breaks off what is still open
    assert (poll.result().status_code, poll.result().json()["id"]) == (200, job.id)
    assert all(f'"id":"{job.id}"' in stream.result().text for stream in streams)


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("?job=none", {}, 404),
        ("?state=BAKED", {}, 400),
        ("?jobs=1", {}, 400),
        ("", {"Last-Event-ID": "x"}, 400),
        ("", {"Last-Event-ID": "-1"}, 400),
    ],
)
async def test_a_wrong_question_is_a_problem(url: str, query: str, headers: dict[str, str], status: int):
    async with httpx.AsyncClient() as client:
        response = await client.get(f"{url}/v1/events{query}", headers=headers)
    assert (response.status_code, response.json()["status"]) == (status, status)


async def test_a_slow_client_holds_one_note_per_job_and_gets_its_latest_state(cluster: Cluster):
    views = JobViews(cluster.coordinator, base_url="http://test")
    hub = EventHub(cluster.coordinator, views)
    job = (await cluster.coordinator.service.submit(load())).job
    stream = hub.stream(Filter(jobs=frozenset({job.id})), after=None)
    assert (await anext(stream)).startswith(b":")  # connected, and then it reads no more for a while
    await cluster.ended(job.id)
    piece = await anext(stream)
    assert piece.count(b"event: job\n") == 1
    assert b'"state":"SUCCEEDED"' in piece
    await stream.aclose()
    assert not hub._by_job


async def test_only_the_last_event_of_a_piece_says_that_all_before_was_told():
    connection = Connection(Filter(), after=7)
    for number in range(150):
        connection.note(("job", str(number)))
        connection.note(("job", "0"))
    first, second = await connection.take(1), await connection.take(1)
    assert (len(first), len(second)) == (100, 50)
    assert [key for _, key in (*first, *second)] == [str(number) for number in range(150)]
    assert connection.told_all
    assert await connection.take(0.01) == []


async def test_an_id_promises_no_more_than_was_told(cluster: Cluster):
    """A client may be cut off behind any event: what it resumes from must leave out nothing it was not told."""
    for number in range(150):
        job = Job(id=f"job-{number}", spec=load(), submitted_at=time.time(), state=JobState.STOPPED)
        await cluster.engine.put(Bucket.JOBS, job.id, msgspec.json.encode(job))
    view = cluster.coordinator.jobs
    async with asyncio.timeout(5):
        while view.get("job-149") is None:
            await asyncio.sleep(0)
    hub = EventHub(cluster.coordinator, JobViews(cluster.coordinator, base_url="http://test"))
    stream = hub.stream(Filter(states=frozenset({JobState.STOPPED})), after=0)
    pieces = [(await anext(stream)).decode() for _ in range(3)][1:]
    ids = [
        [int(line.removeprefix("id: ")) for line in piece.splitlines() if line.startswith("id: ")] for piece in pieces
    ]
    assert ids == [[0] * 100, [0] * 49 + [view.watched]]
    await stream.aclose()


async def test_a_thousand_connections_do_not_concern_each_other(cluster: Cluster, monkeypatch):
    """A change of a job touches the connections that asked for it, and each of its states is written once."""
    noted = Counter[str]()
    note = Connection.note

    def counting_note(self: Connection, what: tuple[str, str]) -> None:
        noted[what[1]] += 1
        note(self, what)

    await cluster.pause_workers()
    mine = (await cluster.coordinator.service.submit(load())).job
    cluster.origin.write("s3://b/other/x", b"x")
    other = (await cluster.coordinator.service.submit(load("s3://b/other/"))).job
    hub = EventHub(cluster.coordinator, JobViews(cluster.coordinator, base_url="http://test"))
    streams = [hub.stream(Filter(jobs=frozenset({mine.id})), after=None) for _ in range(1000)]
    for stream in streams:
        await anext(stream)
    monkeypatch.setattr(Connection, "note", counting_note)
    await cluster.coordinator.service.stop(other.id)
    await cluster.coordinator.service.stop(mine.id)
    assert (noted[other.id], noted[mine.id] >= 1000) == (0, True)
    pieces = {await anext(stream) for stream in streams}
    assert len(pieces) == 1
    assert f'"state":"{JobState.STOPPED}"'.encode() in pieces.pop()
    for stream in streams:
        await stream.aclose()
