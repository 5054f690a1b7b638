"""``preheat fs`` with files: what there is, what is cached of it and where, the bytes, and deletions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from preheat.cli import main
from preheat.cli._fs_view import Entry, File, added_up, entries, join, shown_cached, shown_replicas
from preheat.data_client import HeldReport, ListedReport
from preheat.jobs import JobState
from preheat.paths import UfsPath
from tests.unit.memory_cluster import load
from tests.unit.peer_cluster import PeerCluster

PATH = "s3://b/data/"
ODD = "s3://b/data/sub/a b%+&?#ü//x"
LONG_AGO = datetime.fromtimestamp(0, tz=UTC)


def listed(key: str, etag: str = "e", size: int = 10) -> ListedReport:
    return ListedReport(key=key, size=size, etag=etag, last_modified=1.0)


def held(key: str, *workers: str, etag: str = "e", outdated: tuple[str, ...] = ()) -> HeldReport:
    return HeldReport(key=key, size=10, etag=etag, last_modified=LONG_AGO, workers=workers, outdated=outdated)


def below(path: str, *files: File, recursive: bool = False) -> list[Entry]:
    return list(entries(UfsPath.parse(path), files, recursive=recursive))


def test_two_listings_become_one():
    joined = join(
        [listed("a"), listed("b"), listed("c"), listed("e")],
        [held("b", "w1", outdated=("w2",)), held("c", "w1", "w2", etag="old", outdated=("w3",)), held("d", "w1")],
    )
    found = {file.key: (file.workers, file.outdated, file.only_cached) for file in joined}
    assert found == {
        "a": ((), (), False),
        "b": (("w1",), ("w2",), False),
        "c": ((), ("w1", "w2", "w3"), False),
        "d": (("w1",), (), True),
        "e": ((), (), False),
    }
    assert list(join([], [])) == []


def test_the_files_of_a_directory_are_added_up():
    files = list(
        join(
            [listed(key) for key in ("x", "x/a", "x/a-b", "x/a/1", "x/a/2", "x//c", "x/b")],
            [held("x/a/1", "w1", "w2"), held("x/b", "w1")],
        )
    )
    files = sorted(files, key=lambda file: file.key)
    found = {each.path: (each.type, each.files, each.cached_bytes) for each in below("s3://b/x", *files)}
    assert found == {
        "s3://b/x": ("file", 1, 0),
        "s3://b/x//": ("directory", 1, 0),
        "s3://b/x/a": ("file", 1, 0),
        "s3://b/x/a-b": ("file", 1, 0),
        "s3://b/x/a/": ("directory", 2, 10),
        "s3://b/x/b": ("file", 1, 10),
    }
    assert len(below("s3://b/x", *files, recursive=True)) == len(files)
    whole = added_up(UfsPath.parse("s3://b/x/"), files)
    assert (whole.files, whole.size, whole.cached_files, shown_replicas(whole)) == (7, 70, 2, "0-2")


@pytest.mark.parametrize(
    ("copies", "percent"),
    [
        ([held("x", "w1")], "100%"),
        ([], "0%"),
        ([held("x", "w1", etag="old")], "0% (outdated)"),
        ([held("y", "w1"), held("x", "w1")], "100% (1 only cached)"),
    ],
)
def test_a_share_is_shown_with_what_is_odd_about_it(copies: list[HeldReport], percent: str):
    files = list(join([listed("x")], sorted(copies, key=lambda item: item.key)))
    assert shown_cached(added_up(UfsPath.parse("s3://b/x"), files)) == percent


def test_what_is_not_all_is_not_shown_as_all():
    files = [
        File(key=f"{number:04d}", size=1, etag="e", modified=LONG_AGO, workers=("w1",) if number else ())
        for number in range(5000)
    ]
    assert shown_cached(added_up(UfsPath.parse("s3://b/"), files)) == "99.9%"


@pytest.fixture
async def cluster() -> AsyncIterator[PeerCluster]:
    """20 files and an odd one, of which the first 10 are cached once and one of them twice."""
    running = PeerCluster()
    running.start("coordinator-0", asyncio.create_task(running.coordinator.run()))
    await running.join(0, 1)
    data = running.fill(20)
    running.origin.write(ODD, b"odd")
    for paths, replicas in ((list(data)[:10], 1), (list(data)[:1], 2)):
        assert (await running.done(load(*paths, replicas=replicas))).state is JobState.SUCCEEDED
    yield running
    await running.close()


@pytest.fixture
def run(url: str, capsysbinary: pytest.CaptureFixture[bytes]):
    async def run(*arguments: str, code: int = 0) -> str:
        def call() -> int:
            with pytest.raises(SystemExit) as ended:
                main(["fs", *arguments])
            return int(ended.value.code or 0)

        ended = await asyncio.to_thread(call)
        printed = capsysbinary.readouterr()
        assert ended == code, printed
        return (printed.out + (printed.err if code else b"")).decode()

    return run


async def found(run: Any, *arguments: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(await run(*arguments, "--json"))["entries"]
    return listed


async def test_ls_shows_each_file_and_how_much_of_each_directory_is_cached(run):
    text = await run("ls", PATH)
    assert text.splitlines()[0].split() == ["SIZE", "MODIFIED", "CACHED", "REPLICAS", "PATH"]
    first, second, *_, last = [line.split() for line in text.splitlines()[1:]]
    assert (first[0:2], first[4:]) == (["8", "B"], ["100%", "2", f"{PATH}0000"])
    assert second[4:] == ["100%", "1", f"{PATH}0001"]
    assert last[4:] == ["0%", "0", f"{PATH}sub/"]
    files = await found(run, "ls", PATH)
    assert [each["path"] for each in files][-2:] == [f"{PATH}0019", f"{PATH}sub/"]
    assert (files[0]["cachedFraction"], files[0]["replicas"]) == (1.0, {"least": 2, "most": 2})
    assert [each["path"] for each in await found(run, "ls", "-R", PATH)][-1] == ODD
    (top,) = await found(run, "ls", "s3://b")
    assert (top["path"], top["files"], top["cachedFiles"], top["type"]) == (PATH, 21, 10, "directory")
    cached = await found(run, "ls", "--cached", PATH)
    assert [each["path"] for each in cached] == [f"{PATH}{number:04d}" for number in range(10)]
    assert {each["onlyCached"] for each in cached} == {0}
    assert "nothing is at or below it" in await run("ls", "s3://b/none/", code=1)
    assert "nothing is cached at or below it" in await run("ls", "--cached", ODD, code=1)
    assert "has no scheme" in await run("ls", "b/none", code=2)


async def test_du_adds_up_what_is_cached(run):
    (whole,) = await found(run, "du", "-s", PATH)
    assert (whole["files"], whole["size"], whole["cachedFiles"], whole["cachedBytes"]) == (21, 173, 10, 80)
    text = await run("du", "-s", PATH)
    assert text.splitlines()[1].split() == ["173", "B", "80", "B", "46.2%", "21", PATH]
    assert len(await found(run, "du", PATH)) == 21


async def test_stat_tells_who_holds_a_file_in_which_version(run, cluster: PeerCluster):
    shown = json.loads(await run("stat", f"{PATH}0000", "--json"))
    assert (set(shown["workers"]), shown["outdated"]) == ({"worker-0", "worker-1"}, [])
    assert set(shown["owners"]) == set(shown["workers"])
    cluster.origin.write(f"{PATH}0000", b"another")
    assert "0% (outdated)" in await run("stat", f"{PATH}0000")
    cluster.origin.remove(f"{PATH}0000")
    assert "100% (only cached)" in await run("stat", f"{PATH}0000")
    assert json.loads(await run("stat", PATH, "--json"))["entry"]["type"] == "directory"
    assert "files     21" in await run("stat", PATH)


async def test_cat_writes_the_bytes_through_the_workers(run, cluster: PeerCluster):
    reads = cluster.origin_reads()
    assert await run("cat", f"{PATH}0000", f"{PATH}0001") == "object 0object 1"
    assert cluster.origin_reads() == reads
    assert await run("cat", ODD) == "odd"
    assert cluster.origin_reads() == reads + 1
    assert "does not exist" in await run("cat", f"{PATH}none", code=1)


async def test_cat_goes_to_another_worker_when_the_owner_is_gone(run, cluster: PeerCluster):
    owner = cluster.coordinator.cluster.placement.owners(f"{PATH}0000")[0].id
    await cluster.servers[owner].stop()  # and the map does not know it yet
    assert await run("cat", f"{PATH}0000") == "object 0"


async def test_files_are_rebalanced(run, cluster: PeerCluster):
    await cluster.join(2, 3)
    text = await run("rebalance", PATH)
    assert "SUCCEEDED: 10 files, 80 B in their places" in text
    assert "10 of them before" in await run("rebalance", PATH)
    assert "--replicas" in await run("rebalance", PATH, "--replicas", "2", code=2)


async def test_a_time_to_live_is_set_shown_and_removed(run):
    assert f"What is cached of {PATH} is freed at" in await run("setTtl", PATH, "7d")
    (ttl,) = json.loads(await run("ttls", "--json"))["ttls"]
    assert (ttl["path"], ttl["seconds"], ttl["job"]) == (PATH, 7 * 86400, None)
    assert PATH in await run("ttls")
    assert await run("unsetTtl", PATH) == f"What is cached of {PATH} stays.\n"
    assert "has no time to live" in await run("unsetTtl", PATH, code=1)
    assert "is not a time span" in await run("setTtl", PATH, "soon", code=2)


async def test_distributed_load_prints_the_lines_that_scripts_look_for(run, cluster: PeerCluster):
    lines = (await run("distributedLoad", f"{PATH}0011", "--replication", "2")).splitlines()
    assert lines[0] == "Please wait for command submission to finish.."
    assert lines[1].startswith("Submitted successfully, jobControlId = ")
    job_id = lines[1].rpartition(" ")[2]
    assert lines[2:] == [
        "Waiting for the command to finish ...",
        "Get command status information below:",
        f"Successfully loaded path {PATH}0011",
        "Total completed file count is 1, failed file count is 0",
        f"Finished running the command, jobControlId = {job_id}",
    ]
    assert len(cluster.holders(f"{PATH}0011")) == 2
    lines = (await run("distributedLoad", PATH, "--async")).splitlines()
    assert lines[0] == "Entering async submission mode."
    assert lines[2].startswith("Submitted distLoad job successfully, jobControlId = ")
    cluster.origin.write("s3://b/index", f"{PATH}none\n{PATH}0012\n".encode())
    text = await run("distributedLoad", "--index", "s3://b/index", code=1)
    assert f"Failed to load path {PATH}none" in text
    assert "Total completed file count is 1, failed file count is 1" in text
