"""A HEAD tells of the version that a GET sends, at a worker that neither owns the object nor holds it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import msgspec
import pytest

from preheat.engine import Bucket
from preheat.mounts import Freshness, Mount
from preheat.worker._freshness import NotCached, wish_of
from tests.unit.freshness_worker import Origin
from tests.unit.writing_workers import Group, Worker, at, working

KEY = "d/k"
URI = str(at(KEY))
OLD, NEW = b"old", b"newer"


@pytest.fixture
async def group(tmp_path: Path) -> AsyncIterator[Group]:
    async with working(tmp_path, 3, origin=Origin()) as group:
        group.origin.write(URI, OLD)
        await group.owner(KEY).reads.fetch(at(KEY), info=None)
        yield group


async def mount(group: Group, freshness: Freshness) -> None:
    max_age = 3600.0 if freshness is Freshness.MAX_AGE else 0.0
    mounted = Mount(name="here", path="s3://b/d/", freshness=freshness, max_age=max_age)
    await group.engine.put(Bucket.MOUNTS, mounted.name, msgspec.json.encode(mounted))
    async with asyncio.timeout(10):
        while not all("here" in worker.policies.mounts.names for worker in group.workers):
            await asyncio.sleep(0)


async def told(worker: Worker, method: str, **headers: str) -> tuple[int, str | None, str | None]:
    """Return the status, the version and the length that a worker answers with."""
    url = f"{worker.url}/v1/data/{at(KEY).url_path}"
    async with aiohttp.ClientSession() as http, http.request(method, url, headers=headers) as answer:
        await answer.read()
        length = answer.headers["Content-Length"] if answer.ok else None
        return answer.status, answer.headers.get("ETag"), length


@pytest.mark.parametrize(
    ("freshness", "changed", "gone"),
    [
        (Freshness.NEVER_CHECK, (200, len(OLD)), (200, len(OLD))),
        (Freshness.MAX_AGE, (200, len(NEW)), (404, None)),
        (Freshness.ALWAYS_CHECK, (200, len(NEW)), (404, None)),
        (Freshness.PINNED, (404, None), (404, None)),
    ],
)
async def test_a_head_tells_what_a_get_sends(
    group: Group, freshness: Freshness, changed: tuple[int, int | None], gone: tuple[int, int | None]
) -> None:
    await mount(group, freshness)
    group.origin.write(URI, NEW)
    for other, expected in zip([w for w in group.workers if w is not group.owner(KEY)], (changed, gone), strict=True):
        head = await told(other, "HEAD")
        assert (head[0], head[2] and int(head[2])) == expected
        assert await told(other, "GET") == head
        assert await told(other, "HEAD") == head
        group.origin.remove(URI)


async def test_the_owners_copy_is_told_of_without_asking_the_under_store(group: Group) -> None:
    other = group.other(KEY)
    group.origin.write(URI, NEW)
    assert isinstance(group.origin, Origin)
    group.origin.looks = 0
    assert (await told(other, "HEAD"))[2] == str(len(OLD))
    assert group.origin.looks == other.reads.counters.origin_stats == 0
    assert other.store.lookup(URI) is None


async def test_a_head_tells_of_the_version_that_is_on_its_way(group: Group) -> None:
    assert isinstance(group.origin, Origin)
    group.owner(KEY).store.delete(URI)
    other = group.other(KEY)
    group.origin.holds_bodies = True
    group.origin.gate.clear()
    opened = await other.reads.open(at(KEY))
    group.origin.write(URI, NEW)
    async with asyncio.timeout(10):
        info, cached = await other.reads.stat(at(KEY))
    assert (info.etag, cached) == (opened.info.etag, False)
    group.origin.gate.set()


async def test_who_wants_only_what_is_cached_asks_nobody(group: Group) -> None:
    other = group.other(KEY)
    assert isinstance(group.origin, Origin)
    group.origin.looks = 0
    with pytest.raises(NotCached):
        await other.reads.stat(at(KEY), wish=wish_of("only-if-cached", ""))
    assert (group.origin.looks, group.owner(KEY).reads.counters.hits) == (0, 0)
