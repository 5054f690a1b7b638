"""What Alluxio's clients list and read, without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preheat.mounts import Mount, MountTable
from preheat.paths import UfsPath
from preheat.store import PAGE_SIZE, MemoryStore, PathIds, path_id
from preheat.ufs import MemoryUnderStore
from preheat.worker._coordinators import ControlPlane
from preheat.worker._forward import Forward
from preheat.worker._reads import ReadService
from preheat.worker.port._alluxio import AlluxioWorker
from tests.unit.alluxio_port import Answered, ask, raw_target, target

ODD_NAMES = (
    "a b", "a+b", "100%", "50% +x", "a%20b", "a%2Fb", "x%c3%a9", "a?b", "x&y=z", "x&offset=1", "é/😀", "a//b", "/lead",
    "a\\b", '~[b]{c}|^`"<>',
)  # fmt: skip
LOST_NAMES = ("a#b", "%41", "x#y?z&chunkSize=1")
"""The client's library changes these beyond recovery; their ids have to be known."""


class Port:
    """A worker's endpoints and the under store behind them."""

    def __init__(self) -> None:
        self.origin = MemoryUnderStore()
        self.origin.write("s3://b/.keep")
        self.origin.remove("s3://b/.keep")
        self.store = MemoryStore(capacity=64 << 20)
        self.reads = ReadService(self.store, self.origin)
        self.ids = PathIds()
        forward = Forward(self.reads, worker_id="w", owners=lambda path, count: ())
        self.worker = AlluxioWorker(
            ControlPlane(), self.reads, self.store, forward=forward, url="http://127.0.0.9:28080", ids=self.ids
        )

    async def ask(self, target: str, method: str = "GET") -> Answered:
        return await ask(self.worker, target, method)

    async def page(self, uri: str, page: int | str, query: str = "") -> Answered:
        return await self.ask(f"/v1/file/{path_id(uri)}/page/{page}{query}")

    async def learn(self, uri: str) -> None:
        await self.ask(target("/v1/info", path=uri))


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    port = Port()
    yield port
    await port.worker.close()
    await port.reads.close()


# Listings.


async def test_a_directory_is_what_keys_have_in_common(port: Port):
    port.origin.write("s3://b/d/one", b"1")
    port.origin.write("s3://b/d/sub/two", b"22")
    port.origin.write("s3://b/d/sub/deep/three", b"333")
    port.origin.write("s3://b/dx", b"no")
    for uri in ("s3://b/d", "s3://b/d/"):
        found = (await port.ask(target("/v1/files", path=uri))).json
        assert [(item["mType"], item["mName"], item["mUfsPath"], item["mLength"]) for item in found] == [
            ("directory", "sub", "s3://b/d/sub", 0),
            ("file", "one", "s3://b/d/one", 1),
        ]
        (status,) = (await port.ask(target("/v1/info", path=uri))).json
        assert (status["mType"], status["mName"], status["mUfsPath"]) == ("directory", "d", "s3://b/d")


async def test_a_status_has_every_field_that_a_client_reads(port: Port):
    info = port.origin.write("s3://b/d/f.bin", b"x" * 6000)
    (status,) = (await port.ask(target("/v1/info", path="s3://b/d/f.bin"))).json
    modified = int(info.last_modified * 1000)
    assert status == {
        "mType": "file", "mName": "f.bin", "mPath": "/b/d/f.bin", "mUfsPath": "s3://b/d/f.bin", "mLength": 6000,
        "mHumanReadableFileSize": "5.86KB", "mCreationTimeMs": modified, "mLastModificationTimeMs": modified,
        "mCompleted": True, "mPersisted": True, "mContentHash": info.etag,
    }  # fmt: skip
    assert (await port.ask(target("/v1/files", path="s3://b/d/f.bin"))).json == [status]


