"""How fresh a read is: what mounts, pins and readers ask for decides, whichever way is read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from math import inf
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preheat.batch_read import Batch, FrameDecoder, Read
from preheat.errors import ObjectNotFound, OriginThrottled, OriginUnavailable, Unavailable, VersionChanged
from preheat.mounts import Freshness, Mount
from preheat.paths import UfsPath
from preheat.store import PAGE_SIZE
from preheat.ufs import MemoryUnderStore
from preheat.worker._freshness import ANY, NotCached, Verdict, Wish, judge, lifetime, wish_of
from preheat.worker._policies import Policies
from preheat.worker._reads import ReadService
from preheat.worker.port._batch_read import BatchAnswer
from preheat.worker.port._hits import Hits
from preheat.writes import PendingWrite
from tests.unit.freshness_worker import Worker, running, until

URI = "s3://b/d/k"
PATH = UfsPath.parse(URI)
NEVER = Mount(name="never", path="s3://b/")
ALWAYS = Mount(name="always", path="s3://b/", freshness=Freshness.ALWAYS_CHECK)
MINUTE = Mount(name="minute", path="s3://b/", freshness=Freshness.MAX_AGE, max_age=60)
PINNED = Mount(name="pinned", path="s3://b/", freshness=Freshness.PINNED)
CHECKED = wish_of("no-cache", "")
STALE = wish_of("max-stale", "")
CACHED = wish_of("only-if-cached", "")


@pytest.fixture(autouse=True)
def turned(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """What is stored has the time of the worker's clock."""
    if "worker" in request.fixturenames:
        monkeypatch.setattr(time, "time", request.getfixturevalue("worker").clock)


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    async with running() as worker:
        yield worker


# The decision.

mounts = st.sampled_from([NEVER, ALWAYS, MINUTE, PINNED])
ages = st.floats(min_value=-100, max_value=1e9) | st.just(inf)
wishes = st.builds(
    Wish,
    max_age=st.sampled_from([0.0, 1.0, 59.0, 60.0, 3600.0, inf]),
    max_stale=st.sampled_from([0.0, 1.0, 60.0, inf]),
    only_cached=st.booleans(),
)


@given(mount=mounts, wish=wishes, age=ages)
def test_what_is_served_unasked_is_as_young_as_mount_and_reader_want_it(mount: Mount, wish: Wish, age: float) -> None:
    holds = lifetime([mount], wish)
    verdict = judge(age, holds, only_cached=wish.only_cached)
    of_mount = {"never": inf, "always": 0.0, "minute": 60.0, "pinned": inf}[mount.name]
    if verdict is Verdict.SERVE:
        assert holds == inf or age - wish.max_stale < min(of_mount, wish.max_age)
    else:
        assert verdict is (Verdict.REFUSE if wish.only_cached else Verdict.ASK)
        assert age < 0 or age - wish.max_stale >= min(of_mount, wish.max_age)


@given(some=st.lists(mounts, min_size=1), more=st.lists(mounts), wish=wishes, age=ages)
def test_a_further_mount_makes_it_no_laxer(some: list[Mount], more: list[Mount], wish: Wish, age: float) -> None:
    if judge(age, lifetime([*some, *more], wish)) is Verdict.SERVE:
        assert judge(age, lifetime(some, wish)) is Verdict.SERVE


@pytest.mark.parametrize(
    ("cache_control", "wish"),
    [
        ("", ANY),
        ("max-age=60", Wish(max_age=60)),
        ("Max-Age = 60 , Only-If-Cached", Wish(max_age=60, only_cached=True)),
        ('max-age="60"', Wish(max_age=60)),
        ("max-age=x", Wish(max_age=0)),
        ("max-age", Wish(max_age=0)),
        ("max-age=-1", Wish(max_age=0)),
        ("max-age=²", Wish(max_age=0)),
        (f"max-age={'9' * 400}", Wish(max_age=0)),
        ("no-cache", Wish(max_age=0)),
        ("no-cache, max-age=60, max-stale", Wish(max_age=0)),
        ("max-stale", Wish(max_stale=inf)),
        ("max-stale=5", Wish(max_stale=5)),
        ("max-stale=x", Wish()),
        ("no-store, no-transform, , =", ANY),
    ],
)
def test_what_a_reader_says(cache_control: str, wish: Wish) -> None:
    assert wish_of(cache_control, "") == wish


