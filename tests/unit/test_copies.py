from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from msgspec import structs

from preheat.errors import BucketNotFound, ObjectNotFound, OriginUnavailable, VersionChanged
from preheat.paths import UfsPath
from preheat.store import PAGE_SIZE, MemoryStore
from preheat.ufs import Download, MemoryUnderStore
from preheat.versions import ObjectInfo
from preheat.worker._copies import Copies, looks_copied

SOURCE = UfsPath.parse("s3://a/dir/x")
TARGET = UfsPath.parse("s3://b/y")
ELSEWHERE = UfsPath.parse("file:///data/y")
"""Of another scheme, so the bytes have to pass through the worker."""
BODY = bytes(range(256)) * 10_000  # 2.5 pages


class CountingUfs(MemoryUnderStore):
    """Remembers what was asked of it, and can stall."""

    def __init__(self) -> None:
        super().__init__(chunk_bytes=100_000)
        self.calls: list[str] = []
        self.stalls = False
        self.passes = False
        """Whether it copies nothing itself."""
        self.write("s3://b/other")

    async def get(self, path: UfsPath, *, etag: str | None = None, start: int = 0, end: int | None = None) -> Download:
        self.calls.append(f"get {start}")
        download = await super().get(path, etag=etag, start=start, end=end)
        return replace(download, chunks=self._stalled()) if self.stalls else download

    async def put(self, path: UfsPath, chunks: AsyncIterator[bytes | memoryview], *, size: int, **how) -> ObjectInfo:
        self.calls.append("put")
        return await super().put(path, chunks, size=size, **how)

    async def copy(self, source: UfsPath, target: UfsPath, *, etag: str) -> ObjectInfo | None:
        copied = None if self.passes else await super().copy(source, target, etag=etag)
        self.calls.append("copy" if copied else "no copy")
        return copied

    def body(self, path: UfsPath) -> bytes:
        return self._find(path)[1]

    async def _stalled(self) -> AsyncIterator[memoryview]:
        yield memoryview(b"x")
        await asyncio.Event().wait()


@pytest.fixture
def ufs() -> CountingUfs:
    return CountingUfs()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(capacity=64 << 20)


@pytest.fixture
def copies(ufs: CountingUfs, store: MemoryStore) -> Copies:
    return Copies(ufs=ufs, store=store, stall_seconds=0.1)


class Throttle:
    def __init__(self) -> None:
        self.bytes: list[int] = []

    async def __call__(self, size: int) -> None:
        self.bytes.append(size)


@pytest.fixture
def throttle() -> Throttle:
    return Throttle()


def cache(store: MemoryStore, path: UfsPath, info: ObjectInfo, body: bytes) -> None:
    with store.writer(str(path), etag=info.etag, size=info.size, last_modified=info.last_modified) as writer:
        writer.append(body)
        writer.commit()


async def test_the_under_store_copies_itself_if_it_can(copies: Copies, ufs: CountingUfs, throttle: Throttle) -> None:
    info = ufs.write(str(SOURCE), BODY)

    assert await copies.copy(SOURCE, info, TARGET, skip_if_exists=True, throttle=throttle)

    assert ufs.body(TARGET) == BODY
    assert ufs.calls == ["copy"]
    assert throttle.bytes == []


async def test_else_the_bytes_come_from_the_source_in_chunks(
    copies: Copies, ufs: CountingUfs, throttle: Throttle
) -> None:
    info = ufs.write(str(SOURCE), BODY)

    assert await copies.copy(SOURCE, info, ELSEWHERE, skip_if_exists=True, throttle=throttle)

    assert ufs.body(ELSEWHERE) == BODY
    assert ufs.calls == ["no copy", "put", "get 0"]
    assert sum(throttle.bytes) == len(BODY)
    assert max(throttle.bytes) == 100_000


async def test_or_from_the_cache(copies: Copies, ufs: CountingUfs, store: MemoryStore, throttle: Throttle) -> None:
    info = ufs.write(str(SOURCE), BODY)
    cache(store, SOURCE, info, BODY)

    await copies.copy(SOURCE, info, ELSEWHERE, skip_if_exists=True, throttle=throttle)

    assert ufs.body(ELSEWHERE) == BODY
    assert ufs.calls == ["no copy", "put"]
    assert throttle.bytes == [PAGE_SIZE, PAGE_SIZE, len(BODY) - 2 * PAGE_SIZE]


async def test_a_cached_object_of_another_version_is_not_used(
    copies: Copies, ufs: CountingUfs, store: MemoryStore, throttle: Throttle
) -> None:
    cache(store, SOURCE, ufs.write(str(SOURCE), b"old"), b"old")
    info = ufs.write(str(SOURCE), b"new")

    await copies.copy(SOURCE, info, ELSEWHERE, skip_if_exists=True, throttle=throttle)

    assert ufs.body(ELSEWHERE) == b"new"


