"""What is written through the filesystem, and what is not when it fails."""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest

from preheat.errors import Forbidden, InvalidPath, ObjectNotFound, Unavailable
from preheat.fs import PreheatFileSystem
from preheat.fs._uploads import PART_BYTES
from preheat.mounts import Mount, WriteMode
from preheat.ufs import MemoryUnderStore
from tests.integration.fs_workers import SECONDS, Coordinator, CuttingProxy, Loop, WritableWorker, opened

LARGE = PART_BYTES + 12_345


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def origin() -> MemoryUnderStore:
    origin = MemoryUnderStore(page_size=3)
    origin.write("s3://b/there", b"there")
    return origin


@pytest.fixture
def worker(loop: Loop, origin: MemoryUnderStore, tmp_path: Path) -> Iterator[WritableWorker]:
    worker = WritableWorker(loop, origin, tmp_path / "worker")
    yield worker
    worker.stop()


@pytest.fixture
def fs(worker: WritableWorker) -> Iterator[PreheatFileSystem]:
    yield from opened(workers=[worker.url])


def stored(origin: MemoryUnderStore, key: str) -> bytes:
    return origin._buckets["b"][key][1]


def test_what_is_written_is_at_the_under_store_and_read_from_the_cache(
    fs: PreheatFileSystem, origin: MemoryUnderStore
) -> None:
    for key, body in {"a": b"", "ü €/x y%25.txt": b"1", "c": os.urandom(2 << 20)}.items():
        fs.pipe_file(f"b/{key}", body)
        assert stored(origin, key) == fs.cat_file(f"preheat://b/{key}") == body
    assert (fs.stats.hits, fs.stats.misses) == (3, 0)
    fs.pipe({"b/one": b"1", "b/two": bytearray(b"2")})
    assert fs.cat(["b/one", "b/two"]) == {"b/one": b"1", "b/two": b"2"}


def test_what_is_replaced_is_read_anew(fs: PreheatFileSystem) -> None:
    for body in (b"first", b"second"):
        fs.pipe_file("b/k", body)
        assert fs.cat_file("b/k") == body
        assert fs.info("b/k")["size"] == len(body)


def test_a_large_object_goes_in_parts(fs: PreheatFileSystem, origin: MemoryUnderStore, tmp_path: Path) -> None:
    data = os.urandom(LARGE)
    fs.pipe_file("b/piped", data)
    (tmp_path / "file").write_bytes(data)
    fs.put_file(str(tmp_path / "file"), "b/put")
    with fs.open("b/opened", "wb") as file:
        for start in range(0, LARGE, 1_000_003):
            assert file.write(data[start : start + 1_000_003])
    with fs.open("b/at-once", "wb", block_size=6 << 20) as file:
        file.write(data)
    for name in ("piped", "put", "opened", "at-once"):
        assert stored(origin, name) == data
    assert fs.cat_file("b/piped", start=PART_BYTES - 5, end=PART_BYTES + 5) == data[PART_BYTES - 5 : PART_BYTES + 5]


def test_text_and_compression(fs: PreheatFileSystem, worker: WritableWorker) -> None:
    for name, compression in (("t.txt", None), ("t.txt.gz", "infer"), ("t.xz", "xz")):
        with fs.open(f"b/{name}", "wt", compression=compression, encoding="latin-1") as file:
            file.writelines(f"Zeile {number} ü\n" for number in range(1000))
        with fs.open(f"b/{name}", "rt", compression=compression, encoding="latin-1") as file:
            assert [line.split()[1] for line in file] == [str(number) for number in range(1000)]
    with fsspec.open("preheat://b/t.txt.gz", "rt", compression="infer", encoding="latin-1", workers=[worker.url]) as f:
        assert f.readline() == "Zeile 0 ü\n"
    PreheatFileSystem.clear_instance_cache()


@pytest.mark.parametrize("size", [3, LARGE])
def test_exclusive_creation(fs: PreheatFileSystem, origin: MemoryUnderStore, size: int) -> None:
    data = os.urandom(size)
    fs.pipe_file("b/new", data, mode="create")
    for mode in ("there", "new"):
        with pytest.raises(FileExistsError):
            fs.pipe_file(f"b/{mode}", data, mode="create")
    with pytest.raises(FileExistsError):
        fs.open("b/there", "xb")
    file = fs.open("b/raced", "xb")
    file.write(data)
    origin.write("s3://b/raced", b"other")
    with pytest.raises(FileExistsError):
        file.close()
    assert stored(origin, "raced") == b"other"
    assert stored(origin, "there") == b"there"


