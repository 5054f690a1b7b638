"""Reads at a worker that does not own the object: passed on, bounded, and never lost with the owner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

import pytest

from preheat.errors import ObjectNotFound, OriginUnavailable, VersionChanged
from preheat.paths import UfsPath
from preheat.placement import Member
from preheat.ufs import Download, MemoryUnderStore
from preheat.versions import ObjectInfo
from preheat.worker import _forward
from preheat.worker._forward import Forward
from preheat.worker._freshness import NotCached
from preheat.worker.port._http import UnsatisfiableRange
from tests.unit.s3_ports import S3Group, s3_ports
from tests.unit.writing_workers import MIB, at


class Origin(MemoryUnderStore):
    """An under store that counts reads, and may be away."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.away = False

    async def get(self, path: UfsPath, *, etag: str | None = None, start: int = 0, end: int | None = None) -> Download:
        self.reads += 1
        if self.away:
            raise OriginUnavailable("It is away.")
        return await super().get(path, etag=etag, start=start, end=end)


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[S3Group]:
    async with s3_ports(tmp_path, 2, origin=Origin()) as group:
        yield group


async def read(forward: Forward, key: str, **how: object) -> tuple[bytes, bool]:
    opened = await forward.open(at(key), **how)  # type: ignore[arg-type]
    start, end = how.get("asked") or (0, opened.info.size)  # type: ignore[misc]
    return b"".join([bytes(page) async for page in opened.pages(start, end)]), opened.hit


async def test_only_the_owner_keeps_an_object(workers: S3Group) -> None:
    bodies = {f"k{number}": bytes([number]) * 1000 for number in range(10)}
    for key, body in bodies.items():
        workers.origin.write(str(at(key)), body)
        for port, hit in ((workers.other(key), False), (workers.other(key), True), (workers.owner(key), True)):
            assert await read(port.forward, key) == (body, hit)
            assert (await port("get_object", Key=key))["Body"] == body
        assert workers.owner(key).worker.store.lookup(str(at(key)))
        assert not workers.other(key).worker.store.lookup(str(at(key)))
    counters = [port.worker.reads.counters for port in workers.ports]
    assert sum(each.forwarded_bytes for each in counters) == sum(each.forwarded_reads for each in counters) * 1000
    assert sum(each.forwarded_reads for each in counters) == 4 * len(bodies)
    assert workers.origin.reads == len(bodies)


async def test_an_own_copy_is_served_without_asking(workers: S3Group) -> None:
    workers.origin.write(str(at("k")), b"data")
    other = workers.other("k")
    await other.worker.reads.fetch(at("k"), info=None)
    assert await read(other.forward, "k") == (b"data", True)
    assert workers.owner("k").worker.reads.counters.misses == 0


async def test_ranges_and_versions_are_passed_on(workers: S3Group) -> None:
    info = workers.origin.write(str(at("k")), b"0123456789")
    forward = workers.other("k").forward
    assert await read(forward, "k") == (b"0123456789", False)
    assert await read(forward, "k", asked=(2, 5), if_match=(info.etag,)) == (b"234", True)
    opened = await forward.open(at("k"), asked=(-3, None))
    assert b"".join([bytes(page) async for page in opened.pages(7, 10)]) == b"789"
    opened = await forward.open(at("k"), asked=(2, 5))  # and then more is read than was asked for
    assert b"".join([bytes(page) async for page in opened.pages(0, 10)]) == b"0123456789"
    found, hit = await forward.stat(at("k"))
    assert (found.key, found.size, found.etag, hit) == ("k", 10, info.etag, True)
    workers.origin.write(str(at("k")), b"new")
    assert (await read(forward, "k"))[0] == b"0123456789"
    assert (await read(forward, "k", wish={"cache-control": "no-cache"}))[0] == b"new"


async def test_what_the_owner_says_is_said(workers: S3Group) -> None:
    forward = workers.other("k").forward
    for reading in (forward.open(at("k")), forward.stat(at("k"))):
        with pytest.raises(ObjectNotFound):
            await reading
    with pytest.raises(NotCached):
        await forward.open(at("k"), wish={"cache-control": "only-if-cached"})
    workers.origin.write(str(at("k")), b"data")
    with pytest.raises(VersionChanged):
        await forward.open(at("k"), ("x",))
    with pytest.raises(UnsatisfiableRange) as refused:
        await forward.open(at("k"), asked=(4, None))
    assert refused.value.details == {"size": 4}
    workers.origin.away = True
    with pytest.raises(OriginUnavailable):
        await forward.open(at("k"))
    assert workers.other("k").worker.reads.counters.misses == 0


