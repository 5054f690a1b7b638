"""The S3 API of two whole workers, with signatures, over a real S3 server: what boto3 does, and what it is refused."""

from __future__ import annotations

import asyncio
import hashlib
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import msgspec
import pytest
import urllib3
import uvloop
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

from preheat.access import Grant, Role, TokenRecord
from preheat.engine import Bucket, MemoryEngine
from preheat.mounts import Mount, WriteMode
from preheat.placement import Member, PlacementMap
from preheat.settings import AccessSettings, WorkerSettings
from preheat.tokens import TokenStore
from preheat.worker._parts import Parts
from testbed.s3 import SeaweedFS

MIB = 1 << 20
SECONDS = 30.0


def client_of(url: str, access_key: str, secret_key: str, **config: Any) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name="eu-central-1",
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, **config),
    )


@dataclass
class Lab:
    """Two workers in a loop of their own, the mounts ``data`` and ``frozen``, and clients."""

    directory: Path
    origin: Any
    urls: list[str] = field(default_factory=list)
    parts: list[Parts] = field(default_factory=list)
    tokens: dict[str, TokenRecord] = field(default_factory=dict)

    async def run(self, ready: threading.Event, stop: asyncio.Event) -> None:
        engine = MemoryEngine()
        for mount in (
            Mount(name="data", path="s3://origin/data/", writes=WriteMode.THROUGH),
            Mount(name="frozen", path="s3://origin/frozen/"),
        ):
            await engine.put(Bucket.MOUNTS, mount.name, msgspec.json.encode(mount))
        store = TokenStore(engine)
        for name, grant in (
            ("cluster", Grant(role=Role.SUBMIT)),
            ("writer", Grant(role=Role.SUBMIT)),
            ("reader", Grant(role=Role.READ, prefixes=("s3://origin/data/mine/",))),
        ):
            self.tokens[name], token = await store.create(grant=grant, name=name, s3=True)
            if name == "cluster":
                access = AccessSettings(auth=True, token=token.text)
        async with AsyncExitStack() as stack:
            members = [await self._worker(stack, engine, f"w{number}", access) for number in range(2)]
            placement = PlacementMap(epoch=1, members=tuple(members))
            await engine.put(Bucket.CLUSTER, "placement", msgspec.json.encode(placement))
            ready.set()
            await stop.wait()

    async def _worker(self, stack: AsyncExitStack, engine: MemoryEngine, name: str, access: AccessSettings) -> Member:
        directory = self.directory / name
        parts = Parts(WorkerSettings(id=name, data_dir=directory, capacity=1 << 30, port=0, s3_port=0, access=access))
        stack.push_async_callback(parts.stop)
        await parts.start()
        self.parts.append(parts)
        self.urls.append(await stack.enter_async_context(parts.following(engine)))
        return Member(id=name, url=parts._data.url)

    def client(self, number: int = 0, *, token: str = "writer", secret: str = "", **config: Any) -> Any:
        record = self.tokens[token]
        return client_of(self.urls[number], record.access_key_id, secret or record.secret_key, **config)


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    with SeaweedFS(tmp_path_factory.mktemp("weed")) as server:
        yield server


@pytest.fixture(scope="module")
def lab(seaweed: SeaweedFS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    origin = seaweed.client()
    origin.create_bucket(Bucket="origin")
    origin.put_object(Bucket="origin", Key="frozen/x", Body=b"x")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in seaweed.environment().items():
            patch.setenv(name, value)
        with _running(Lab(tmp_path_factory.mktemp("workers"), origin)) as lab:
            yield lab
    origin.close()


@contextmanager
def _running(lab: Lab) -> Iterator[Lab]:
    ready, loops = threading.Event(), []

    async def main() -> None:
        stop = asyncio.Event()
        loops.append((asyncio.get_running_loop(), stop))
        await lab.run(ready, stop)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(uvloop.run, main())
        while not ready.wait(0.05):
            if running.done():
                running.result()
        yield lab
        loop, stop = loops[0]
        loop.call_soon_threadsafe(stop.set)
        running.result(SECONDS)


def refusal(operation: Any, **parameters: Any) -> str:
    with pytest.raises(ClientError) as caught:
        operation(**parameters)
    return str(caught.value.response["Error"]["Code"])


def test_what_one_worker_takes_is_at_the_origin_and_at_the_other(lab: Lab) -> None:
    one, two = lab.client(0), lab.client(1)
    assert [bucket["Name"] for bucket in one.list_buckets()["Buckets"]] == ["data", "frozen"]
    for number, name in enumerate(["plain", "a b+c%20d", "ü/日本/😀", "q?x=1&y#z", "/".join(["k" * 99] * 9)]):
        body = bytes([number]) * number
        etag = one.put_object(Bucket="data", Key=name, Body=body)["ETag"]
        assert lab.origin.get_object(Bucket="origin", Key=f"data/{name}")["Body"].read() == body
        for client in (one, two):
            answer = client.get_object(Bucket="data", Key=name)
            assert (answer["Body"].read(), answer["ETag"]) == (body, etag)
            assert client.head_object(Bucket="data", Key=name)["ContentLength"] == len(body)
            assert name in [item["Key"] for item in client.list_objects_v2(Bucket="data")["Contents"]]
        two.delete_object(Bucket="data", Key=name)
        assert refusal(one.get_object, Bucket="data", Key=name) == "NoSuchKey"
        assert refusal(lab.origin.get_object, Bucket="origin", Key=f"data/{name}") == "NoSuchKey"


def test_a_large_file_goes_up_in_parts_and_comes_down_in_ranges(lab: Lab, tmp_path: Path) -> None:
    """As the transfer manager of boto3, and so the AWS command line, does it: several parts at once."""
    body = random.Random(1).randbytes(20 * MIB + 7)
    (tmp_path / "up").write_bytes(body)
    config = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=6 * MIB, max_concurrency=4)
    lab.client(0).upload_file(str(tmp_path / "up"), "data", "large", Config=config)
    found = lab.origin.get_object(Bucket="origin", Key="data/large")["Body"].read()
    assert hashlib.md5(found).digest() == hashlib.md5(body).digest()
    lab.client(1).download_file("data", "large", str(tmp_path / "down"), Config=config)
    assert (tmp_path / "down").read_bytes() == body
    copied = lab.client(1).copy_object(Bucket="data", Key="larger", CopySource="data/large")
    assert lab.client(0).head_object(Bucket="data", Key="larger")["ETag"] == copied["CopyObjectResult"]["ETag"]


