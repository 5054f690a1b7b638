"""Random histories of objects that change at the under store while they are read in every way, and what must hold.

Nothing is known of how a worker decides: each read is judged by when which version was at the under store, and by what
the policy of its path promises. A version that a mutation puts there may be read from when the mutation begins, and the
one that it replaces until it has ended: in between nobody can tell.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import inf

from preheat.batch_read import Batch, FrameDecoder, Order, Read
from preheat.errors import CorruptPage, InvalidRequest, ObjectNotFound, PreheatError, VersionChanged
from preheat.inventory import Inventory
from preheat.paths import UfsPath
from preheat.store import MemoryStore
from preheat.store._memory import _Held
from preheat.versions import ObjectInfo
from preheat.worker._freshness import NotCached, wish_of
from preheat.worker._reads import ReadService
from preheat.worker.port._batch_read import BatchAnswer
from preheat.worker.port._endpoints import Endpoints
from preheat.worker.port._hits import Hits
from preheat.worker.port._http import Request

MAX_AGE = 10.0
NAMES = ("a", "b ü%+", "large")
LARGE = (1 << 20) + 1000
PROMISES = {"never": inf, "age": MAX_AGE, "always": 0.0, "pinned": inf}
"""By directory: for how many seconds after it was replaced a version may be read."""
WISHES = {"": inf, "no-cache": 0.0, "max-age=5": 5.0, "max-stale": -1.0, "only-if-cached": inf}
"""The same for what a reader says; below 0 it lifts the promise."""


@dataclass(kw_only=True, slots=True)
class Version:
    """One version of one object, or its absence."""

    etag: str | None
    since: int
    """Tick at which it began to come."""
    until: float = inf
    """Tick at which it was certainly replaced."""
    until_time: float = inf


@dataclass(frozen=True, kw_only=True, slots=True)
class Began:
    """When a read began."""

    tick: int
    time: float


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What was at the under store when."""

    clock: Callable[[], float]
    bodies: dict[tuple[str, str], bytes] = field(default_factory=dict)
    versions: dict[str, list[Version]] = field(default_factory=dict)
    _locks: dict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    _ticks: itertools.count[int] = field(default_factory=itertools.count)

    def now(self) -> Began:
        return Began(tick=next(self._ticks), time=self.clock())

    async def mutate(self, uri: str, body: bytes | None, act: Callable[[], Awaitable[None]]) -> None:
        """Have an object replaced, or removed, and note between which moments that was."""
        async with self._locks[uri]:
            past = self.versions.setdefault(uri, [])
            etag = None if body is None else hashlib.md5(body, usedforsecurity=False).hexdigest()
            if etag is not None and body is not None:
                self.bodies[uri, etag] = body
            past.append(Version(etag=etag, since=next(self._ticks)))
            await act()
            if past[:-1]:
                past[-2].until, past[-2].until_time = next(self._ticks), self.clock()

    def was(self, uri: str, etag: str | None, began: Began, age: float) -> bool:
        """Whether a version was at the under store at some moment since a read began, or ``age`` seconds before."""
        return any(
            version.etag == etag and (version.until > began.tick or version.until_time > began.time - age)
            for version in self.versions[uri]
        )

    def changed_since(self, uri: str, began: Began) -> bool:
        return any(version.since > began.tick or inf > version.until > began.tick for version in self.versions[uri])