@pytest.mark.parametrize("route", ["/v1/info", "/v1/files"])
@pytest.mark.parametrize("uri", ["s3://b/nothing", "s3://b/nothing/", "s3://other/", "s3://b/fil"])
async def test_what_is_missing_is_status_500_with_the_reason(port: Port, route: str, uri: str):
    port.origin.write("s3://b/file", b"x")
    answer = await port.ask(target(route, path=uri))
    assert answer.status == answer.json["status"] == 500
    assert answer.json["code"] in ("object_not_found", "bucket_not_found")
    assert uri.removesuffix("/") in answer.json["detail"]


async def test_other_errors_are_not_taken_for_a_missing_file(port: Port):
    assert (await port.ask("/v1/info?path=nonsense")).status == 400
    assert (await port.ask("/v1/info")).status == 400
    assert (await port.ask(target("/v1/info", path="file:///etc/passwd"))).status == 403
    assert (await port.ask(target("/v1/files", path="file:///etc"))).status == 403


async def test_the_root_of_a_bucket_is_there_even_if_it_is_empty(port: Port):
    for uri in ("s3://b", "s3://b/"):
        assert (await port.ask(target("/v1/files", path=uri))).json == []
        (status,) = (await port.ask(target("/v1/info", path=uri))).json
        assert (status["mType"], status["mName"], status["mPath"]) == ("directory", "b", "/b/")


async def test_a_key_that_is_a_prefix_of_another_is_a_file_and_a_directory(port: Port):
    port.origin.write("s3://b/a", b"file")
    port.origin.write("s3://b/a/b", b"below")
    found = (await port.ask(target("/v1/files", path="s3://b/"))).json
    assert [(item["mType"], item["mUfsPath"]) for item in found] == [("directory", "s3://b/a"), ("file", "s3://b/a")]
    (status,) = (await port.ask(target("/v1/info", path="s3://b/a"))).json
    assert (status["mType"], status["mLength"]) == ("file", 4)
    (below,) = (await port.ask(target("/v1/files", path="s3://b/a"))).json
    assert below["mUfsPath"] == "s3://b/a/b"


async def test_a_large_directory_below_is_passed_over(port: Port):
    for number in range(2500):
        port.origin.write(f"s3://b/sub/{number:05}", b"")
    port.origin.write("s3://b/z", b"")
    before = port.reads.stats()["originLists"]
    found = (await port.ask(target("/v1/files", path="s3://b/"))).json
    assert [item["mName"] for item in found] == ["sub", "z"]
    assert port.reads.stats()["originLists"] - before == 3  # one in the directory, one behind it, and the end
    assert len((await port.ask(target("/v1/files", path="s3://b/sub"))).json) == 2500


async def test_an_object_named_like_its_directory_is_listed_once(port: Port):
    for key in ("a/", "a/b", "a/c"):
        port.origin.write(f"s3://b/{key}", b"x")
    found = await port.reads.list(UfsPath.parse("s3://b/a/"), after="a/", limit=10)
    assert [info.key for info in found] == ["a/b", "a/c"]
    assert [item["mName"] for item in (await port.ask(target("/v1/files", path="s3://b/a"))).json] == ["b", "c"]


KEYS = st.sets(st.text(alphabet="ab/\U0010ffff", min_size=1, max_size=5), max_size=20)


@given(keys=KEYS, directory=st.sampled_from(["", "a/", "a//", "b/"]))
async def test_a_listing_is_that_of_the_keys(keys: set[str], directory: str):
    port = Port()
    for key in keys:
        port.origin.write(f"s3://b/{key}", b"x")
    below = [key.removeprefix(directory) for key in keys if key.startswith(directory) and key != directory]
    answer = await port.ask(target("/v1/files", path=f"s3://b/{directory}"))
    if answer.status == 500:
        assert not below
    else:
        found = sorted((item["mType"], item["mUfsPath"]) for item in answer.json)
        files = {("file", f"s3://b/{directory}{key}") for key in below if "/" not in key}
        names = {key.partition("/")[0] for key in below if "/" in key}
        directories = {("directory", f"s3://b/{directory}{name or '/'}") for name in names}
        assert found == sorted(files | directories)
    await port.worker.close()
    await port.reads.close()


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("s3://b/a b", "/b/a%20b"),
        ("s3://b/100%", "/b/100%25"),
        ("s3://b/a#b?c", "/b/a%23b%3Fc"),
        ("s3://b/é", "/b/%C3%A9"),
        ("s3://b/a+b&c=d", "/b/a+b&c=d"),
        ("s3://b//x", "/b//x"),
        ("s3://b/data/sub/x y", "/warm/sub/x%20y"),
    ],
)
async def test_a_path_is_told_as_it_stands_in_a_url_of_the_s3_port(port: Port, uri: str, path: str):
    port.reads.policies.mounts = MountTable([Mount(name="warm", path="s3://b/data/")])
    port.origin.write(uri, b"x")
    (status,) = (await port.ask(target("/v1/info", path=uri))).json
    assert status["mPath"] == path


