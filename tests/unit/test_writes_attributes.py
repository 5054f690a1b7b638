"""What a writer says of an object besides its bytes: what reaches the under store, and who is told of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from preheat.attributes import attributes_of, lines_in_head, lines_of, of_lines, quoted, unquoted
from preheat.errors import InvalidRequest
from preheat.store import DiskStore
from tests.unit.s3_ports import S3Group, S3Port, s3_ports
from tests.unit.writing_workers import at, pieces

SAID = {"ContentType": "text/csv", "ContentEncoding": "gzip", "CacheControl": "no-store", "Metadata": {"run": "a b"}}
KEPT = {
    "content-type": "text/csv",
    "content-encoding": "gzip",
    "cache-control": "no-store",
    "x-amz-meta-run": "a b",
}


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[S3Group]:
    async with s3_ports(tmp_path, 2) as group:
        yield group


@pytest.mark.parametrize(
    ("headers", "attributes"),
    [
        ({"host": "x", "content-length": "1", "x-amz-date": "y"}, {}),
        ({"content-type": "application/octet-stream", "content-encoding": "aws-chunked"}, {}),
        ({"content-encoding": "gzip, aws-chunked"}, {"content-encoding": "gzip"}),
        ({"x-preheat-meta-a": "1", "x-amz-meta-b": ""}, {"x-amz-meta-a": "1", "x-amz-meta-b": ""}),
    ],
)
def test_which_headers_count(headers: dict[str, str], attributes: dict[str, str]):
    assert attributes_of(headers) == attributes


@pytest.mark.parametrize("headers", [{"x-amz-meta-a": "x" * 2048}, {"x-amz-meta-a": "ü"}, {"content-type": "a\tb"}])
def test_what_s3_would_not_take_is_refused(headers: dict[str, str]):
    with pytest.raises(InvalidRequest, match=r"2049 bytes|not printable ASCII"):
        attributes_of(headers)


@pytest.mark.parametrize("at_owner", [True, False])
async def test_the_under_store_gets_them_with_whole_objects_uploads_and_copies(workers: S3Group, at_owner: bool):
    def port(key: str):
        return workers.owner(key) if at_owner else workers.other(key)

    await port("k")("put_object", Key="k", Body=b"x", **SAID)
    upload = {"Key": "big", "UploadId": (await port("big")("create_multipart_upload", Key="big", **SAID))["UploadId"]}
    part = await port("big")("upload_part", **upload, PartNumber=1, Body=b"x")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    await port("big")("complete_multipart_upload", **upload, MultipartUpload=parts)
    await port("copy")("copy_object", Key="copy", CopySource="data/k")
    for key in ("k", "big", "copy"):
        assert workers.origin.attributes(f"s3://b/{key}") == KEPT
    other = {"CopySource": "data/k", "MetadataDirective": "REPLACE", "Metadata": {"new": "1"}}
    await port("k")("copy_object", Key="k", **other)
    assert workers.origin.attributes("s3://b/k") == {"x-amz-meta-new": "1"}
    assert await workers.group.content("k") == b"x"
    await port("k")("put_object", Key="k", Body=b"y")
    assert workers.origin.attributes("s3://b/k") == {}


async def test_what_is_pending_tells_and_keeps_them_until_it_is_persisted(workers: S3Group):
    for key in ("k", "tmp/k"):
        await workers.other(f"fast/{key}")("put_object", Bucket="fast", Key=key, Body=b"body", **SAID)
        for port in workers.ports:
            for operation in ("head_object", "get_object"):
                answer = await port(operation, Bucket="fast", Key=key)
                assert {name: answer[name] for name in SAID} == SAID
    worker = workers.ports[0].worker
    await worker.writes.copy(at("fast/k"), at("copied"))
    assert workers.origin.attributes("s3://b/copied") == KEPT
    assert await worker.writes.persist(at("fast/k"))
    assert workers.origin.attributes("s3://b/fast/k") == KEPT
    for port in workers.ports:
        answer = await port("head_object", Bucket="fast", Key="k")
        assert (answer["ContentType"], answer["Metadata"]) == ("text/csv", {"run": "a b"})


async def test_the_native_port(workers: S3Group):
    url = workers.other("k").worker.url
    headers = {"Content-Type": "text/csv", "X-Preheat-Meta-Run": "7"}
    expected = {"content-type": "text/csv", "x-amz-meta-run": "7"}
    async with aiohttp.ClientSession() as http:
        async with http.put(f"{url}/v1/data/s3/b/k", data=b"x", headers=headers) as answer:
            assert answer.status == 200
        assert workers.origin.attributes("s3://b/k") == expected
        async with http.post(f"{url}/v1/copy?path=s3://b/k&target=s3://b/c") as answer:
            assert answer.status == 200
        assert workers.origin.attributes("s3://b/c") == expected
        async with http.post(f"{url}/v1/copy?path=s3://b/k&target=s3://b/c&attributes=replace") as answer:
            assert answer.status == 200
        assert workers.origin.attributes("s3://b/c") == {}
        async with http.put(f"{url}/v1/data/s3/b/k", data=b"x", headers={"X-Preheat-Meta-A": "x" * 4000}) as answer:
            assert answer.status == 400


@pytest.mark.parametrize(
    "header",
    [
        {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32},
        {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": "2030-01-01T00:00:00Z"},
    ],
)
async def test_what_would_not_be_kept_is_not_promised(workers: S3Group, header: dict[str, str]):
    """Stored without the client's key, or without the lock, it would be a promise that nobody keeps."""
    port = workers.ports[0]
    port.worker.group.origin.write("s3://b/source", b"x")
    for operation, more in (
        ("put_object", {"Body": b"x"}),
        ("copy_object", {"CopySource": "data/source"}),
        ("create_multipart_upload", {}),
    ):
        assert await port.refused(operation, Key="k", **more, **header) == (501, "NotImplemented")
    assert await workers.group.content("k") is None


