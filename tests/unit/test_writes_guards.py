"""What clients may not do to writes: pass for workers, or take what is not theirs."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import msgspec
import pytest

from preheat.engine import Bucket, MemoryEngine
from preheat.errors import Conflict, EngineUnavailable, Forbidden, Overloaded, StoreFull, VersionChanged
from preheat.settings import WriteSettings
from preheat.ufs import MemoryUnderStore
from preheat.worker.s3._errors import fault_of
from preheat.worker.writes import FORWARDED, InvalidPart, Staging, UploadNotFound, Uploads
from preheat.worker.writes._forwarding import Forwarding
from tests.unit.writing_workers import MIB, Group, at, pieces, working


class GatedUnderStore(MemoryUnderStore):
    """Writes wait until the gate opens."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.putting = asyncio.Event()

    async def put(self, path, chunks, *, size, **how):
        self.putting.set()
        await self.gate.wait()
        return await super().put(path, chunks, size=size, **how)

    def close_gate(self) -> None:
        self.gate, self.putting = asyncio.Event(), asyncio.Event()


@pytest.fixture
async def group(tmp_path: Path) -> AsyncIterator[Group]:
    async with working(tmp_path, origin=GatedUnderStore()) as group:
        yield group


async def put(http: aiohttp.ClientSession, url: str, **headers: str) -> int:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with http.put(f"{url}/v1/data/s3/b/k", data=url.encode(), headers=sent) as answer:
        return answer.status


async def test_a_client_that_passes_for_a_worker_does_not_win_a_race_twice(group: Group):
    """Both workers would look at the under store, see nothing there, and write."""
    origin = group.origin
    assert isinstance(origin, GatedUnderStore)
    origin.close_gate()
    async with aiohttp.ClientSession() as http:
        asked = [
            asyncio.create_task(put(http, worker.url, If_None_Match="*", X_Preheat_Forwarded=worker.id))
            for worker in group.workers
        ]
        origin_or_end = asyncio.create_task(origin.putting.wait())
        await asyncio.wait([*asked, origin_or_end], return_when=asyncio.FIRST_COMPLETED)
        origin_or_end.cancel()
        origin.gate.set()
        assert await asyncio.gather(*asked) == [403, 403]
        assert await group.content("k") is None
        assert sorted([await put(http, worker.url, If_None_Match="*") for worker in group.workers]) == [200, 412]


async def test_what_is_for_workers_alone(group: Group):
    url = group.workers[0].url
    asked = [
        ("PUT", "/v1/held?path=s3://b/fast/k&id=x&etag=e", b"x"),
        ("POST", "/v1/written?path=s3://b/k&revision=1", None),
    ]
    async with aiohttp.ClientSession() as http:
        for method, target, data in asked:
            for headers in ({}, {FORWARDED: "worker-1"}):
                async with http.request(method, url + target, data=data, headers=headers) as answer:
                    assert (answer.status, (await answer.json())["code"]) == (403, "forbidden")


async def test_one_secret_for_all_workers_and_another_when_it_is_overwritten():
    engine = MemoryEngine()
    now = 1000.0
    one, other, stranger = (Forwarding(clock=lambda: now) for _ in range(3))
    with pytest.raises(EngineUnavailable):
        one.check("")
    async with one.following(engine), other.following(engine), stranger.following(MemoryEngine()):
        for each in (one, other, stranger):
            await asyncio.wait_for(each.known.wait(), 5)
        other.check(one.headers[FORWARDED])
        for wrong in ("", "worker-1", stranger.headers[FORWARDED], one.headers[FORWARDED][:-1]):
            with pytest.raises(Forbidden) as refused:
                other.check(wrong)
            assert one.headers[FORWARDED] not in str(refused.value)
        before = one.headers[FORWARDED]
        other.check(before)
        await engine.put(Bucket.SECRETS, "workers", msgspec.json.encode("changed"))
        async with asyncio.timeout(5):
            while one._secret != "changed":
                await asyncio.sleep(0)
        assert one.headers == {FORWARDED: before}  # another may not have heard of the new one
        for accepted in (before, "changed"):
            one.check(accepted)
        now += 6
        assert one.headers == {FORWARDED: "changed"}
        one.check(before)  # another may have heard later
        now += 30
        one.check("changed")
        for wrong in (before, ""):
            with pytest.raises(Forbidden):
                one.check(wrong)


