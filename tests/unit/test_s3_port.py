"""The S3 port over in-memory twins: what boto3 and plain clients get, and what is refused, with which code."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import random
from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import yarl

from preheat.engine import Bucket, MemoryEngine
from preheat.mounts import Mount, WriteMode
from preheat.store import PAGE_SIZE
from preheat.tokens import TokenStore
from preheat.ufs import MemoryUnderStore
from preheat.worker.s3 import S3Credentials
from preheat.worker.s3._xml_bodies import MAX_BODY_BYTES
from testbed.certificates import Authority
from tests.unit.s3_ports import S3Group, S3Port, s3_ports
from tests.unit.writing_workers import at

DEEP = Mount(name="deep", path="s3://b/deep/prefix/", writes=WriteMode.THROUGH)
NAMES = [
    "plain",
    "a",
    "a/b",
    "with space",
    "100%",
    "a%20b",
    "a%2Fb",
    "a+b",
    "why?",
    "why?acl",
    "a#b",
    "/leading",
    "a//b",
    "a/./b/../c",
    "ends/",
    "-~_.!*'();:@&=$,[]",
    '<&">',
    "ü/日本/😀",
    "back\\slash",
    "tab\there",
    "k" * 1024,
    "é" * 512,
]


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[S3Group]:
    async with s3_ports(tmp_path) as group:
        yield group


@pytest.fixture
def port(workers: S3Group) -> S3Port:
    return workers.ports[0]


@pytest.fixture
def origin(workers: S3Group) -> MemoryUnderStore:
    return workers.origin


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
        yield session


async def ask(
    http: aiohttp.ClientSession, port: S3Port, target: str, *, method: str = "GET", data: Any = None, **headers: str
) -> tuple[int, bytes, aiohttp.typedefs.LooseHeaders]:
    """Send a plain request, spelled as it stands."""
    url = yarl.URL(port.url + target, encoded=True)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with http.request(method, url, headers=sent, data=data) as response:
        return response.status, await response.read(), response.headers


async def code_of(http: aiohttp.ClientSession, port: S3Port, target: str, **how: Any) -> tuple[int, str]:
    status, body, headers = await ask(http, port, target, **how)
    assert headers["Content-Type"] == "application/xml"
    assert f"<RequestId>{headers['x-amz-request-id']}</RequestId>".encode() in body
    return status, body.partition(b"<Code>")[2].partition(b"</Code>")[0].decode()


async def test_every_name_is_written_read_listed_and_deleted(port: S3Port, origin: MemoryUnderStore) -> None:
    """None of them is another one's."""
    for name in NAMES:
        await port("put_object", Key=name, Body=name.encode())
    for name in NAMES:
        answer = await port("get_object", Key=name)
        assert (answer["Body"], answer["ContentLength"]) == (name.encode(), len(name.encode()))
        head = await port("head_object", Key=name)
        assert head["ETag"] == f'"{hashlib.md5(name.encode()).hexdigest()}"'
        assert (await origin.stat(port.worker.policies.mounts.resolve("data", name))).size == len(name.encode())
    listed = [item["Key"] for item in (await port("list_objects_v2"))["Contents"]]
    assert listed == sorted([*NAMES, "frozen/x"])
    for name in NAMES:
        await port("delete_object", Key=name)
        assert await port.refused("get_object", Key=name) == (404, "NoSuchKey")
    assert [item["Key"] for item in (await port("list_objects"))["Contents"]] == ["frozen/x"]


