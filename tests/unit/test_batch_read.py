"""Batch reads without sockets: the frames, and what a worker puts into them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from struct import pack

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preheat.access import Grant, Role, authorize
from preheat.batch_read import (
    MAX_BODY,
    MAX_READS,
    Batch,
    BrokenFrame,
    Frame,
    FrameDecoder,
    Order,
    Read,
    decode_batch,
    encode_batch,
    frame_head,
)
from preheat.errors import (
    AccessDenied,
    Forbidden,
    InvalidPath,
    InvalidRequest,
    ObjectNotFound,
    OriginUnavailable,
    VersionChanged,
)
from preheat.paths import UfsPath
from preheat.store import MemoryStore
from preheat.store._memory import _Held
from preheat.ufs import Download, MemoryUnderStore
from preheat.worker._reads import ReadService
from preheat.worker.port._batch_read import BatchAnswer, Check

SECONDS = 10.0


def encoded(frame: Frame) -> bytes:
    length = len(frame.body)
    head = frame_head(frame.index, frame.status, frame.info, hit=frame.hit, size=frame.size, length=length)
    return head + frame.body


frames_of_any_kind = st.lists(
    st.builds(
        Frame,
        index=st.integers(0, MAX_READS - 1),
        status=st.integers(100, 599),
        hit=st.booleans(),
        info=st.binary(max_size=40),
        size=st.integers(0, 2**64 - 1),
        body=st.binary(max_size=200),
    ),
    max_size=8,
)


@given(frames_of_any_kind, st.lists(st.integers(0, 2000), max_size=20))
def test_frames_are_read_back_however_they_are_cut(frames: list[Frame], cuts: list[int]) -> None:
    data = b"".join(map(encoded, frames))
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    decoder = FrameDecoder(MAX_READS)
    assert [frame for start, end in pairwise(places) for frame in decoder.feed(data[start:end])] == frames


@given(frames_of_any_kind.filter(bool), st.data())
def test_a_frame_that_ends_early_is_none(frames: list[Frame], data: st.DataObject) -> None:
    whole = b"".join(map(encoded, frames))
    cut = data.draw(st.integers(1, len(encoded(frames[-1]))))
    assert FrameDecoder(MAX_READS).feed(whole[:-cut]) == frames[:-1]


@pytest.mark.parametrize(
    "header",
    [
        pack("<IHHIIQ", 3, 200, 0, 0, 0, 0),
        pack("<IHHIIQ", 0, 200, 0, 1 << 20, 0, 0),
        pack("<IHHIIQ", 0, 200, 0, 0, MAX_BODY + 1, 0),
    ],
)
def test_lengths_that_no_worker_sends_are_refused(header: bytes) -> None:
    with pytest.raises(BrokenFrame):
        FrameDecoder(3).feed(header)


def test_a_batch_is_read_back() -> None:
    reads = [Read("s3://b/ü"), Read("s3://b/k", 5), Read("s3://b/k", 0, 9, "tag")]
    assert decode_batch(encode_batch(reads, Order.READY)) == Batch(reads=reads, order=Order.READY)
    assert decode_batch(b'{"reads": []}') == Batch(reads=[], order=Order.ASKED)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"reads": [{}]}',
        b'{"reads": [{"path": 5}]}',
        b'{"reads": [{"path": "s3://b/k", "offset": 5}]}',
        b'{"reads": [{"path": "s3://b/k", "start": -5}]}',
        b'{"reads": [{"path": "s3://b/k", "end": 1e3}]}',
        b'{"reads": [], "order": "sorted"}',
        b'{"reads": [{"path": "\xff"}]}',
        b'{"reads": [' + b",".join([b'{"path": "s3://b/k"}'] * (MAX_READS + 1)) + b"]}",
    ],
)
def test_what_is_no_batch_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode_batch(body)


class GatedOrigin(MemoryUnderStore):
    """An under store whose reads of some keys wait, and that knows how many do."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[str, asyncio.Event] = {}
        self.waiting = 0
        self.most = 0
        self.broken: set[str] = set()

    def hold(self, uri: str) -> asyncio.Event:
        return self.held.setdefault(UfsPath.parse(uri).key, asyncio.Event())

    async def get(self, path: UfsPath, *, etag: str | None = None, start: int = 0, end: int | None = None) -> Download:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        if gate := self.held.get(path.key):
            await gate.wait()
        self.waiting -= 1
        if path.key in self.broken:
            raise OriginUnavailable(f"path='{path}': no answer.")
        return await super().get(path, etag=etag, start=start, end=end)


@pytest.fixture
def origin() -> GatedOrigin:
    return GatedOrigin()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(capacity=64 << 20)


@pytest.fixture
async def reads(store: MemoryStore, origin: GatedOrigin) -> ReadService:
    return ReadService(store, origin)


def everything(_: UfsPath) -> None:
    """Let every path pass."""