async def begun(group: Group, key: str, *bodies: bytes) -> tuple[str, list[tuple[int, str]]]:
    """Begin an upload at the path's owner, with parts."""
    writes = group.owner(key).writes
    upload = await writes.create_upload(at(key))
    parts = [
        (number, await writes.upload_part(at(key), upload, number, pieces(body), size=len(body)))
        for number, body in enumerate(bodies, start=1)
    ]
    return upload, parts


async def test_who_joins_a_completion_asks_for_the_same(group: Group):
    origin = group.origin
    assert isinstance(origin, GatedUnderStore)
    upload, parts = await begun(group, "k", b"x" * 1000, b"secret")
    origin.close_gate()
    completing = asyncio.create_task(group.owner("k").writes.complete_upload(at("k"), upload, parts))
    await origin.putting.wait()
    async with asyncio.timeout(10):
        for worker in group.workers:
            for path, named, error in (
                ("other", parts, UploadNotFound),
                ("k", parts[:1], InvalidPart),
                ("k", [(1, "0" * 32), (2, "0" * 32)], InvalidPart),
            ):
                with pytest.raises(error):
                    await worker.writes.complete_upload(at(path), upload, named)
            with pytest.raises(Conflict, match="another condition"):
                await worker.writes.complete_upload(at("k"), upload, parts, if_none_match=True)
    joining = asyncio.create_task(group.owner("k").writes.complete_upload(at("k"), upload, parts))
    await asyncio.sleep(0)
    origin.gate.set()
    assert await completing == await joining


@pytest.mark.parametrize("prefix", ["", "fast/"])
async def test_an_upload_is_completed_under_a_condition(group: Group, prefix: str):
    key = f"{prefix}k"
    first, parts = await begun(group, key, b"first")
    second, others = await begun(group, key, b"second")
    done = await asyncio.gather(
        group.other(key).writes.complete_upload(at(key), first, parts, if_none_match=True),
        group.owner(key).writes.complete_upload(at(key), second, others, if_none_match=True),
        return_exceptions=True,
    )
    assert sorted(type(result) for result in done if isinstance(result, Exception)) == [VersionChanged]
    (written,) = (result for result in done if not isinstance(result, BaseException))
    lost, named = (second, others) if written is done[0] else (first, parts)
    with pytest.raises(VersionChanged):
        await group.other(key).writes.complete_upload(at(key), lost, named, if_match="0" * 32)
    await group.other(key).writes.complete_upload(at(key), lost, named, if_match=written.etag)
    assert {await worker.read(key) for worker in group.workers} == {b"first" if lost == first else b"second"}


async def test_a_condition_is_judged_by_the_present_owner(group: Group):
    """An upload lives where it began: by now another worker may own its path, and write it at this moment."""
    origin = group.origin
    assert isinstance(origin, GatedUnderStore)
    upload, parts = await begun(group, "k", b"parts")
    holder = group.owner("k")
    group.members = tuple(member for member in group.members if member.id != holder.id)
    (owner,) = (worker for worker in group.workers if worker is not holder)
    origin.close_gate()
    putting = asyncio.create_task(owner.put("k", b"whole", if_none_match=True))
    await origin.putting.wait()
    completing = asyncio.create_task(holder.writes.complete_upload(at("k"), upload, parts, if_none_match=True))
    done, _ = await asyncio.wait([completing], timeout=0.2)
    assert not done
    origin.gate.set()
    await putting
    with pytest.raises(VersionChanged):
        await completing
    assert await group.content("k") == b"whole"


