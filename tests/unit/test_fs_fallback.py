"""When a filesystem leaves the workers and reads from the under store, and when it asks them again."""

from __future__ import annotations

import io
import logging

import pytest

from preheat.batch_read import Read
from preheat.errors import InvalidRequest, NoLiveWorker, ObjectNotFound, OriginUnavailable, PreheatError, VersionChanged
from preheat.fs import PreheatFileSystem, ReadStats
from preheat.fs._demand import Demand
from preheat.fs._fallback import WithFallback
from preheat.fs._origin import Origin
from preheat.paths import UfsPath
from preheat.ufs import MemoryUnderStore

PLAIN = Demand()
VERSION = "sha256:" + "0" * 64


class Workers(Origin):
    """Workers of which none answers, or which all fail with another error."""

    error: PreheatError | None = NoLiveWorker("nobody")
    asked = 0

    async def read(self, read: Read, demand: Demand) -> bytes:
        self.asked += 1
        if self.error:
            raise self.error
        return await super().read(read, demand)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Reading:
    def __init__(self) -> None:
        self.store = MemoryUnderStore()
        self.store.write("s3://b/k", b"0123456789")
        self.stats = ReadStats()
        self.workers = Workers(ReadStats(), self.store)
        self.reader = WithFallback(self.workers, lambda: Origin(self.stats, self.store), pause=10)
        self.reader._clock = self.clock = Clock()
        self.reader._again_at = self.reader._warn_at = 0.0

    async def read(self, start: int = 0, end: int | None = None, demand: Demand = PLAIN, etag: str = "") -> bytes:
        return await self.reader.read(Read("s3://b/k", start, end, etag or None), demand)


@pytest.fixture
async def reading() -> Reading:
    return Reading()


async def test_it_reads_what_a_worker_would_have_sent(reading: Reading) -> None:
    assert await reading.read() == b"0123456789"
    assert await reading.read(2, 5) == b"234"
    assert await reading.read(8, 99) == b"89"
    assert await reading.read(50) == b""
    outcomes = await reading.reader.read_many([Read("s3://b/k"), Read("s3://b/none"), Read("s3://b/k", 1, 2)], PLAIN)
    assert (outcomes[0], type(outcomes[1]), outcomes[2]) == (b"0123456789", ObjectNotFound, b"1")
    file, told = io.BytesIO(b"old"), []
    await reading.reader.download(UfsPath.parse("s3://b/k"), PLAIN, file, told.append)
    assert (file.getvalue(), told[-1]) == (b"0123456789", 10)
    with pytest.raises(VersionChanged):
        await reading.read(etag="other")
    assert (reading.stats.fallbacks, reading.stats.hits, reading.stats.misses) == (6, 0, 0)
    assert reading.stats.bytes == 10 + 3 + 2 + 10 + 1 + 10


async def test_listing_goes_page_by_page(reading: Reading) -> None:
    for number in range(5):
        reading.store.write(f"s3://b/d/{number}")
    root, found, after = UfsPath.parse("s3://b/d/"), [], ""
    while True:
        page = await reading.reader.list(root, PLAIN, after=after, limit=2)
        found += [item.key for item in page.objects]
        if page.next is None:
            break
        after = page.next
    assert found == [f"d/{number}" for number in range(5)]
    assert (await reading.reader.stat(UfsPath.parse("s3://b/k"), PLAIN)).size == 10


async def test_workers_are_left_in_peace_for_a_while(reading: Reading) -> None:
    for now, asked in ((0, 1), (9, 1), (11, 2), (12, 2)):
        reading.clock.now = now
        await reading.read()
        assert reading.workers.asked == asked
    reading.workers.error, reading.clock.now = None, 30
    await reading.read()
    assert reading.stats.fallbacks == 4


async def test_it_warns_once_a_minute(reading: Reading, caplog: pytest.LogCaptureFixture) -> None:
    for reading.clock.now in (0, 15, 30, 45, 59, 75, 90):
        await reading.read()
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert "past the cache" in warnings[0].getMessage()


@pytest.mark.parametrize("error", [OriginUnavailable("away"), ObjectNotFound("none"), VersionChanged("other")])
async def test_what_a_worker_answers_stands(reading: Reading, error: PreheatError) -> None:
    reading.workers.error = error
    with pytest.raises(type(error)):
        await reading.read()
    assert reading.stats.fallbacks == 0


@pytest.mark.parametrize("demand", [Demand(version=VERSION), Demand(freshness="max-age=5, only-if-cached")])
async def test_what_the_under_store_cannot_promise_is_not_asked_of_it(reading: Reading, demand: Demand) -> None:
    await reading.read()
    with pytest.raises(NoLiveWorker):
        await reading.read(demand=demand)
    assert (reading.workers.asked, reading.stats.fallbacks) == (2, 1)


def test_demands_are_checked_and_sent() -> None:
    assert Demand(freshness="no-cache", version=VERSION).headers == {
        "Cache-Control": "no-cache",
        "X-Preheat-Version": VERSION,
    }
    assert Demand().headers == {}
    for wrong in (
        {"freshness": "fresh"},
        {"freshness": "max-age=1\r\nX: y"},
        {"version": "v1"},
        {"version": "sha256:0"},
    ):
        with pytest.raises(InvalidRequest, match=next(iter(wrong))):
            Demand(**wrong)
    with pytest.raises(InvalidRequest, match="fallback='s3'"):
        PreheatFileSystem(fallback="s3", skip_instance_cache=True)