# One object.


async def test_a_mount_that_never_checks_serves_what_is_cached(worker: Worker) -> None:
    await worker.mount(NEVER)
    old = worker.origin.write(URI, b"old")
    assert await worker.read(URI) == (old.etag, b"old")
    worker.origin.write(URI, b"new")
    worker.clock.seconds += 1e6
    assert await worker.read(URI) == (old.etag, b"old")
    assert worker.origin.looks == 0


async def test_always_check_serves_what_is_current_and_only_that(worker: Worker) -> None:
    await worker.mount(ALWAYS)
    old = worker.origin.write(URI, b"old")
    assert [await worker.read(URI) for _ in range(3)] == 3 * [(old.etag, b"old")]
    assert worker.count("hits", "misses", "originReads", "checks", "drifted") == (2, 1, 1, 3, 0)
    new = worker.origin.write(URI, b"new")
    assert await worker.read(URI) == (new.etag, b"new")
    assert await worker.read(URI, new.etag) == (new.etag, b"new")
    with pytest.raises(VersionChanged):
        await worker.read(URI, old.etag)
    assert worker.count("checksChanged", "checksGone", "drifted") == (1, 0, 1)
    worker.origin.remove(URI)
    with pytest.raises(ObjectNotFound):
        await worker.read(URI)
    assert worker.store.lookup(URI) is None
    assert worker.count("checksChanged", "checksGone", "drifted") == (1, 1, 2)


async def test_what_cannot_be_checked_is_not_served(worker: Worker) -> None:
    await worker.mount(ALWAYS)
    old = worker.origin.write(URI, b"old")
    await worker.read(URI)
    worker.origin.away = True
    with pytest.raises(OriginUnavailable, match="nobody can tell whether that version is current: It is away"):
        await worker.read(URI)
    with pytest.raises(OriginUnavailable):
        await worker.reads.stat(PATH)
    assert await worker.read(URI, wish=STALE) == (old.etag, b"old")
    worker.origin.away = False
    assert await worker.read(URI) == (old.etag, b"old")


async def test_a_store_that_wants_slower_requests_says_so_of_checks_too(worker: Worker) -> None:
    async def refuse(path: UfsPath) -> None:
        raise OriginThrottled("Slow down.")

    await worker.mount(ALWAYS)
    worker.origin.write(URI, b"old")
    await worker.read(URI)
    worker.origin.stat = refuse
    with pytest.raises(OriginThrottled):
        await worker.read(URI)


async def test_max_age_asks_when_the_last_word_is_too_old(worker: Worker) -> None:
    await worker.mount(MINUTE)
    old = worker.origin.write(URI, b"old")
    await worker.read(URI)
    looks = worker.origin.looks
    new = worker.origin.write(URI, b"new")
    worker.clock.seconds += 59
    assert await worker.read(URI) == (old.etag, b"old")
    assert worker.origin.looks == looks
    worker.clock.seconds += 1
    assert await worker.read(URI) == (new.etag, b"new")
    worker.clock.seconds += 60
    for _ in range(3):  # the check counts from now on
        assert await worker.read(URI) == (new.etag, b"new")
    assert worker.origin.looks == looks + 2


async def test_what_a_job_loaded_is_as_old_as_its_copy(worker: Worker) -> None:
    await worker.mount(MINUTE)
    await worker.reads.fetch(PATH, info=worker.origin.write(URI, b"old"), job_id="job")
    worker.clock.seconds += 59
    await worker.read(URI)
    assert worker.origin.looks == 0
    worker.clock.seconds += 1
    await worker.read(URI)
    assert worker.origin.looks == 1