def test_of_large_exclusive_writers_that_end_together_one_wins(fs: PreheatFileSystem, origin: MemoryUnderStore) -> None:
    bodies = [bytes([number]) * LARGE for number in range(3)]
    files = [fs.open("b/both", "xb") for _ in bodies]
    for file, body in zip(files, bodies, strict=True):
        file.write(body)
    with ThreadPoolExecutor(len(files)) as pool:
        ended = [pool.submit(file.close) for file in files]
    lost = [isinstance(end.exception(), FileExistsError) for end in ended]
    assert sorted(lost) == [False, True, True], [end.exception() for end in ended]
    assert stored(origin, "both") == bodies[lost.index(False)]


def test_a_transaction_is_seen_when_it_ends(fs: PreheatFileSystem, origin: MemoryUnderStore) -> None:
    data = os.urandom(LARGE)
    with fs.transaction:
        for name, body in (("small", b"x"), ("large", data)):
            with fs.open(f"b/{name}", "wb") as file:
                file.write(body)
        assert not fs.exists("b/small")
        assert not fs.exists("b/large")
    assert (stored(origin, "small"), stored(origin, "large")) == (b"x", data)


def test_a_transaction_that_fails_writes_nothing(fs: PreheatFileSystem) -> None:
    def change() -> None:
        with fs.transaction:
            for name, size in (("small", 1), ("large", LARGE)):
                with fs.open(f"b/{name}", "wb") as file:
                    file.write(b"x" * size)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        change()
    assert fs.find("b") == ["b/frozen/x", "b/there"]


def test_a_write_whose_part_fails_makes_no_object(
    fs: PreheatFileSystem, worker: WritableWorker, origin: MemoryUnderStore
) -> None:
    file = fs.open("b/k", "wb")
    file.write(b"x" * PART_BYTES)
    worker.stop_serving()
    with pytest.raises(Unavailable):
        file.writelines([b"x" * PART_BYTES] * 8)
    with pytest.raises(ValueError, match="can only close"):
        file.write(b"more")
    file.close()
    assert "k" not in origin._buckets["b"]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # that is the point
def test_a_forked_child_does_not_finish_its_parents_file(fs: PreheatFileSystem, origin: MemoryUnderStore) -> None:
    with fs.open("b/k", "wb") as file:
        file.write(b"begun, ")
        child = multiprocessing.get_context("fork").Process(target=file.close)
        child.start()
        child.join(SECONDS)
        assert child.exitcode == 0
        assert "k" not in origin._buckets["b"]
        file.write(b"ended")
    assert stored(origin, "k") == b"begun, ended"


def test_copy_move_and_remove(fs: PreheatFileSystem, origin: MemoryUnderStore) -> None:
    tree = {f"b/d/{name}": name.encode() for name in ("1", "2", "e/3", "e/f/4")}
    fs.pipe(tree)
    fs.cp_file("b/d/1", "b/copy")
    assert fs.cat_file("b/copy") == b"1"
    fs.mv("b/d/1", "b/moved")
    assert (fs.exists("b/d/1"), fs.cat_file("b/moved")) == (False, b"1")
    with pytest.raises(IsADirectoryError):
        fs.mv("b/d", "b/elsewhere")
    fs.mv("b/d/e", "b/elsewhere", recursive=True)
    assert fs.find("b") == ["b/copy", "b/d/2", "b/elsewhere/3", "b/elsewhere/f/4", "b/frozen/x", "b/moved", "b/there"]
    fs.mv("b/moved", "b/moved")
    with pytest.raises(IsADirectoryError):
        fs.rm("b/elsewhere")
    fs.rm("b/elsewhere", recursive=True)
    fs.rm(["b/copy", "b/moved"])
    fs.rm("b/d/*")
    assert fs.find("b") == ["b/frozen/x", "b/there"]
    for remove in (lambda: fs.rm("b/missing"), lambda: fs.rm("b/missing", recursive=True), lambda: fs.rm_file("b/x")):
        with pytest.raises(FileNotFoundError):
            remove()
    with pytest.raises(ObjectNotFound):
        fs.cp_file("b/missing", "b/copy")


def test_an_object_beside_a_directory_of_its_name(fs: PreheatFileSystem) -> None:
    fs.pipe({"b/a": b"file", "b/a/b": b"below"})
    fs.rm("b/a")
    assert fs.find("b/a") == ["b/a/b"]
    fs.pipe_file("b/a", b"file")
    fs.rm("b/a", recursive=True)
    assert not fs.exists("b/a")


