"""What workers ask of each other for writes: whom they show the cluster's secret, and what they leave behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp import web

from preheat.engine import Bucket, MemoryEngine
from preheat.errors import Conflict, EngineUnavailable, ReadOnly, StoreError, Unavailable, VersionChanged
from preheat.inventory import Pin
from preheat.placement import Member
from preheat.store import MemoryStore
from preheat.worker.writes import FORWARDED, InvalidPart, RemoteWorkers, _own
from preheat.worker.writes._held import ORPHAN_SECONDS
from preheat.worker.writes._remote import _Sending as Sending
from preheat.worker.writes._uploads import Completion
from preheat.writes import HELD_PREFIX
from tests.unit.writing_workers import MIB, MOUNTS, Group, Worker, at, pieces, working


@pytest.fixture
async def group(tmp_path: Path) -> AsyncIterator[Group]:
    async with working(tmp_path) as group:
        yield group


def held(group: Group) -> dict[str, int]:
    """Return how much each worker holds for others, if it is anything."""
    found = {worker.id: len(list(worker.store.scan(HELD_PREFIX))) for worker in group.workers}
    return {worker: count for worker, count in found.items() if count}


async def serve(handler: web.Handler) -> tuple[web.AppRunner, str]:
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


async def test_the_secret_is_shown_to_no_one_else():
    """Whoever stands before a worker, a proxy or what took over its address, could send it elsewhere."""
    shown: list[str] = []

    async def stranger(request: web.Request) -> web.Response:
        shown.append(request.headers.get(FORWARDED, ""))
        return web.json_response({})

    elsewhere, url = await serve(stranger)

    async def redirecting(request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(url + "/v1/taken")

    worker, worker_url = await serve(redirecting)
    workers = RemoteWorkers(token="t")
    try:
        async with workers.connected(), workers.forwarding.following(MemoryEngine()):
            await asyncio.wait_for(workers.forwarding.known.wait(), 5)
            with pytest.raises(Unavailable, match="answered 307"):
                await workers.ask(Member(id="w", url=worker_url), "PUT", "/v1/data/s3/b/k", body=pieces(b"x"), size=1)
    finally:
        await worker.cleanup()
        await elsewhere.cleanup()
    assert shown == []


async def test_nothing_is_passed_on_without_the_secret():
    """Unmarked it would be passed on again, and back."""
    workers = RemoteWorkers()
    async with workers.connected():
        with pytest.raises(EngineUnavailable):
            await workers.ask(Member(id="w", url="http://127.0.0.1:1"), "GET", "/v1/uploads?path=s3://b/")


async def test_a_body_of_which_something_was_sent_is_not_sent_again():
    """An HTTP client that tries again on a new connection would send the rest for the whole."""
    sending = Sending(pieces(bytes(10), 2), None)
    assert len(await anext(aiter(sending))) == 2
    with pytest.raises(aiohttp.ClientError):
        aiter(sending)


def test_who_joins_a_completion_names_the_same_parts():
    first = Completion(path="s3://b/k", upload_id="u", parts=((1, '"a"'), (2, "b")))
    replace(first, parts=((1, "a"), (2, '"b"'))).check_joins(first)
    with pytest.raises(InvalidPart):
        replace(first, parts=((1, "a"), (2, "c"))).check_joins(first)


async def mount(group: Group, *, write_replicas: int) -> None:
    changed = replace(MOUNTS[2], write_replicas=write_replicas)
    await group.engine.put(Bucket.MOUNTS, changed.name, msgspec.json.encode(changed))
    async with asyncio.timeout(5):
        while any(worker.policies.mounts.of(changed.path) != changed for worker in group.workers):
            await asyncio.sleep(0)


async def test_where_too_few_workers_are_nothing_stays_at_those(group: Group):
    await mount(group, write_replicas=3)
    await group.workers[0].put("fast/k", b"body")
    assert (await group.content("fast/k"), held(group)) == (b"body", {})


async def test_where_one_worker_is_full_nothing_stays_at_the_others(tmp_path: Path):
    """What is held is never evicted: one full worker would fill the others."""
    async with working(tmp_path, 2, stores=[MemoryStore(capacity=MIB), MemoryStore(capacity=64 * MIB)]) as group:
        for number in range(4):
            await group.workers[0].put(f"fast/{number}", bytes(2 * MIB))
            assert await group.content(f"fast/{number}") == bytes(2 * MIB)
        assert held(group) == {}


async def test_what_a_record_names_is_not_given_up(group: Group):
    await group.workers[0].put("fast/k", b"body")
    table = group.workers[0].writes._own.table
    write = table.get(str(at("fast/k")))
    assert write is not None
    with pytest.raises(Conflict, match="pending"):
        await group.workers[0].writes.release(at("fast/k"), write.id)
    async with aiohttp.ClientSession() as http:
        url = f"{group.workers[0].url}/v1/held?path=s3://b/fast/k&id={write.id}"
        async with http.delete(url) as answer:
            assert answer.status == 403
    assert held(group) == {worker.id: 1 for worker in group.workers}


async def test_a_record_whose_answer_was_lost_is_this_writers(group: Group, monkeypatch: pytest.MonkeyPatch):
    """Somebody claimed it before the second try, so that it looks like somebody else's."""
    owner = group.owner("fast/k")
    put, lost = owner.engine.put, []

    async def losing(bucket: Bucket, key: str, value: bytes, *, revision: int | None = None) -> int:
        written = await put(bucket, key, value, revision=revision)
        if bucket is Bucket.PENDING and not lost:
            lost.append(key)
            raise Conflict("It was written by another process.")
        return written

    monkeypatch.setattr(owner.engine, "put", losing)
    await owner.put("fast/k", b"body", if_none_match=True)
    assert lost
    assert [await worker.read("fast/k") for worker in group.workers] == [b"body", b"body"]
    with pytest.raises(VersionChanged):
        await owner.put("fast/k", b"other", if_none_match=True)