async def test_a_clock_that_was_set_back_makes_it_ask(worker: Worker) -> None:
    await worker.mount(MINUTE)
    worker.origin.write(URI, b"old")
    await worker.read(URI)
    new = worker.origin.write(URI, b"new")
    worker.clock.seconds -= 1
    assert await worker.read(URI) == (new.etag, b"new")


async def test_a_reader_may_want_it_fresher_and_may_bear_it_staler(worker: Worker) -> None:
    await worker.mount(MINUTE)
    old = worker.origin.write(URI, b"old")
    await worker.read(URI)
    new = worker.origin.write(URI, b"new")
    worker.clock.seconds += 61
    for wish in (STALE, wish_of("max-stale=10", ""), wish_of("only-if-cached, max-stale=10", "")):
        assert await worker.read(URI, wish=wish) == (old.etag, b"old")
    for wish in (CACHED, wish_of("only-if-cached, no-cache", ""), wish_of("only-if-cached, max-age=5", "")):
        with pytest.raises(NotCached):
            await worker.read(URI, wish=wish)
    worker.clock.seconds -= 51
    assert await worker.read(URI, wish=wish_of("max-age=11", "")) == (old.etag, b"old")
    assert await worker.read(URI, wish=wish_of("max-age=10", "")) == (new.etag, b"new")
    newer = worker.origin.write(URI, b"newer")
    assert await worker.read(URI, wish=CHECKED) == (newer.etag, b"newer")


async def test_a_hundred_readers_wait_for_one_check_that_began_after_them(worker: Worker) -> None:
    await worker.mount(ALWAYS)
    worker.origin.write(URI, b"old")
    await worker.read(URI)
    worker.origin.looks = 0
    worker.origin.gate.clear()
    first = asyncio.create_task(worker.read(URI))
    await until(lambda: worker.origin.looks == 1)
    new = worker.origin.write(URI, b"new")  # the look under way has seen the old one
    others = [asyncio.create_task(worker.read(URI)) for _ in range(100)]
    await asyncio.sleep(0)
    worker.origin.gate.set()
    await first
    assert {await other for other in others} == {(new.etag, b"new")}
    assert worker.origin.looks == 2


async def test_a_reader_who_leaves_does_not_stop_the_check(worker: Worker) -> None:
    await worker.mount(ALWAYS)
    old = worker.origin.write(URI, b"old")
    await worker.read(URI)
    worker.origin.looks = 0
    worker.origin.gate.clear()
    leaver = asyncio.create_task(worker.read(URI))
    await until(lambda: worker.origin.looks == 1)
    leaver.cancel()
    stayer = asyncio.create_task(worker.read(URI))
    with pytest.raises(asyncio.CancelledError):
        await leaver
    worker.origin.gate.set()
    assert await stayer == (old.etag, b"old")


async def test_an_answer_is_as_old_as_its_question(worker: Worker) -> None:
    """Whatever happened at the under store between the two is not known."""
    await worker.mount(MINUTE)
    worker.origin.write(URI, b"old")
    await worker.read(URI)
    worker.clock.seconds += 60
    worker.origin.looks = 0
    worker.origin.gate.clear()
    slow = asyncio.create_task(worker.read(URI))
    await until(lambda: worker.origin.looks == 1)
    new = worker.origin.write(URI, b"new")
    worker.clock.seconds += 59
    worker.origin.gate.set()
    await slow
    worker.clock.seconds += 1
    assert await worker.read(URI) == (new.etag, b"new")


async def test_a_look_that_a_write_overtook_tells_nothing(worker: Worker) -> None:
    """Who comes behind the write is not told what was there before it."""
    await worker.mount(MINUTE)
    worker.origin.write(URI, b"old")
    await worker.read(URI)
    worker.clock.seconds += 60
    worker.origin.looks = 0
    worker.origin.gate.clear()
    slow = asyncio.create_task(worker.reads.stat(PATH))
    await until(lambda: worker.origin.looks == 1)
    new = worker.origin.write(URI, b"new")
    worker.reads.supersede(PATH, new.etag)
    with worker.store.writer(URI, etag=new.etag, size=3, last_modified=new.last_modified) as writer:
        writer.append(b"new")
        writer.commit()
    worker.origin.gate.set()
    await slow
    info, _ = await worker.reads.stat(PATH)
    assert info.etag == new.etag
    assert await worker.read(URI) == (new.etag, b"new")


