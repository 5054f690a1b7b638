"""What other workers have is read from them, over real data ports on the loopback; they never cause an error."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from preheat.access import Grant, Role, Token
from preheat.engine import MemoryEngine
from preheat.errors import PreheatError
from preheat.paths import UfsPath
from preheat.placement import Member, PlacementMap
from preheat.settings import TlsSettings
from preheat.store import MemoryStore
from preheat.tokens import TokenStore
from preheat.ufs import MemoryUnderStore
from preheat.worker._freshness import wish_of
from preheat.worker._reads import OpenedRead, ReadService
from preheat.worker.fills import _peers
from preheat.worker.fills._peers import Peers
from preheat.worker.port._access import Authorizer, following_tokens
from preheat.worker.port._server import DataServer
from testbed.certificates import Authority

DATA = random.Random("peers").randbytes(20 << 20)
PATH = UfsPath.parse("s3://b/k")
URI = str(PATH)


class Worker:
    """A worker's read side and its data port."""

    def __init__(
        self,
        name: str,
        origin: MemoryUnderStore,
        members: list[Member],
        *,
        token: str = "",
        tls: TlsSettings | None = None,
    ) -> None:
        self.id = name
        self.store = MemoryStore(capacity=1 << 30)
        self.peers = Peers(name, owners=lambda path, count: members[:count], token=token, tls=tls)
        self.reads = ReadService(self.store, origin, peers=self.peers)

    async def read(self, path: UfsPath = PATH, *if_match: str, said: str = "") -> bytes:
        opened = await self.reads.open(path, if_match or None, wish=wish_of(said, ""))
        return await body(opened)

    def count(self, name: str) -> int:
        return self.reads.stats()[name]


class Group:
    """Workers that know each other; the first member ranks highest."""

    def __init__(self) -> None:
        self.origin = MemoryUnderStore()
        self.members: list[Member] = []
        self.running = AsyncExitStack()

    async def add(
        self, name: str, *, token: str = "", authorizer: Authorizer | None = None, tls: TlsSettings | None = None
    ) -> Worker:
        worker = Worker(name, self.origin, self.members, token=token, tls=tls)
        self.running.callback(worker.peers.close)
        self.running.push_async_callback(worker.reads.close)
        server = await self.running.enter_async_context(DataServer(worker.reads, authorizer=authorizer, tls=tls))
        self.members.append(Member(id=name, url=server.url))
        return worker


@pytest.fixture
async def group() -> AsyncIterator[Group]:
    async with asyncio.timeout(20):
        group = Group()
        async with group.running:
            yield group


async def body(opened: OpenedRead) -> bytes:
    return b"".join([bytes(page) async for page in opened.pages(0, opened.info.size)])


@pytest.mark.parametrize("size", [1, 100 << 10, len(DATA)])
async def test_a_miss_is_read_from_the_owner(group: Group, size: int) -> None:
    owner, other = await group.add("owner"), await group.add("other")
    info = group.origin.write(URI, DATA[:size])
    await owner.reads.fetch(PATH, info=info)
    group.origin.remove(URI)
    assert await other.read() == DATA[:size]
    while other.reads._fills.under_way(PATH):
        await asyncio.sleep(0)
    item = other.store.lookup(URI)
    assert item is not None
    assert (item.etag, item.size, other.store.read(item)) == (info.etag, size, DATA[:size])
    assert (other.count("originReads"), other.count("originBytes")) == (0, 0)
    assert (other.count("peerReads"), other.count("peerBytes")) == (1, size)


async def test_who_does_not_have_it_does_not_fetch_it(group: Group) -> None:
    workers = [await group.add(name) for name in ("owner", "replica", "other")]
    group.origin.write(URI, DATA)
    assert await workers[2].read() == DATA
    assert [worker.count("originReads") for worker in workers] == [0, 0, 1]
    assert [worker.count("misses") for worker in workers] == [0, 0, 1]
    assert workers[2].count("originBytes") == len(DATA)


