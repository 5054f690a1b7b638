"""What Alluxio's clients write, without a socket of theirs; jobs for whole directories run in the integration tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from preheat.access import Grant, Role, parse_prefix
from preheat.engine import MemoryEngine
from preheat.store import PAGE_SIZE, PathIds, path_id
from preheat.tokens import TokenStore
from preheat.worker._coordinators import ControlPlane
from preheat.worker._forward import Forward
from preheat.worker.port._access import Authorizer
from preheat.worker.port._alluxio import AlluxioWorker
from tests.unit.alluxio_port import Answered, ask, raw_target
from tests.unit.writing_workers import Group, working


class Port:
    """The endpoints of a worker that may write below ``s3://b/``, but for ``s3://b/frozen/``."""

    def __init__(self, group: Group, authorizer: Authorizer | None = None) -> None:
        self.group = group
        (worker,) = group.workers
        self.ids = PathIds()
        self.forward = Forward(worker.reads, worker_id=worker.id, owners=group.owners)
        self.worker = AlluxioWorker(
            ControlPlane(),
            worker.reads,
            worker.store,
            forward=self.forward,
            url=worker.url,
            ids=self.ids,
            writes=worker.writes,
            authorizer=authorizer,
        )

    async def close(self) -> None:
        await self.worker.close()
        await self.forward.close()

    async def post(self, operation: str, key: str, query: str = "", *, body: bytes | None = None) -> Answered:
        uri = f"s3://b/{key}"
        target = raw_target(f"/v1/{operation}/{path_id(uri)}?ufsFullPath={uri}{query}")
        return await ask(self.worker, target, "POST", body=body)

    async def post_page(self, key: str, number: int, body: bytes) -> Answered:
        target = f"/v1/file/{path_id(f's3://b/{key}')}/page/{number}"
        return await ask(self.worker, target, "POST", body=body)

    async def to(self, operation: str, source: str, target: str, query: str = "") -> Answered:
        uri = f"s3://b/{source}"
        sent = raw_target(f"/v1/{operation}/{path_id(uri)}?srcPath={uri}&dstPath=s3://b/{target}{query}")
        return await ask(self.worker, sent, "POST")


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[Port]:
    async with working(tmp_path, 1) as group:
        port = Port(group)
        yield port
        await port.close()


@pytest.mark.parametrize("size", [0, 1, PAGE_SIZE + 7])
async def test_a_chunked_body_is_the_file(port: Port, size: int):
    body = bytes(size)
    assert (await port.post("chunk", "a b%", "&chunkSize=1048576", body=body)).status == 200
    assert await port.group.content("a b%") == body


async def test_touching_makes_a_file_and_empties_none(port: Port):
    port.group.origin.write("s3://b/full", b"x")
    for key in ("full", "new"):
        assert (await port.post("touch", key)).status == 200
    assert (await port.group.content("full"), await port.group.content("new")) == (b"x", b"")


async def test_pages_in_their_order_are_a_file_after_each_of_them(port: Port):
    port.ids.learn(["s3://b/f"])
    first, second, last = b"1" * PAGE_SIZE, b"2" * PAGE_SIZE, b"3" * 10
    for number, page in enumerate((first, second, last)):
        for _ in range(2):  # a page may be sent again
            assert (await port.post_page("f", number, page)).status == 200
        assert await port.group.content("f") == b"".join((first, second, last)[: number + 1])
    assert (await port.post_page("f", 9, b"x")).status == 409
    assert (await port.post_page("f", 1, b"x")).status == 409  # there is another one behind it
    assert (await port.post_page("f", 2, b"3" * (PAGE_SIZE + 1))).status == 400
    assert (await port.post_page("f", 64, b"x")).status == 400
    assert (await port.post_page("never named", 0, b"x")).json["code"] == "unknown_path_id"
    port.ids.learn(["s3://b/none"])
    assert (await port.post_page("none", 1, b"x")).status == 500
    assert await port.group.content("f") == first + second + last


async def test_a_file_is_removed_and_a_directory_only_as_a_whole(port: Port):
    for key in ("d/1", "d/2", "d", "dx"):
        port.group.origin.write(f"s3://b/{key}", b"x")
    assert (await port.post("rm", "d")).status == 200  # the file of this name
    refused = await port.post("rm", "d")
    assert (refused.status, refused.json["code"]) == (409, "conflict")
    assert (await port.post("rm", "none")).status == 500
    assert (await port.post("rm", "none", "&recursive=True")).status == 500
    assert (await port.post("rm", "d", "&recursive=True&recursiveAlias=False")).status == 200
    left = [await port.group.content(key) for key in ("d/1", "d/2", "dx")]
    assert left == [None, None, b"x"]


