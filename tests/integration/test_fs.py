"""The fsspec filesystem against workers that serve on real sockets, in another thread's loop."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.asyn import AsyncFileSystem

from preheat.errors import (
    AccessDenied,
    CoordinatorUnreachable,
    InvalidPath,
    NoLiveWorker,
    ObjectNotFound,
    OriginUnavailable,
    VersionChanged,
)
from preheat.fs import PreheatFileSystem
from preheat.paths import UfsPath
from preheat.ufs import Download, FileUnderStore, MemoryUnderStore
from preheat.worker._reads import ReadService
from preheat.worker.port._server import ServerSettings
from tests.integration.fs_workers import SECONDS, Coordinator, CuttingProxy, Loop, Worker, opened, owner_of


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def origin() -> MemoryUnderStore:
    return MemoryUnderStore(page_size=3)


@pytest.fixture
def workers(loop: Loop, origin: MemoryUnderStore) -> Iterator[list[Worker]]:
    workers = [Worker(loop, f"worker-{number}", origin) for number in range(3)]
    yield workers
    for worker in workers:
        worker.stop()


@pytest.fixture
def fs(workers: list[Worker]) -> Iterator[PreheatFileSystem]:
    yield from opened(workers=[worker.url for worker in workers])


@pytest.fixture
def coordinator(loop: Loop, workers: list[Worker]) -> Iterator[Coordinator]:
    coordinator = Coordinator(loop=loop, members=list(workers))
    coordinator.start()
    yield coordinator
    coordinator.stop()


def test_the_protocol_is_registered(workers: list[Worker], origin: MemoryUnderStore) -> None:
    origin.write("s3://b/k.txt", b"line 1\nline 2\n")
    with fsspec.open("preheat://b/k.txt", "rt", workers=[workers[0].url], skip_instance_cache=True) as file:
        assert file.readlines() == ["line 1\n", "line 2\n"]
        fs = file.buffer.fs
    assert isinstance(fs, PreheatFileSystem)
    assert isinstance(fs, AsyncFileSystem)
    fsspec.asyn.sync(fs.loop, fs.aclose)


def test_reads_count_hits_and_misses(fs: PreheatFileSystem, origin: MemoryUnderStore) -> None:
    origin.write("s3://b/k", b"0123456789")
    assert fs.cat_file("preheat://b/k") == b"0123456789"
    assert fs.cat_file("b/k") == b"0123456789"
    assert (fs.stats.hits, fs.stats.misses, fs.stats.bytes) == (1, 1, 20)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (None, None),
        (2, None),
        (None, 3),
        (2, 5),
        (-3, None),
        (-4, -1),
        (None, -2),
        (3, 3),
        (5, 2),
        (8, 99),
        (50, 60),
        (0, 0),
    ],
)
def test_ranges_are_slices(fs: PreheatFileSystem, origin: MemoryUnderStore, start: int | None, end: int | None) -> None:
    data = b"0123456789"
    origin.write("s3://b/k", data)
    assert fs.cat_file("b/k", start=start, end=end) == data[start:end]


@pytest.mark.parametrize("key", ["ü €/x y.txt", "a//b", "50%25", "a?b#c&d", "a+b", "~tilde", "a/../b", "q=1;r"])
def test_a_key_is_kept_as_it_is_spelled(fs: PreheatFileSystem, origin: MemoryUnderStore, key: str) -> None:
    origin.write(f"s3://b/{key}", key.encode())
    assert fs.cat_file(f"b/{key}") == key.encode()
    assert fs.info(f"b/{key}")["size"] == len(key.encode())
    assert fs.find("b") == [f"b/{key}"]


def test_many_at_once(fs: PreheatFileSystem, origin: MemoryUnderStore, workers: list[Worker]) -> None:
    expected = {f"b/d/{number:03}": f"body {number}".encode() for number in range(200)}
    for name, body in expected.items():
        origin.write(f"s3://{name}", body)
    assert fs.cat(list(expected)) == expected
    assert fs.cat("b/d", recursive=True) == expected
    assert (fs.stats.misses, fs.stats.hits) == (200, 200)
    assert all(worker.reads.counters.misses > 20 for worker in workers)
    assert sum(worker.reads.counters.origin_reads for worker in workers) == 200
    ranges = fs.cat_ranges(["b/d/007", "b/d/008"], [0, 5], [4, 6])
    assert ranges == [b"body", b"8"]


def test_many_are_read_by_few_requests(loop: Loop, origin: MemoryUnderStore, workers: list[Worker]) -> None:
    expected = {f"b/{number:04}": f"body {number}".encode() for number in range(500)}
    for name, body in expected.items():
        origin.write(f"s3://{name}", body)
    proxy = CuttingProxy(loop, workers[0], after=1 << 30)
    for fs in opened(workers=[proxy.url]):
        assert fs.cat(list(expected)) == expected
    assert sum(data.startswith(b"POST /v1/batch") for data in proxy.requests) == 1
    assert not [data for data in proxy.requests if data.startswith(b"GET")]
    proxy.stop()


def test_an_answer_that_breaks_off_is_asked_for_elsewhere(
    loop: Loop, origin: MemoryUnderStore, workers: list[Worker]
) -> None:
    """What came before the break is kept, and no body is taken for whole that is not."""
    expected = {f"b/{number:04}": number.to_bytes(2, "big") * 500 for number in range(200)}
    for name, body in expected.items():
        origin.write(f"s3://{name}", body)
    for fs in opened(workers=[workers[0].url]):
        assert fs.cat(list(expected)) == expected
    proxy = CuttingProxy(loop, workers[0], after=50_500)
    for fs in opened(workers=[proxy.url, workers[1].url]):
        assert fs.cat(list(expected)) == expected
        assert 40 < fs.stats.hits < 50
        assert fs.stats.hits + fs.stats.misses == 200
    proxy.stop()


def test_large_and_small_at_once(fs: PreheatFileSystem, origin: MemoryUnderStore) -> None:
    sizes = [0, 1, 5000, 30_000, 70_000, 300_000, 1 << 20, 1 << 21, 3 << 20]
    expected = {f"b/{number}": os.urandom(size) for number, size in enumerate(sizes)}
    for name, body in expected.items():
        origin.write(f"s3://{name}", body)
    for _ in ("missed", "hit"):
        assert fs.cat(list(expected)) == expected
    assert fs.stats.bytes == 2 * sum(map(len, expected.values()))


NAMES = [f"b/{number}" for number in range(8)]


@pytest.fixture
def half_missing(origin: MemoryUnderStore) -> None:
    for name in NAMES[::2]:
        origin.write(f"s3://{name}", name.encode())


@pytest.mark.usefixtures("half_missing")
@pytest.mark.parametrize("count", [2, 8])
def test_what_becomes_of_errors(fs: PreheatFileSystem, count: int) -> None:
    """By a request each, and by a batch."""
    names = NAMES[:count]
    present = {name: name.encode() for name in names[::2]}
    assert fs.cat(names, on_error="omit") == present
    returned = fs.cat(names, on_error="return")
    assert list(returned) == names
    assert {name: data for name, data in returned.items() if isinstance(data, bytes)} == present
    assert {type(data) for data in returned.values()} == {bytes, ObjectNotFound}
    with pytest.raises(ObjectNotFound, match="b/1"):
        fs.cat(names)
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(names, 0, 1, on_error="raise")
    with pytest.raises(FileNotFoundError):
        fs.cat("b/nothing", recursive=True)
    assert fs.cat_ranges(names, 0, 1)[::2] == [b"b"] * (count // 2)
    assert fs.cat("b/0") == b"b/0"
    assert fs.cat(["b/0"]) == {"b/0": b"b/0"}
    assert fs.cat(names[::2], start=-1) == {name: name[-1:].encode() for name in names[::2]}


def test_many_ranges(fs: PreheatFileSystem, origin: MemoryUnderStore) -> None:
    data = os.urandom(2_500_000)
    info = origin.write("s3://b/k", data)
    spans = [(0, 10), (5, 5), (7, 3), (None, None), (-5, None), (None, -2_499_990), (2_499_999, 9_999_999)]
    spans += [(3_000_000, 3_000_001), (100, 2_000_000), (1, 1_048_577), (1, 1_048_578), (2_000_000, None)]
    spans += [(1 << 55, None), (1 << 55, (1 << 55) + 1)]
    spans *= 2
    starts, ends = zip(*spans, strict=True)
    for _ in ("missed", "hit"):
        found = fs.cat_ranges(["b/k"] * len(spans), list(starts), list(ends), etag=info.etag)
        assert found == [data[start:end] for start, end in spans]
    refused = fs.cat_ranges(["b/k"] * 8, 0, 1, etag="other")
    assert {type(error) for error in refused} == {VersionChanged}
    with pytest.raises(ValueError, match="zip"):
        fs.cat_ranges(["b/k"] * 2, [0], [1])
    assert [type(error) for error in fs.cat_ranges(["", "b", "b/missing"] + ["b/k"] * 8, 0, 1)[:3]] == [
        InvalidPath, ObjectNotFound, ObjectNotFound,
    ]  # fmt: skip


def test_nobody_to_ask_is_each_reads_error() -> None:
    for fs in opened(coordinator="http://127.0.0.1:9"):
        found = fs.cat(NAMES, on_error="return")
        assert {type(error) for error in found.values()} == {CoordinatorUnreachable}
        with pytest.raises(CoordinatorUnreachable):
            fs.cat(NAMES)


TREE = ("a.txt", "d/1", "d/2", "d/e/3", "d/e/f/4", "d/e/f/5", "d/e/f/6", "d/e/f/7", "d/g", "d-x/8", "d.txt", "z/9")


@pytest.fixture
def tree(origin: MemoryUnderStore) -> None:
    for key in TREE:
        origin.write(f"s3://b/{key}", key.encode())


@pytest.mark.usefixtures("tree")
def test_listing(fs: PreheatFileSystem) -> None:
    assert fs.ls("b/d", detail=False) == ["b/d/1", "b/d/2", "b/d/e", "b/d/g"]
    assert fs.ls("preheat://b/d/", detail=False) == ["b/d/1", "b/d/2", "b/d/e", "b/d/g"]
    assert fs.ls("b", detail=False) == ["b/a.txt", "b/d-x", "b/d.txt", "b/d", "b/z"]
    assert fs.ls("b/a.txt", detail=False) == ["b/a.txt"]
    by_name = {info["name"]: info for info in fs.ls("b/d", detail=True)}
    assert by_name["b/d/e"]["type"] == "directory"
    assert (by_name["b/d/1"]["type"], by_name["b/d/1"]["size"]) == ("file", 3)
    with pytest.raises(FileNotFoundError):
        fs.ls("b/nothing")


@pytest.mark.usefixtures("tree")
def test_find_glob_walk_and_du(fs: PreheatFileSystem) -> None:
    assert fs.find("b") == sorted(f"b/{key}" for key in TREE)
    assert fs.find("b/d/e", withdirs=True) == [
        "b/d/e", "b/d/e/3", "b/d/e/f", "b/d/e/f/4", "b/d/e/f/5", "b/d/e/f/6", "b/d/e/f/7",
    ]  # fmt: skip
    assert fs.find("b/d", maxdepth=1) == ["b/d/1", "b/d/2", "b/d/g"]
    assert fs.find("b/d/1") == ["b/d/1"]
    assert fs.find("b/d/1", detail=True)["b/d/1"]["size"] == 3
    assert fs.glob("b/*.txt") == ["b/a.txt", "b/d.txt"]
    assert fs.glob("b/d/**/[45]") == ["b/d/e/f/4", "b/d/e/f/5"]
    walked = {root: (sorted(dirs), sorted(files)) for root, dirs, files in fs.walk("b/d")}
    assert walked == {"b/d": (["e"], ["1", "2", "g"]), "b/d/e": (["f"], ["3"]), "b/d/e/f": ([], ["4", "5", "6", "7"])}
    assert fs.du("b/d/e") == sum(len(key) for key in TREE if key.startswith("d/e/"))


def test_a_large_folder_beside_is_not_listed_through(
    fs: PreheatFileSystem, origin: MemoryUnderStore, workers: list[Worker]
) -> None:
    for number in range(5000):
        origin.write(f"s3://b/d/big/{number:05}", b"x")
    origin.write("s3://b/d/small", b"x")
    assert fs.ls("b/d", detail=False) == ["b/d/big", "b/d/small"]
    assert sum(worker.reads.counters.origin_lists for worker in workers) == 2


@pytest.mark.usefixtures("tree")
def test_info_and_existence(fs: PreheatFileSystem, origin: MemoryUnderStore) -> None:
    info = fs.info("b/d/1")
    assert (info["name"], info["type"], info["size"], info["cached"]) == ("b/d/1", "file", 3, False)
    assert fs.info("b/d")["type"] == fs.info("b")["type"] == fs.info("")["type"] == "directory"
    assert fs.isdir("b/d/e")
    assert fs.isfile("b/d/1")
    assert not fs.isfile("b/d")
    assert fs.exists("b/d/1")
    assert fs.exists("b/d/")
    assert not fs.exists("b/nothing")
    assert not fs.exists("nobucket/x")
    assert fs.modified("b/d/1").timestamp() == pytest.approx(info["mtime"])
    assert fs.created("b/d/1") == fs.modified("b/d/1")
    before = fs.ukey("b/d/1"), fs.checksum("b/d/1")
    assert before == (fs.ukey("b/d/1"), fs.checksum("b/d/1"))
    origin.write("s3://b/d/1", b"new")
    assert fs.ukey("b/d/1") != before[0]
    assert fs.checksum("b/d/1") != before[1]


def test_an_open_file_reads_ahead(fs: PreheatFileSystem, origin: MemoryUnderStore) -> None:
    data = bytes(range(256)) * 4096
    origin.write("s3://b/k", data)
    with fs.open("b/k", block_size=1 << 16) as file:
        assert file.read(10) == data[:10]
        assert file.read(1000) == data[10:1010]
        assert fs.stats.hits + fs.stats.misses == 1
        file.seek(-5, os.SEEK_END)
        assert file.read() == data[-5:]
        file.seek(500_000)
        assert file.read(100_000) == data[500_000:600_000]
    with fs.open("b/k") as file:
        assert file.read() == data


def test_an_open_file_stays_with_its_version(
    fs: PreheatFileSystem, origin: MemoryUnderStore, workers: list[Worker], loop: Loop
) -> None:
    """Replaced at the origin, it is read on from the cache; replaced in the cache too, the read fails."""
    origin.write("s3://b/k", b"a" * 100_000)
    with fs.open("b/k", block_size=1000, cache_type="none") as file:
        assert file.read(10) == b"a" * 10
        new = origin.write("s3://b/k", b"b" * 100_000)
        assert file.read(10) == b"a" * 10
        for worker in workers:
            loop.run(fetch, worker.reads, "s3://b/k", new)
        with pytest.raises(VersionChanged):
            file.read(10)
    assert fs.cat_file("b/k", end=3) == b"bbb"


async def fetch(reads: ReadService, uri: str, info: Any) -> None:
    await reads.fetch(UfsPath.parse(uri), info=info)


def test_a_read_of_another_version_than_asked_for_fails(fs: PreheatFileSystem, origin: MemoryUnderStore) -> None:
    info = origin.write("s3://b/k", b"data")
    assert fs.cat_file("b/k", etag=info.etag) == b"data"
    with pytest.raises(VersionChanged):
        fs.cat_file("b/k", etag="other")


def test_get(fs: PreheatFileSystem, origin: MemoryUnderStore, tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    origin.write("s3://b/d/large", data)
    origin.write("s3://b/d/e/small", b"small")
    origin.write("s3://b/d/empty", b"")
    fs.get_file("b/d/large", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == data
    fs.get("b/d", str(tmp_path / "tree"), recursive=True)
    assert (tmp_path / "tree" / "e" / "small").read_bytes() == b"small"
    assert (tmp_path / "tree" / "empty").read_bytes() == b""
    assert sorted(path.name for path in (tmp_path / "tree").iterdir()) == ["e", "empty", "large"]
    with (tmp_path / "open").open("w+b") as file:
        fs.get_file("b/d/large", file)
    assert (tmp_path / "open").read_bytes() == data
    assert fs.stats.bytes == 3 * len(data) + 5


def test_a_failed_get_leaves_nothing(fs: PreheatFileSystem, origin: MemoryUnderStore, tmp_path: Path) -> None:
    origin.write("s3://b/other", b"")
    with pytest.raises(FileNotFoundError):
        fs.get_file("b/missing", str(tmp_path / "copy"))
    assert not list(tmp_path.iterdir())


def test_errors_are_those_of_a_filesystem(fs: PreheatFileSystem, origin: MemoryUnderStore) -> None:
    origin.write("s3://b/d/k", b"x")
    with pytest.raises(ObjectNotFound):
        fs.cat_file("b/missing")
    with pytest.raises(FileNotFoundError):
        fs.open("b/missing")
    with pytest.raises(FileNotFoundError):
        fs.cat_file("nobucket/k")
    with pytest.raises(IsADirectoryError):
        fs.open("b/d")
    with pytest.raises(AccessDenied) as raised:
        fs.cat_file("preheat:///etc/passwd")
    assert isinstance(raised.value, PermissionError)


def test_files_on_a_shared_disk(loop: Loop, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"shared")
    worker = Worker(loop, "worker", FileUnderStore(), ServerSettings(file_roots=(str(tmp_path),)))
    for fs in opened(workers=[worker.url]):
        assert fs.cat_file(f"preheat://{tmp_path}/d/f") == b"shared"
        assert fs.ls(f"preheat://{tmp_path}", detail=False) == [f"{tmp_path}/d"]
        assert fs.unstrip_protocol(f"{tmp_path}/d/f") == f"preheat://{tmp_path}/d/f"
        with fs.open(f"{tmp_path}/d/f") as file:
            assert file.read() == b"shared"
    worker.stop()


def test_the_owner_is_asked_without_asking_the_coordinator_again(
    coordinator: Coordinator, workers: list[Worker], origin: MemoryUnderStore
) -> None:
    uris = [f"s3://b/{number}" for number in range(60)]
    for uri in uris:
        origin.write(uri, uri.encode())
    for fs in opened(coordinator=coordinator.url, token="secret"):
        for uri in uris:
            before = owner_of(uri, workers).reads.counters.misses
            assert fs.cat_file(uri.removeprefix("s3://")) == uri.encode()
            assert owner_of(uri, workers).reads.counters.misses == before + 1
    assert len(coordinator.requests) == 1
    assert "authorization: bearer secret" in coordinator.requests[0].lower()


def test_reads_go_on_without_the_coordinator(
    coordinator: Coordinator, workers: list[Worker], origin: MemoryUnderStore
) -> None:
    origin.write("s3://b/k", b"data")
    for fs in opened(coordinator=coordinator.url):
        assert fs.cat_file("b/k") == b"data"
        coordinator.stop()
        owner_of("s3://b/k", workers).stop()
        assert fs.cat_file("b/k") == b"data"
        coordinator.start()


def test_a_dead_worker_is_passed_over(fs: PreheatFileSystem, origin: MemoryUnderStore, workers: list[Worker]) -> None:
    names = [f"b/{number}" for number in range(30)]
    for name in names:
        origin.write(f"s3://{name}", name.encode())
    workers[0].stop()
    assert fs.cat(names) == {name: name.encode() for name in names}
    workers[1].stop()
    assert fs.cat(names) == {name: name.encode() for name in names}
    workers[2].stop()
    with pytest.raises(NoLiveWorker, match=r"b/0.*127\.0\.0\.1"):
        fs.cat_file("b/0")


def test_no_coordinator_and_no_worker_are_told() -> None:
    for fs in opened(coordinator="http://127.0.0.1:9"):
        with pytest.raises(CoordinatorUnreachable, match=r"http://127\.0\.0\.1:9/"):
            fs.cat_file("b/k")


def test_a_coordinator_without_workers(
    coordinator: Coordinator, workers: list[Worker], origin: MemoryUnderStore
) -> None:
    coordinator.members.clear()
    origin.write("s3://b/k", b"data")
    for fs in opened(coordinator=coordinator.url):
        with pytest.raises(NoLiveWorker):
            fs.cat_file("b/k")


class BreakingOrigin(MemoryUnderStore):
    """An under store that is away for the first few reads."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    async def get(self, path: UfsPath, *, etag: str | None = None, start: int = 0, end: int | None = None) -> Download:
        if self.failures:
            self.failures -= 1
            raise OriginUnavailable(f"path='{path}': no answer.")
        return await super().get(path, etag=etag, start=start, end=end)