async def test_the_second_has_it(group: Group) -> None:
    _, replica, other = [await group.add(name) for name in ("owner", "replica", "other")]
    await replica.reads.fetch(PATH, info=group.origin.write(URI, DATA))
    assert await other.read() == DATA
    assert (other.count("peerReads"), other.count("originReads")) == (1, 0)


async def test_an_owner_asks_the_next_one_and_not_itself(group: Group) -> None:
    owner, before = await group.add("owner"), await group.add("before")
    await before.reads.fetch(PATH, info=group.origin.write(URI, DATA))
    assert await owner.read() == DATA
    assert (owner.count("peerReads"), owner.count("originReads")) == (1, 0)


async def test_another_version_than_the_wanted_one_is_not_taken(group: Group) -> None:
    owner, other = await group.add("owner"), await group.add("other")
    await owner.reads.fetch(PATH, info=group.origin.write(URI, b"old"))
    new = group.origin.write(URI, b"new")
    assert await other.read(PATH, new.etag) == b"new"
    assert (other.count("peerReads"), other.count("originReads")) == (0, 1)


async def test_who_wants_the_current_version_gets_it_from_whoever_has_it(group: Group) -> None:
    owner, other = await group.add("owner"), await group.add("other")
    await owner.reads.fetch(PATH, info=group.origin.write(URI, b"old"))
    assert await other.read(said="no-cache") == b"old"
    assert (other.count("peerReads"), other.count("originReads"), other.count("checks")) == (1, 0, 1)
    group.origin.write(URI, b"new")
    assert await other.read(said="no-cache") == b"new"
    assert (other.count("peerReads"), other.count("originReads"), other.count("checks")) == (1, 1, 2)
    assert await owner.read() == b"old"


async def test_a_copy_from_a_peer_is_not_taken_for_a_young_one(group: Group) -> None:
    owner, other = await group.add("owner"), await group.add("other")
    await owner.reads.fetch(PATH, info=group.origin.write(URI, b"old"))
    group.origin.write(URI, b"new")
    assert await other.read() == b"old"
    while other.reads._fills.under_way(PATH):
        await asyncio.sleep(0)
    assert await other.read(said="max-age=3600") == b"new"
    assert await owner.read(said="max-age=3600") == b"old"  # it came from the under store just now


async def test_a_job_asks_only_if_it_is_told_to(group: Group) -> None:
    owner, other = await group.add("owner"), await group.add("other")
    info = group.origin.write(URI, DATA[: 100 << 10])
    await owner.reads.fetch(PATH, info=info)
    await other.reads.fetch(PATH, info=info, job_id="load")
    assert (other.count("peerReads"), other.count("loadReads")) == (0, 1)
    await other.reads.fetch(PATH, info=info, job_id="replicate", from_peers=True)
    assert (other.count("peerReads"), other.count("loadReads")) == (1, 1)


async def test_a_peer_that_loses_it_in_the_midst(group: Group) -> None:
    owner, other = await group.add("owner"), await group.add("other")
    await owner.reads.fetch(PATH, info=group.origin.write(URI, DATA))
    opened = await other.reads.open(PATH)
    owner.store.delete(URI)
    assert await body(opened) == DATA
    assert other.count("peerReads") == other.count("originReads") == 1
    assert other.count("peerBytes") + other.count("originBytes") == len(DATA)


async def test_a_peer_that_is_down_is_left_out(group: Group) -> None:
    owner, other = await group.add("owner"), await group.add("other")
    await owner.reads.fetch(PATH, info=group.origin.write(URI, b"data"))
    asked = 0

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        group.members[0] = Member(id="owner", url=f"http://127.0.0.1:{port}")
        for name in ("k", "k2"):
            group.origin.write(f"s3://b/{name}", b"data")
            assert await other.read(PATH.with_key(name)) == b"data"
    assert (asked, other.count("originReads"), other.count("peerReads")) == (1, 2, 0)


