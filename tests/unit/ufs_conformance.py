"""What every under store does, whatever it stores its objects in."""

from __future__ import annotations

from abc import ABC, abstractmethod

import pytest

from preheat.errors import InvalidRequest, ObjectNotFound, VersionChanged
from preheat.paths import UfsPath
from preheat.ufs import Download, UfsSettings, UnderStore
from preheat.versions import ObjectInfo

SETTINGS = UfsSettings(page_size=3, chunk_bytes=1000, retries=0)
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


class UnderStoreConformance(ABC):
    """Subclasses say how to fill the store past the code under test, below a root of their own per test."""

    ufs: UnderStore
    root: str
    """URI that ends with a slash."""

    @abstractmethod
    def put(self, key: str, body: bytes = b"x") -> None:
        """Create or replace the object at ``root`` + key."""

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


async def content(download: Download) -> bytes:
    return b"".join([bytes(chunk) async for chunk in download.chunks])