class Answer:
    """The frames of an answer, as they come."""

    def __init__(
        self,
        reads: ReadService,
        wanted: Sequence[Read],
        order: Order = Order.ASKED,
        *,
        may_read: Check | None = None,
        may_fetch: Check = everything,
    ) -> None:
        batch = Batch(reads=list(wanted), order=order)
        self._chunks = BatchAnswer(reads, batch, may_read=may_read, may_fetch=may_fetch).chunks()
        self._decoder = FrameDecoder(len(wanted))
        self._parser = httptools.HttpResponseParser(self)
        self._parser.feed_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        self._ended = False
        self.frames: list[Frame] = []

    def on_body(self, data: bytes) -> None:
        self.frames += self._decoder.feed(data)

    def on_message_complete(self) -> None:
        self._ended = True

    async def take(self, count: int) -> list[Frame]:
        """Return the first frames."""
        async with asyncio.timeout(SECONDS):
            while len(self.frames) < count:
                self._parser.feed_data(await anext(self._chunks))
        return self.frames[:count]

    async def all(self) -> list[Frame]:
        async with asyncio.timeout(SECONDS):
            async for chunk in self._chunks:
                self._parser.feed_data(chunk)
        assert self._ended
        return self.frames


async def test_each_read_has_the_status_of_a_get(reads: ReadService, origin: GatedOrigin) -> None:
    info = origin.write("s3://b/k", b"0123456789")
    empty = origin.write("s3://b/empty", b"")
    origin.write("s3://b/broken", b"x")
    origin.broken.add("broken")
    wanted = [
        Read("s3://b/k"),
        Read("s3://b/k", 2, 5),
        Read("s3://b/k", 8, 99),
        Read("s3://b/k", 10),
        Read("s3://b/k", 5, 5),
        Read("s3://b/k", 0, None, info.etag),
        Read("s3://b/k", 0, None, "other"),
        Read("s3://b/empty"),
        Read("s3://b/empty", 0, 1),
        Read("s3://b/missing"),
        Read("s3://nobucket/k"),
        Read("ftp://b/k"),
        Read("s3://b/broken"),
    ]
    for order in Order:
        frames = sorted(await Answer(reads, wanted, order).all(), key=lambda frame: frame.index)
        assert [frame.status for frame in frames] == [200, 206, 206, 416, 416, 200, 412, 200, 416, 404, 404, 400, 502]
        assert [frame.body for frame in frames[:3]] == [b"0123456789", b"234", b"89"]
        assert (frames[5].body, frames[7].body) == (b"0123456789", b"")
        assert [frame.info.decode() for frame in (frames[1], frames[7])] == [info.etag, empty.etag]
        assert (frames[1].size, frames[7].size) == (10, 0)
        errors = [type(frame.problem) for frame in (frames[6], frames[9], frames[11], frames[12])]
        assert errors == [VersionChanged, ObjectNotFound, InvalidPath, OriginUnavailable]
        assert json.loads(frames[9].info)["code"] == "object_not_found"


async def test_reads_count_as_gets_do(reads: ReadService, origin: GatedOrigin) -> None:
    wanted = [Read(f"s3://b/{number}") for number in range(100)]
    for read in wanted:
        origin.write(read.path, b"body")
    for _ in range(2):
        frames = await Answer(reads, wanted, Order.READY).all()
        assert {frame.body for frame in frames} == {b"body"}
    stats = reads.stats()
    assert (stats["misses"], stats["missBytes"], stats["hits"], stats["hitBytes"]) == (100, 400, 100, 400)
    assert stats["originReads"] == 100


@pytest.mark.parametrize("order", list(Order))
async def test_misses_are_fetched_at_the_same_time_but_not_all(
    reads: ReadService, origin: GatedOrigin, order: Order
) -> None:
    wanted = [Read(f"s3://b/{number}") for number in range(200)]
    for read in wanted:
        origin.write(read.path, read.path.encode())
        origin.hold(read.path)
    answer = asyncio.create_task(Answer(reads, wanted, order).all())
    await until(lambda: origin.waiting > 1)
    assert fetching() == 32
    for gate in origin.held.values():
        gate.set()
    frames = await answer
    assert sorted(frame.index for frame in frames) == list(range(200))
    assert all(frame.body == wanted[frame.index].path.encode() for frame in frames)
    if order is Order.ASKED:
        assert [frame.index for frame in frames] == list(range(200))