# Pages.


@pytest.mark.parametrize("size", [0, 1, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 3 * PAGE_SIZE])
async def test_a_file_is_its_pages_up_to_one_that_is_not_full(port: Port, size: int):
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    port.origin.write("s3://b/f", body)
    await port.learn("s3://b/f")
    for _ in range(2):  # missing, then cached
        pages = [(await port.page("s3://b/f", number)) for number in range(size // PAGE_SIZE + 2)]
        assert {page.status for page in pages} == {200}
        assert b"".join(page.body for page in pages) == body
        assert len(pages[size // PAGE_SIZE].body) < PAGE_SIZE
        await port.reads.fetch(UfsPath.parse("s3://b/f"), info=None)


async def test_a_part_of_a_page_and_what_lies_outside(port: Port):
    body = b"".join(number.to_bytes(4) for number in range(PAGE_SIZE // 2))
    port.origin.write("s3://b/f", body)
    await port.learn("s3://b/f")
    part = await port.page("s3://b/f", 1, "?offset=10&length=20")
    assert part.body == body[PAGE_SIZE + 10 :][:20]
    assert (await port.page("s3://b/f", 1, f"?offset={PAGE_SIZE - 5}")).body == body[-5:]
    assert (await port.page("s3://b/f", 9, "?offset=10&length=20")).body == b""
    for query in (
        f"?offset=0&length={PAGE_SIZE + 1}",
        f"?offset={PAGE_SIZE}&length=1",
        "?offset=-1&length=2",
        "?length=x",
    ):
        assert (await port.page("s3://b/f", 0, query)).status == 400
    for number in ("-1", "one", "9" * 40):
        assert (await port.page("s3://b/f", number)).status == 400


async def test_reads_are_counted_as_all_reads_are(port: Port):
    port.origin.write("s3://b/f", b"x" * 100)
    await port.reads.fetch(UfsPath.parse("s3://b/f"), info=None)
    await port.learn("s3://b/f")
    before = port.reads.stats()
    assert (await port.page("s3://b/f", 0)).body == b"x" * 100
    after = port.reads.stats()
    assert after["hits"] - before["hits"] == 1
    assert after["hitBytes"] - before["hitBytes"] == 100
    assert after["originReads"] == before["originReads"]


# Ids.


async def test_an_id_is_known_once_its_path_was_listed_or_asked_for_or_loaded(port: Port):
    for name in ("listed/f", "asked", "loaded"):
        port.origin.write(f"s3://b/{name}", name.encode())
    unknown = await port.page("s3://b/asked", 0)
    assert (unknown.status, unknown.json["code"]) == (500, "unknown_path_id")
    await port.ask(target("/v1/files", path="s3://b/listed"))
    await port.learn("s3://b/asked")
    await port.ask(target("/v1/load", path="s3://b/loaded", opType="submit"))
    for name in ("listed/f", "asked", "loaded"):
        assert (await port.page(f"s3://b/{name}", 0)).body == name.encode()


async def test_an_id_of_what_a_job_cached_is_found_in_the_store(port: Port):
    for number in range(3):
        port.origin.write(f"s3://b/{number}", b"x")
        await port.reads.fetch(UfsPath.parse(f"s3://b/{number}"), info=None)
        assert (await port.page(f"s3://b/{number}", 0)).body == b"x"  # the later ones are found by later searches


async def test_what_is_no_id_is_refused(port: Port):
    for text in ("x", "0" * 63, "g" * 64, "A" * 64):
        assert (await port.ask(f"/v1/file/{text}/page/0")).status == 400


async def test_an_alias_of_a_scheme_has_an_id_of_its_own(port: Port):
    port.origin.write("s3://b/f", b"x")
    await port.learn("s3a://b/f")
    assert (await port.page("s3a://b/f", 0)).body == b"x"


async def test_ids_outlive_the_worker(tmp_path):
    ids = PathIds(tmp_path / "ids.sqlite")
    ids.learn(["s3://b/1", "s3://b/2"])
    ids.close()
    ids = PathIds(tmp_path / "ids.sqlite", limit=3)
    assert ids.find(path_id("s3://b/2")) == "s3://b/2"
    ids.learn([f"s3://b/{number}" for number in (2, 3, 4)])
    assert [ids.find(path_id(f"s3://b/{number}")) for number in (1, 2, 3)] == [None, "s3://b/2", "s3://b/3"]
    ids.close()


# Whole files, with the path beside the id.


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_a_path_arrives_however_the_client_spells_it(port: Port, name: str):
    uri = f"s3://b/{name}"
    port.origin.write(uri, name.encode())
    for sent in (
        raw_target(f"/v1/chunk/{path_id(uri)}?ufsFullPath={uri}&chunkSize=1048576"),
        raw_target(f"/v1/file/{path_id(uri)}/page/0?offset=0&length=1000&ufsFullPath={uri}"),
        target(f"/v1/chunk/{path_id(uri)}", ufsFullPath=uri),
    ):
        assert (await port.ask(sent)).body == name.encode()


@pytest.mark.parametrize("name", LOST_NAMES)
async def test_a_path_that_the_client_loses_is_not_taken_for_another(port: Port, name: str):
    uri = f"s3://b/{name}"
    port.origin.write(uri, b"right")
    for wrong in ("a", "A", "x"):
        port.origin.write(f"s3://b/{wrong}", b"wrong")
    sent = raw_target(f"/v1/chunk/{path_id(uri)}?ufsFullPath={uri}&chunkSize=1048576")
    refused = await port.ask(sent)
    assert (refused.status, refused.json["code"]) == (500, "unknown_path_id")
    await port.learn(uri)
    assert (await port.ask(sent)).body == b"right"


async def test_beginnings_and_ends(port: Port):
    body = bytes(range(256)) * 8
    port.origin.write("s3://b/f", body)

    async def ask(route: str, query: str = "") -> bytes:
        return (await port.ask(f"/v1/{route}/{path_id('s3://b/f')}?ufsFullPath=s3://b/f{query}")).body

    for _ in range(2):
        assert await ask("head") == body[:1024]
        assert await ask("tail") == body[-1024:]
        assert await ask("head", "&numOfBytes=3") == body[:3]
        assert await ask("tail", "&numOfBytes=3") == body[-3:]
        assert await ask("tail", "&numOfBytes=0") == await ask("head", "&numOfBytes=0") == b""
        assert await ask("tail", "&numOfBytes=1kb") == body[-1000:]
        assert await ask("head", "&numOfBytes=1MiB") == body
    assert b"is not a size" in await ask("head", "&numOfBytes=many")


async def test_a_head_of_a_page_has_no_body(port: Port):
    port.origin.write("s3://b/f", b"x" * 100)
    await port.learn("s3://b/f")
    answer = await port.ask(f"/v1/file/{path_id('s3://b/f')}/page/0", "HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert "Content-Length: 100" in answer.headers


async def test_a_file_of_the_machine_is_not_read_by_its_id(port: Port):
    uri = "file:///etc/passwd"
    port.origin.write(uri, b"secret")
    port.ids.learn([uri])
    assert (await port.page(uri, 0)).status == 403
    assert (await port.ask(f"/v1/chunk/{path_id(uri)}?ufsFullPath={uri}")).status == 403
    await port.reads.fetch(UfsPath.parse(uri), info=None)
    assert (await port.page(uri, 0)).body == b"secret"  # a job has cached it