async def test_who_joins_a_fill_learns_no_more_than_who_began_it(worker: Worker) -> None:
    worker.origin.write(URI, b"old")
    worker.origin.gate.clear()
    worker.origin.holds_bodies = True
    first = asyncio.create_task(worker.read(URI))
    await until(lambda: worker.reads._fills.under_way(PATH))
    worker.clock.seconds += 60
    second = asyncio.create_task(worker.read(URI))
    await asyncio.sleep(0)
    worker.origin.gate.set()
    assert await first == await second
    new = worker.origin.write(URI, b"new")
    assert await worker.read(URI, wish=wish_of("max-age=60", "")) == (new.etag, b"new")


async def test_the_copy_that_came_while_an_older_one_was_found_gone_stays(worker: Worker) -> None:
    await worker.mount(ALWAYS)
    worker.origin.write(URI, b"old")
    await worker.read(URI)
    worker.origin.remove(URI)
    worker.origin.looks = 0
    worker.origin.gate.clear()
    reader = asyncio.create_task(worker.read(URI))
    await until(lambda: worker.origin.looks == 1)
    new = worker.origin.write(URI, b"new!")
    await worker.reads.fetch(PATH, info=new, job_id="job")
    worker.origin.gate.set()
    with pytest.raises(ObjectNotFound):
        await reader
    copy = worker.store.lookup(URI)
    assert copy is not None
    assert copy.etag == new.etag


# Pins.


async def test_only_the_pinned_version_is_read(worker: Worker) -> None:
    old = worker.origin.write(URI, b"old")
    await worker.pin(await worker.list("s3://b/d/"))
    assert await worker.read(URI) == (old.etag, b"old")
    new = worker.origin.write(URI, b"new")
    for wish in (ANY, CHECKED, STALE, CACHED):
        assert await worker.read(URI, wish=wish) == (old.etag, b"old")
    with pytest.raises(VersionChanged):
        await worker.read(URI, new.etag)
    with pytest.raises(VersionChanged, match="preheat fs drift"):
        await worker.reads.fetch(PATH, info=new, job_id="job")
    worker.origin.write("s3://b/d/later", b"later")
    with pytest.raises(ObjectNotFound, match="dataset version"):
        await worker.read("s3://b/d/later")
    worker.store.delete(URI)
    with pytest.raises(VersionChanged, match="preheat fs drift s3://b/d/k"):
        await worker.read(URI)
    worker.origin.remove(URI)
    with pytest.raises(VersionChanged, match="preheat fs drift"):
        await worker.read(URI)
    assert worker.store.lookup(URI) is None
    await worker.unpin()
    assert (await worker.read("s3://b/d/later"))[1] == b"later"


async def test_what_is_written_below_a_pin_is_not_read_there(worker: Worker) -> None:
    """Nor where the reader names the dataset version."""
    old = worker.origin.write(URI, b"old")
    listed = await worker.list("s3://b/d/")
    await worker.read(URI)
    for uri in (URI, "s3://b/d/new"):
        write = PendingWrite(path=uri, id="id", etag="pending", size=7, written_at=0.0, holders=("w",))
        worker.reads._pending.table.set(uri, write, 1)
        with worker.store.writer(write.held_name, etag="pending", size=7, last_modified=0.0) as writer:
            writer.append(b"pending")
            writer.commit()
    assert await worker.read(URI) == ("pending", b"pending")
    assert await worker.read(URI, wish=wish_of("", listed.version)) == (old.etag, b"old")
    await worker.pin(listed)
    assert await worker.read(URI) == (old.etag, b"old")
    assert await worker.reads.has(PATH)
    assert (await worker.reads.stat(PATH))[0].etag == old.etag
    assert worker.reads.read_small([URI])[0][1] == b"old"
    assert await worker.read(URI, "pending", wish=CACHED) == ("pending", b"pending"), "another worker persists it"
    assert [info.etag for info in await worker.reads.list(PATH.with_key("d/"), after="", limit=9)] == [old.etag]