class History:
    """One worker, some objects, and everything that happens to them.

    Args:
        seed: chooses what happens.
        reads: the worker's.
        store: its page store.
        truth: what is at the under store.
        put: replaces an object at the under store, as somebody else would; its etag is the MD5 of what it holds.
        remove: removes one.
        bucket: where the objects are, each below the directory that has its policy.
        max_age: seconds, of the directory ``age``.
    """

    def __init__(
        self,
        seed: int,
        reads: ReadService,
        store: MemoryStore,
        truth: Truth,
        *,
        put: Callable[[str, bytes], Awaitable[None]],
        remove: Callable[[str], Awaitable[None]],
        bucket: str = "b",
        max_age: float = MAX_AGE,
    ) -> None:
        self.random = random.Random(seed)
        self.reads = reads
        self.store = store
        self.truth = truth
        self._put = put
        self._remove = remove
        self.hits = Hits(reads, None)
        self.endpoints = Endpoints(reads)
        self.inventory: dict[str, str] = {}
        self.dataset_version = ""
        self.seen: Counter[str] = Counter()
        self._numbers = itertools.count()
        self.promises = PROMISES | {"age": max_age}
        self.uris = [f"s3://{bucket}/{directory}/{name}" for directory in PROMISES for name in NAMES]

    async def begin(self, make_pin: Callable[[], Awaitable[Inventory]]) -> None:
        """Create the objects, and bind the directory ``pinned`` to what it holds; other versions may be cached."""
        for uri in self.uris:
            await self.replace(uri)
            if self.random.random() < 0.5:
                await self.load(uri)
                await self.replace(uri)
        inventory = await make_pin()
        self.dataset_version = inventory.version
        self.inventory = {uri: self.truth.versions[uri][-1].etag or "" for uri in self.uris if "/pinned/" in uri}

    async def go_on(self, steps: int, *, age: Callable[[], Awaitable[None]], outage: Callable[[], None]) -> None:
        """Let something happen, again and again.

        Args:
            steps: how often.
            age: lets time pass.
            outage: begins or ends one of the under store.
        """

        async def at_once(act: Callable[[], None]) -> None:
            act()

        choices: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (50, self.read),
            (20, self.mutate),
            (14, age),
            (6, self.load),
            (6, partial(at_once, self.disturb)),
            (4, partial(at_once, outage)),
        ]
        weights, acts = zip(*choices, strict=True)
        for _ in range(steps):
            (act,) = self.random.choices(acts, weights)
            await act()

    # What happens to the objects.

    async def mutate(self) -> None:
        uri = self.random.choice(self.uris)
        how = self.random.choice([self.replace, self.replace, self.resize, self.truncate, self.bring_back, self.delete])
        await how(uri)

    async def replace(self, uri: str) -> None:
        """Put another content there, of the same size if something is."""
        before = self._body(uri)
        size = len(before) if before else LARGE if uri.endswith("large") else self.random.randrange(1, 3000)
        await self._write(uri, size)

    async def resize(self, uri: str) -> None:
        await self._write(uri, self.random.randrange(3000))

    async def truncate(self, uri: str) -> None:
        if before := self._body(uri):
            await self._write_body(uri, before[: self.random.randrange(len(before))])

    async def bring_back(self, uri: str) -> None:
        """Put a content there that was there before."""
        known = [etag for version in self.truth.versions[uri] if (etag := version.etag) is not None]
        await self._write_body(uri, self.truth.bodies[uri, self.random.choice(known)])

    async def delete(self, uri: str) -> None:
        await self.truth.mutate(uri, None, lambda: self._remove(uri))

    async def _write(self, uri: str, size: int) -> None:
        mark = f"{uri} {next(self._numbers)};".encode()
        await self._write_body(uri, (mark * (size // len(mark) + 1))[:size])

    async def _write_body(self, uri: str, body: bytes) -> None:
        await self.truth.mutate(uri, body, lambda: self._put(uri, body))

    def _body(self, uri: str) -> bytes | None:
        past = self.truth.versions.get(uri)
        return self.truth.bodies.get((uri, past[-1].etag or "")) if past else None

    # What happens to the copies.

    def disturb(self) -> None:
        """Evict a copy, or damage it."""
        uri = self.random.choice(self.uris)
        held = self.store._held.get(uri)
        if held is not None and held.data and self.random.random() < 0.5:
            data = bytearray(held.data)
            data[self.random.randrange(len(data))] ^= 1
            self.store._held[uri] = _Held(item=held.item, data=bytes(data), use=held.use)
        else:
            self.store.delete(uri)

    async def load(self, uri: str = "") -> None:
        """Fetch the version that a job listed some time ago; of what is pinned only that version can be."""
        uri = uri or self.random.choice(self.uris)
        etag = self.random.choice(self.truth.versions[uri][-2:]).etag
        if etag is not None:
            info = ObjectInfo(
                key=UfsPath.parse(uri).key, size=len(self.truth.bodies[uri, etag]), etag=etag, last_modified=0.0
            )
            with suppress(PreheatError):
                await self.reads.fetch(UfsPath.parse(uri), info=info, job_id=f"job-{next(self._numbers)}")
                assert self.inventory.get(uri, etag) == etag, f"{uri} {etag} was loaded though another is pinned"

    # What is read.

    async def read(self) -> None:
        """Read something in some way, and judge it."""
        way = self.random.choice([self.read_one, self.read_one, self.get, self.get_short, self.read_batch, self.stat])
        await way()

    async def read_one(self) -> None:
        uri, said = self._target()
        began, asked = self.truth.now(), self.random.choice([None, None, (0, 10), (5, None), (-7, None)])
        etag = self._known(uri) if self.random.random() < 0.2 else None
        try:
            opened = await self.reads.open(
                UfsPath.parse(uri), etag and (etag,), asked=asked, wish=wish_of(*self._wish(uri, said))
            )
            start, end = 0, opened.info.size
            if asked is not None:
                start = max(0, end + asked[0]) if asked[0] < 0 else min(asked[0], end)
                end = end if asked[1] is None else min(asked[1], end)
            body = b"".join([bytes(page) async for page in opened.pages(start, end)])
        except PreheatError as error:
            self._judge_error(uri, said, began, error, etag)
        else:
            assert etag in {None, opened.info.etag}
            self._judge(uri, said, began, opened.info.etag, body, (start, end), opened.info.size)

    async def get(self) -> None:
        """Read as the data port does."""
        uri, said = self._target()
        began, headers = self.truth.now(), self._headers(uri, said)
        span = self.random.choice([None, None, (2, 30)])
        if span:
            headers["range"] = f"bytes={span[0]}-{span[1] - 1}"
        request = Request(method="GET", target=self._url(uri), headers=headers, keep_alive=True)
        try:
            parts = self.endpoints.answer_now(request)
            if parts is None:
                answer = await self.endpoints.answer(request)
                parts = (answer,) if isinstance(answer, bytes) else [answer.head, bytes(answer.first)]
                if not isinstance(answer, bytes):
                    parts += [bytes(page) async for page in answer.rest]
        except InvalidRequest:
            return  # the object ends before the range
        except PreheatError as error:
            self._judge_error(uri, said, began, error)
        else:
            self._judge_answer(uri, said, began, parts[0], b"".join(parts[1:]), span)

    async def get_short(self) -> None:
        """Read as the data port does if it can without a wait."""
        uri, said = self._target()
        began = self.truth.now()
        lines = "".join(f"{name}: {value}\r\n" for name, value in self._headers(uri, said).items())
        answer = self.hits.answer(f"GET {self._url(uri)} HTTP/1.1\r\nHost: w\r\n{lines}\r\n".encode())
        if answer is not None:
            self.seen["short"] += 1
            self._judge_answer(uri, said, began, *answer, None)

    async def read_batch(self) -> None:
        directory = self.random.choice([*PROMISES])
        uris = [uri for uri in self.uris if f"/{directory}/" in uri and not uri.endswith("large")]
        said = self.random.choice([*WISHES])
        reads = [
            Read(path=uri, start=start, end=self.random.choice([None, start + 20]))
            for uri in uris
            if (start := self.random.choice([0, 0, 3])) is not None
        ]
        plain = self.random.random() < 0.5
        batch = Batch(order=self.random.choice([*Order]), reads=[Read(path=uri) for uri in uris] if plain else reads)
        began, wish = self.truth.now(), wish_of(*self._wish(uris[0], said))
        answer = BatchAnswer(self.reads, batch, may_read=None, may_fetch=lambda _: None, wish=wish)
        coded = b"".join([chunk async for chunk in answer.chunks()])
        for frame in FrameDecoder(len(uris)).feed(_decoded(coded)):
            read = batch.reads[frame.index]
            if frame.status in {200, 206}:
                end = frame.size if read.end is None else min(read.end, frame.size)
                self._judge(read.path, said, began, frame.info.decode(), frame.body, (read.start, end), frame.size)
            elif frame.status != 416:
                self._judge_error(read.path, said, began, frame.problem)

    async def stat(self) -> None:
        uri, said = self._target()
        began = self.truth.now()
        try:
            info, _ = await self.reads.stat(UfsPath.parse(uri), wish=wish_of(*self._wish(uri, said)))
        except PreheatError as error:
            self._judge_error(uri, said, began, error)
        else:
            self._judge(uri, said, began, info.etag, None, (0, info.size), info.size)

    # What is right.

    def _judge_answer(
        self, uri: str, said: str, began: Began, head: bytes, body: bytes, span: tuple[int, int] | None
    ) -> None:
        lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:] if line)
        size = len(body) if span is None else int(lines["Content-Range"].rpartition("/")[2])
        start, end = (0, size) if span is None else (span[0], min(span[1], size))
        self._judge(uri, said, began, lines["ETag"].strip('"'), body, (start, end), size)

    def _judge(
        self, uri: str, said: str, began: Began, etag: str, body: bytes | None, span: tuple[int, int], size: int
    ) -> None:
        directory = uri.split("/")[3]
        self.seen[directory, "read"] += 1
        whole = self.truth.bodies.get((uri, etag))
        assert whole is not None, f"{uri} never had the version {etag}"
        assert size == len(whole), f"{uri} {etag} has {len(whole)} bytes, not {size}"
        assert body in {None, whole[slice(*span)]}, f"{uri} {etag}: bytes {span} are not that version's"
        if directory == "pinned":
            assert etag == self.inventory[uri], f"{uri} {etag} is not the pinned version"
        age = self._age(directory, said)
        assert self.truth.was(uri, etag, began, age), f"{uri} {etag} was replaced over {age} s before the read ({said})"
        self.seen[directory, "old"] += etag != self.truth.versions[uri][-1].etag

    def _judge_error(self, uri: str, said: str, began: Began, error: PreheatError, etag: str | None = None) -> None:
        directory = uri.split("/")[3]
        self.seen[directory, error.code] += 1
        if isinstance(error, NotCached):
            assert said == "only-if-cached"
        elif isinstance(error, ObjectNotFound):
            age = -inf if directory == "pinned" else self._age(directory, said)
            assert self.truth.was(uri, None, began, age), f"{uri} was there all the time: {error}"
        elif isinstance(error, VersionChanged) and directory == "always" and etag is None and said != "max-stale":
            assert self.truth.changed_since(uri, began), f"{uri} did not change: {error}"
        elif isinstance(error, VersionChanged) and directory == "pinned":
            assert (
                etag is not None
                or not self.truth.was(uri, self.inventory[uri], began, -inf)
                or (self.truth.changed_since(uri, began))
            ), f"{uri} has the pinned version: {error}"
        else:
            assert isinstance(error, (VersionChanged, CorruptPage, ConnectionError)), repr(error)

    def _age(self, directory: str, said: str) -> float:
        return inf if directory == "pinned" or WISHES[said] < 0 else min(self.promises[directory], WISHES[said])

    def _target(self) -> tuple[str, str]:
        return self.random.choice(self.uris), self.random.choice([*WISHES, "", ""])

    def _known(self, uri: str) -> str | None:
        return self.random.choice(self.truth.versions[uri][-2:]).etag

    def _wish(self, uri: str, said: str) -> tuple[str, str]:
        named = "/pinned/" in uri and self.random.random() < 0.3
        return said, self.dataset_version if named else ""

    def _headers(self, uri: str, said: str) -> dict[str, str]:
        said, version = self._wish(uri, said)
        headers = {"cache-control": said, "x-preheat-version": version}
        return {name: value for name, value in headers.items() if value}

    @staticmethod
    def _url(uri: str) -> str:
        return f"/v1/data/{UfsPath.parse(uri).url_path}"


def _decoded(coded: bytes) -> bytes:
    data = b""
    while coded:
        size, _, coded = coded.partition(b"\r\n")
        data, coded = data + coded[: int(size, 16)], coded[int(size, 16) + 2 :]
    return data