def test_an_origin_that_is_away_is_no_reason_to_ask_other_workers(loop: Loop) -> None:
    origin = BreakingOrigin(failures=1)
    origin.write("s3://b/k", b"data")
    workers = [Worker(loop, f"w{number}", origin) for number in range(2)]
    for fs in opened(workers=[worker.url for worker in workers]):
        with pytest.raises(OriginUnavailable):
            fs.cat_file("b/k")
        assert fs.cat_file("b/k") == b"data"
    assert sorted(worker.reads.counters.origin_reads for worker in workers) == [0, 2]
    for worker in workers:
        worker.stop()


def test_it_can_be_pickled(fs: PreheatFileSystem, origin: MemoryUnderStore) -> None:
    origin.write("s3://b/k", b"data")
    assert fs.cat_file("b/k") == b"data"
    copy = pickle.loads(pickle.dumps(fs))
    assert copy.cat_file("b/k") == b"data"
    assert copy.stats.hits == 1
    fsspec.asyn.sync(copy.loop, copy.aclose)


def _read_in_child(fs: PreheatFileSystem, pipe: Any) -> None:
    pipe.send((fs.cat_file("b/k"), fs.stats.hits))
    pipe.close()
    os._exit(0)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # that is the point
def test_a_forked_child_gets_connections_of_its_own(fs: PreheatFileSystem, origin: MemoryUnderStore) -> None:
    origin.write("s3://b/k", b"data")
    fs.cat_file("b/k")
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=_read_in_child, args=(fs, there))
    child.start()
    try:
        assert here.poll(SECONDS)
        assert here.recv() == (b"data", 1)
    finally:
        child.kill()
        child.join(SECONDS)
    assert fs.cat_file("b/k") == b"data"


async def test_it_can_be_used_asynchronously(workers: list[Worker], origin: MemoryUnderStore) -> None:
    origin.write("s3://b/d/k", b"data")
    fs = PreheatFileSystem(workers=[workers[0].url], asynchronous=True, skip_instance_cache=True)
    assert await fs._cat_file("b/d/k") == b"data"
    assert await fs._find("b") == ["b/d/k"]
    await fs.aclose()


def test_settings_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, coordinator: Coordinator, origin: MemoryUnderStore
) -> None:
    monkeypatch.setenv("PREHEAT_COORDINATOR_URL", coordinator.url)
    monkeypatch.setenv("PREHEAT_TOKEN", "from-env")
    origin.write("s3://b/k", b"data")
    for fs in opened():
        assert fs.cat_file("b/k") == b"data"
        assert "from-env" not in repr(fs._settings)
    assert "from-env" in coordinator.requests[0]
