from __future__ import annotations

import pytest

from preheat.errors import BucketNotFound
from preheat.paths import UfsPath
from preheat.ufs import MemoryUnderStore
from tests.unit.ufs_conformance import UnderStoreConformance


class TestMemoryUnderStore(UnderStoreConformance):
    root = "s3://bucket/root/"
    odd_keys = ("a//b", "/c", "./d", "e/../f", "tab\t", "back\\slash", "g/")

    @pytest.fixture(autouse=True)
    def _store(self) -> None:
        self.memory = self.ufs = MemoryUnderStore(page_size=3, chunk_bytes=1000)
        self.memory.write("s3://bucket/other")

    def put(self, key: str, body: bytes = b"x") -> None:
        self.memory.write(self.root + key, body)

    async def test_the_bucket_stays_when_its_last_object_goes(self) -> None:
        self.put("x")
        self.memory.remove(self.root + "x")
        self.memory.remove(self.root + "x")

        assert await self.keys() == []

    async def test_an_unknown_bucket_is_not_found(self) -> None:
        with pytest.raises(BucketNotFound, match="'other'"):
            await self.ufs.stat(UfsPath.parse("s3://other/x"))

    async def test_a_directory_marker_is_not_listed(self) -> None:
        self.put("dir/", b"")
        self.put("dir/x")

        assert await self.keys() == ["dir/x"]
