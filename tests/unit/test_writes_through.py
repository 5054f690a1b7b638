"""Writes that the under store has before they are acknowledged, on several workers."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import msgspec
import pytest
import yarl

from preheat.engine import Bucket
from preheat.errors import (
    ObjectNotFound,
    OriginUnavailable,
    PreheatError,
    ReadOnly,
    StoreFull,
    VersionChanged,
)
from preheat.inventory import Pin
from preheat.paths import UfsPath
from preheat.placement import Member
from preheat.store import DiskStore, MemoryStore
from preheat.ufs import MemoryUnderStore
from preheat.versions import ObjectInfo
from preheat.worker.writes import InvalidPart, InvalidPartOrder, PartTooSmall, UploadNotFound
from preheat.worker.writes._absence import Absence
from tests.unit.writing_workers import MIB, Group, at, pieces, working


@pytest.fixture
async def group(tmp_path: Path) -> AsyncIterator[Group]:
    async with working(tmp_path) as group:
        yield group


def url_of(text: str) -> yarl.URL:
    """Spelled as it stands."""
    return yarl.URL(text, encoded=True)


def _is_clean(group: Group) -> bool:
    return all(not worker.staging.staged and not list(worker.staging.directory.iterdir()) for worker in group.workers)


@pytest.mark.parametrize("size", [0, 1, 64_000, 20 * MIB])
async def test_what_was_written_is_at_the_origin_and_in_the_owners_cache(tmp_path: Path, size: int):
    body = random.Random(size).randbytes(size)
    stores = [DiskStore(tmp_path / f"s{number}", capacity=256 * MIB) for number in range(2)]
    async with working(tmp_path, stores=[*stores]) as group:
        info = await group.other("k").writes.put(at("k"), pieces(body), size=None)
        assert (info.key, info.size, info.etag) == ("k", size, hashlib.md5(body).hexdigest())
        assert await group.content("k") == body
        item = group.owner("k").store.lookup(str(at("k")))
        assert item is not None
        assert (item.etag, group.owner("k").store.read(item)) == (info.etag, body)
        assert [await worker.read("k") for worker in group.workers] == [body, body]
        assert _is_clean(group)
        counters = [worker.reads.counters for worker in group.workers]
        assert sum(found.origin_reads for found in counters) == (
            0 if size else 1
        )  # no range of nothing can be asked for
    for store in stores:
        store.close()


async def test_every_worker_reads_what_was_acknowledged_last(group: Group):
    """Copies of the older version are everywhere before each write."""
    for number in range(20):
        body = f"version {number}".encode()
        writer = group.workers[number % 2]
        await writer.put("k", body)
        assert [await worker.read("k") for worker in group.workers] == [body, body]
    assert await group.owner("k").writes.delete(at("k"))
    assert [await worker.read("k") for worker in group.workers] == [None, None]
    assert not await group.other("k").writes.delete(at("k"))


async def test_a_fill_of_the_older_version_does_not_take_the_place_of_the_new_one(tmp_path: Path):
    class Slow(MemoryUnderStore):
        gate: asyncio.Event | None = None
        asked = asyncio.Event()

        async def get(self, path, **how):
            download = await super().get(path, **how)
            self.asked.set()
            if self.gate:
                await self.gate.wait()
            return download

    origin = Slow()
    async with working(tmp_path, origin=origin) as group:
        origin.write("s3://b/k", b"old")
        origin.gate, origin.asked = asyncio.Event(), asyncio.Event()
        reading = [asyncio.create_task(worker.read("k")) for worker in group.workers]
        await origin.asked.wait()
        await group.workers[0].put("k", b"new!")
        origin.gate.set()
        await asyncio.gather(*reading, return_exceptions=True)
        assert [await worker.read("k") for worker in group.workers] == [b"new!", b"new!"]


async def test_a_mount_that_is_read_only_is_not_written(group: Group):
    for writing in (
        group.workers[0].put("frozen/x", b"y"),
        group.workers[0].writes.delete(at("frozen/x")),
        group.workers[0].writes.copy(at("k"), at("frozen/y")),
        group.workers[0].writes.create_upload(at("frozen/x")),
        group.workers[0].writes.put(UfsPath.parse("s3://elsewhere/k"), pieces(b"x"), size=1),
    ):
        with pytest.raises(ReadOnly, match=r"preheat mount add .* --writes through"):
            await writing
    assert await group.content("frozen/x") == b"x"


async def test_what_is_pinned_is_not_written(group: Group):
    worker = group.other("v1/k")
    await worker.put("v1/k", b"pinned")
    pin = Pin(id="pin", path="s3://b/v1/", inventory="i", version="sha256:00", pinned_at=0.0)
    await group.engine.put(Bucket.PINS, pin.id, msgspec.json.encode(pin))
    async with asyncio.timeout(5):
        while not all(each.policies.pin("s3://b/v1/k") for each in group.workers):
            await asyncio.sleep(0)
    for writing in (
        worker.put("v1/k", b"other"),
        worker.writes.delete(at("v1/k")),
        worker.writes.copy(at("frozen/x"), at("v1/k")),
        worker.writes.create_upload(at("v1/new")),
    ):
        with pytest.raises(ReadOnly, match=r"sha256:00.*preheat fs unpin s3://b/v1/"):
            await writing
    assert await group.content("v1/k") == b"pinned"


async def test_conditions_are_looked_at_right_before(group: Group):
    worker = group.other("k")
    with pytest.raises(VersionChanged, match="does not exist"):
        await worker.put("k", b"1", if_match="*")
    first = await worker.put("k", b"1", if_none_match=True)
    with pytest.raises(VersionChanged, match="exists already"):
        await worker.put("k", b"2", if_none_match=True)
    second = await worker.put("k", b"2", if_match=first)
    with pytest.raises(VersionChanged, match=second):
        await worker.put("k", b"3", if_match=first)
    assert await worker.read("k") == b"2"
    tries = [worker.put("k", f"{number}".encode() * 9, if_match=second) for number in range(8)]
    done = [result for result in await asyncio.gather(*tries, return_exceptions=True) if isinstance(result, str)]
    assert len(done) == 1


async def test_a_write_that_fails_leaves_nothing_and_says_so(tmp_path: Path):
    class Failing(MemoryUnderStore):
        fails = False

        async def put(self, path, chunks, *, size, **how):
            if self.fails:
                raise OriginUnavailable("down")
            return await super().put(path, chunks, size=size, **how)

    async def broken() -> AsyncIterator[bytes]:
        yield b"1234"
        raise PreheatError("The client left.")

    origin = Failing()
    async with working(tmp_path, origin=origin, staging=10 * MIB) as group:
        await group.workers[0].put("k", b"before")
        origin.fails = True
        for worker in group.workers:
            with pytest.raises(OriginUnavailable):
                await worker.put("k", b"after")
        origin.fails = False
        for worker in group.workers:
            assert await worker.read("k") == b"before"
            with pytest.raises(PreheatError, match="left"):
                await worker.writes.put(at("k"), broken(), size=8)
            with pytest.raises(PreheatError, match="4 bytes instead of 5"):
                await worker.writes.put(at("k"), pieces(b"1234"), size=5)
            with pytest.raises(StoreFull):
                await worker.writes.put(at("k"), pieces(bytes(11 * MIB)), size=None)
        assert await group.content("k") == b"before"
        assert _is_clean(group)


async def test_a_full_cache_is_no_reason_not_to_write(tmp_path: Path):
    async with working(tmp_path, stores=[MemoryStore(capacity=1000), MemoryStore(capacity=1000)]) as group:
        for worker in group.workers:
            await worker.put("k", b"small")
            body = bytes(5000)
            await worker.put("k", body)
            assert [await reader.read("k") for reader in group.workers] == [body, body]


async def test_a_client_that_leaves_does_not_leave_the_write_half_done(tmp_path: Path):
    class Slow(MemoryUnderStore):
        began, gate = asyncio.Event(), asyncio.Event()

        async def put(self, path: UfsPath, chunks, *, size: int, **how) -> ObjectInfo:
            self.began.set()
            await self.gate.wait()
            return await super().put(path, chunks, size=size, **how)

    origin = Slow()
    async with working(tmp_path, origin=origin) as group:
        origin.began, origin.gate = asyncio.Event(), asyncio.Event()
        putting = asyncio.create_task(group.owner("k").put("k", b"whole"))
        await origin.began.wait()
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        origin.gate.set()
        await group.owner("k").put("k", b"next")  # waits for its turn
        assert await group.content("k") == b"next"
    assert await group.content("k") == b"next"


async def test_an_owner_that_cannot_be_reached_hears_of_the_write_later(group: Group):
    owner, other = group.owner("k"), group.other("k")
    await owner.put("k", b"old")
    group.members = tuple(
        Member(id=member.id, url="http://127.0.0.1:9" if member.id == owner.id else member.url)
        for member in group.members
    )
    await other.put("k", b"new")
    async with asyncio.timeout(5):
        while await owner.read("k") != b"new":
            await asyncio.sleep(0)


async def test_an_owner_that_was_away_for_longer_than_writes_are_remembered(tmp_path: Path, group: Group):
    worker = group.workers[0]
    heard = tmp_path / "worker-0.heard"
    await worker.writes.put(at("k"), pieces(b"x"), size=1, forwarded=True)
    await worker.read("frozen/x")
    absence = Absence(heard, store=worker.store, policies=worker.policies)
    absence.heard()
    assert [item.path for item in worker.store.scan()] == [str(at("frozen/x")), str(at("k"))]
    day_ago = time.time() - 86400
    os.utime(heard, (day_ago, day_ago))
    absence.heard()
    assert [item.path for item in worker.store.scan()] == [str(at("frozen/x"))]
    assert time.time() - heard.stat().st_mtime < 60


async def test_copies(group: Group):
    await group.workers[0].put("from", b"source")
    await group.workers[0].put("to", b"target")
    assert [await worker.read("to") for worker in group.workers] == [b"target", b"target"]
    info = await group.workers[1].writes.copy(at("from"), at("to"))
    assert info.size == 6
    assert [await worker.read("to") for worker in group.workers] == [b"source", b"source"]
    copied = await group.workers[0].writes.copy(at("from"), UfsPath.parse("s3://b/a file/ü"))
    assert copied.key == "a file/ü"
    with pytest.raises(ObjectNotFound):
        await group.workers[0].writes.copy(at("nothing"), at("to"))


async def test_uploads_in_parts(group: Group):
    owner, other = (group.owner("k").writes, group.other("k").writes)
    body = random.Random(1).randbytes(3000)
    upload = await other.create_upload(at("k"))
    etags = {}
    for number in (2, 1, 3):
        for part in (b"x" * 1000, body[number * 1000 - 1000 : number * 1000]):  # the second replaces the first
            etags[number] = await other.upload_part(at("k"), upload, number, pieces(part), size=None)
    assert etags[2] == hashlib.md5(body[1000:2000]).hexdigest()
    assert [(part.number, part.size) for part in await other.list_parts(at("k"), upload)] == [
        (1, 1000),
        (2, 1000),
        (3, 1000),
    ]
    for writes in (owner, other):
        assert [found.id for found in await writes.list_uploads(at(""))] == [upload]
    with pytest.raises(InvalidPartOrder):
        await other.complete_upload(at("k"), upload, [(2, etags[2]), (1, etags[1])])
    with pytest.raises(InvalidPart):
        await owner.complete_upload(at("k"), upload, [(1, etags[2])])
    with pytest.raises(UploadNotFound):
        await owner.complete_upload(at("else"), upload, [(1, etags[1])])
    both = [writes.complete_upload(at("k"), upload, sorted(etags.items())) for writes in (owner, other)]
    first, second = await asyncio.gather(*both)
    assert first == second
    assert [await worker.read("k") for worker in group.workers] == [body, body]
    with pytest.raises(UploadNotFound):
        await other.list_parts(at("k"), upload)
    assert _is_clean(group)


async def test_uploads_that_come_to_nothing(group: Group):
    worker = group.other("k")
    upload = await worker.writes.create_upload(at("k"))
    etag = await worker.writes.upload_part(at("k"), upload, 1, pieces(b"small"), size=5)
    last = await worker.writes.upload_part(at("k"), upload, 2, pieces(bytes(5 * MIB)), size=5 * MIB)
    with pytest.raises(PartTooSmall):
        await worker.writes.complete_upload(at("k"), upload, [(1, etag), (2, last)])
    await worker.writes.abort_upload(at("k"), upload)
    assert await group.content("k") is None
    assert _is_clean(group)
    with pytest.raises(UploadNotFound):
        await worker.writes.upload_part(at("k"), upload, 1, pieces(b"x"), size=1)
    with pytest.raises(UploadNotFound, match="gone"):
        await worker.writes.list_parts(at("k"), "aa.worker-9")


async def test_the_rest_interface(group: Group):
    url, path = group.other("a b%").url, "/v1/data/s3/b/a%20b%25"
    async with aiohttp.ClientSession() as http:
        md5 = "CY9rzUYh03PK3k6DJie09g=="  # of "test"
        async with http.put(url_of(url + path), data=b"test", headers={"Content-MD5": md5}) as answer:
            assert answer.status == 200
            assert (
                (await answer.json())["etag"] == answer.headers["ETag"].strip('"') == hashlib.md5(b"test").hexdigest()
            )
        async with http.put(url_of(url + path), data=b"Test", headers={"Content-MD5": md5}) as answer:
            assert (answer.status, (await answer.json())["code"]) == (400, "bad_digest")
        async with http.put(url_of(url + path), data=b"x", headers={"If-None-Match": "*"}) as answer:
            assert (answer.status, (await answer.json())["code"]) == (412, "version_changed")
        async with http.put(url_of(url + path), data=pieces(b"chunked"), headers={"If-Match": '"wrong"'}) as answer:
            assert answer.status == 412
        async with http.put(url_of(url + "/v1/data/s3/b/frozen/x"), data=b"x") as answer:
            assert (answer.status, (await answer.json())["code"]) == (403, "read_only")
        async with http.get(url_of(url + path)) as answer:
            assert await answer.read() == b"test"
        async with http.post(url + "/v1/copy", params={"path": "s3://b/a b%", "target": "s3://b/c"}) as answer:
            assert (await answer.json())["key"] == "c"
        uploads, where = url + "/v1/uploads", {"path": "s3://b/big"}
        async with http.post(uploads, params=where) as answer:
            upload = (await answer.json())["upload"]
        async with http.put(f"{uploads}/{upload}/1", params=where, data=pieces(bytes(3000))) as answer:
            part = {"number": 1, "etag": (await answer.json())["etag"]}
        async with http.get(f"{uploads}/{upload}", params=where) as answer:
            assert (await answer.json())["parts"][0]["size"] == 3000
        async with http.post(f"{uploads}/{upload}", params=where, json={"parts": "none"}) as answer:
            assert answer.status == 400
        async with http.post(f"{uploads}/{upload}", params=where, json={"parts": [part]}) as answer:
            assert (await answer.json())["size"] == 3000
        async with http.delete(f"{uploads}/{upload}", params=where) as answer:
            assert (answer.status, (await answer.json())["code"]) == (404, "no_such_upload")
        async with http.delete(url_of(url + path), headers={"If-Match": '"wrong"'}) as answer:
            assert (answer.status, (await answer.json())["code"]) == (400, "invalid_request")
        secret = {"path": "file:///etc/passwd", "target": "s3://b/stolen"}
        async with http.post(url + "/v1/copy", params=secret) as answer:
            assert (answer.status, (await answer.json())["code"]) == (403, "access_denied")
        for status in (200, 404):
            async with http.delete(url_of(url + path)) as answer:
                assert answer.status == status
        async with http.post(url + "/v1/stats") as answer:
            assert answer.status == 405
    assert await group.content("c") == b"test"
    assert await group.content("a b%") is None