async def test_a_cached_copy_of_another_version_than_the_pinned_one_is_not_served(worker: Worker) -> None:
    other = worker.origin.write(URI, b"other")
    await worker.read(URI)
    pinned = worker.origin.write(URI, b"pinned")
    await worker.pin(await worker.list("s3://b/d/"))
    with pytest.raises(NotCached):
        await worker.read(URI, wish=CACHED)
    assert await worker.read(URI) == (pinned.etag, b"pinned")
    assert other.etag != pinned.etag
    assert worker.count("hits", "misses") == (0, 2)


async def test_what_is_pinned_is_not_evicted(worker: Worker) -> None:
    size = worker.store.usage().capacity // 4
    worker.origin.write(URI, b"p" * size)
    await worker.read(URI)
    await worker.pin(await worker.list("s3://b/d/"))
    assert worker.store.pins() == ("s3://b/d/",)
    for number in range(8):
        worker.origin.write(f"s3://b/e/{number}", bytes([number]) * size)
        await worker.read(f"s3://b/e/{number}")
    assert worker.store.lookup(URI) is not None
    assert worker.count("evicted")[0] > 0
    await worker.unpin()
    assert worker.store.pins() == ()


async def test_pins_of_the_last_run_that_are_no_more_are_let_go() -> None:
    worker = Worker()
    worker.store.pin("s3://b/gone/")
    async with worker.policies.following(worker.engine):
        await until(lambda: worker.store.pins() == ())


async def test_mounts_and_pins_hold_before_the_engine_answers(worker: Worker, tmp_path: Path) -> None:
    """A worker that is started again obeys what it knew when it ran last."""
    file = tmp_path / "policies.json"
    pinned, other = "s3://b/d/", "s3://b/e/k"
    for uri in (URI, other):
        worker.origin.write(uri, b"old")
        await worker.read(uri)
    await worker.mount(ALWAYS)
    await worker.pin(await worker.list(pinned))
    first = Policies(file=file)
    async with first.following(worker.engine):
        await until(lambda: not first.allows_all)
    again = ReadService(worker.store, worker.origin, policies=Policies(file=file), clock=worker.clock)
    new = worker.origin.write(other, b"new")
    assert (await again.open(UfsPath.parse(other))).info == new
    with pytest.raises(Unavailable, match="not known here yet"):
        await again.open(PATH)
    file.write_bytes(b"{")
    assert Policies(file=file).allows_all


async def test_a_pinned_mount_reads_what_the_last_job_listed(worker: Worker) -> None:
    await worker.mount(PINNED)
    old = worker.origin.write(URI, b"old")
    with pytest.raises(ObjectNotFound, match="no job has listed it"):
        await worker.read(URI)
    await worker.list("s3://b/d/", name="first")
    assert await worker.read(URI) == (old.etag, b"old")
    new = worker.origin.write(URI, b"new")
    await worker.reads.fetch(PATH, info=new, job_id="second")
    with pytest.raises(VersionChanged):
        await worker.read(URI)
    worker.clock.seconds += 1
    await worker.list("s3://b/d/", name="second")
    assert await worker.read(URI) == (new.etag, b"new")


async def test_a_reader_may_name_the_dataset_version(worker: Worker) -> None:
    old = worker.origin.write(URI, b"old")
    first = await worker.list("s3://b/d/", name="first")
    await worker.read(URI)
    new = worker.origin.write(URI, b"new")
    second = await worker.list("s3://b/d/", name="second")
    assert await worker.read(URI, wish=Wish(version=first.version)) == (old.etag, b"old")
    assert await worker.read(URI, wish=Wish(version=second.version)) == (new.etag, b"new")
    with pytest.raises(VersionChanged):
        await worker.read(URI, wish=Wish(version=first.version))
    for uri, version in ((URI, "sha256:0"), ("s3://b/other", second.version)):
        with pytest.raises(VersionChanged, match="no job that is known listed it"):
            await worker.read(uri, wish=Wish(version=version))
    await worker.pin(second)
    with pytest.raises(VersionChanged, match="it is pinned to"):
        await worker.read(URI, wish=Wish(version=first.version))