async def test_the_native_port_completes_under_a_condition(group: Group):
    await group.workers[0].put("k", b"before")
    upload, parts = await begun(group, "k", b"after")
    named = {"parts": [{"number": number, "etag": etag} for number, etag in parts]}
    etag = (await group.workers[0].reads.stat(at("k")))[0].etag
    async with aiohttp.ClientSession() as http:
        for headers, status in (
            ({"If-None-Match": "*"}, 412),
            ({"If-Match": '"wrong"'}, 412),
            ({"If-None-Match": '"wrong"'}, 400),
            ({"If-Match": f'"{etag}"'}, 200),
        ):
            url = f"{group.other('k').url}/v1/uploads/{upload}?path=s3://b/k"
            async with http.post(url, json=named, headers=headers) as answer:
                assert answer.status == status, await answer.text()
    assert await group.content("k") == b"after"


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_memory_and_open_files_of_what_waits_are_bounded(tmp_path: Path):
    settings = WriteSettings(staging_memory=100_000, staging_bytes=10 * MIB, staged_bodies=1000)
    staging = Staging(tmp_path / "staging", settings)
    files = open_files()
    waiting = []
    for number in range(1000):
        waiting.append(await staging.receive(pieces(bytes([number % 256]) * 1000, 100)))
        assert staging.in_memory <= 101_000
    assert open_files() < files + 10
    for number in (0, 500, 999):
        body = b"".join(waiting[number].pieces())
        assert (body, hashlib.md5(body).hexdigest()) == (bytes([number % 256]) * 1000, waiting[number].etag)
    with pytest.raises(Overloaded, match=r"1000 bodies.*--staging-size"):
        await staging.receive(pieces(b"x"))
    waiting.pop().close()
    with pytest.raises(Overloaded, match="do not fit beside"):
        await staging.receive(pieces(bytes(10 * MIB)))
    with pytest.raises(StoreFull, match="are more than the"):
        await staging.receive(pieces(bytes(11 * MIB)), size=11 * MIB)
    for body in waiting:
        body.close()
    assert (staging.staged, staging.in_memory, staging.bodies) == (0, 0, 0)
    assert not list(staging.directory.iterdir())


async def test_open_uploads_are_bounded(tmp_path: Path):
    uploads = Uploads("worker-0", most=2)
    first, _ = uploads.create(at("a")), uploads.create(at("b"))
    with pytest.raises(Overloaded, match=r"2 uploads.*--max-uploads"):
        uploads.create(at("c"))
    refused = fault_of(Overloaded("many"))
    assert (refused.code, refused.status, Overloaded.status, Overloaded.retryable) == ("SlowDown", 503, 503, True)
    uploads.end(at("a"), first)
    uploads.create(at("c"))


async def test_an_upload_to_which_nothing_comes_is_dropped(tmp_path: Path):
    now = 0.0
    staging, uploads = Staging(tmp_path / "staging"), Uploads("w", most=2, idle_seconds=60, clock=lambda: now)
    idle, busy = uploads.create(at("idle")), uploads.create(at("busy"))
    uploads.add(at("idle"), idle, 1, await staging.receive(pieces(b"part")))
    with uploads.using(at("busy"), busy):  # a part is on its way, however slowly
        now = 61.0
        uploads.expire()
        assert [upload.id for upload in uploads.begun("s3://b/")] == [busy]
        assert staging.staged == 0
    now = 120.0
    uploads.create(at("other"))
    now = 122.0
    uploads.create(at("third"))  # in the place of one that is idle by now
    assert [upload.path for upload in uploads.begun("s3://b/")] == ["s3://b/other", "s3://b/third"]


async def test_a_worker_refuses_uploads_beyond_its_most(tmp_path: Path):
    async with working(tmp_path, 1) as group:
        worker = group.workers[0]
        worker.writes._local.uploads._most = 0
        async with aiohttp.ClientSession() as http, http.post(f"{worker.url}/v1/uploads?path=s3://b/k") as answer:
            assert (answer.status, (await answer.json())["code"]) == (503, "overloaded")
