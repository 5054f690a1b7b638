"""What the workers hold, as one listing: each object once, in order, whoever asks and wherever they go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given, settings
from hypothesis import strategies as st

from preheat.access import Grant, Role, acting_for
from preheat.coordinator import _cached, _catalog
from preheat.coordinator._cached import CachedListing, CachedPage, HeldPage, MemoryCachedListing, merge
from preheat.coordinator._cached_http import HttpCachedListing
from preheat.coordinator._failures import FailureLog
from preheat.coordinator._source import JobSource, Page
from preheat.copies import CachedCopy, HeldObject
from preheat.engine import Bucket, MemoryEngine
from preheat.errors import Forbidden, NoLiveWorker, Unavailable
from preheat.jobs import FailedObject, Job, JobOptions, JobSpec, JobType, Progress
from preheat.paths import UfsPath
from preheat.placement import Member
from preheat.store import MemoryStore, PageStore
from preheat.ufs import MemoryUnderStore
from preheat.worker._reads import ReadService
from preheat.worker.port._server import DataServer
from tests.unit.source_pages import every_resume_completes

PATH = UfsPath.parse("s3://b/x/")
SPEC = JobSpec(type=JobType.REPLICATE, paths=("s3://b/x/",))
Stores = dict[str, MemoryStore]


@pytest.fixture(scope="module", autouse=True)
def _no_pauses() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_catalog, "_pause", lambda failures: 0.0)
        yield


def put(store: PageStore, path: str) -> None:
    with store.writer(path, etag="e1.0", size=1, last_modified=1.0, job_id="loaded") as writer:
        writer.append(b"x")
        writer.commit()


def stores_with(*held: Sequence[str]) -> Stores:
    stores = {f"http://w{number}": MemoryStore(capacity=1 << 20) for number in range(len(held))}
    for store, paths in zip(stores.values(), held, strict=True):
        for path in paths:
            put(store, path)
    return stores


def members_of(stores: Stores) -> Callable[[], Sequence[Member]]:
    return lambda: [Member(id=url.removeprefix("http://"), url=url) for url in stores]


def source_of(
    stores: Stores, members: Callable[[], Sequence[Member]] | None = None, engine: MemoryEngine | None = None
) -> JobSource:
    return JobSource(
        engine=engine or MemoryEngine(),
        ufs=MemoryUnderStore(),
        cached=MemoryCachedListing(stores),
        members=members or members_of(stores),
        listing_attempts=3,
    )


async def pages_of(source: JobSource, spec: JobSpec = SPEC) -> list[Page]:
    return [page async for page in source.pages(spec, Progress()) if page]


KEYS = st.sets(st.sampled_from([f"s3://b/x/{name}" for name in ("a", "a-b", "a/b", "a/c", "b", "ü", "z", "🙂")]))


@given(held=st.lists(KEYS, min_size=1, max_size=4), limit=st.integers(1, 4))
@settings(deadline=None)
async def test_the_union_is_listed_once_and_in_order_from_any_point_on(held: list[set[str]], limit: int):
    source, union = source_of(stores_with(*map(list, held))), set().union(*held)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_cached, "_PAGE_OBJECTS", limit)
        assert await every_resume_completes(source, SPEC) == sorted(union)


def copy(key: str, modified: float = 1.0, *, job_id: str = "") -> CachedCopy:
    return CachedCopy(key=key, size=1, etag=f"e{modified}", last_modified=modified, job_id=job_id)


def test_a_page_ends_where_one_worker_may_have_more():
    merged = merge(
        {
            "w0": CachedPage(objects=[copy("a"), copy("c")], next="c"),
            "w1": CachedPage(objects=[copy("b"), copy("d")], next="d"),
            "w2": CachedPage(objects=[copy("c"), copy("e")]),
        }
    )
    assert [item.key for item in merged.objects] == ["a", "b", "c"]
    assert merged.next == "c"
    assert merge({}) == merge({"w0": CachedPage(), "w1": CachedPage()}) == HeldPage(objects=[])


def test_the_newest_of_several_versions_is_listed_with_those_who_hold_it():
    copies = {"w0": copy("a", 5.0), "w1": copy("a", 9.0, job_id="j"), "w2": copy("a", 7.0), "w3": copy("a", 9.0)}
    pages = {worker: CachedPage(objects=[each]) for worker, each in copies.items()}
    merged = merge(pages)
    held = HeldObject(
        key="a", size=1, etag="e9.0", last_modified=9.0,
        workers=("w1", "w3"), job_ids=("j", ""), outdated=("w0", "w2"),
    )  # fmt: skip
    assert merged == HeldPage(objects=[held])
    (again,) = merge(dict(reversed(pages.items()))).objects
    assert again.info == held.info
    assert (held.copies_before("j"), held.copies_before("k")) == (1, 2)


async def test_a_worker_that_left_is_left_out_and_one_that_joined_is_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_cached, "_PAGE_OBJECTS", 2)
    stores = stores_with(*([f"s3://b/x/{number:02d}" for number in range(start, 12, 3)] for start in range(3)))
    gone, late = list(stores)[1:]
    present = {url: store for url, store in stores.items() if url != late}
    pages = source_of(present, members_of(present)).pages(SPEC, Progress())
    first = await anext(pages)
    assert first
    assert [item.key for item in first.objects] == ["x/00", "x/01", "x/03"]
    del present[gone]
    present[late] = stores[late]
    rest = [item.key async for page in pages if page for item in page.objects]
    assert rest == ["x/05", "x/06", "x/08", "x/09", "x/11"]


async def test_a_worker_that_leaves_while_it_is_asked_is_left_out():
    stores = stores_with(["s3://b/x/1"], ["s3://b/x/2"])
    answering = dict(list(stores.items())[:1])
    left = iter([members_of(stores)()] * 4)  # one look at the map for all, one more for each attempt
    pages = await pages_of(source_of(answering, lambda: next(left, members_of(answering)())))
    assert [item.key for page in pages for item in page.objects] == ["x/1"]


async def test_a_worker_in_the_map_that_does_not_answer_fails_the_job():
    stores = stores_with(["s3://b/x/1"], ["s3://b/x/2"])
    answering = dict(list(stores.items())[:1])
    with pytest.raises(NoLiveWorker, match=r"The worker w1 does not say what it holds: No worker answers at http://w1"):
        await pages_of(source_of(answering, members_of(stores)))


async def test_nobody_knows_what_is_cached_when_nobody_is_there():
    with pytest.raises(NoLiveWorker, match="could say what is cached"):
        await pages_of(source_of({}))


async def test_what_is_held_is_told_within_the_callers_prefixes():
    source = source_of(stores_with(["s3://b/x/1", "s3://b/x/2"], ["s3://b/x/2"]))
    page = await source.held("s3://b/x/", after="", limit=1)
    assert ([(item.key, item.workers) for item in page.objects], page.next) == ([("x/1", ("w0",))], "x/1")
    (second,) = (await source.held("s3://b/x/", after="x/1", limit=9)).objects
    assert second.workers == ("w0", "w1")
    with acting_for(Grant(role=Role.READ, prefixes=("s3://b/y/",))), pytest.raises(Forbidden):
        await source.held("s3://b/x/", after="", limit=1)


async def test_filters_apply_to_what_is_cached():
    source = source_of(stores_with(["s3://b/x/1.txt", "s3://b/x/2.jpg"], ["s3://b/x/2.jpg", "s3://b/x/3.jpg"]))
    spec = replace(SPEC, options=JobOptions(file_filter_regex=r".*\.jpg"))
    assert await every_resume_completes(source, spec) == ["s3://b/x/2.jpg", "s3://b/x/3.jpg"]


async def test_a_retry_looks_into_the_caches_and_passes_over_what_is_not_there():
    engine = MemoryEngine()
    failed = [FailedObject(path=f"s3://b/x/{name}", size=1, code="c", message="m") for name in ("2", "1", "no", "dir")]
    job = Job(id="j", spec=SPEC, submitted_at=0.0)
    job = replace(job, failure_chunks=await FailureLog(engine).append(job, failed))
    await engine.put(Bucket.JOBS, "j", msgspec.json.encode(job))
    stores = stores_with(["s3://b/x/1", "s3://b/x/2"], ["s3://b/x/2", "s3://b/x/dir/3"])
    (page,) = await pages_of(source_of(stores, engine=engine), replace(SPEC, retry_of="j"))
    assert [item.key for item in page.objects] == ["x/2", "x/1"]
    assert page.missing == ()


HELD = ["s3://b/x", "s3://b/x/a", "s3://b/x/a b%+&?#ü", "s3://b/x//c", "s3://b/xy", "s3://c/x/a", "file:///x/a"]
Asked = tuple[CachedListing, str]


@pytest.fixture(params=["memory", "http"])
async def asked(request: pytest.FixtureRequest) -> AsyncIterator[Asked]:
    """A listing and the URL of its one worker."""
    stores = stores_with(HELD)
    ((url, store),) = stores.items()
    if request.param == "memory":
        yield MemoryCachedListing(stores), url
        return
    reads, listing = ReadService(store, MemoryUnderStore()), HttpCachedListing()
    async with DataServer(reads) as server:
        yield listing, server.url
        await listing.close()
    await reads.close()


@pytest.mark.parametrize(
    ("path", "after", "keys"),
    [
        ("s3://b/x", "", ["x", "x//c", "x/a", "x/a b%+&?#ü"]),
        ("s3://b/x/", "", ["x//c", "x/a", "x/a b%+&?#ü"]),
        ("s3://b/x", "x//c", ["x/a", "x/a b%+&?#ü"]),
        ("s3://b/x", "x/a b%+&?#ü", []),
        ("s3://b/", "x/a b%+&?#ü", ["xy"]),
        ("file:///x/", "", ["x/a"]),
        ("s3://none/", "", []),
    ],
)
async def test_a_worker_and_the_twin_say_the_same(asked: Asked, path: str, after: str, keys: list[str]):
    listing, url = asked
    page = await listing.list(url, UfsPath.parse(path), after=after, limit=100)
    assert ([item.key for item in page.objects], page.next) == (keys, None)
    if keys:
        page = await listing.list(url, UfsPath.parse(path), after=after, limit=1)
        assert (page.objects, page.next) == ([copy(keys[0], job_id="loaded")], keys[0])


@pytest.fixture
async def worker() -> AsyncIterator[tuple[TestServer, dict[str, Any]]]:
    """A worker that answers what the test says, and tells what it was asked."""
    seen: dict[str, Any] = {"answer": {"objects": [], "next": None}, "status": 200, "hold": asyncio.Event()}

    async def answer(request: web.Request) -> web.Response:
        seen["token"], seen["query"] = request.headers.get("Authorization"), dict(request.query)
        if seen.get("slow"):
            await seen["hold"].wait()
        return web.json_response(seen["answer"], status=seen["status"])

    app = web.Application()
    app.router.add_get("/v1/cached", answer)
    async with TestServer(app) as server:
        yield server, seen
        seen["hold"].set()


async def test_the_token_goes_along(worker: tuple[TestServer, dict[str, Any]]):
    server, seen = worker
    listing = HttpCachedListing(token="secret")
    assert await listing.list(str(server.make_url("/")), PATH, after="x/ü&1", limit=7) == CachedPage(objects=[])
    await listing.close()
    assert seen["token"] == "Bearer secret"
    assert seen["query"] == {"path": "s3://b/x/", "after": "x/ü&1", "limit": "7"}


@pytest.mark.parametrize(
    ("seen_is", "message"),
    [
        ({"status": 503, "answer": {"detail": "The worker stops."}}, "answers 503: .*The worker stops"),
        ({"answer": {"objects": "none"}}, "does not answer as a worker does"),
        ({"answer": {"objects": [], "next": "x/1"}}, "goes on after 'x/1', which is no step ahead"),
        ({"slow": True}, "does not answer as a worker does: TimeoutError"),
    ],
)
async def test_wrong_answers_are_no_answers(
    worker: tuple[TestServer, dict[str, Any]], seen_is: dict[str, Any], message: str
):
    server, seen = worker
    seen.update(seen_is)
    listing = HttpCachedListing(answer_seconds=0.3 if seen.get("slow") else 30)
    with pytest.raises(Unavailable, match=message):
        await listing.list(str(server.make_url("/")), PATH, after="x/2", limit=7)
    await listing.close()


async def test_a_worker_that_is_gone_is_unavailable():
    listing = HttpCachedListing()
    with pytest.raises(Unavailable, match="ClientConnector"):
        await listing.list(f"http://127.0.0.1:{await closed_port()}", PATH, after="", limit=7)
    await listing.close()


async def closed_port() -> int:
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port