async def test_an_owner_that_is_gone_is_left_out(workers: S3Group) -> None:
    workers.origin.write(str(at("k")), b"data")
    other, owner = workers.other("k"), workers.owner("k")
    await owner.worker.server.stop()
    assert await read(other.forward, "k") == (b"data", False)
    assert await read(other.forward, "k") == (b"data", True)
    assert other.worker.store.lookup(str(at("k")))
    assert other.worker.reads.counters.forward_unreachable == 1
    assert other.forward._left_out.keys() == {owner.worker.id}


async def test_an_owner_that_is_silent_is_left_out(workers: S3Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_forward, "_SILENT_SECONDS", 0.05)
    held: list[asyncio.StreamWriter] = []
    workers.origin.write(str(at("k")), b"data")
    async with await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        silent = Member(id="silent", url=f"http://127.0.0.1:{port}")
        forward = Forward(workers.ports[0].worker.reads, worker_id="me", owners=lambda *_: (silent,))
        assert (await read(forward, "k"))[0] == b"data"
        assert (await read(forward, "k"))[0] == b"data"
        assert len(held) == 1
        assert workers.ports[0].worker.reads.counters.forward_silent == 1
        await forward.close()
        for writer in held:
            writer.transport.abort()


@asynccontextmanager
async def half_an_answer(info: ObjectInfo, body: bytes, sent: asyncio.Event) -> AsyncIterator[Member]:
    """Run an owner that breaks off in the midst of a body, once it may."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f'HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nETag: "{info.etag}"\r\n'
        head += "Last-Modified: Sat, 21 Nov 2026 00:00:00 GMT\r\nX-Preheat-Cache: hit\r\n\r\n"
        writer.write(head.encode() + body[: len(body) // 2])
        await writer.drain()
        await sent.wait()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield Member(id="owner", url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")


@pytest.mark.parametrize("changed", [False, True])
async def test_only_an_owner_that_is_at_fault_is_left_out(workers: S3Group, *, changed: bool) -> None:
    """One that breaks off because the version is no more would be as good as any other for the next read."""
    body, sent = bytes(range(256)) * 40, asyncio.Event()
    info = workers.origin.write(str(at("k")), body)
    reads = workers.ports[0].worker.reads
    async with half_an_answer(info, body, sent) as owner:
        forward = Forward(reads, worker_id="me", owners=lambda *_: (owner,))
        opened = await forward.open(at("k"))
        pages = opened.pages(0, len(body))
        received = bytearray(await anext(pages))
        if changed:
            workers.origin.write(str(at("k")), b"new")
        sent.set()
        with pytest.raises(VersionChanged) if changed else nullcontext():
            async for page in pages:
                received += page
        await forward.close()
    stats = reads.stats()
    if changed:
        assert (bytes(received), forward._left_out) == (body[: len(body) // 2], {})
    else:
        assert (bytes(received), forward._left_out.keys()) == (body, {"owner"})
    assert (stats["forwardedReads"], stats["forwardedBytes"]) == (1, len(body) // 2)
    assert (stats["forwardBroken"], stats["forwardChanged"]) == (not changed, changed)


async def test_an_owner_that_breaks_off_is_gone_on_without(workers: S3Group) -> None:
    """The rest comes from here, of the same version."""
    body = bytes(range(256)) * 4096 * 40
    workers.origin.write(str(at("k")), body)
    other, owner = workers.other("k"), workers.owner("k")
    opened = await other.forward.open(at("k"))
    pages = opened.pages(0, len(body))
    received = bytearray(await anext(pages))
    for connection in tuple(owner.worker.server._connections):
        connection.abort()
    async for page in pages:
        received += page
    assert bytes(received) == body
    assert other.forward._left_out.keys() == {owner.worker.id}


async def test_a_slow_reader_holds_the_owner_up(workers: S3Group) -> None:
    body = bytes(64 * MIB)
    workers.origin.write(str(at("k")), body)
    other, owner = workers.other("k"), workers.owner("k")
    await owner.worker.reads.fetch(at("k"), info=None)
    sent = owner.worker.reads.counters
    opened = await other.forward.open(at("k"))
    pages = opened.pages(0, len(body))
    await anext(pages)
    before, now = -1, sent.hit_bytes
    while before < now:  # until no more goes out for twenty turns
        for _ in range(20):
            await asyncio.sleep(0.001)
        before, now = now, sent.hit_bytes
    assert now < 32 * MIB
    assert 1 + sum([1 async for _ in pages]) > 1
    assert sent.hit_bytes == len(body)