# The other ways of reading.


def hits(worker: Worker, *lines: str) -> bytes | None:
    request = "\r\n".join(["GET /v1/data/s3/b/d/k HTTP/1.1", "Host: w", *lines, "", ""]).encode()
    answer = Hits(worker.reads, None).answer(request)
    return answer and answer[1]


async def test_the_short_way_serves_only_what_needs_no_question(worker: Worker) -> None:
    worker.origin.write(URI, b"old")
    await worker.read(URI)
    assert hits(worker) == b"old"
    assert hits(worker, "Cache-Control: only-if-cached, max-stale") == b"old"
    assert hits(worker, "Cache-Control: max-age=5") == b"old"
    assert hits(worker, "Cache-Control: no-cache") is None
    assert hits(worker, "X-Preheat-Version: sha256:0") is None
    await worker.mount(MINUTE)
    assert hits(worker, "Range: bytes=0-0") == b"o"
    worker.clock.seconds += 60
    assert hits(worker) is None
    assert hits(worker, "Cache-Control: max-stale") == b"old"
    inventory = await worker.list("s3://b/d/")
    await worker.pin(inventory)
    assert hits(worker) is None  # its version is looked up first
    await worker.read(URI)
    assert hits(worker) == hits(worker, f"X-Preheat-Version: {inventory.version}") == b"old"


async def batch(worker: Worker, *reads: Read, wish: Wish = ANY) -> list[tuple[int, bytes]]:
    answer = BatchAnswer(worker.reads, Batch(reads=list(reads)), may_read=None, may_fetch=lambda _: None, wish=wish)
    coded = b"".join([chunk async for chunk in answer.chunks()])
    data = b""
    while coded:
        size, _, coded = coded.partition(b"\r\n")
        data, coded = data + coded[: int(size, 16)], coded[int(size, 16) + 2 :]
    return [(frame.status, frame.body) for frame in FrameDecoder(len(reads)).feed(data)]


async def test_a_batch_obeys_for_each_of_its_reads(worker: Worker) -> None:
    uris = [f"s3://b/d/{number}" for number in range(40)]
    for uri in uris:
        worker.origin.write(uri, uri.encode())
        await worker.read(uri)
    worker.origin.write(uris[7], b"new")
    worker.origin.remove(uris[30])
    whole = [Read(path=uri) for uri in uris]
    assert await batch(worker, *whole) == [(200, uri.encode()) for uri in uris]
    assert await batch(worker, Read(path=uris[7], start=1), wish=CHECKED) == [(206, b"ew")]
    await worker.mount(ALWAYS)
    found = await batch(worker, *whole)
    assert found[7] == (200, b"new")
    assert found[30][0] == 404
    assert [each for number, each in enumerate(found) if number not in {7, 30}] == [
        (200, uri.encode()) for number, uri in enumerate(uris) if number not in {7, 30}
    ]
    await worker.pin(await worker.list("s3://b/d/"))
    worker.origin.write(uris[3], b"other")
    assert (await batch(worker, *whole[:5])) == [(200, uri.encode()) for uri in uris[:5]]
    assert [status for status, _ in await batch(worker, Read(path=uris[30]), Read(path=uris[4], etag="x"))] == [
        404,
        412,
    ]


async def test_ranges_of_what_is_not_cached_are_of_the_current_version(worker: Worker) -> None:
    await worker.mount(ALWAYS)
    large = 40 * PAGE_SIZE
    worker.origin.write(URI, b"a" * large)
    opened = await worker.reads.open(PATH, asked=(10, 20))
    assert b"".join([bytes(page) async for page in opened.pages(10, 20)]) == b"a" * 10
    new = worker.origin.write(URI, b"b" * (large - 1))
    opened = await worker.reads.open(PATH, asked=(-5, None))
    assert opened.info == new
    assert b"".join([bytes(page) async for page in opened.pages(large - 6, large - 1)]) == b"b" * 5


# Metadata.


