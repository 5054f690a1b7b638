"""fsspec's own suite for implementations, against a worker whose mount is written through."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fsspec.tests.abstract import (
    AbstractCopyTests,
    AbstractFixtures,
    AbstractGetTests,
    AbstractOpenTests,
    AbstractPipeTests,
    AbstractPutTests,
)

from preheat.fs import PreheatFileSystem
from preheat.ufs import MemoryUnderStore
from tests.integration.fs_workers import Loop, WritableWorker, opened


@pytest.fixture(scope="module")
def writable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WritableWorker]:
    loop, origin = Loop(), MemoryUnderStore()
    origin.write("s3://b/there")
    worker = WritableWorker(loop, origin, tmp_path_factory.mktemp("worker"))
    yield worker
    worker.stop()
    loop.close()


@pytest.fixture(scope="module")
def written(writable: WritableWorker) -> Iterator[PreheatFileSystem]:
    yield from opened(workers=[writable.url])


class Fixtures(AbstractFixtures):
    @pytest.fixture
    def fs(self, written: PreheatFileSystem) -> PreheatFileSystem:
        return written

    @pytest.fixture
    def fs_path(self) -> str:
        return "b/work"

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        return False


class TestCopy(AbstractCopyTests, Fixtures):
    pass


class TestGet(AbstractGetTests, Fixtures):
    pass


class TestPut(AbstractPutTests, Fixtures):
    pass


class TestOpen(AbstractOpenTests, Fixtures):
    pass


class TestPipe(AbstractPipeTests, Fixtures):
    pass
