"""The filesystem where things are missing: workers, endpoints, a parent process."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from preheat.errors import NoLiveWorker, VersionChanged
from preheat.fs import PreheatFileSystem
from preheat.ufs import MemoryUnderStore
from testbed.certificates import Authority
from tests.conftest import Bucket
from tests.integration.fs_workers import SECONDS, Loop, RecordingProxy, Worker, opened

NOBODY = ["http://127.0.0.1:9"]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def origin() -> MemoryUnderStore:
    return MemoryUnderStore()


@pytest.fixture
def worker(loop: Loop, origin: MemoryUnderStore) -> Iterator[Worker]:
    worker = Worker(loop, "worker-0", origin)
    yield worker
    worker.stop()


@pytest.fixture
def many(origin: MemoryUnderStore) -> dict[str, bytes]:
    expected = {f"b/{number:03}": f"body {number}".encode() for number in range(50)}
    for name, body in expected.items():
        origin.write(f"s3://{name}", body)
    return expected


@pytest.mark.usefixtures("s3_environment")
def test_the_under_store_is_read_when_no_worker_answers(bucket: Bucket, tmp_path: Path) -> None:
    large = os.urandom(9 << 20)
    bucket.put_many({"d/1": b"one", "d/e/2": b"two", "large": large, "x y%25.txt": b"odd"})
    for fs in opened(workers=NOBODY, fallback="origin"):
        root = bucket.name
        assert fs.cat_file(f"{root}/d/1") == b"one"
        assert fs.cat_file(f"{root}/x y%25.txt", start=-2) == b"dd"
        assert fs.cat(f"{root}/d", recursive=True) == {f"{root}/d/1": b"one", f"{root}/d/e/2": b"two"}
        assert fs.find(root) == [f"{root}/{key}" for key in ("d/1", "d/e/2", "large", "x y%25.txt")]
        assert fs.ls(f"{root}/d", detail=False) == [f"{root}/d/1", f"{root}/d/e"]
        with fs.open(f"{root}/large") as file:
            file.seek(5 << 20)
            assert file.read(1000) == large[5 << 20 : (5 << 20) + 1000]
        fs.get_file(f"{root}/large", str(tmp_path / "copy"))
        assert (tmp_path / "copy").read_bytes() == large
        assert (fs.stats.hits, fs.stats.misses, fs.stats.fallbacks) == (0, 0, 6)
        with pytest.raises(FileNotFoundError):
            fs.cat_file(f"{root}/missing")
        with pytest.raises(VersionChanged):
            fs.cat_file(f"{root}/d/1", etag="other")
        with pytest.raises(NoLiveWorker):
            fs.pipe_file(f"{root}/new", b"x")
        assert in_a_fork(fs.cat_file, f"{root}/large") == large
    for fs in opened(workers=NOBODY):
        with pytest.raises(NoLiveWorker):
            fs.cat_file(f"{bucket.name}/d/1")


def in_a_fork(call: Any, *arguments: Any) -> Any:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=lambda: there.send(call(*arguments)))
    child.start()
    try:
        assert here.poll(SECONDS)
        return here.recv()
    finally:
        child.kill()
        child.join(SECONDS)


def reads(fs: PreheatFileSystem, names: list[str], directory: Path) -> list[Callable[..., Any]]:
    """Return every way to read."""
    return [
        partial(fs.cat_file, names[0]),
        partial(fs.cat, names),
        partial(fs.cat, "b", recursive=True),
        partial(fs.cat_ranges, names[:1], [-1], [None]),
        partial(fs.info, names[0]),
        partial(fs.ls, "b"),
        partial(fs.find, "b"),
        partial(fs.du, "b"),
        partial(fs.exists, names[0]),
        partial(fs.get_file, names[0], str(directory / "copy")),
        lambda **asked: pickle.loads(pickle.dumps(fs.open(names[0], **asked))).read(),
    ]


def test_what_a_reader_asks_for_is_sent_along(
    loop: Loop, worker: Worker, many: dict[str, bytes], tmp_path: Path
) -> None:
    version = "sha256:" + "0" * 64
    proxy = RecordingProxy(loop, worker)

    def headers() -> tuple[bool, bool]:
        sent, proxy.requests = b"".join(proxy.requests), []
        return b"\r\nCache-Control: max-age=5\r\n" in sent, b"\r\nX-Preheat-Version: " + version.encode() in sent

    name = next(iter(many))
    for fs in opened(workers=[proxy.url]):
        for call in reads(fs, list(many), tmp_path):
            call()
            assert headers() == (False, False)
            call(freshness="max-age=5")
            assert headers() == (True, False)
    for fs in opened(workers=[proxy.url], freshness="max-age=5", version=version):
        with pytest.raises((VersionChanged, FileNotFoundError)):
            fs.cat_file(name)
        assert headers() == (True, True)
        assert fs.cat_file(name, version="") == many[name]
        assert headers() == (True, False)
        with pytest.raises(VersionChanged):
            fs.find("b/d")
        assert b"path=s3%3A%2F%2Fb%2Fd%2F&" in proxy.requests[0], "a version is known by the directory that was loaded"
    proxy.stop()


def test_other_demands_are_other_filesystems() -> None:
    made = [PreheatFileSystem(workers=NOBODY, freshness=freshness) for freshness in ("", "no-cache", "no-cache")]
    assert made[0] is not made[1]
    assert made[1] is made[2]
    PreheatFileSystem.clear_instance_cache()


def test_a_worker_without_batches_is_asked_for_each(loop: Loop, worker: Worker, many: dict[str, bytes]) -> None:
    proxy = RecordingProxy(loop, worker, renamed=(b"POST /v1/batch", b"POST /v0/batch"))
    for fs in opened(workers=[proxy.url]):
        assert fs.cat(list(many)) == many
        assert fs.cat(list(many)) == many
        assert (fs.stats.hits, fs.stats.misses) == (50, 50)
    assert sum(request.count(b"/batch") for request in proxy.requests) == 1
    proxy.stop()


def test_batches_over_tls(
    loop: Loop, origin: MemoryUnderStore, many: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority.make(tmp_path)
    worker = Worker(loop, "worker-0", origin, tls=authority.issue("server", "127.0.0.1"))
    for fs in opened(workers=[worker.url]):
        with pytest.raises(NoLiveWorker, match="CERTIFICATE_VERIFY_FAILED"):
            fs.cat(list(many))
    monkeypatch.setenv("PREHEAT_CA_FILE", str(authority.ca))
    large = os.urandom(3 << 20)
    origin.write("s3://b/large", large)
    for fs in opened(workers=[worker.url]):
        assert fs.cat([*many, "b/large"]) == many | {"b/large": large}
        assert fs.cat(list(many)) == many
        with fs.open("b/large") as file:
            assert file.read() == large
    worker.stop()


def test_an_open_file_keeps_its_version_when_pickled(worker: Worker, origin: MemoryUnderStore, loop: Loop) -> None:
    origin.write("s3://b/k", b"a" * 100_000)
    for fs in opened(workers=[worker.url]):
        with fs.open("b/k", block_size=1000, cache_type="none") as file:
            file.read(10)
            copy = pickle.loads(pickle.dumps(file))
            assert (copy.tell(), copy.read(10), copy.etag) == (10, b"a" * 10, file.etag)
            loop.run(worker.replace, "s3://b/k", b"b" * 100_000)
            with pytest.raises(VersionChanged):
                pickle.loads(pickle.dumps(file)).read(10)


FORKING = """
import fsspec, gc, os, sys
options = {"workers": [sys.argv[1]]}
fs = fsspec.filesystem("preheat", **options)
assert fs.cat_file("b/000") == b"body 0"
children = []
for kind in ("collected", "exits", "used"):
    pid = os.fork()
    if not pid:
        if kind == "collected":
            fsspec.filesystem("preheat", **options)  # forgets the parent's
            del fs
            gc.collect()
        if kind == "used":
            assert fs.cat_file("b/001") == b"body 1"
            assert fsspec.filesystem("preheat", **options).cat(["b/001"] * 20) == {"b/001": b"body 1"}
        sys.exit()
    assert os.waitpid(pid, 0)[1] == 0
    assert fs.cat_file("b/002") == b"body 2"
"""


@pytest.mark.usefixtures("many")
def test_forked_children_leave_the_parents_connections_alone(worker: Worker) -> None:
    """A child that ends as every program does, or collects its garbage, closes nothing that the parent uses."""
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", FORKING, worker.url],
        timeout=2 * SECONDS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_process_ends_quietly(worker: Worker, origin: MemoryUnderStore) -> None:
    origin.write("s3://b/k", b"data")
    script = "import fsspec, sys; fs = fsspec.filesystem('preheat', workers=sys.argv[1:]); print(fs.cat_file('b/k'))"
    arguments = [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "-c", script, worker.url]
    done = subprocess.run(arguments, timeout=2 * SECONDS, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("b'data'\n", "")
