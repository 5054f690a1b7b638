from __future__ import annotations

import asyncio
import base64
import traceback
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from obstore.store import S3Store as ObstoreS3

from preheat.attributes import of_lines
from preheat.errors import AccessDenied, BucketNotFound, Conflict, OriginUnavailable, PreheatError, VersionChanged
from preheat.paths import UfsPath
from preheat.ufs import Checksum, S3UnderStore, Span, UfsSettings, UnderStores
from testbed import JuiceFSGateway, S3Server, SeaweedFS, free_port
from tests.conftest import Bucket
from tests.unit.ufs_conformance import SETTINGS, UnderStoreConformance, chunks_of, content


@pytest.fixture
async def ufs(s3_environment: dict[str, str]) -> AsyncIterator[S3UnderStore]:
    store = S3UnderStore()
    yield store
    await store.close()


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A server with a bucket that several tests share, each below a prefix of its own."""

    server: S3Server
    bucket: Bucket

    @classmethod
    def on(cls, server: S3Server) -> Origin:
        client = server.client()
        client.create_bucket(Bucket="shared")
        return cls(server=server, bucket=Bucket(name="shared", client=client))


@pytest.fixture(scope="module")
def juicefs(s3_server: JuiceFSGateway) -> Origin:
    return Origin.on(s3_server)


@pytest.fixture(scope="module")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    with SeaweedFS(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield Origin.on(server)


class S3Conformance(UnderStoreConformance):
    """The suite against a real server; a tree that several tests only read is put once."""

    @pytest.fixture(autouse=True)
    async def _store(
        self, origin: Origin, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[None]:
        for name, value in origin.server.environment().items():
            monkeypatch.setenv(name, value)
        self.bucket = origin.bucket
        self.root = self.bucket.uri(f"{zlib.crc32(request.node.name.encode()):x}/")
        self.ufs = S3UnderStore(SETTINGS)
        yield
        await self.ufs.close()

    def put(self, key: str, body: bytes = b"x") -> None:
        self.bucket.put(self.path(key).key, body)

    def leftovers(self) -> list[str]:
        found = self.bucket.client.list_multipart_uploads(Bucket=self.bucket.name, Prefix=self.path().key)
        return [upload["Key"] for upload in found.get("Uploads", [])]

    def fill(self, keys: list[str]) -> None:
        self.root = self.bucket.uri(f"tree-{zlib.crc32(repr(keys).encode()):x}/")
        found = self.bucket.client.list_objects_v2(Bucket=self.bucket.name, Prefix=self.path().key)
        if not found["KeyCount"]:
            self.bucket.put_many({self.path(key).key: key.encode() for key in keys})

    async def test_whole_objects_and_ranges_in_threads(self) -> None:
        body = bytes(range(256)) * 8192
        self.put("large", body)
        self.put("empty", b"")
        path, info = self.path("large"), await self.ufs.stat(self.path("large"))
        assert isinstance(self.ufs, S3UnderStore)
        poured: list[bytes] = []

        def sink(data: memoryview) -> None:
            poured.append(bytes(data))

        assert await self.ufs.pour(path, Span(info=info, start=1000, end=info.size - 1), sink)
        assert b"".join(poured) == body[1000:-1]
        assert await content(await self.ufs.get_whole(path, info)) == body
        empty = await self.ufs.get_whole(self.path("empty"), await self.ufs.stat(self.path("empty")))
        assert await content(empty) == b""
        assert await content(await self.ufs.get(self.path("empty"), start=0, end=100)) == b""

        self.put("large", body[::-1])
        with pytest.raises(VersionChanged, match="/large"):
            await self.ufs.pour(path, Span(info=info, start=0, end=info.size), sink)
        with pytest.raises(VersionChanged, match="/large"):
            await self.ufs.get_whole(path, info)


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


class TestJuiceFS(S3Conformance):
    odd_keys = ("tab\tx", "new\nline", "control\x01", "delete\x7f", "back\\slash")

    @pytest.fixture
    def origin(self, juicefs: Origin) -> Origin:
        return juicefs


class TestSeaweedFS(S3Conformance):
    """A server that does not list in the order of the keys."""

    odd_keys = ("tab\tx", "delete\x7f")

    @pytest.fixture
    def origin(self, seaweedfs: Origin) -> Origin:
        return seaweedfs

    async def test_tells_the_checksum_that_it_keeps_of_an_object(self) -> None:
        body, path = b"bytes" * 1000, self.path("checked")
        self.bucket.client.put_object(Bucket=self.bucket.name, Key=path.key, Body=body, ChecksumAlgorithm="CRC32")
        info = await self.ufs.stat(path)
        assert isinstance(self.ufs, S3UnderStore)

        value = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
        assert await self.ufs.checksum(path, info) == Checksum(name="crc32", value=value)
        assert await content(await self.ufs.get_whole(path, info)) == body

    @pytest.mark.parametrize("size", [0, 3, 6 << 20])
    async def test_keeps_what_a_writer_says_besides(self, size: int) -> None:
        said = {"content-type": "text/csv", "cache-control": "no-store", "x-amz-meta-run": "a b"}
        await self.ufs.put(self.path("said"), _once(bytes(size)), size=size, attributes=said)
        found = self.bucket.client.head_object(Bucket=self.bucket.name, Key=self.path("said").key)
        assert (found["ContentLength"], found["ContentType"], found["CacheControl"]) == (size, "text/csv", "no-store")
        assert found["Metadata"] == {"run": "a b"}
        info = await self.ufs.stat(self.path("said"))
        assert of_lines(info.attributes) == said
        assert isinstance(self.ufs, S3UnderStore)
        for download in (await self.ufs.get_whole(self.path("said"), info), await self.ufs.get(self.path("said"))):
            assert len(await content(download)) == size
            assert of_lines(download.info.attributes) == said


async def keys(ufs: S3UnderStore, uri: str, after: str = "") -> list[str]:
    return [item.key async for page in ufs.list(UfsPath.parse(uri), after=after) for item in page]


async def test_thousands_of_objects_come_in_pages_and_resume_anywhere(
    bucket: Bucket, ufs: S3UnderStore, s3_environment: dict[str, str]
) -> None:
    names = [f"many/{number:04d}" for number in range(2500)]
    async with asyncio.TaskGroup() as puts:  # boto3 would take four times as long
        store = ObstoreS3(bucket.name, endpoint=s3_environment["AWS_ENDPOINT_URL"], client_options={"allow_http": True})
        for name in names:
            puts.create_task(store.put_async(name, b""))

    pages = [[item.key for item in page] async for page in ufs.list(UfsPath.parse(bucket.uri("many/")))]

    assert [len(page) for page in pages] == [1000, 1000, 500]
    assert [key for page in pages for key in page] == names
    for cut in (0, 1, 998, 999, 1000, 1700, 2498, 2499):
        assert await keys(ufs, bucket.uri("many/"), after=names[cut]) == names[cut + 1 :]


async def test_a_whole_bucket_is_listed(bucket: Bucket, ufs: S3UnderStore) -> None:
    bucket.put("a")
    bucket.put("b/c")

    assert await keys(ufs, bucket.uri()) == ["a", "b/c"]


async def test_keys_that_obstore_cannot_spell_are_listed_and_read(bucket: Bucket, ufs: S3UnderStore) -> None:
    odd = sorted(["tab\tx", "new\nline", "control\x01", "delete\x7f", "back\\slash"])
    for key in odd:
        bucket.put(key, key.encode())

    assert await keys(ufs, bucket.uri()) == odd
    for key in odd:
        path = UfsPath.parse(bucket.uri(key))
        stat = await ufs.stat(path)
        whole = await ufs.get(path, etag=stat.etag)
        assert whole.info == stat
        assert await content(whole) == key.encode()
        part = await ufs.get(path, start=1, end=4)
        assert (part.start, part.end, part.info.size) == (1, 4, len(key))
        assert await content(part) == key.encode()[1:4]
        with pytest.raises(VersionChanged):
            await ufs.get(path, etag="another")


async def test_directory_markers_are_left_out(seaweedfs: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in seaweedfs.server.environment().items():
        monkeypatch.setenv(name, value)
    for key in ("markers/", "markers/sub/", "markers/sub/x"):
        seaweedfs.bucket.put(key)
    ufs = S3UnderStore()

    assert await keys(ufs, "s3://shared/markers/") == ["markers/sub/x"]
    assert await keys(ufs, "s3://shared/markers") == ["markers/sub/x"]
    await ufs.close()


@pytest.mark.parametrize("operation", ["list", "stat", "get", "put", "put in parts"])
class TestErrors:
    """Every operation names what is wrong, within seconds, and no secret."""

    async def run(self, operation: str, uri: str) -> PreheatError:
        ufs = UnderStores(UfsSettings(connect_seconds=0.5, retries=1))
        path = UfsPath.parse(uri)
        operations: dict[str, Callable[[], Awaitable[object]]] = {
            "list": lambda: anext(aiter(ufs.list(path))),
            "stat": lambda: ufs.stat(path),
            "get": lambda: ufs.get(path),
            "put": lambda: ufs.put(path, chunks_of(b"x"), size=1),
            "put in parts": lambda: ufs.put(path, chunks_of(bytes(9 << 20)), size=9 << 20),
        }
        async with asyncio.timeout(10):
            with pytest.raises(PreheatError) as raised:
                await operations[operation]()
        await ufs.close()
        return raised.value

    async def test_an_unknown_bucket(self, operation: str, s3_environment: dict[str, str]) -> None:
        error = await self.run(operation, "s3://no-such-bucket/x")

        assert type(error) is BucketNotFound
        assert "no-such-bucket" in error.message

    async def test_a_wrong_secret(
        self, operation: str, s3_environment: dict[str, str], bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")

        await self.refused(operation, bucket, s3_environment)

    async def test_an_unknown_access_key(
        self, operation: str, s3_environment: dict[str, str], bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "not-the-key")

        await self.refused(operation, bucket, s3_environment)

    async def refused(self, operation: str, bucket: Bucket, environment: dict[str, str]) -> None:
        bucket.put("x")
        error = await self.run(operation, bucket.uri("x"))
        assert type(error) is AccessDenied
        assert bucket.uri("x") in error.message
        assert ("PutObject" in error.remedy) == operation.startswith("put")
        text = "".join(traceback.format_exception(error))
        for secret in ("not-the", "Signature=", environment["AWS_ACCESS_KEY_ID"]):
            assert secret not in text

    async def test_no_credentials(
        self, operation: str, s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

        error = await self.run(operation, "s3://bucket/x")

        assert type(error) is AccessDenied
        assert "AWS_ACCESS_KEY_ID" in error.remedy

    async def test_an_unknown_profile(
        self, operation: str, s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_PROFILE", "no-such-profile")

        error = await self.run(operation, "s3://bucket/x")

        assert type(error) is AccessDenied
        assert "no-such-profile" in error.message

    async def test_a_closed_port(
        self, operation: str, s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        port = free_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")

        error = await self.run(operation, "s3://bucket/x")

        assert type(error) is OriginUnavailable
        assert f"127.0.0.1:{port}" in error.message
        assert "s3://bucket/x" in error.message

    async def test_a_host_without_an_address(
        self, operation: str, s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:password@no-such-host.invalid")

        error = await self.run(operation, "s3://bucket/x")

        assert type(error) is OriginUnavailable
        assert "no-such-host.invalid" in error.message
        assert "password" not in error.message

    async def test_an_endpoint_that_is_not_a_url(
        self, operation: str, s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost")

        error = await self.run(operation, "s3://bucket/x")

        assert type(error) is OriginUnavailable
        assert "AWS_ENDPOINT_URL" in error.remedy


async def test_a_copy_to_an_unknown_bucket(bucket: Bucket, ufs: S3UnderStore) -> None:
    etag = bucket.put("x")

    with pytest.raises(BucketNotFound, match="s3://no-such-bucket/y"):
        await ufs.copy(UfsPath.parse(bucket.uri("x")), UfsPath.parse("s3://no-such-bucket/y"), etag=etag)


async def test_an_object_where_the_server_has_a_directory(bucket: Bucket, ufs: S3UnderStore) -> None:
    bucket.put("dir/x")

    with pytest.raises(Conflict, match="XMinioObjectExistsAsDirectory"):
        await ufs.put(UfsPath.parse(bucket.uri("dir/")), chunks_of(b"x"), size=1)


async def test_credentials_and_endpoint_come_from_a_profile(
    s3_server: JuiceFSGateway, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bucket.put("x", b"content")
    config = tmp_path / "config"
    config.write_text(
        f"[profile lab]\nendpoint_url = {s3_server.endpoint}\nregion = us-east-1\n"
        f"aws_access_key_id = {s3_server.access_key}\naws_secret_access_key = {s3_server.secret_key}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    ufs = S3UnderStore()

    assert await keys(ufs, bucket.uri()) == ["x"]
    assert await content(await ufs.get(UfsPath.parse(bucket.uri("x")))) == b"content"
    await ufs.close()


async def test_many_readers_share_one_store(bucket: Bucket, ufs: S3UnderStore) -> None:
    bodies = {f"{number}": bytes([number]) * 5000 for number in range(50)}
    bucket.put_many(bodies)

    downloads = await asyncio.gather(*(ufs.get(UfsPath.parse(bucket.uri(key))) for key in bodies))

    assert await asyncio.gather(*map(content, downloads)) == list(bodies.values())


async def test_both_schemes_are_behind_one_store(
    bucket: Bucket, s3_environment: dict[str, str], tmp_path: Path
) -> None:
    bucket.put("x", b"from S3")
    (tmp_path / "x").write_bytes(b"from a file")
    ufs = UnderStores()

    assert await content(await ufs.get(UfsPath.parse(bucket.uri("x")))) == b"from S3"
    file = UfsPath.parse(f"file://{tmp_path}/x")
    assert await content(await ufs.get(file)) == b"from a file"
    moved = UfsPath.parse(bucket.uri("from a file"))
    assert await ufs.copy(file, moved, etag=(await ufs.stat(file)).etag) is None
    await ufs.put(moved, (await ufs.get(file)).chunks, size=len(b"from a file"))
    assert await ufs.delete(file)
    assert bucket.client.get_object(Bucket=bucket.name, Key="from a file")["Body"].read() == b"from a file"
    assert not (tmp_path / "x").exists()
    await ufs.close()