async def test_a_training_that_starts_asks_the_under_store_nothing(worker: Worker) -> None:
    infos = [worker.origin.write(f"s3://b/d/{number:04}", b"x" * number) for number in range(1, 300)]
    for info in infos[::2]:
        await worker.reads.fetch(PATH.with_key(info.key), info=info, job_id="job")
    await worker.list("s3://b/d/")
    root = UfsPath.parse("s3://b/d/")
    first = await worker.reads.list(root, after="", limit=200)
    assert first + await worker.reads.list(root, after=first[-1].key, limit=200) == infos
    for number, info in enumerate(infos):
        assert await worker.reads.stat(PATH.with_key(info.key)) == (info, number % 2 == 0)
    assert worker.count("originLists", "originStats", "metadataHits") == (0, 0, 2 + len(infos) // 2)


async def test_what_may_be_told_of_a_listing_is_as_young_as_its_mounts_want_it(worker: Worker) -> None:
    worker.origin.write(URI, b"old")
    await worker.list("s3://b/d/")
    root = UfsPath.parse("s3://b/d/")
    new = worker.origin.write("s3://b/d/new", b"new")

    async def listed(wish: Wish = ANY) -> bool:
        """Whether the listing is that of the under store now."""
        return new in await worker.reads.list(root, after="", limit=10, wish=wish)

    assert not await listed()
    assert await listed(CHECKED)
    await worker.mount(MINUTE)
    assert not await listed()
    worker.clock.seconds += 60
    assert await listed()
    assert not await listed(STALE)
    with pytest.raises(NotCached):
        await listed(CACHED)
    await worker.mount(Mount(name="below", path="s3://b/d/deep/", freshness=Freshness.ALWAYS_CHECK))
    worker.clock.seconds -= 60
    assert await listed()
    assert worker.count("metadataHits", "originLists") == (3, 3)


async def test_a_pinned_directory_shows_what_is_pinned(worker: Worker) -> None:
    old = worker.origin.write(URI, b"old")
    await worker.pin(await worker.list("s3://b/d/"))
    worker.origin.write(URI, b"newer")
    worker.origin.write("s3://b/d/new", b"")
    worker.origin.away = True
    assert await worker.reads.list(UfsPath.parse("s3://b/d/"), after="", limit=10, wish=CHECKED) == [old]
    assert await worker.reads.stat(PATH) == (old, False)
    with pytest.raises(ObjectNotFound):
        await worker.reads.stat(UfsPath.parse("s3://b/d/new"))
    with pytest.raises(VersionChanged):
        await worker.reads.stat(PATH, ("other",))


async def test_a_write_is_not_missed(worker: Worker) -> None:
    worker.origin.write("s3://b/else", b"")
    await worker.list("s3://b/d/")
    inventory = await worker.list("s3://b/", name="wider")
    await worker.list("s3://b/other/", name="other")
    new = worker.origin.write("s3://b/d/new", b"new")
    await worker.policies.forget_listings("s3://b/d/new")
    assert await worker.reads.list(UfsPath.parse("s3://b/d/"), after="", limit=10) == [new]
    assert worker.policies.listing("s3://b/d/new") is None
    assert worker.policies.listing("s3://b/other/x") is not None
    await worker.pin(inventory)  # pins go on knowing theirs
    assert await worker.reads.list(UfsPath.parse("s3://b/d/"), after="", limit=10) == []


async def test_an_engine_that_is_away_leaves_the_under_store_to_be_asked(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    info = worker.origin.write(URI, b"old")
    await worker.list("s3://b/d/")
    monkeypatch.setattr(worker.engine, "get", hang)
    monkeypatch.setattr("preheat.worker._metadata._PATIENCE_SECONDS", 0.01)
    for _ in range(2):
        assert await worker.reads.stat(PATH) == (info, False)
    assert worker.count("originStats", "metadataHits") == (2, 0)


def test_the_twin_behaves_as_the_tests_take_it_to() -> None:
    origin = MemoryUnderStore()
    assert origin.write(URI, b"old").etag != origin.write(URI, b"new").etag