async def test_a_peer_that_is_silent_costs_no_more_than_its_deadline(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_peers, "_ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(_peers, "_LEAST_BYTES_PER_SECOND", 1 << 40)
    other = await group.add("other")
    group.origin.write(URI, b"data")
    left = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        left.set()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        group.members.insert(0, Member(id="owner", url=f"http://127.0.0.1:{port}"))
        assert await asyncio.wait_for(other.read(), 5) == b"data"
        await asyncio.wait_for(left.wait(), 5)
    assert other.count("originReads") == 1


DATED = b"Last-Modified: Sat, 21 Nov 2026 00:00:00 GMT\r\n"


@pytest.mark.parametrize("answer", [
    b'HTTP/1.1 200 OK\r\nContent-Length: 4\r\nETag: "other"\r\n' + DATED + b"\r\nDATA",
    b'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nETag: "ETAG"\r\n' + DATED + b"\r\ndat",
    b'HTTP/1.1 206 Partial Content\r\nContent-Length: 3\r\nContent-Range: bytes 1-3/4\r\nETag: "ETAG"\r\n' + DATED
    + b"\r\nata",
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
    b"no HTTP at all\r\n\r\n",
])  # fmt: skip
async def test_nonsense_is_not_taken(group: Group, answer: bytes) -> None:
    other = await group.add("other")
    info = group.origin.write(URI, b"data")

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer.replace(b"ETAG", info.etag.encode()))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(send, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        group.members.insert(0, Member(id="owner", url=f"http://127.0.0.1:{port}"))
        item = await other.reads.fetch(PATH, info=info, job_id="job", from_peers=True)
    assert other.store.read(item) == b"data"
    assert other.count("originReads") == 1


async def test_the_workers_token_lets_it_in(group: Group) -> None:
    engine, authorizer = MemoryEngine(), Authorizer()
    _, token = await TokenStore(engine).create(grant=Grant(role=Role.READ))
    await group.running.enter_async_context(following_tokens(authorizer, engine))
    async with asyncio.timeout(5):
        while not lets_in(authorizer, token):
            await asyncio.sleep(0)
    owner = await group.add("owner", authorizer=authorizer)
    friend, stranger = await group.add("friend", token=token.text), await group.add("stranger")
    await owner.reads.fetch(PATH, info=group.origin.write(URI, b"data"))
    assert await stranger.read() == await friend.read() == b"data"
    assert (friend.count("peerReads"), friend.count("originReads")) == (1, 0)
    assert (stranger.count("peerReads"), stranger.count("originReads")) == (0, 1)


async def test_peers_that_speak_https(group: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_peers, "_CONNECT_SECONDS", 20.0)  # a handshake beside other tests
    tls = Authority.make(tmp_path).issue("worker", "127.0.0.1")
    owner, other = await group.add("owner", tls=tls), await group.add("other", tls=tls)
    stranger = await group.add("stranger")  # who does not trust the authority
    await owner.reads.fetch(PATH, info=group.origin.write(URI, DATA))
    assert await stranger.read() == await other.read() == DATA
    assert (other.count("peerReads"), other.count("originReads")) == (1, 0)
    assert (stranger.count("peerReads"), stranger.count("originReads")) == (0, 1)


def lets_in(authorizer: Authorizer, token: Token) -> bool:
    try:
        authorizer.check_read(f"Bearer {token.text}", PATH)
    except PreheatError:
        return False
    return True


async def test_a_range_of_what_is_too_large_to_be_filled_comes_from_a_peer_too(group: Group) -> None:
    owner, other = await group.add("owner"), await group.add("other")
    await owner.reads.fetch(PATH, info=group.origin.write(URI, DATA))
    opened = await other.reads.open(PATH, asked=(15 << 20, (15 << 20) + 10))
    assert b"".join([bytes(page) async for page in opened.pages(15 << 20, (15 << 20) + 10)]) == DATA[15 << 20 :][:10]
    assert (other.count("peerBytes"), other.count("originReads"), other.store.lookup(URI)) == (10, 0, None)


async def test_alone_there_is_nobody_to_ask() -> None:
    placement = PlacementMap(members=(Member(id="me", url="http://127.0.0.1:1"),))
    reads = ReadService(MemoryStore(capacity=1), MemoryUnderStore())
    assert Peers("me", owners=placement.owners).source(PATH, reads.counters) is None
    assert Peers("me", owners=lambda path, count: ()).source(PATH, reads.counters) is None
