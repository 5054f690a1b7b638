"""Operations of the S3 port that take long: what clients hear meanwhile, and what changes under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from preheat.errors import OriginUnavailable
from preheat.paths import UfsPath
from preheat.ufs import MemoryUnderStore
from preheat.versions import ObjectInfo
from preheat.worker.s3 import _patience
from tests.unit.s3_ports import S3Group, S3Port, s3_ports

OLD, NEW = b"old", b"newer"


class Origin(MemoryUnderStore):
    """An under store that takes its time to write, may fail then, and where others write in the midst of a copy."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.putting = asyncio.Event()
        self.fails = False
        self.next_versions: list[bytes] = []
        """What takes the place of ``source`` right after each look at it."""

    async def stat(self, path: UfsPath) -> ObjectInfo:
        info = await super().stat(path)
        if path.key == "source" and self.next_versions:
            self.write(str(path), self.next_versions.pop(0))
        return info

    async def put(self, path: UfsPath, chunks: AsyncIterator[bytes | memoryview], **how: object) -> ObjectInfo:
        self.putting.set()
        await self.gate.wait()
        if self.fails:
            raise OriginUnavailable("It is away.")
        return await super().put(path, chunks, **how)  # type: ignore[arg-type]


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[S3Group]:
    async with s3_ports(tmp_path, 2, origin=Origin()) as group:
        yield group


@pytest.fixture
def origin(workers: S3Group) -> Origin:
    assert isinstance(workers.origin, Origin)
    return workers.origin


@pytest.fixture
def port(workers: S3Group) -> S3Port:
    return workers.ports[0]


async def begun(port: S3Port) -> tuple[dict[str, str], str]:
    """Upload one part; return the upload and the part's etag."""
    upload = {"Key": "big", "UploadId": (await port("create_multipart_upload", Key="big"))["UploadId"]}
    return upload, (await port("upload_part", **upload, PartNumber=1, Body=b"x" * 1000))["ETag"]


@pytest.mark.parametrize("fails", [False, True])
async def test_white_space_comes_while_an_upload_is_completed(
    port: S3Port, origin: Origin, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    monkeypatch.setattr(_patience, "SILENT_SECONDS", 0.001)
    upload, etag = await begun(port)
    origin.gate, origin.fails = asyncio.Event(), fails
    body = (
        f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
    )
    url = f"{port.url}/data/big?uploadId={upload['UploadId']}"
    async with asyncio.timeout(20), aiohttp.ClientSession() as http, http.post(url, data=body) as answer:
        assert (answer.status, answer.content_type) == (200, "application/xml")
        begin = b""
        while begin.count(b"\n") < 5:
            begin += await answer.content.readany()
        origin.gate.set()
        text = (begin + await answer.read()).decode()
    declaration, _, document = text.partition("\n")
    assert declaration == '<?xml version="1.0" encoding="UTF-8"?>'
    wanted = "<Error><Code>ServiceUnavailable</Code>" if fails else "<CompleteMultipartUploadResult"
    assert document.lstrip().startswith(wanted)
    found = [part["Size"] for part in (await port("list_objects_v2")).get("Contents", []) if part["Key"] == "big"]
    assert found == ([] if fails else [1000])
    parts = {"MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": etag}]}}
    if fails:  # boto3 finds the error in the answer, and the parts are still there
        origin.gate, origin.putting = asyncio.Event(), asyncio.Event()
        completing = asyncio.create_task(port.refused("complete_multipart_upload", **upload, **parts))
        await origin.putting.wait()
        await asyncio.sleep(0.05)  # for the answer to have begun: if not, the error has a status
        origin.gate.set()
        assert (await completing)[1] == "ServiceUnavailable"
        origin.fails = False
        await port("complete_multipart_upload", **upload, **parts)


async def test_a_client_that_leaves_in_the_midst_does_not_end_the_completion(
    port: S3Port, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_patience, "SILENT_SECONDS", 0.001)
    upload, etag = await begun(port)
    origin.gate = asyncio.Event()
    body = (
        f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
    )
    url = f"{port.url}/data/big?uploadId={upload['UploadId']}"
    async with asyncio.timeout(20), aiohttp.ClientSession() as http:
        async with http.post(url, data=body) as answer:
            await answer.content.readany()
        origin.gate.set()
        while not (await port("list_objects_v2", Prefix="big")).get("Contents"):
            await asyncio.sleep(0)


@pytest.mark.parametrize("operation", ["copy_object", "upload_part_copy"])
@pytest.mark.parametrize("target", ["data", "fast"])
async def test_conditions_hold_for_the_version_that_is_copied(
    port: S3Port, origin: Origin, operation: str, target: str
) -> None:
    """Another writer comes between the look at the source and the copy."""
    old = origin.write("s3://b/source", OLD)
    new = origin.write("s3://b/source", NEW)
    key = {"Bucket": target, "Key": "tmp/to"}
    upload = await port("create_multipart_upload", **key)
    how = {**key, "CopySource": "data/source"}
    if operation == "upload_part_copy":
        how |= {"UploadId": upload["UploadId"], "PartNumber": 1}
    for condition in ({"CopySourceIfMatch": old.etag}, {"CopySourceIfNoneMatch": new.etag}):
        origin.write("s3://b/source", OLD)
        origin.next_versions = [NEW]
        assert await port.refused(operation, **how, **condition) == (412, "PreconditionFailed")
        assert not origin.next_versions
    origin.write("s3://b/source", OLD)
    origin.next_versions = [NEW]
    copied = await port(operation, **how)
    assert copied.get("CopyObjectResult", copied.get("CopyPartResult"))["ETag"] == f'"{new.etag}"'