def test_there_are_no_empty_directories(fs: PreheatFileSystem) -> None:
    fs.mkdir("b/d")
    fs.makedirs("b/d/e", exist_ok=True)
    fs.makedirs("b/d/e")
    assert not fs.exists("b/d")
    with pytest.raises(FileExistsError):
        fs.mkdir("b")
    fs.makedirs("b", exist_ok=True)
    with pytest.raises(NotImplementedError):
        fs.mkdir("new-bucket")
    with pytest.raises(OSError, match="not empty"):
        fs.rmdir("b")
    with pytest.raises(FileNotFoundError):
        fs.rmdir("b/d")
    fs.touch("b/d/empty")
    assert (fs.isdir("b/d"), fs.size("b/d/empty")) == (True, 0)
    with pytest.raises(NotImplementedError):
        fs.touch("b/d/empty", truncate=False)
    with pytest.raises(NotImplementedError):
        fs.open("b/there", "ab")
    with pytest.raises(InvalidPath):
        fs.pipe_file("b", b"x")


def test_a_mount_that_is_read_only_refuses(fs: PreheatFileSystem, origin: MemoryUnderStore, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * LARGE)

    def write(body: bytes) -> None:
        with fs.open("b/frozen/k", "wb") as file:
            file.write(body)

    for refused in (
        lambda: write(b""),
        lambda: write(b"x" * LARGE),
        lambda: fs.pipe_file("b/frozen/k", b"y" * (1 << 20)),
        lambda: fs.put_file(str(tmp_path / "f"), "b/frozen/k"),
        lambda: fs.cp_file("b/there", "b/frozen/k"),
        lambda: fs.rm("b/frozen/x"),
        lambda: fs.mv("b/frozen/x", "b/moved"),
        lambda: fs.touch("b/frozen/new"),
    ):
        with pytest.raises(Forbidden):
            refused()
    assert fs.find("b/frozen") == ["b/frozen/x"]


def test_a_write_whose_answer_is_lost_is_repeated_elsewhere_unless_it_must_not(
    loop: Loop, worker: WritableWorker, origin: MemoryUnderStore
) -> None:
    proxy = CuttingProxy(loop, worker, after=1)
    for fs in opened(workers=[proxy.url, worker.url]):
        for number in range(16):
            fs.pipe_file(f"b/{number}", b"again")
    assert [stored(origin, str(number)) for number in range(16)] == [b"again"] * 16
    assert proxy.left == 0
    proxy.left = 1
    for fs in opened(workers=[proxy.url]):
        with pytest.raises(Unavailable, match="Look whether"):
            fs.pipe_file("b/once", b"once", mode="create")
    assert stored(origin, "once") == b"once"
    proxy.stop()


def test_threads_share_it(fs: PreheatFileSystem) -> None:
    def work(number: int) -> None:
        for turn in range(10):
            fs.pipe_file(f"b/{number}", f"{number} {turn}".encode())
            assert fs.cat_file(f"b/{number}") == f"{number} {turn}".encode()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))


async def test_it_writes_asynchronously(worker: WritableWorker) -> None:
    fs = PreheatFileSystem(workers=[worker.url], asynchronous=True, skip_instance_cache=True)
    await fs._pipe_file("b/k", b"data")
    await fs._mv("b/k", "b/l")
    assert await fs._cat_file("b/l") == b"data"
    await fs._rm("b/l")
    assert not await fs._exists("b/l")
    await fs.aclose()


def test_the_code_of_the_how_to_page_runs(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    loop: Loop,
    worker: WritableWorker,
    origin: MemoryUnderStore,
) -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/read-with-fsspec.md").read_text()
    coordinator = Coordinator(loop=loop, members=[worker])
    coordinator.start()
    monkeypatch.setenv("PREHEAT_COORDINATOR_URL", coordinator.url)
    worker.mount(Mount(name="datasets", path="s3://datasets/", writes=WriteMode.THROUGH))
    for number in range(10):
        origin.write(f"s3://datasets/images/cats/{number}.jpg", bytes([number]) * 100)
    names: dict[str, Any] = {}
    try:
        for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
            exec(block, names)
        assert names["first"] == bytes([1]) * 16
        assert names["images"]["datasets/images/cats/7.jpg"] == bytes([7]) * 100
        assert names["heads"][9] == bytes([9]) * 16
        assert names["newest"] == names["cached"] == bytes([1]) * 100
        written = [f"datasets/runs/best/{name}" for name in ("a.bin", "b.bin", "done", "loss.csv")]
        assert capsys.readouterr().out.endswith(f"10 images; 11 hits, 10 misses\n2016 bytes in {written}\n")
        assert sorted(origin._buckets["datasets"]) == [f"images/cats/{number}.jpg" for number in range(10)]
    finally:
        for fs in (names["fs"], names.get("patient", names["fs"])):
            fsspec.asyn.sync(fs.loop, fs.aclose)
        PreheatFileSystem.clear_instance_cache()
        coordinator.stop()
