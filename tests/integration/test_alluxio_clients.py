"""Alluxio's own Python clients, ``alluxio`` 1.0.0 and ``alluxiofs`` 1.1.17 from PyPI, on a cluster of two workers.

Neither has another filesystem to fall back to, and the workers' own counters tell who served what.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import randint
from typing import Any

import pytest
import requests

from preheat.client import Client
from preheat.jobs import JobOptions, JobSpec
from testbed.local_cluster import LocalCluster, local_cluster
from tests.conftest import Bucket

ROOT = Path(__file__).parents[2]
LOADERS = ("alluxio", "alluxiofs-client")
INSTALL_SECONDS = 240
SECONDS = 60
PORT = 28080
MIB = 1 << 20
FILES = {
    "d/three pages": os.urandom(2 * MIB + 12345),
    "d/two pages": os.urandom(2 * MIB),
    "d/small": b"small",
    "d/empty": b"",
    "d/a b+c&d=e 50%/é😀?#.txt": b"odd",
    "d/100%25 %41/x": b"like encoded",
}
LOST = "d/100%25 %41/x"
"""``alluxiofs`` does not encode what it sends beside an id: this name arrives as another, which the id tells."""


class Session:
    """A process with one client, asked call by call."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def call(self, method: str, *arguments: object, **options: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        encoded = [{"base64": base64.b64encode(one).decode()} if isinstance(one, bytes) else one for one in arguments]
        self._process.stdin.write(json.dumps([method, encoded, options]) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline() or '"the client process ended"')
        return base64.b64decode(answer["base64"]) if isinstance(answer, dict) and "base64" in answer else answer

    def progress_until(self, path: str, state: str) -> None:
        deadline = time.monotonic() + SECONDS
        while (found := self.call("load_progress", path)) != state:
            assert found in ("RUNNING", "VERIFYING")
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def load(self, path: str) -> None:
        assert self.call("submit_load", path) is True
        self.progress_until(path, "SUCCEEDED")


@pytest.fixture(scope="session")
def alluxio_python() -> Path:
    """The interpreter that has the clients, made at the first use."""
    environment = {**os.environ, "PYTHON": sys.executable}
    script = ["bash", ROOT / "scripts" / "alluxio-clients.sh"]
    subprocess.run(script, env=environment, check=True, timeout=INSTALL_SECONDS)
    return ROOT / ".venv-alluxio" / "bin" / "python"


@pytest.fixture(scope="module")
def hosts() -> tuple[str, str]:
    """Two addresses of this machine: the clients know one port each for all workers, and 29998 for S3."""
    network = f"127.{randint(1, 254)}.{randint(1, 254)}"
    return f"{network}.2", f"{network}.3"


