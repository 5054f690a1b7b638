from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from preheat.errors import (
    AccessDenied,
    Conflict,
    InvalidPath,
    ObjectNotFound,
    OriginUnavailable,
    PreheatError,
    VersionChanged,
)
from preheat.ufs import FileUnderStore
from preheat.ufs._file_local import read_error
from tests.unit.ufs_conformance import SETTINGS, UnderStoreConformance


class TestFileUnderStore(UnderStoreConformance):
    @pytest.fixture(autouse=True)
    def _store(self, tmp_path: Path) -> None:
        self.directory = tmp_path / "root"
        self.directory.mkdir()
        self.root = f"file://{self.directory}/"
        self.ufs = FileUnderStore(SETTINGS)

    def put(self, key: str, body: bytes = b"x") -> None:
        file = self.directory / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)

    def leftovers(self) -> list[str]:
        return [str(file) for file in self.directory.rglob(".*")]

    async def test_the_etag_is_the_modification_time_and_the_size(self) -> None:
        self.put("x", b"12345")
        os.utime(self.directory / "x", ns=(0, 1_700_000_000_000_000_255))

        assert (await self.ufs.stat(self.path("x"))).etag == f"{1_700_000_000_000_000_255:x}-5"

    async def test_a_file_that_changes_while_it_is_read_is_not_mixed(self) -> None:
        self.put("x", b"a" * 2500)
        download = await self.ufs.get(self.path("x"))
        await anext(download.chunks)
        self.put("x", b"b" * 2501)

        with pytest.raises(VersionChanged, match="/x'"):
            await anext(download.chunks)

    async def test_links_are_followed_to_files_and_directories(self) -> None:
        self.put("blobs/1", b"content")
        self.put("blobs/2", b"more")
        (self.directory / "file").symlink_to("blobs/1")
        (self.directory / "linked").symlink_to("blobs")

        assert await self.keys() == ["blobs/1", "blobs/2", "file", "linked/1", "linked/2"]
        assert (await self.ufs.stat(self.path("file"))).size == len(b"content")

    async def test_a_link_to_a_directory_that_it_stands_in_ends_there(self) -> None:
        self.put("a/1")
        self.put("b/2")
        (self.directory / "a/up").symlink_to("..")
        (self.directory / "a/to-b").symlink_to("../b")
        (self.directory / "b/to-a").symlink_to("../a")

        assert await self.keys() == ["a/1", "a/to-b/2", "b/2", "b/to-a/1"]

    async def test_what_holds_no_data_is_left_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.put("data")
        (self.directory / "empty").mkdir()
        (self.directory / "nowhere").symlink_to("missing")
        (self.directory / "loop").symlink_to("loop")
        os.mkfifo(self.directory / "pipe")
        monkeypatch.chdir(self.directory)  # the address of a socket is short, so it must be a relative one
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket")

        assert await self.keys() == ["data"]

    async def test_a_name_that_is_not_utf8_is_an_error_and_not_skipped(self) -> None:
        self.put("data")
        (self.directory / os.fsdecode(b"bad-\xff")).touch()

        with pytest.raises(InvalidPath, match=r"bad-\\xff"):
            await self.keys()

    async def test_a_file_that_is_being_written_is_not_listed(self) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            yield bytes(6 << 20)
            seen.extend(await self.keys())
            drafts.extend(self.leftovers())
            yield bytes(6 << 20)

        seen: list[str] = []
        drafts: list[str] = []
        await self.ufs.put(self.path("new"), chunks(), size=12 << 20)

        assert (seen, len(drafts)) == ([], 1)
        assert await self.keys() == ["new"]

    @pytest.mark.parametrize("key", ["dir", "dir/", "file/x", "file/", "n" * 256])
    async def test_a_file_where_none_can_stand_is_refused(self, key: str) -> None:
        self.put("dir/x")
        self.put("file")

        with pytest.raises(Conflict, match=f"/{key}' cannot be written"):
            await self.write(key, b"x")

        assert await self.keys() == ["dir/x", "file"]
        assert self.leftovers() == []

    async def test_a_write_takes_the_place_of_a_link_and_not_of_what_it_leads_to(self) -> None:
        self.put("blob", b"shared")
        (self.directory / "link").symlink_to("blob")

        await self.write("link", b"new")

        assert await self.read("blob") == b"shared"
        assert await self.read("link") == b"new"

    async def test_a_removed_link_leaves_what_it_leads_to(self) -> None:
        self.put("blob")
        (self.directory / "link").symlink_to("blob")

        assert await self.ufs.delete(self.path("link"))

        assert await self.keys() == ["blob"]

    @pytest.mark.parametrize("number", [errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP])
    async def test_a_copy_that_the_kernel_cannot_make_is_left_to_the_caller(
        self, number: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_arguments: int, **_offsets: int) -> int:
            raise OSError(number, "as from another file system")

        monkeypatch.setattr(os, "copy_file_range", refuse)
        source = await self.write("x", b"content")

        assert await self.ufs.copy(self.path("x"), self.path("y"), etag=source.etag) is None

        assert await self.keys() == ["x"]
        assert self.leftovers() == []

    async def test_a_file_that_changes_while_it_is_copied_is_not_mixed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def change_after(source: int, target: int, size: int, *, offset_src: int) -> int:
            copied = copy_file_range(source, target, size, offset_src=offset_src)
            self.put("x", b"changed")
            return copied

        copy_file_range = os.copy_file_range
        monkeypatch.setattr(os, "copy_file_range", change_after)
        source = await self.write("x", b"content!")

        with pytest.raises(VersionChanged, match="/x'"):
            await self.ufs.copy(self.path("x"), self.path("y"), etag=source.etag)

        assert await self.keys() == ["x"]

    async def test_a_directory_is_no_object(self) -> None:
        self.put("dir/x")

        with pytest.raises(ObjectNotFound):
            await self.ufs.stat(self.path("dir/"))

    async def test_a_name_that_is_too_long_is_no_file(self) -> None:
        assert await self.keys("x" * 300) == []

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    async def test_a_directory_that_may_not_be_read_is_denied(self) -> None:
        self.put("closed/x")
        (self.directory / "closed").chmod(0)
        try:
            with pytest.raises(AccessDenied, match="closed"):
                await self.keys()
        finally:
            (self.directory / "closed").chmod(0o700)

    @pytest.mark.parametrize(
        ("number", "expected"),
        [(errno.EACCES, AccessDenied), (errno.EIO, OriginUnavailable), (errno.ESTALE, OriginUnavailable)],
    )
    def test_what_the_operating_system_says_is_named(self, number: int, expected: type[PreheatError]) -> None:
        error = read_error(OSError(number, "ignored"), self.path("x"))

        assert type(error) is expected
        assert f"{self.root}x" in error.message
        assert os.strerror(number) in error.message
        assert "AWS" not in error.remedy