@pytest.mark.parametrize("loss", ["evicted", "corrupt", "replaced"])
async def test_a_cached_object_that_is_lost_on_the_way_is_read_on_from_the_source(
    copies: Copies, ufs: CountingUfs, store: MemoryStore, loss: str
) -> None:
    info = ufs.write(str(SOURCE), BODY)
    cache(store, SOURCE, info, BODY)

    async def lose(size: int) -> None:
        if size == PAGE_SIZE and loss == "evicted":
            store.delete(str(SOURCE))
        elif size == PAGE_SIZE and loss == "corrupt":
            held = store._held[str(SOURCE)]
            store._held[str(SOURCE)] = replace(held, data=held.data[:PAGE_SIZE] + bytes(len(BODY) - PAGE_SIZE))
        elif size == PAGE_SIZE:
            cache(store, SOURCE, structs.replace(info, etag="other"), BODY[::-1])

    await copies.copy(SOURCE, info, ELSEWHERE, skip_if_exists=True, throttle=lose)

    assert ufs.body(ELSEWHERE) == BODY
    assert ufs.calls == ["no copy", "put", f"get {PAGE_SIZE}"]


@pytest.mark.parametrize("target", [TARGET, ELSEWHERE])
async def test_an_empty_object_is_copied(copies: Copies, ufs: CountingUfs, throttle: Throttle, target: UfsPath) -> None:
    info = ufs.write(str(SOURCE), b"")

    assert await copies.copy(SOURCE, info, target, skip_if_exists=True, throttle=throttle)

    assert ufs.body(target) == b""


@pytest.mark.parametrize("target", [TARGET, ELSEWHERE])
@pytest.mark.parametrize("body", [b"", b"content"])
async def test_an_object_that_changed_or_went_is_not_copied(
    copies: Copies, ufs: CountingUfs, throttle: Throttle, target: UfsPath, body: bytes
) -> None:
    info = ufs.write(str(SOURCE), body)
    ufs.write(str(SOURCE), b"changed")
    with pytest.raises(VersionChanged, match="dir/x"):
        await copies.copy(SOURCE, info, target, skip_if_exists=True, throttle=throttle)

    ufs.remove(str(SOURCE))
    with pytest.raises(ObjectNotFound, match="dir/x"):
        await copies.copy(SOURCE, info, target, skip_if_exists=True, throttle=throttle)

    with pytest.raises(ObjectNotFound):
        ufs.body(target)


@pytest.mark.parametrize(
    ("size", "etag", "modified", "expected"),
    [
        (7, "e", 10.0, True),
        (7, "e", 9.0, True),
        (7, "other", 11.0, True),
        (7, "other", 10.0, True),
        (7, "other", 9.0, False),
        (8, "e", 11.0, False),
    ],
)
def test_what_looks_copied(size: int, etag: str, modified: float, *, expected: bool) -> None:
    source = ObjectInfo(key="dir/x", size=7, etag="e", last_modified=10.0)

    assert looks_copied(source, ObjectInfo(key="y", size=size, etag=etag, last_modified=modified)) is expected


@pytest.mark.parametrize("target", [TARGET, ELSEWHERE])
async def test_a_copy_is_skipped_the_second_time(
    copies: Copies, ufs: CountingUfs, throttle: Throttle, target: UfsPath
) -> None:
    info = ufs.write(str(SOURCE), BODY)
    await copies.copy(SOURCE, info, target, skip_if_exists=True, throttle=throttle)
    ufs.calls.clear()

    assert not await copies.copy(SOURCE, info, target, skip_if_exists=True, throttle=throttle)
    assert ufs.calls == []


async def test_nothing_is_skipped_if_that_was_not_wished(copies: Copies, ufs: CountingUfs, throttle: Throttle) -> None:
    info = ufs.write(str(SOURCE), b"content")
    ufs.write(str(TARGET), b"content")

    assert await copies.copy(SOURCE, info, TARGET, skip_if_exists=False, throttle=throttle)


async def test_an_unknown_bucket_is_not_taken_for_a_missing_target(
    copies: Copies, ufs: CountingUfs, throttle: Throttle
) -> None:
    info = ufs.write(str(SOURCE), b"content")

    with pytest.raises(BucketNotFound, match="s3://c/y"):
        await copies.copy(SOURCE, info, UfsPath.parse("s3://c/y"), skip_if_exists=True, throttle=throttle)


async def test_a_source_that_stalls_is_an_outage_and_leaves_nothing(
    copies: Copies, ufs: CountingUfs, throttle: Throttle
) -> None:
    info = ufs.write(str(SOURCE), BODY)
    ufs.stalls = True

    with pytest.raises(OriginUnavailable, match="dir/x"):
        await copies.copy(SOURCE, info, ELSEWHERE, skip_if_exists=True, throttle=throttle)

    with pytest.raises(ObjectNotFound):
        ufs.body(ELSEWHERE)