@pytest.mark.parametrize("size", [4, 3 << 20])
async def test_what_is_cached_tells_them_without_asking_the_under_store(workers: S3Group, size: int):
    await workers.origin.put(at("k"), pieces(bytes(size)), size=size, attributes=KEPT)
    owner, other = workers.owner("k"), workers.other("k")

    async def check(port: S3Port):
        for operation in ("head_object", "get_object"):
            answer = await port(operation, Key="k")
            assert {name: answer[name] for name in SAID} == SAID

    def asked() -> list[int]:
        return [port.worker.reads.counters.origin_stats for port in workers.ports]

    await check(other)  # nobody has it
    await owner.worker.reads.fetch(at("k"), info=None)
    before = asked()
    await check(owner)
    await check(other)
    assert asked() == before
    await owner("put_object", Key="k", Body=b"new", ContentType="text/plain")
    answer = await owner("get_object", Key="k")
    assert (answer["ContentType"], answer["Metadata"], "CacheControl" in answer) == ("text/plain", {}, False)


async def test_what_is_said_anew_of_the_same_bytes_is_told_by_all_workers(workers: S3Group):
    """The etag is the same, so the other worker could take its copy for the present version."""
    owner, other = workers.owner("k"), workers.other("k")
    await owner("put_object", Key="k", Body=b"body", ContentType="text/old")
    await other.worker.reads.fetch(at("k"), info=None)  # as a job does that makes copies
    for asked in ({"Body": b"body"}, {"CopySource": "data/k", "MetadataDirective": "REPLACE"}):
        operation = "put_object" if "Body" in asked else "copy_object"
        await owner(operation, Key="k", ContentType=f"text/{operation}", **asked)
        for port in workers.ports:
            answer = await port("get_object", Key="k")
            assert (answer["Body"], answer["ContentType"]) == (b"body", f"text/{operation}")


async def test_a_copy_by_way_of_the_bytes_keeps_them(workers: S3Group):
    await workers.origin.put(at("k"), pieces(b"x"), size=1, attributes=KEPT)
    await workers.ports[0]("copy_object", Bucket="fast", Key="tmp/k", CopySource="data/k")
    answer = await workers.ports[1]("head_object", Bucket="fast", Key="tmp/k")
    assert {name: answer[name] for name in SAID} == SAID


def test_a_store_keeps_them_and_reads_records_that_have_none(tmp_path: Path):
    lines = lines_of(KEPT)
    for key, attributes in (("a", lines), ("b", "")):
        store = DiskStore(tmp_path, capacity=1 << 20)
        with store.writer(key, etag="e", size=1, last_modified=1.0, attributes=attributes) as writer:
            writer.append(b"x")
            writer.commit()
        store.close()
    store = DiskStore(tmp_path, capacity=1 << 20)
    assert [(item.path, item.attributes) for item in store.scan()] == [("a", lines), ("b", "")]
    store.close()


def test_lines_of_a_head():
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\ncontent-type:  image/png \r\nX-Amz-Meta-Name:a: b\r\nETag: x\r\n"
        b"x-amz-meta-utf8: \xc3\xa4\r\nServer: x-amz-meta-no: 1"
    )
    lines = lines_in_head(head)
    assert lines.startswith("Content-Type: image/png\r\n")
    assert of_lines(lines) == {
        "content-type": "image/png",
        "x-amz-meta-name": "a: b",
        "x-amz-meta-utf8": "\xc3\xa4",
    }
    assert unquoted(quoted(lines)) == lines
    assert lines_in_head(b"HTTP/1.1 200 OK\r\nX-Preheat-Attributes: " + quoted(lines).encode()) == lines


@pytest.mark.parametrize(
    "attributes",
    [
        {"content-type": "application/octet-stream"},
        {"content-type": "a\r\nSet-Cookie: b"},
        {"x-amz-meta-a": "€"},
        {"x-amz-meta-a": "x" * 5000},
        {"set-cookie": "b"},
    ],
)
def test_what_cannot_stand_in_a_head_is_left_out(attributes: dict[str, str]):
    assert not lines_of(attributes)


def test_another_worker_cannot_add_headers():
    assert unquoted("Content-Type: a%0D%0ASet-Cookie: b%0D%0A%0D%0A") == "Content-Type: a\r\n"