@pytest.mark.parametrize("option", ["sync_parent_next_time", "remove_unchecked_option", "delete_mount_point"])
async def test_nothing_is_removed_where_the_client_may_mean_something_else(port: Port, option: str):
    port.group.origin.write("s3://b/f", b"x")
    assert (await port.post("rm", "f", f"&recursive=True&{option}=True")).status == 400
    assert await port.group.content("f") == b"x"


async def test_a_copy_and_a_move_overwrite_nothing_unless_told_to(port: Port):
    for key, body in {"a b": b"a", "taken": b"t"}.items():
        port.group.origin.write(f"s3://b/{key}", body)
    assert (await port.to("copy", "a b", "c d", "&forced=False")).status == 200
    assert (await port.to("mv", "c d", "e+f")).status == 200
    assert [await port.group.content(key) for key in ("a b", "c d", "e+f")] == [b"a", None, b"a"]
    for operation in ("mv", "copy"):
        assert (await port.to(operation, "a b", "taken")).status == 409
        assert (await port.to(operation, "a b", "a b", "&forced=True")).status == 400  # onto itself
        assert (await port.to(operation, "none", "x")).status in (409, 500, 503)
    assert (await port.to("copy", "a b", "taken", "&forced=true")).status == 200
    assert [await port.group.content(key) for key in ("a b", "taken")] == [b"a", b"a"]


async def test_a_name_that_the_client_cuts_off_is_no_target(port: Port):
    port.group.origin.write("s3://b/a#b", b"x")
    port.ids.learn(["s3://b/a#b"])
    refused = await port.to("mv", "a#b", "c")
    assert refused.status == 400
    assert "dstPath" in refused.json["detail"]
    assert await port.group.content("a#b") == b"x"


@pytest.mark.parametrize(
    ("operation", "query", "body"),
    [("chunk", "", b"x"), ("touch", "", None), ("mkdir", "", None), ("rm", "", None), ("rm", "&recursive=true", None)],
)
async def test_what_no_mount_lets_be_written_is_not(port: Port, operation: str, query: str, body: bytes | None):
    refused = await port.post(operation, "frozen/x", query, body=body)
    assert (refused.status, refused.json["code"]) == (403, "read_only")
    assert await port.group.content("frozen/x") == b"x"


async def test_a_copy_or_a_move_needs_leave_to_write_where_it_writes(port: Port):
    port.group.origin.write("s3://b/a", b"a")
    port.group.origin.write("s3://b/d/1", b"1")
    for operation, source, target in (("copy", "a", "frozen/a"), ("mv", "frozen/x", "y"), ("mv", "d", "frozen/d")):
        assert (await port.to(operation, source, target)).json["code"] == "read_only"
    assert [await port.group.content(key) for key in ("a", "frozen/x", "y", "d/1")] == [b"a", b"x", None, b"1"]


async def test_making_a_directory_writes_nothing(port: Port):
    assert (await port.post("mkdir", "dir")).status == 200
    assert await port.group.content("dir") is None
    assert await port.group.content("dir/") is None


async def test_a_token_is_bound_to_its_prefixes_by_ids_too(tmp_path: Path):
    engine, authorizer = MemoryEngine(), Authorizer()
    tokens = TokenStore(engine)
    following = [asyncio.create_task(work) for work in (tokens.follow(), authorizer.follow(engine))]
    await tokens.loaded.wait()
    prefixes = (parse_prefix("s3://b/mine/"),)
    _, writer = await tokens.create(grant=Grant(role=Role.SUBMIT, prefixes=prefixes))
    _, reader = await tokens.create(grant=Grant(role=Role.READ, prefixes=prefixes))
    async with working(tmp_path, 1) as group:
        port = Port(group, authorizer)
        for key in ("mine/f", "theirs/f"):
            group.origin.write(f"s3://b/{key}", b"x")
            port.ids.learn([f"s3://b/{key}"])

        async def status(target: str, method: str = "GET", token: str = reader.text) -> int:
            return (await ask(port.worker, target, method, token=token)).status

        mine, theirs = path_id("s3://b/mine/f"), path_id("s3://b/theirs/f")
        for route in ("file/{}/page/0", "chunk/{}", "head/{}", "tail/{}", "path/{}"):
            assert await status(f"/v1/{route.format(mine)}") == 200
            assert await status(f"/v1/{route.format(theirs)}") == 403
        assert await status(f"/v1/rm/{mine}", "POST") == 403
        assert await status(f"/v1/rm/{theirs}", "POST", writer.text) == 403
        to_theirs = f"/v1/mv/{mine}?srcPath=s3://b/mine/f&dstPath=s3://b/theirs/g"
        assert await status(to_theirs, "POST", writer.text) == 403
        assert [await group.content(key) for key in ("mine/f", "theirs/f", "theirs/g")] == [b"x", b"x", None]
        assert await status(f"/v1/rm/{mine}", "POST", writer.text) == 200
        await port.close()
    for task in following:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