@pytest.fixture(scope="module")
def cluster(s3_server, hosts: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    directory, environment = tmp_path_factory.mktemp("cluster"), s3_server.environment()
    with local_cluster(directory, environment=environment, worker_hosts=hosts) as cluster:
        yield cluster


@pytest.fixture
def connect(alluxio_python: Path, hosts: tuple[str, str], cluster: LocalCluster, tmp_path: Path):
    """Begin a session of one of the clients."""

    @contextmanager
    def connected(kind: str) -> Iterator[Session]:
        script = Path(__file__).with_name("alluxio_client_session.py")
        with subprocess.Popen(
            [alluxio_python, "-P", script, kind, ",".join(hosts), str(PORT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "NO_PROXY": ",".join(hosts)},
            cwd=tmp_path,  # alluxiofs writes a log
            text=True,
        ) as process:
            try:
                yield Session(process)
            finally:
                process.kill()

    return connected


@pytest.fixture
def counted(hosts: tuple[str, str]) -> Callable[[], Counter[str]]:
    """Return the counters of both workers together."""

    def count() -> Counter[str]:
        return sum(
            (Counter(requests.get(f"http://{host}:{PORT}/v1/stats", timeout=SECONDS).json()) for host in hosts),
            Counter(),
        )

    return count


@pytest.fixture
def data(bucket: Bucket) -> Bucket:
    bucket.put_many(FILES)
    return bucket


@pytest.fixture
def mounted(bucket: Bucket, cluster: LocalCluster, hosts: tuple[str, str]) -> Iterator[Bucket]:
    """A bucket that may be written; its mount, which hides all others, is gone in the end."""
    url = f"{cluster.url}/v1/mounts/{bucket.name}"
    requests.put(url, json={"path": bucket.uri(), "writes": "through"}, timeout=SECONDS).raise_for_status()
    yield bucket
    requests.delete(url, timeout=SECONDS).raise_for_status()


@pytest.mark.parametrize("kind", LOADERS)
def test_a_load_from_submit_to_stop(connect, cluster: LocalCluster, bucket: Bucket, kind: str):
    names = [f"day 1/{number} +%é" for number in range(20)]
    bucket.put_many({name: name.encode() for name in names})
    path = bucket.uri("day 1/")
    with connect(kind) as session, Client(cluster.url) as preheat:
        assert session.call("load_progress", path) == "STOPPED"  # nobody submitted it, and nothing FAILED
        assert session.call("stop_load", path) is False
        session.load(path)
        (job,) = (job for job in preheat.jobs().jobs if job.paths == (path,))
        assert job.loaded.files == len(names)
        assert session.call("stop_load", path) is False

        slow = JobOptions(bandwidth=1, skip_if_exists=False)
        job = preheat.submit(JobSpec(paths=(path,), options=slow))
        assert session.call("submit_load", path) is True  # it runs already
        assert session.call("load_progress", path) == "RUNNING"
        assert session.call("stop_load", path) is True
        assert session.call("load_progress", path) == "STOPPED"
        assert preheat.job(job.id).state == "STOPPED"


@pytest.mark.parametrize("kind", LOADERS)
def test_a_load_that_is_refused_is_no_success(connect, bucket: Bucket, kind: str):
    with connect(kind) as session:
        assert session.call("submit_load", bucket.uri("nothing/")) is False
        assert session.call("load", bucket.uri("nothing/")) is False


def test_alluxio_reads_what_is_warm(connect, counted, data: Bucket):
    with connect("alluxio") as session:
        session.load(data.uri("d/"))
        before = counted()
        for name, body in FILES.items():  # nobody has listed them: their ids are found in the workers' stores
            assert session.call("read", data.uri(name)) == body
        big = FILES["d/three pages"]
        for start, length in ((0, 10), (MIB - 5, 10), (MIB, MIB), (100, 2 * MIB)):
            assert session.call("read_range", data.uri("d/three pages"), start, length) == big[start : start + length]
        assert session.call("read_range", data.uri("d/three pages"), 2 * MIB, -1) == big[2 * MIB :]
        spent = counted() - before
    assert (spent["originReads"], spent["misses"]) == (0, 0)
    assert spent["hitBytes"] >= sum(map(len, FILES.values())) + 2 * MIB
    assert spent["hits"] >= len(FILES) + 5


def test_alluxio_lists_and_reads_what_is_cold(connect, counted, data: Bucket):
    before = counted()
    with connect("alluxio") as session:
        found = session.call("listdir", data.uri("d"))
        files = ("empty", "small", "three pages", "two pages")
        assert [(one["type"], one["name"], one["ufs_path"], one["length"]) for one in found] == [
            ("directory", "100%25 %41", data.uri("d/100%25 %41"), 0),
            ("directory", "a b+c&d=e 50%", data.uri("d/a b+c&d=e 50%"), 0),
            *(("file", name, data.uri(f"d/{name}"), len(FILES[f"d/{name}"])) for name in files),
        ]
        for one in found:
            if one["type"] == "file":
                assert session.call("read", one["ufs_path"]) == FILES[f"d/{one['name']}"]
        status = session.call("get_file_status", data.uri("d/two pages"))
        assert (status["type"], status["human_readable_file_size"]) == ("file", "2048.00KB")
        assert "500" in session.call("get_file_status", data.uri("d/none"))["error"]
        assert "500" in session.call("read", data.uri("d/small2"))["error"]
    spent = counted() - before
    assert spent["originReads"] > 0
    assert spent["misses"] > 0


def test_alluxio_writes_pages(connect, mounted: Bucket):
    pages = [os.urandom(MIB), os.urandom(MIB), os.urandom(1000)]
    path = mounted.uri("new/x y%")
    with connect("alluxio") as session:
        unknown = session.call("write_page", path, 0, pages[0])
        assert "500" in unknown["error"]  # an id says nothing of where to write to
        assert "500" in session.call("get_file_status", path)["error"]
        for number, page in enumerate(pages):
            assert session.call("write_page", path, number, page) is True
            written = mounted.client.get_object(Bucket=mounted.name, Key="new/x y%")["Body"].read()
            assert written == b"".join(pages[: number + 1])
            assert session.call("read", path) == written
        assert "409" in session.call("write_page", path, 9, b"far off")["error"]
        assert session.call("read", path) == b"".join(pages)


def test_alluxiofs_reads_what_is_warm(connect, counted, data: Bucket):
    with connect("alluxiofs") as session, connect("alluxiofs-client") as client:
        client.load(data.uri("d/"))
        before = counted()
        for name, body in FILES.items():
            path = data.uri(name)
            assert session.call("info", path)["size"] == len(body)
            assert session.call("cat_file", path) == body
            if len(body) > 3:
                assert session.call("cat_file", path, 1, 4) == body[1:4]
            assert session.call("open_and_read", path, 2, MIB + 7) == body[2 : MIB + 7]
            assert session.call("read_bytes", path) == body
            assert session.call("head", path, 3) == body[:3]
            assert session.call("tail", path, 3) == body[-3:]
        assert client.call("read", data.uri("d/two pages")) == FILES["d/two pages"]
        spent = counted() - before
    assert (spent["originReads"], spent["misses"]) == (0, 0)
    assert spent["hitBytes"] >= 3 * sum(map(len, FILES.values()))


def test_alluxiofs_lists(connect, data: Bucket):
    with connect("alluxiofs") as session:
        found = session.call("ls", data.uri("d/"), detail=True)
        assert {(one["type"], one["ufs_path"], one["size"]) for one in found} == {
            ("directory", data.uri("d/100%25 %41"), 0),
            ("directory", data.uri("d/a b+c&d=e 50%"), 0),
            *(("file", data.uri(name), len(body)) for name, body in FILES.items() if name.count("/") == 1),
        }
        assert session.call("exists", data.uri("d")) is True
        assert session.call("isdir", data.uri("d")) is True
        assert session.call("isdir", data.uri("d/small")) is False
        assert session.call("exists", data.uri("d/none")) is False
        assert session.call("info", data.uri("d/none"))["type"] == "FileNotFoundError"


def test_what_fails_in_the_clients_themselves(connect, data: Bucket):
    """What docs/reference/alluxio-compatibility.md says of them: no answer of a worker could change it."""
    path, directory = data.uri("d/small"), data.uri("d")
    with connect("alluxiofs") as session, connect("alluxiofs-client") as client:
        for method, arguments in {
            "ls": [directory], "find": [directory], "du": [directory], "cat": [path], "get_file": [path, "x"],
            "pipe_file": [path, b"x"], "makedirs": [directory], "read_block": [path, 0, 1],
        }.items():  # fmt: skip
            assert session.call(method, *arguments)["type"] in ("AttributeError", "NotImplementedError", "ValueError")
        assert session.call("glob", data.uri("d/*")) == []
        assert session.call("cat_file", path, 2) == b"small"
        assert "page_size" in client.call("write", path, b"x")["error"]


def test_alluxiofs_does_not_read_another_file_where_it_loses_a_name(connect, data: Bucket):
    data.put("d/100%25 A/x", b"another file")
    with connect("alluxiofs") as session:
        assert "500" in session.call("read_bytes", data.uri(LOST))["error"]
        session.call("info", data.uri(LOST))
        assert session.call("read_bytes", data.uri(LOST)) == FILES[LOST]


def test_alluxiofs_writes(connect, mounted: Bucket, tmp_path: Path):
    def content(key: str) -> bytes:
        body: bytes = mounted.client.get_object(Bucket=mounted.name, Key=key)["Body"].read()
        return body

    big = os.urandom(3 * MIB + 5)
    (tmp_path / "local").write_bytes(big)
    with connect("alluxiofs") as session:
        for name, body in {"w/a b%": b"odd", "w/empty": b"", "w/big": big}.items():
            assert session.call("write_bytes", mounted.uri(name), body) is True
            assert content(name) == session.call("read_bytes", mounted.uri(name)) == body
        assert session.call("write_bytes", mounted.uri("w/big"), b"replaced") is True
        assert content("w/big") == session.call("cat_file", mounted.uri("w/big")) == b"replaced"
        assert session.call("upload", str(tmp_path / "local"), mounted.uri("w/up")) is True
        assert content("w/up") == big
        assert session.call("touch", mounted.uri("w/up")) is True
        assert content("w/up") == big  # it was there: it is not emptied
        assert session.call("touch", mounted.uri("w/touched")) is True
        assert content("w/touched") == b""
        assert "unknown_path_id" in session.call("write_bytes", mounted.uri("w/a#b"), b"x")["error"]
        assert session.call("exists", mounted.uri("w/a")) is False


def test_alluxiofs_moves_copies_and_removes(connect, mounted: Bucket):
    def keys() -> set[str]:
        found = mounted.client.list_objects_v2(Bucket=mounted.name)
        return {one["Key"] for one in found.get("Contents", ())}

    mounted.put_many({"a": b"a", "d/1": b"1", "d/s/2 %": b"2"})
    with connect("alluxiofs") as session, connect("alluxiofs-client") as client:
        assert session.call("copy", mounted.uri("a"), mounted.uri("b c")) is True
        assert "conflict" in session.call("copy", mounted.uri("d/1"), mounted.uri("a"))["error"]  # it exists
        assert session.call("mv", mounted.uri("b c"), mounted.uri("m")) is True
        assert keys() == {"a", "m", "d/1", "d/s/2 %"}
        assert "conflict" in session.call("copy", mounted.uri("d"), mounted.uri("e"))["error"]
        assert session.call("copy", mounted.uri("d"), mounted.uri("e"), recursive=True) is True
        assert session.call("mv", mounted.uri("e"), mounted.uri("f")) is True
        assert keys() == {"a", "m", "d/1", "d/s/2 %", "f/1", "f/s/2 %"}
        for path in ("a", "m"):
            assert session.call("rm", mounted.uri(path)) is True
        assert "conflict" in session.call("rm", mounted.uri("f"))["error"]
        assert session.call("rm", mounted.uri("f"), recursive=True) is True
        assert keys() == {"d/1", "d/s/2 %"}
        assert "object_not_found" in session.call("rm", mounted.uri("a"))["error"]

        assert session.call("read_bytes", mounted.uri("d/1")) == b"1"
        mangled = session.call("rm", mounted.uri("d/1"), remove_alluxio_only=True)
        assert "sync_parent_next_time" in mangled["error"]  # what the client makes of it would remove the object
        assert client.call("rm", mounted.uri("d/1"), remove_alluxio_only=True) is True
        assert keys() == {"d/1", "d/s/2 %"}


def test_the_how_to_runs(alluxio_python: Path, hosts: tuple[str, str], mounted: Bucket, tmp_path: Path):
    mounted.put_many({f"images/cats/{number}.jpg": b"\xff" * 1000 for number in range(3)})
    page = (ROOT / "docs" / "how-to" / "migrate-from-alluxio-clients.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL))
    for theirs, ours in zip(("127.0.0.2", "127.0.0.3", "s3://datasets"), (*hosts, f"s3://{mounted.name}"), strict=True):
        assert theirs in code
        code = code.replace(theirs, ours)
    environment = {"PATH": os.environ["PATH"], "NO_PROXY": ",".join(hosts)}
    command = [alluxio_python, "-c", f"{code}\nassert (len(names), body[:16]) == (3, first)"]
    subprocess.run(command, env=environment, cwd=tmp_path, check=True, timeout=SECONDS)
    assert mounted.client.get_object(Bucket=mounted.name, Key="runs/1/done")["ContentLength"] == 0


def test_a_mount_that_may_not_be_written_is_not(connect, data: Bucket):
    with connect("alluxiofs") as session:
        for call in (("write_bytes", b"x"), ("touch",), ("mkdir",), ("rm",), ("mv", data.uri("d/moved"))):
            method, *more = call
            assert "read_only" in session.call(method, data.uri("d/small"), *more)["error"]
        assert session.call("read_bytes", data.uri("d/small")) == b"small"
