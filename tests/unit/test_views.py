"""The view of a bucket: who is woken by a change, and who is not."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from preheat.engine import Bucket, Entry, MemoryEngine
from preheat.views import BucketView


@pytest.fixture
def view() -> BucketView[int]:
    view = BucketView(MemoryEngine(), Bucket.JOBS, int)
    for number, key in enumerate(("a", "b"), start=1):
        change(view, key, number, revision=number)
    return view


def change(view: BucketView[int], key: str, value: int | None, *, revision: int) -> None:
    view.apply(Entry(key=key, value=None if value is None else msgspec.json.encode(value), revision=revision))


async def test_a_thousand_waiters_are_not_asked_about_what_does_not_concern_them(view: BucketView[int]):
    asked = 0

    def accept(value: int, _: int) -> bool:
        nonlocal asked
        asked += 1
        return value == 100

    deadline = asyncio.get_running_loop().time() + 10
    async with asyncio.TaskGroup() as tasks:
        for _ in range(1000):
            tasks.create_task(view.wait_until("a", accept, deadline))
        await asyncio.sleep(0)
        asked = 0
        for revision in range(10, 1010):
            change(view, "b", 1, revision=revision)
        assert asked == 0
        change(view, "a", 5, revision=2000)
        assert asked == 1000
        change(view, "a", 100, revision=2001)
    assert not view._waiters


async def test_a_wait_ends_with_the_key_and_with_its_time(view: BucketView[int]):
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(5):
        waiting = asyncio.create_task(view.wait_until("a", lambda *_: False, loop.time() + 60))
        await asyncio.sleep(0)
        change(view, "a", None, revision=9)
        await waiting
        await view.wait_until("gone", lambda *_: False, loop.time() + 60)
        await view.wait_until("b", lambda *_: False, loop.time() + 0.01)
    assert not view._waiters


async def test_listeners_hear_of_each_change_once_and_of_no_old_one(view: BucketView[int]):
    heard: list[str] = []
    view.listeners.add(heard.append)
    change(view, "a", 3, revision=7)
    change(view, "a", 3, revision=7)
    change(view, "a", 2, revision=6)
    change(view, "b", None, revision=8)
    assert heard == ["a", "b"]


async def test_what_was_watched_is_known_apart_from_what_was_written_here():
    engine = MemoryEngine()
    view = BucketView(engine, Bucket.JOBS, int)
    following = asyncio.create_task(view.follow())
    await view.loaded.wait()
    change(view, "mine", 1, revision=50)
    assert view.watched == 0
    revision = await engine.put(Bucket.JOBS, "other", b"1")
    async with asyncio.timeout(5):
        await view.wait_until("other", lambda *_: False, asyncio.get_running_loop().time() + 0.01)
        while view.get("other") is None:
            await asyncio.sleep(0)
    assert view.watched == revision
    following.cancel()