async def test_what_is_cached_waits_for_nothing_unless_it_was_asked_for_later(
    reads: ReadService, origin: GatedOrigin
) -> None:
    for name in ("hit-1", "miss", "hit-2", "later"):
        origin.write(f"s3://b/{name}", name.encode())
    await Answer(reads, [Read("s3://b/hit-1"), Read("s3://b/hit-2")]).all()
    gate = origin.hold("s3://b/miss")
    wanted = [Read(f"s3://b/{name}") for name in ("hit-1", "miss", "hit-2", "later")]
    ready, asked = Answer(reads, wanted, Order.READY), Answer(reads, wanted, Order.ASKED)
    assert [frame.body for frame in await ready.take(3)] == [b"hit-1", b"hit-2", b"later"]
    assert [frame.body for frame in await asked.take(1)] == [b"hit-1"]
    gate.set()
    assert [frame.body for frame in await ready.all()][3:] == [b"miss"]
    assert [frame.body for frame in await asked.all()] == [b"hit-1", b"miss", b"hit-2", b"later"]


async def test_an_answer_that_is_given_up_stops_fetching(reads: ReadService, origin: GatedOrigin) -> None:
    wanted = [Read(f"s3://b/{number}") for number in range(100)]
    for read in wanted:
        origin.write(read.path, b"x")
        origin.hold(read.path)
    answer = Answer(reads, wanted)
    waiting = asyncio.create_task(answer.all())
    await until(lambda: origin.waiting > 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until(lambda: not fetching())
    for gate in origin.held.values():
        gate.set()
    await until(lambda: not origin.waiting)
    assert origin.most <= reads.counters.origin_reads <= 32


@pytest.mark.parametrize("order", list(Order))
async def test_what_is_too_large_is_refused_and_its_ranges_are_not(
    reads: ReadService, origin: GatedOrigin, order: Order
) -> None:
    data = bytes(range(256)) * (MAX_BODY // 256) + b"x"
    origin.write("s3://b/large", data)
    origin.write("s3://b/fits", data[:-1])
    wanted = [
        Read("s3://b/large"),
        Read("s3://b/large", 1),
        Read("s3://b/large", 1, 1 << 40),
        Read("s3://b/large", 0, 1 << 40),
        Read("s3://b/fits", 0, 1 << 40),
        Read("s3://b/fits"),
    ]
    for _ in ("missed", "hit"):
        frames = sorted(await Answer(reads, wanted, order).all(), key=lambda frame: frame.index)
        assert [frame.status for frame in frames] == [413, 206, 206, 413, 206, 200]
        assert json.loads(frames[0].info)["size"] == len(data)
        assert frames[1].body == frames[2].body == data[1:]
        assert frames[4].body == frames[5].body == data[:-1]


async def test_each_path_is_checked(reads: ReadService, origin: GatedOrigin) -> None:
    grant = Grant(role=Role.READ, prefixes=("s3://b/mine/",))
    for uri in ("s3://b/mine/k", "s3://b/theirs/k", "file:///data/k"):
        origin.write(uri, b"secret")
    wanted = [Read(uri) for uri in ("s3://b/mine/k", "s3://b/theirs/k", "s3://b/mine/../theirs/k", "file:///data/k")]

    def may_read(path: UfsPath) -> None:
        authorize(grant, Role.READ, (path,))

    def may_fetch(path: UfsPath) -> None:
        if path.scheme == "file":
            raise AccessDenied(f"path='{path}' is not below a root.")

    restricted = await Answer(reads, wanted, may_read=may_read, may_fetch=may_fetch).all()
    assert [frame.status for frame in restricted] == [200, 403, 403, 403]
    assert isinstance(restricted[1].problem, Forbidden)
    frames = await Answer(reads, wanted, may_fetch=may_fetch).all()
    assert [frame.status for frame in frames] == [200, 200, 404, 403]
    cached = await Answer(reads, wanted[:2], may_read=may_read).all()
    assert [(frame.status, frame.body) for frame in cached] == [(200, b"secret"), (403, b"")]


async def test_a_corrupt_copy_is_fetched_again(reads: ReadService, origin: GatedOrigin, store: MemoryStore) -> None:
    origin.write("s3://b/k", b"right")
    await Answer(reads, [Read("s3://b/k")]).all()
    held = store._held["s3://b/k"]
    store._held["s3://b/k"] = _Held(item=held.item, data=b"wrong")
    (frame,) = await Answer(reads, [Read("s3://b/k")]).all()
    assert (frame.body, frame.hit, reads.stats()["corrupt"]) == (b"right", False, 1)


async def test_an_answer_goes_out_in_large_pieces(reads: ReadService, origin: GatedOrigin) -> None:
    wanted = [Read(f"s3://b/{number}") for number in range(1000)]
    for read in wanted:
        origin.write(read.path, bytes(4096))
    await Answer(reads, wanted).all()
    batch = Batch(reads=wanted)
    sizes = [len(chunk) async for chunk in BatchAnswer(reads, batch, may_read=None, may_fetch=everything).chunks()]
    assert len(sizes) < 20
    assert max(sizes) < 300_000


def fetching() -> int:
    """Return how many objects the answers under way wait for."""
    return sum("coro=<BatchAnswer." in repr(task).partition(" wait_for=")[0] for task in asyncio.all_tasks())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0)