async def pin(group: Group, path: str) -> None:
    found = Pin(id="pin", path=path, inventory="i", version="sha256:00", pinned_at=0.0)
    await group.engine.put(Bucket.PINS, found.id, msgspec.json.encode(found))
    async with asyncio.timeout(5):
        while not all(worker.policies.pin(path) for worker in group.workers):
            await asyncio.sleep(0)


async def copy(worker: Worker, key: str, body: AsyncIterator[bytes]) -> None:
    await worker.writes.put(at(key), body, size=None)


@pytest.mark.parametrize("key", ["v1/k", "fast/v1/k"])
async def test_what_is_pinned_while_a_body_comes_is_not_written(group: Group, key: str):
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"first"
        begun.set()
        await go_on.wait()
        yield b"last"

    writing = asyncio.create_task(copy(group.owner(key), key, slow()))
    await begun.wait()
    await pin(group, f"s3://b/{key.removesuffix('k')}")
    go_on.set()
    with pytest.raises(ReadOnly, match="preheat fs unpin"):
        await writing
    assert (await group.content(key), held(group), group.owner(key).staging.bodies) == (None, {}, 0)


async def test_a_disk_that_fails_ends_no_worker(group: Group, monkeypatch: pytest.MonkeyPatch):
    """What would be dropped every ten minutes stays; the worker's other disks serve on."""
    worker, swept = group.workers[0], asyncio.Event()
    await worker.put("fast/k", b"body")

    def failing(_: str) -> bool:
        worker_loop.call_soon_threadsafe(swept.set)
        raise StoreError("The disk fails.")

    worker_loop = asyncio.get_running_loop()
    with worker.store.writer(f"{HELD_PREFIX}none:s3://b/k", etag="e", size=1, last_modified=0) as writer:
        writer.append(b"x")
        writer.commit()
    monkeypatch.setattr(worker.store, "delete", failing)
    monkeypatch.setattr(worker.writes._own._held, "_clock", lambda: time.time() + 2 * ORPHAN_SECONDS)
    monkeypatch.setattr(_own, "_SWEEP_SECONDS", 0.0)
    sweep = asyncio.create_task(worker.writes._own._sweep())
    await asyncio.wait_for(swept.wait(), 5)
    swept.clear()
    await asyncio.wait_for(swept.wait(), 5)
    assert not sweep.done()
    sweep.cancel()