@pytest.mark.parametrize("size", [0, 1, PAGE_SIZE - 1, PAGE_SIZE + 1, 5 * PAGE_SIZE])
async def test_bodies_of_every_size_come_back(port: S3Port, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    for checksum in ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"):
        await port("put_object", Key=f"k{checksum}", Body=body, ChecksumAlgorithm=checksum)
        for _ in ("from the cache", "again"):
            assert (await port("get_object", Key=f"k{checksum}", ChecksumMode="ENABLED"))["Body"] == body


async def test_over_tls_checksums_come_behind_the_body(tmp_path: Path) -> None:
    """In chunks, which boto3 sends over HTTPS alone."""
    body = random.Random(1).randbytes(300_000)
    async with s3_ports(tmp_path, tls=Authority.make(tmp_path).issue("worker", "127.0.0.1")) as group:
        for checksum in ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"):
            answer = await group.ports[0]("put_object", Key="k", Body=body, ChecksumAlgorithm=checksum)
            assert f"x-amz-checksum-{checksum.lower()}" in answer["ResponseMetadata"]["HTTPHeaders"]
            assert (await group.ports[0]("get_object", Key="k"))["Body"] == body


async def test_ranges_and_conditions(port: S3Port, origin: MemoryUnderStore, http: aiohttp.ClientSession) -> None:
    info = origin.write("s3://b/k", b"0123456789")
    tag, old, new = f'"{info.etag}"', "Mon, 01 Jan 2001 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"
    for cached in (False, True):
        for headers, status, body in (
            ({}, 200, b"0123456789"),
            ({"Range": "bytes=2-4"}, 206, b"234"),
            ({"Range": "bytes=-3"}, 206, b"789"),
            ({"Range": "bytes=8-100"}, 206, b"89"),
            ({"Range": "bytes=0--2"}, 200, b"0123456789"),  # as alluxiofs asks for all of it
            ({"Range": "lines=1-2"}, 200, b"0123456789"),
            ({"If_Match": tag}, 200, b"0123456789"),
            ({"If_None_Match": tag}, 304, b""),
            ({"If_None_Match": "*"}, 304, b""),
            ({"If_None_Match": '"x"'}, 200, b"0123456789"),
            ({"If_Modified_Since": old}, 200, b"0123456789"),
            ({"If_Modified_Since": new}, 304, b""),
            ({"If_Modified_Since": new, "If_None_Match": '"x"'}, 200, b"0123456789"),
            ({"If_Modified_Since": "yesterday"}, 200, b"0123456789"),
            ({"If_Unmodified_Since": new}, 200, b"0123456789"),
            ({"If_Unmodified_Since": old, "If_Match": tag}, 200, b"0123456789"),
            ({"If_Range": '"x"', "Range": "bytes=2-4"}, 200, b"0123456789"),
        ):
            if not cached:
                port.worker.store.delete("s3://b/k")
            found, read, answered = await ask(http, port, "/data/k", **headers)
            assert (found, read) == (status, body), headers
            assert (answered["ETag"], answered["Accept-Ranges"]) == (tag, "bytes")
            found, read, answered = await ask(http, port, "/data/k", method="HEAD", **headers)
            assert (found, read) == (status, b""), headers
            assert status == 304 or int(answered["Content-Length"]) == len(body)
        for headers, status, code in (
            ({"Range": "bytes=10-"}, 416, "InvalidRange"),
            ({"Range": "bytes=-0"}, 416, "InvalidRange"),
            ({"If_Match": '"x"'}, 412, "PreconditionFailed"),
            ({"If_Unmodified_Since": old}, 412, "PreconditionFailed"),
        ):
            assert await code_of(http, port, "/data/k", **headers) == (status, code), headers


async def test_parameters_of_reads(port: S3Port, origin: MemoryUnderStore, http: aiohttp.ClientSession) -> None:
    origin.write("s3://b/k", b"0123456789")
    answer = await port(
        "get_object", Key="k", ResponseContentType="text/plain", ResponseContentDisposition='attachment; filename="ü"'
    )
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert (answer["ContentType"], answer["Body"]) == ("text/plain", b"0123456789")
    assert headers["content-disposition"].encode("latin-1").decode() == 'attachment; filename="ü"'
    answer = await port("get_object", Key="k", PartNumber=1)
    assert (answer["PartsCount"], answer["ContentRange"]) == (1, "bytes 0-9/10")
    assert await port.refused("get_object", Key="k", PartNumber=2) == (416, "InvalidPartNumber")
    assert (await port("head_object", Key="k", PartNumber=1))["ContentLength"] == 10
    assert await code_of(http, port, "/data/k?response-content-type=x") == (400, "InvalidRequest")
    presigned = "AWSAccessKeyId=x&response-content-type=text/plain"
    assert (await ask(http, port, f"/data/k?{presigned}"))[2]["Content-Type"] == "text/plain"
    signed = {"Authorization": "AWS4-HMAC-SHA256 whatever"}
    assert await code_of(http, port, "/data/k?response-expires=a%0d%0aX:y", **signed) == (400, "InvalidArgument")


REFUSED = [
    ("/data/none", "GET", 404, "NoSuchKey"),
    ("/none/k", "GET", 404, "NoSuchBucket"),
    ("/none", "GET", 404, "NoSuchBucket"),
    ("/none?location", "GET", 404, "NoSuchBucket"),
    ("/none?uploads", "GET", 404, "NoSuchBucket"),
    ("/data/k?acl", "GET", 501, "NotImplemented"),
    ("/data/k?tagging", "PUT", 501, "NotImplemented"),
    ("/data?policy", "GET", 501, "NotImplemented"),
    ("/data?versions", "GET", 501, "NotImplemented"),
    ("/data", "PUT", 409, "BucketAlreadyOwnedByYou"),
    ("/none", "PUT", 501, "NotImplemented"),
    ("/data", "DELETE", 501, "NotImplemented"),
    ("/data/k", "PATCH", 405, "MethodNotAllowed"),
    ("/", "POST", 405, "MethodNotAllowed"),
    ("/data/%ff", "GET", 400, "InvalidURI"),
    ("/data/%00", "GET", 400, "InvalidURI"),
    ("/data?prefix=%ff", "GET", 400, "InvalidURI"),
    ("/data/" + "k" * 1025, "GET", 400, "KeyTooLongError"),
    ("/data?list-type=3", "GET", 400, "InvalidArgument"),
    ("/data?list-type=2&max-keys=x", "GET", 400, "InvalidArgument"),
    ("/data?list-type=2&continuation-token=x", "GET", 400, "InvalidArgument"),
    ("/data/k?uploadId=x&partNumber=0", "PUT", 400, "InvalidArgument"),
    ("/data/k?uploadId=x&partNumber=1", "PUT", 404, "NoSuchUpload"),
    ("/data/k?uploadId=x", "GET", 404, "NoSuchUpload"),
    ("/data/k?uploadId=x", "DELETE", 404, "NoSuchUpload"),
    ("/data/k?uploadId=x", "POST", 400, "MalformedXML"),
    ("/data?delete", "POST", 400, "MalformedXML"),
    ("/frozen/x", "PUT", 403, "AccessDenied"),
    ("/frozen/x", "DELETE", 403, "AccessDenied"),
    ("/data/frozen/x", "DELETE", 403, "AccessDenied"),
]


async def test_what_is_refused(port: S3Port, http: aiohttp.ClientSession) -> None:
    for target, method, status, code in REFUSED:
        assert await code_of(http, port, target, method=method) == (status, code), (method, target[:80])
    assert (await ask(http, port, "/frozen/x"))[:2] == (200, b"x")


async def test_what_a_write_says_of_itself_has_to_be_so(port: S3Port, http: aiohttp.ClientSession) -> None:
    """And nothing is written if it is not."""
    md5 = base64.b64encode(hashlib.md5(b"data").digest()).decode()
    sha256 = base64.b64encode(hashlib.sha256(b"data").digest()).decode()
    for headers, code in (
        ({"Content_MD5": md5[:-4] + "AA=="}, "BadDigest"),
        ({"Content_MD5": "x"}, "InvalidDigest"),
        ({"x_amz_checksum_sha256": sha256[:-4] + "AAA="}, "BadDigest"),
        ({"x_amz_checksum_crc32": "AAAA"}, "InvalidRequest"),
        ({"x_amz_content_sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}, "MissingContentLength"),
    ):
        assert (await code_of(http, port, "/data/k", method="PUT", data=b"data", **headers))[1] == code
    assert await port.refused("get_object", Key="k") == (404, "NoSuchKey")
    headers = {"Content_MD5": md5, "x_amz_checksum_sha256": sha256}
    status, _, answered = await ask(http, port, "/data/k", method="PUT", data=b"data", **headers)
    assert (status, answered["x-amz-checksum-sha256"]) == (200, sha256)


async def test_conditions_of_writes(port: S3Port) -> None:
    first = await port("put_object", Key="k", Body=b"1", IfNoneMatch="*")
    assert await port.refused("put_object", Key="k", Body=b"2", IfNoneMatch="*") == (412, "PreconditionFailed")
    assert await port.refused("put_object", Key="k", Body=b"2", IfMatch='"x"') == (412, "PreconditionFailed")
    assert await port.refused("put_object", Key="k", Body=b"2", IfNoneMatch='"x"') == (501, "NotImplemented")
    await port("put_object", Key="k", Body=b"2", IfMatch=first["ETag"])
    upload = {"Key": "k", "UploadId": (await port("create_multipart_upload", Key="k"))["UploadId"]}
    part = await port("upload_part", **upload, PartNumber=1, Body=b"3")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    complete = {**upload, "MultipartUpload": parts}
    for condition in ({"IfNoneMatch": "*"}, {"IfMatch": '"x"'}):
        refusal = await port.refused("complete_multipart_upload", **complete, **condition)
        assert refusal == (412, "PreconditionFailed")
    for operation, how in (
        ("copy_object", {"Key": "k", "CopySource": "data/frozen/x", "IfNoneMatch": "*"}),
        ("delete_object", {"Key": "k", "IfMatch": '"x"'}),
        ("delete_object", {"Key": "k", "IfMatchSize": 7}),
    ):
        assert await port.refused(operation, **how) == (501, "NotImplemented")
    assert (await port("get_object", Key="k"))["Body"] == b"2"
    second = (await port("head_object", Key="k"))["ETag"]
    await port("complete_multipart_upload", **complete, IfMatch=second)
    assert (await port("get_object", Key="k"))["Body"] == b"3"


async def test_a_refused_upload_is_not_read(workers: S3Group, port: S3Port) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port.server.port)
    writer.write(b"PUT /frozen/x HTTP/1.1\r\nHost: w\r\nExpect: 100-continue\r\nContent-Length: 1000000000\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 10)
    assert answer.startswith(b"HTTP/1.1 403 Forbidden")
    assert b"\r\nConnection: close\r\n" in answer
    assert answer.endswith(b"</Error>")
    writer.close()


async def refusal(port: S3Port, head: str) -> bytes:
    """Return the answer to a request whose body never comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port.server.port)
    writer.write(f"{head}\r\nHost: w\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer


async def test_no_body_is_read_before_its_sender_is_known(tmp_path: Path) -> None:
    head = "POST /data?delete HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4000000"
    tokens = TokenStore(MemoryEngine())
    tokens.loaded.set()
    async with s3_ports(tmp_path, credentials=S3Credentials(tokens)) as group:
        answer = await refusal(group.ports[0], head)
        assert answer.startswith(b"HTTP/1.1 403 Forbidden")
        assert b"<Code>AccessDenied</Code>" in answer


async def test_the_body_of_a_post_is_bounded(port: S3Port, http: aiohttp.ClientSession) -> None:
    for target in ("/data?delete", "/data/k?uploadId=x"):
        assert await code_of(http, port, target, method="POST", data=io.BytesIO(bytes(MAX_BODY_BYTES + 1))) == (
            400,
            "EntityTooLarge",
        )


async def test_names_below_a_mounted_prefix(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    """None leads out of it, to a store that follows ``..`` either, and none is another one's."""
    names = [
        "./x",
        "a/./b/../c",
        "a/../b",
        "a/b/..",
        "..c",
        "x..",
        "/",
        "k" * 1024,
        "/".join("é" * 4 for _ in range(113)),
    ]
    async with s3_ports(tmp_path, 2) as group:
        await group.group.engine.put(Bucket.MOUNTS, "deep", msgspec.json.encode(DEEP))
        async with asyncio.timeout(5):
            while not all("deep" in port.worker.policies.mounts.names for port in group.ports):
                await asyncio.sleep(0)
        for name in names:
            await group.ports[0]("put_object", Bucket="deep", Key=name, Body=name.encode())
        for port, name in product(group.ports, names):  # at one of them it is passed on
            assert (await port("get_object", Bucket="deep", Key=name))["Body"] == name.encode()
            assert (await port("head_object", Bucket="deep", Key=name))["ContentLength"] == len(name.encode())
        found = (await group.ports[1]("list_objects_v2", Bucket="deep"))["Contents"]
        assert sorted(item["Key"] for item in found) == sorted(names)
        group.origin.write("s3://b/outside", b"secret")
        for name, port in product(("../../outside", "a/../../../outside", "..", "../deep/x"), group.ports):
            for operation, more in (("get_object", {}), ("put_object", {"Body": b""}), ("delete_object", {})):
                assert await port.refused(operation, Bucket="deep", Key=name, **more) == (400, "InvalidURI"), name
            copy = {"Key": "k", "CopySource": {"Bucket": "deep", "Key": name}}
            assert await port.refused("copy_object", **copy) == (400, "InvalidURI")
            assert await port.refused("list_objects_v2", Bucket="deep", Prefix=name) == (400, "InvalidURI")
        assert await code_of(http, group.ports[0], "/deep/" + "k" * 1025) == (400, "KeyTooLongError")


async def test_copies(port: S3Port, origin: MemoryUnderStore) -> None:
    source = origin.write("s3://b/from ü+%/x", b"0123456789")
    copied = await port("copy_object", Key="to", CopySource={"Bucket": "data", "Key": "from ü+%/x"})
    assert copied["CopyObjectResult"]["ETag"] == f'"{source.etag}"'
    assert (await port("get_object", Key="to"))["Body"] == b"0123456789"
    await port(
        "copy_object", Key="thawed", CopySource="frozen/x", CopySourceIfMatch='"9dd4e461268c8034f5c8564e155c67a6"'
    )
    assert (await port("get_object", Key="thawed"))["Body"] == b"x"
    for how, refusal in (
        ({"CopySource": "data/none"}, (404, "NoSuchKey")),
        ({"CopySource": "none/x"}, (404, "NoSuchBucket")),
        ({"CopySource": "data"}, (400, "InvalidArgument")),
        ({"CopySource": "data/to?versionId=1"}, (501, "NotImplemented")),
        ({"CopySource": "data/to", "CopySourceIfMatch": '"x"'}, (412, "PreconditionFailed")),
        ({"CopySource": "data/to", "CopySourceIfNoneMatch": f'"{source.etag}"'}, (412, "PreconditionFailed")),
    ):
        assert await port.refused("copy_object", Key="again", **how) == refusal
    assert await port.refused("copy_object", Bucket="frozen", Key="y", CopySource="data/to") == (403, "AccessDenied")


async def test_a_copy_is_of_the_present_version(port: S3Port, origin: MemoryUnderStore) -> None:
    """Whatever is cached: conditions and bytes are of one version."""
    old = origin.write("s3://b/source", b"old")
    await port("get_object", Key="source")
    new = origin.write("s3://b/source", b"newer")
    upload = {"Key": "part", "UploadId": (await port("create_multipart_upload", Key="part"))["UploadId"]}
    for operation, how in (("copy_object", {"Key": "to"}), ("upload_part_copy", {**upload, "PartNumber": 1})):
        how["CopySource"] = "data/source"
        assert await port.refused(operation, **how, CopySourceIfMatch=old.etag) == (412, "PreconditionFailed")
        copied = await port(operation, **how, CopySourceIfMatch=new.etag)
        assert copied.get("CopyObjectResult", copied.get("CopyPartResult"))["ETag"] == f'"{new.etag}"'


async def test_many_are_deleted_at_once(port: S3Port, origin: MemoryUnderStore) -> None:
    keys = [f"{number}&<ü>" for number in range(50)]
    for key in keys:
        origin.write(f"s3://b/{key}")
    asked = [{"Key": key} for key in [*keys, "not there", "frozen/x"]]
    answer = await port("delete_objects", Delete={"Objects": asked})
    assert [item["Key"] for item in answer["Deleted"]] == [*keys, "not there"]
    assert [(item["Key"], item["Code"]) for item in answer["Errors"]] == [("frozen/x", "AccessDenied")]
    assert "Deleted" not in await port("delete_objects", Delete={"Objects": asked[:2], "Quiet": True})
    assert [item["Key"] for item in (await port("list_objects_v2"))["Contents"]] == ["frozen/x"]


async def test_uploads_in_parts(port: S3Port, origin: MemoryUnderStore) -> None:
    body = bytes(range(256)) * 40
    upload = (await port("create_multipart_upload", Key="big ü"))["UploadId"]
    parts = []
    for number, piece in enumerate((body[:5000], body[5000:10000]), 1):
        etag = (await port("upload_part", Key="big ü", UploadId=upload, PartNumber=number, Body=piece))["ETag"]
        assert etag == f'"{hashlib.md5(piece).hexdigest()}"'
        parts.append({"PartNumber": number, "ETag": etag})
    origin.write("s3://b/source", body)
    source = {"CopySource": "data/source", "CopySourceRange": "bytes=10000-10239"}
    copied = await port("upload_part_copy", Key="big ü", UploadId=upload, PartNumber=3, **source)
    parts.append({"PartNumber": 3, "ETag": copied["CopyPartResult"]["ETag"]})
    listed = await port("list_parts", Key="big ü", UploadId=upload)
    assert [(part["PartNumber"], part["Size"]) for part in listed["Parts"]] == [(1, 5000), (2, 5000), (3, 240)]
    page = await port("list_parts", Key="big ü", UploadId=upload, MaxParts=1, PartNumberMarker=1)
    assert ([part["PartNumber"] for part in page["Parts"]], page["IsTruncated"]) == ([2], True)
    uploads = (await port("list_multipart_uploads", Prefix="big"))["Uploads"]
    assert [(item["Key"], item["UploadId"]) for item in uploads] == [("big ü", upload)]
    assert await port.refused("get_object", Key="big ü") == (404, "NoSuchKey")

    how = {"Key": "big ü", "UploadId": upload}
    for wrong, refusal in (
        (parts[::-1], (400, "InvalidPartOrder")),
        ([{"PartNumber": 9, "ETag": '"x"'}], (400, "InvalidPart")),
        ([], (400, "MalformedXML")),
    ):
        assert await port.refused("complete_multipart_upload", MultipartUpload={"Parts": wrong}, **how) == refusal
    done = await port("complete_multipart_upload", MultipartUpload={"Parts": parts}, **how)
    assert done["Key"] == "big ü"
    answer = await port("get_object", Key="big ü")
    assert (answer["Body"], answer["ETag"]) == (body, done["ETag"])
    origin.write("s3://b/big ü", b"another writer's")
    again = await port("complete_multipart_upload", MultipartUpload={"Parts": parts}, **how)
    assert again["ETag"] == done["ETag"]  # a client that lost the answer asks again, and nothing is written again
    assert (await origin.stat(at("big ü"))).etag != done["ETag"].strip('"')
    for other in ({"MultipartUpload": {"Parts": parts[:2]}}, {"MultipartUpload": {"Parts": parts}, "IfMatch": "*"}):
        assert await port.refused("complete_multipart_upload", **how, **other) == (404, "NoSuchUpload")


@pytest.mark.parametrize(
    "span", ["bytes=0", "bytes=0-", "bytes=-4", "bytes=3-2", "bytes=2-10", "bytes=10-12", "0-2", "bytes=a-b", ""]
)
async def test_a_range_of_a_part_that_is_copied_is_not_passed_over(
    port: S3Port, origin: MemoryUnderStore, span: str
) -> None:
    origin.write("s3://b/source", b"0123456789")
    upload = {"Key": "k", "UploadId": (await port("create_multipart_upload", Key="k"))["UploadId"]}
    how = {**upload, "PartNumber": 1, "CopySource": "data/source"}
    assert await port.refused("upload_part_copy", **how, CopySourceRange=span) == (400, "InvalidArgument")
    assert not (await port("list_parts", **upload)).get("Parts")


async def test_versions_of_objects_are_not_taken_for_the_present_one(port: S3Port, origin: MemoryUnderStore) -> None:
    origin.write("s3://b/k", b"body")
    for operation in ("get_object", "delete_object"):
        assert await port.refused(operation, Key="k", VersionId="v1") == (501, "NotImplemented")
    assert (await port("get_object", Key="k", VersionId="null"))["Body"] == b"body"
    for condition in ({"ETag": '"other"'}, {"Size": 3}):
        asked = {"Objects": [{"Key": "k", **condition}]}
        assert await port.refused("delete_objects", Delete=asked) == (501, "NotImplemented")
    assert (await port("get_object", Key="k"))["Body"] == b"body"
    await port("delete_object", Key="k", VersionId="null")
    assert await port.refused("get_object", Key="k") == (404, "NoSuchKey")


@pytest.mark.parametrize("delimiter", ["", "/"])
async def test_a_directory_that_is_only_marked_is_there(port: S3Port, origin: MemoryUnderStore, delimiter: str) -> None:
    """Clients make directories so, and look whether that worked; where something is below, the marker is left out."""
    await port("put_object", Key="made/", Body=b"")
    for key, listed in (("made/", ["made/"]), ("none/", [])):
        answer = await port("list_objects_v2", Prefix=key, Delimiter=delimiter, MaxKeys=2)
        found = [item["Key"] for item in answer.get("Contents", [])]
        assert (found, answer["KeyCount"], answer["IsTruncated"]) == (listed, len(listed), False)
    assert "Contents" not in await port("list_objects_v2", Prefix="made/", Delimiter=delimiter, StartAfter="made/")
    origin.write("s3://b/made/x", b"x")
    answer = await port("list_objects_v2", Prefix="made/", Delimiter=delimiter)
    assert [item["Key"] for item in answer["Contents"]] == ["made/x"]


async def test_a_copy_to_itself_changes_something(port: S3Port, origin: MemoryUnderStore) -> None:
    origin.write("s3://b/k", b"body")
    assert await port.refused("copy_object", Key="k", CopySource="data/k") == (400, "InvalidRequest")
    await port("copy_object", Key="k", CopySource="data/k", MetadataDirective="REPLACE", ContentType="text/css")
    answer = await port("get_object", Key="k")
    assert (answer["Body"], answer["ContentType"]) == (b"body", "text/css")


async def test_an_upload_that_is_given_up_leaves_nothing(port: S3Port) -> None:
    upload = (await port("create_multipart_upload", Key="k"))["UploadId"]
    await port("upload_part", Key="k", UploadId=upload, PartNumber=1, Body=b"x" * 100)
    await port("abort_multipart_upload", Key="k", UploadId=upload)
    assert "Uploads" not in await port("list_multipart_uploads")
    assert not list(port.worker.staging.directory.iterdir())


async def test_buckets(port: S3Port, origin: MemoryUnderStore) -> None:
    found = [bucket["Name"] for bucket in (await port("list_buckets"))["Buckets"]]
    assert found == list(port.worker.policies.mounts.names)
    await port("head_bucket")
    assert await port.refused("head_bucket", Bucket="none") == (404, "404")
    assert (await port("get_bucket_location"))["LocationConstraint"] is None
    assert "Status" not in await port("get_bucket_versioning")


async def test_a_listing_in_pages_and_by_directories(port: S3Port, origin: MemoryUnderStore) -> None:
    keys = [f"d{number % 3}/{number:03}" for number in range(60)] + ["top", "frozen/x"]
    for key in keys:
        origin.write(f"s3://b/{key}", key.encode())
    listed, more = [], {}
    while True:
        page = await port("list_objects_v2", MaxKeys=7, **more)
        listed += [item["Key"] for item in page["Contents"]]
        if not page["IsTruncated"]:
            break
        more = {"ContinuationToken": page["NextContinuationToken"]}
    assert listed == sorted(keys)
    page = await port("list_objects_v2", Delimiter="/")
    assert [group["Prefix"] for group in page["CommonPrefixes"]] == ["d0/", "d1/", "d2/", "frozen/"]
    assert [(item["Key"], item["Size"]) for item in page["Contents"]] == [("top", 3)]
    page = await port("list_objects_v2", Bucket="frozen")
    assert [item["Key"] for item in page["Contents"]] == ["x"]
    page = await port("list_objects", Prefix="d1/", Marker="d1/040")
    assert [item["Key"] for item in page["Contents"]] == ["d1/043", "d1/046", "d1/049", "d1/052", "d1/055", "d1/058"]


async def test_a_listing_does_not_lead_out_of_a_mounted_directory(port: S3Port, http: aiohttp.ClientSession) -> None:
    mount = Mount(name="files", path="file:///srv/data/")
    await port.worker.group.engine.put(Bucket.MOUNTS, "files", msgspec.json.encode(mount))
    async with asyncio.timeout(5):
        while "files" not in port.worker.policies.mounts.names:
            await asyncio.sleep(0)
    for prefix in ("../", "../secret/", "a/../../secret/k", "./"):
        assert await code_of(http, port, f"/files?list-type=2&prefix={prefix}") == (400, "InvalidURI")
    assert (await ask(http, port, "/files?list-type=2&prefix=..data"))[0] == 200


async def test_without_mounts_the_buckets_are_those_of_the_under_store(
    port: S3Port, origin: MemoryUnderStore, http: aiohttp.ClientSession
) -> None:
    origin.write("s3://other/k", b"data")
    for name in port.worker.policies.mounts.names:
        await port.worker.group.engine.delete(Bucket.MOUNTS, name)
    async with asyncio.timeout(5):
        while port.worker.policies.mounts.names:
            await asyncio.sleep(0)
    assert [bucket["Name"] for bucket in (await port("list_buckets"))["Buckets"]] == ["b", "other"]
    assert (await port("get_object", Bucket="other", Key="k"))["Body"] == b"data"
    assert await port.refused("get_object", Bucket="none", Key="k") == (404, "NoSuchBucket")
    assert await port.refused("put_object", Bucket="other", Key="k", Body=b"") == (403, "AccessDenied")
    assert await port.refused("create_bucket", Bucket="other") == (409, "BucketAlreadyOwnedByYou")
    assert await code_of(http, port, "/..%2f..%2fetc/passwd") == (400, "InvalidURI")
