"""What every under store does, whatever it stores its objects in."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from random import Random

import pytest

from preheat.errors import InvalidRequest, ObjectNotFound, OriginUnavailable, VersionChanged
from preheat.paths import UfsPath
from preheat.ufs import Download, UfsSettings, UnderStore
from preheat.versions import ObjectInfo

SETTINGS = UfsSettings(page_size=3, chunk_bytes=1000, part_bytes=5 << 20, retries=0)
TREE = [
    *("a-b", "a.c/1", "a/1", "a/2", "a/z/q", "a/z-1", "a0", "ab/1", "b"),
    *(
        "white space",
        "100%/%41",
        "plus+and=&",
        "question?",
        "hash#",
        "ünï/ö",
        "数据/1",
        "😀",
        "~tilde",
        "*[x]{y}|;,'\"<>!@$^`",
    ),
]
LONGEST = "/".join(["x" * 100] * 11)
"""More than 1,024 bytes; how much of it makes a key of exactly that many depends on the root."""


class UnderStoreConformance(ABC):
    """Subclasses say how to fill the store past the code under test, below a root of their own per test."""

    ufs: UnderStore
    root: str
    """URI that ends with a slash."""
    odd_keys: tuple[str, ...] = ()
    """Keys that only some stores can hold."""

    @abstractmethod
    def put(self, key: str, body: bytes = b"x") -> None:
        """Create or replace the object at ``root`` + key."""

    def leftovers(self) -> list[str]:
        """Name what unfinished writes left in the store, out of sight of a listing."""
        return []

    def path(self, key: str = "") -> UfsPath:
        return UfsPath.parse(self.root + key)

    def short(self, item: ObjectInfo) -> str:
        return item.key.removeprefix(self.path().key)

    def fill(self, keys: list[str]) -> None:
        for key in keys:
            self.put(key, key.encode())

    async def keys(self, key: str = "", after: str = "") -> list[str]:
        full = self.path(after).key if after else ""
        return [self.short(item) async for page in self.ufs.list(self.path(key), after=full) for item in page]

    async def test_lists_every_key_in_order(self) -> None:
        self.fill(TREE)

        assert await self.keys() == sorted(TREE)

    async def test_lists_in_pages(self) -> None:
        self.fill(TREE)

        sizes = [len(page) async for page in self.ufs.list(self.path())]

        assert sum(sizes) == len(TREE)
        assert max(sizes) <= 3

    async def test_resumes_after_any_key(self) -> None:
        self.fill(TREE)
        ordered = sorted(TREE)

        for number, key in enumerate(ordered):
            assert await self.keys(after=key) == ordered[number + 1 :], key

    async def test_resumes_after_a_key_that_is_not_there(self) -> None:
        self.fill(TREE)

        for after in ("a", "a/", "a/1/", "a/11", "a/zz", "a0/", "zzz", "a-", "a/z", "a/z/"):
            assert await self.keys(after=after) == [key for key in sorted(TREE) if key > after], after

    async def test_a_prefix_holds_what_is_below_it(self) -> None:
        self.fill(TREE)

        assert await self.keys("a/") == ["a/1", "a/2", "a/z-1", "a/z/q"]
        assert await self.keys("a/", after="a/2") == ["a/z-1", "a/z/q"]
        assert await self.keys("a/", after="b") == []
        assert await self.keys("a/", after="a") == ["a/1", "a/2", "a/z-1", "a/z/q"]

    async def test_a_path_without_a_slash_holds_the_object_or_what_is_below_it_but_no_sibling(self) -> None:
        self.fill(TREE)

        assert await self.keys("a") == ["a/1", "a/2", "a/z-1", "a/z/q"]
        assert await self.keys("a/z") == ["a/z/q"]
        assert await self.keys("b") == ["b"]
        assert await self.keys("b", after="b") == []
        assert await self.keys("b", after="a0") == ["b"]

    async def test_a_path_with_nothing_below_it_yields_nothing(self) -> None:
        self.fill(["a/1"])

        assert await self.keys("nothing") == []
        assert await self.keys("nothing/") == []
        assert await self.keys("a/1/") == []
        assert await self.keys("a/1/x") == []

    async def test_the_listing_stat_and_get_agree(self) -> None:
        self.fill(TREE)

        async for page in self.ufs.list(self.path()):
            for item in page:
                path = self.path().with_key(item.key)
                download = await self.ufs.get(path, etag=item.etag)
                assert await content(download) == self.short(item).encode()
                stat = await self.ufs.stat(path)
                assert (stat.key, stat.size, stat.etag) == (item.key, item.size, item.etag)
                assert (download.info.key, download.info.size, download.info.etag) == (item.key, item.size, item.etag)
                assert int(stat.last_modified) == int(item.last_modified) == int(download.info.last_modified)

    async def test_reads_an_object_in_chunks(self) -> None:
        body = bytes(range(256)) * 40
        self.put("large", body)

        download = await self.ufs.get(self.path("large"))

        assert (download.start, download.end, download.info.size) == (0, len(body), len(body))
        assert await content(download) == body

    async def test_reads_an_empty_object(self) -> None:
        self.put("empty", b"")

        download = await self.ufs.get(self.path("empty"))

        assert (download.start, download.end) == (0, 0)
        assert await content(download) == b""

    @pytest.mark.parametrize(
        ("start", "end", "expected"),
        [(0, 3, b"012"), (4, 6, b"45"), (7, None, b"789"), (8, 100, b"89"), (0, 10, b"0123456789"), (5, 5, b"")],
    )
    async def test_reads_a_range(self, start: int, end: int | None, expected: bytes) -> None:
        self.put("digits", b"0123456789")

        download = await self.ufs.get(self.path("digits"), start=start, end=end)

        assert await content(download) == expected
        assert (download.start, download.end) == (start, start + len(expected))
        assert download.info.size == 10

    @pytest.mark.parametrize(("start", "end"), [(11, 12), (20, None), (4, 2)])
    async def test_refuses_a_range_that_the_object_does_not_have(self, start: int, end: int | None) -> None:
        self.put("digits", b"0123456789")

        with pytest.raises(InvalidRequest, match="digits"):
            await self.ufs.get(self.path("digits"), start=start, end=end)

    async def test_a_changed_object_has_another_etag_and_its_old_one_is_refused(self) -> None:
        self.put("x", b"one")
        old = await self.ufs.stat(self.path("x"))
        self.put("x", b"another")

        new = await self.ufs.stat(self.path("x"))

        assert new.etag != old.etag
        with pytest.raises(VersionChanged, match="/x'"):
            await self.ufs.get(self.path("x"), etag=old.etag)
        with pytest.raises(VersionChanged, match="/x'"):
            await self.ufs.get(self.path("x"), etag=old.etag, start=1, end=1)
        assert await content(await self.ufs.get(self.path("x"), etag=new.etag)) == b"another"

    @pytest.mark.parametrize("key", ["missing", "missing/deep", "dir", "dir/x/", "dir/x/y"])
    async def test_a_missing_object_is_not_found(self, key: str) -> None:
        self.put("dir/x")

        with pytest.raises(ObjectNotFound, match=f"/{key}'"):
            await self.ufs.stat(self.path(key))
        with pytest.raises(ObjectNotFound, match=f"/{key}'"):
            await self.ufs.get(self.path(key))

    async def write(self, key: str, body: bytes) -> ObjectInfo:
        return await self.ufs.put(self.path(key), chunks_of(body), size=len(body))

    async def read(self, key: str) -> bytes:
        return await content(await self.ufs.get(self.path(key)))

    async def test_what_is_written_is_listed_and_read_under_any_key(self) -> None:
        room = 1024 - len(self.path().key)
        longest = LONGEST[:room] if LONGEST[room - 1] != "/" else f"{LONGEST[: room - 2]}yy"

        for key in (*TREE, *self.odd_keys, f"longest{longest[7:]}"):
            written = await self.write(f"w/{key}"[:room], key.encode())
            assert written.size == len(key.encode())
            listed = [item async for page in self.ufs.list(self.path(f"w/{key}"[:room])) for item in page]
            assert [(self.short(item), item.size, item.etag) for item in listed if item.key == written.key] == [
                (f"w/{key}"[:room], written.size, written.etag)
            ]
            assert (await self.ufs.stat(self.path(f"w/{key}"[:room]))).etag == written.etag
            assert await self.read(f"w/{key}"[:room]) == key.encode()

    @pytest.mark.parametrize("size", [0, 1, 20_000_000])
    async def test_an_object_of_any_size_is_written(self, size: int) -> None:
        body = Random(size).randbytes(size)

        written = await self.write("w/sized", body)

        listed = [item async for page in self.ufs.list(self.path("w/sized")) for item in page]
        assert [(item.size, item.etag) for item in listed] == [(size, written.etag)]
        assert await self.read("w/sized") == body

    async def test_a_write_takes_the_place_of_what_was_there(self) -> None:
        first = await self.write("x", b"first and longer")
        second = await self.write("x", b"second")

        assert second.etag != first.etag
        assert await self.read("x") == b"second"
        assert (await self.ufs.stat(self.path("x"))).etag == second.etag

    @pytest.mark.parametrize("size", [10, 20_000_000])
    async def test_a_source_that_fails_leaves_nothing(self, size: int) -> None:
        kept = await self.write("kept", b"old")

        for key in ("new", "kept"):
            with pytest.raises(OriginUnavailable, match="the source broke"):
                await self.ufs.put(self.path(key), broken(size), size=size)

        assert await self.keys() == ["kept"]
        assert (await self.ufs.stat(self.path("kept"))).etag == kept.etag
        assert self.leftovers() == []

    async def test_a_write_that_is_cancelled_leaves_nothing(self) -> None:
        async def stalled() -> AsyncIterator[bytes]:
            yield bytes(10_000_000)
            began.set()
            await asyncio.Event().wait()

        began = asyncio.Event()
        task = asyncio.create_task(self.ufs.put(self.path("new"), stalled(), size=20_000_000))
        async with asyncio.timeout(30):
            await began.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        assert await self.keys() == []
        assert self.leftovers() == []

    @pytest.mark.parametrize("length", [9, 11, 0, 20_000_001, 19_999_999])
    async def test_a_source_of_another_length_is_refused(self, length: int) -> None:
        size = 10 if length < 20 else 20_000_000

        with pytest.raises(VersionChanged, match=f"/new'.* instead of {size}"):
            await self.ufs.put(self.path("new"), chunks_of(bytes(length)), size=size)

        assert await self.keys() == []
        assert self.leftovers() == []

    async def test_of_concurrent_writes_one_stays_whole(self) -> None:
        bodies = [bytes([number]) * (10 + number) for number in range(8)]

        written = await asyncio.gather(*(self.write("x", body) for body in bodies))

        found = await self.ufs.stat(self.path("x"))
        assert await self.read("x") == bodies[[info.etag for info in written].index(found.etag)]
        assert self.leftovers() == []

    async def test_a_copy_has_the_bytes_and_its_etag(self) -> None:
        for key in ("empty", "large", *TREE[-8:], *self.odd_keys):
            body = {"empty": b"", "large": Random(1).randbytes(6_000_000)}.get(key, key.encode())
            source = await self.write(f"from/{key}", body)

            copied = await self.ufs.copy(self.path(f"from/{key}"), self.path(f"to/{key}"), etag=source.etag)

            assert copied is not None
            found = await self.ufs.stat(self.path(f"to/{key}"))
            assert (found.key, found.size, found.etag) == (copied.key, len(body), copied.etag)
            assert await self.read(f"to/{key}") == body
            assert await self.read(f"from/{key}") == body

    async def test_a_copy_takes_the_place_of_what_was_there(self) -> None:
        source = await self.write("x", b"new")
        await self.write("y", b"something else")

        await self.ufs.copy(self.path("x"), self.path("y"), etag=source.etag)

        assert await self.read("y") == b"new"

    async def test_only_the_version_that_was_asked_for_is_copied(self) -> None:
        old = await self.write("x", b"old")
        await self.write("x", b"newer")

        with pytest.raises(VersionChanged, match="/x'"):
            await self.ufs.copy(self.path("x"), self.path("y"), etag=old.etag)
        with pytest.raises(ObjectNotFound, match="/missing'"):
            await self.ufs.copy(self.path("missing"), self.path("y"), etag=old.etag)

        assert await self.keys() == ["x"]

    async def test_an_object_is_deleted_once(self) -> None:
        for key in ("x", *TREE, *self.odd_keys):
            await self.write(f"d/{key}", b"x")

            assert await self.ufs.delete(self.path(f"d/{key}"))
            assert not await self.ufs.delete(self.path(f"d/{key}"))

        assert await self.keys() == []

    async def test_only_the_version_that_was_asked_for_is_deleted(self) -> None:
        old = await self.write("x", b"old")
        new = await self.write("x", b"newer")

        with pytest.raises(VersionChanged, match="/x'"):
            await self.ufs.delete(self.path("x"), etag=old.etag)
        assert await self.read("x") == b"newer"

        assert await self.ufs.delete(self.path("x"), etag=new.etag)
        assert not await self.ufs.delete(self.path("x"), etag=new.etag)


async def chunks_of(body: bytes) -> AsyncIterator[memoryview]:
    for start in range(0, len(body), 3_000_000):
        yield memoryview(body)[start : start + 3_000_000]


async def broken(size: int) -> AsyncIterator[bytes]:
    """Break off when half of the bytes have come."""
    async for chunk in chunks_of(bytes(size // 2)):
        yield bytes(chunk)
    raise OriginUnavailable("the source broke.")


async def content(download: Download) -> bytes:
    return b"".join([bytes(chunk) async for chunk in download.chunks])