def test_presigned_urls(lab: Lab) -> None:
    client, http = lab.client(0), urllib3.PoolManager(retries=False)
    how = {"Bucket": "data", "Key": "pre signed+ü"}
    put = client.generate_presigned_url("put_object", Params=how, ExpiresIn=60)
    assert http.request("PUT", put, body=b"data").status == 200
    get = client.generate_presigned_url("get_object", Params={**how, "ResponseContentType": "text/x"}, ExpiresIn=60)
    answer = http.request("GET", get, headers={"Range": "bytes=1-2"})
    assert (answer.status, answer.data, answer.headers["Content-Type"]) == (206, b"at", "text/x")
    assert http.request("PUT", get, body=b"").status == 403
    assert http.request("GET", get.replace("pre", "pro")).status == 403
    assert b"<Code>AccessDenied</Code>" in http.request("GET", get.partition("?")[0]).data


def test_who_is_not_let_in(lab: Lab) -> None:
    ask = {"Bucket": "frozen", "Key": "x"}
    assert lab.client(1).get_object(**ask)["Body"].read() == b"x"
    assert refusal(lab.client(0, secret="wrong").get_object, **ask) == "SignatureDoesNotMatch"
    assert refusal(client_of(lab.urls[0], "PHNOBODY", "x").get_object, **ask) == "InvalidAccessKeyId"
    assert urllib3.request("GET", f"{lab.urls[0]}/frozen/x", retries=False).status == 403
    assert refusal(lab.client(0).put_object, **ask, Body=b"") == "AccessDenied"


def test_a_token_for_a_prefix_sees_that_alone(lab: Lab) -> None:
    writer, reader = lab.client(0), lab.client(0, token="reader")
    for key in ("mine/a", "mine/b", "minefield", "other"):
        writer.put_object(Bucket="data", Key=key, Body=key.encode())
    assert [bucket["Name"] for bucket in reader.list_buckets()["Buckets"]] == ["data"]
    assert reader.get_object(Bucket="data", Key="mine/a")["Body"].read() == b"mine/a"
    found = reader.list_objects_v2(Bucket="data", Prefix="mine/")["Contents"]
    assert [item["Key"] for item in found] == ["mine/a", "mine/b"]
    for operation, how in (
        (reader.get_object, {"Key": "other"}),
        (reader.get_object, {"Key": "minefield"}),
        (reader.list_objects_v2, {}),
        (reader.list_objects_v2, {"Prefix": "mine"}),
        (reader.put_object, {"Key": "mine/a", "Body": b""}),
        (reader.delete_object, {"Key": "mine/a"}),
        (reader.create_multipart_upload, {"Key": "mine/a"}),
        (reader.copy_object, {"Key": "mine/c", "CopySource": "data/mine/a"}),
    ):
        assert refusal(operation, Bucket="data", **how) == "AccessDenied"
    assert refusal(reader.head_bucket, Bucket="frozen") == "403"
    answer = reader.delete_objects(Bucket="data", Delete={"Objects": [{"Key": "mine/a"}]})
    assert [error["Code"] for error in answer["Errors"]] == ["AccessDenied"]


def test_only_the_owner_keeps_what_is_read(lab: Lab) -> None:
    for number in range(8):
        lab.origin.put_object(Bucket="origin", Key=f"data/cold/{number}", Body=bytes([number]) * 1000)
    for number in range(8):
        for client in (lab.client(0), lab.client(1)):
            answer = client.get_object(Bucket="data", Key=f"cold/{number}")
            assert answer["Body"].read() == bytes([number]) * 1000
        held = [parts.store.lookup(f"s3://origin/data/cold/{number}") for parts in lab.parts]
        assert sum(item is not None for item in held) == 1