@pytest.mark.parametrize("target", [TARGET, ELSEWHERE])
async def test_a_move_leaves_only_the_target_and_may_be_repeated(
    copies: Copies, ufs: CountingUfs, throttle: Throttle, target: UfsPath
) -> None:
    info = ufs.write(str(SOURCE), BODY)

    for _ in range(2):
        await copies.move(SOURCE, info, target, throttle=throttle)
        assert ufs.body(target) == BODY
        with pytest.raises(ObjectNotFound):
            ufs.body(SOURCE)

    assert ufs.calls.count("copy") + ufs.calls.count("put") == 1


@pytest.mark.parametrize("target", [TARGET, ELSEWHERE])
async def test_a_move_after_its_copy_only_removes_the_source(
    copies: Copies, ufs: CountingUfs, throttle: Throttle, target: UfsPath
) -> None:
    info = ufs.write(str(SOURCE), BODY)
    await copies.copy(SOURCE, info, target, skip_if_exists=True, throttle=throttle)
    ufs.calls.clear()

    await copies.move(SOURCE, info, target, throttle=throttle)

    assert ufs.calls == []
    with pytest.raises(ObjectNotFound):
        ufs.body(SOURCE)


@pytest.mark.parametrize("target", [TARGET, ELSEWHERE])
async def test_a_move_never_takes_a_newer_object_of_the_same_size_for_its_copy(
    copies: Copies, ufs: CountingUfs, throttle: Throttle, target: UfsPath
) -> None:
    info = ufs.write(str(SOURCE), b"content")
    await copies.copy(SOURCE, info, target, skip_if_exists=True, throttle=throttle)
    ufs.write(str(target), b"another")

    await copies.move(SOURCE, info, target, throttle=throttle)

    assert ufs.body(target) == b"content"


async def test_equal_etags_of_files_do_not_prove_a_copy(copies: Copies, ufs: CountingUfs, throttle: Throttle) -> None:
    source = UfsPath.parse("file:///data/x")
    info = ufs.write(str(source), b"content")
    ufs.write(str(ELSEWHERE), b"content")

    await copies.move(source, info, ELSEWHERE, throttle=throttle)

    assert ufs.calls == ["copy"]


async def test_a_source_that_changed_is_neither_moved_nor_removed(
    copies: Copies, ufs: CountingUfs, throttle: Throttle
) -> None:
    info = ufs.write(str(SOURCE), b"content")
    ufs.write(str(SOURCE), b"changed")

    with pytest.raises(VersionChanged, match="dir/x"):
        await copies.move(SOURCE, info, TARGET, throttle=throttle)

    assert ufs.body(SOURCE) == b"changed"
    with pytest.raises(ObjectNotFound):
        ufs.body(TARGET)


async def test_a_source_that_changes_while_it_is_moved_is_not_removed(copies: Copies, ufs: CountingUfs) -> None:
    info = ufs.write(str(SOURCE), b"content")

    async def change(_size: int) -> None:
        ufs.write(str(SOURCE), b"changed")

    with pytest.raises(VersionChanged, match="dir/x"):
        await copies.move(SOURCE, info, ELSEWHERE, throttle=change)

    assert ufs.body(SOURCE) == b"changed"


@pytest.mark.parametrize("there", [None, b"of another size"])
async def test_a_source_that_is_gone_without_a_target_is_missing(
    copies: Copies, ufs: CountingUfs, throttle: Throttle, there: bytes | None
) -> None:
    info = ufs.write(str(SOURCE), b"content")
    ufs.remove(str(SOURCE))
    if there is not None:
        ufs.write(str(TARGET), there)

    with pytest.raises(ObjectNotFound, match="dir/x"):
        await copies.move(SOURCE, info, TARGET, throttle=throttle)


async def test_a_target_of_another_size_keeps_the_source(throttle: Throttle, store: MemoryStore) -> None:
    class Truncating(CountingUfs):
        async def copy(self, source: UfsPath, target: UfsPath, *, etag: str) -> ObjectInfo | None:
            return self.write(str(target), self.body(source)[:-1])

    ufs = Truncating()
    info = ufs.write(str(SOURCE), b"content")

    with pytest.raises(VersionChanged, match="6 bytes instead of 7"):
        await Copies(ufs=ufs, store=store).move(SOURCE, info, TARGET, throttle=throttle)

    assert ufs.body(SOURCE) == b"content"


async def test_a_large_object_that_the_store_does_not_copy_keeps_its_attributes(
    ufs: CountingUfs, copies: Copies
) -> None:
    ufs.write("s3://a/other")
    said = {"content-type": "text/csv", "x-amz-meta-run": "5"}
    info = await ufs.put(SOURCE, _once(b"body"), size=4, attributes=said)
    ufs.passes = True
    await copies.move(SOURCE, structs.replace(info, attributes=""), TARGET, throttle=Throttle())
    assert (ufs.body(TARGET), ufs.attributes(str(TARGET))) == (b"body", said)


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body
