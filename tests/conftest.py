from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from testbed import JuiceFSGateway


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that it does not run alone in the end; the shuffled order stays otherwise."""
    kinds = ["e2e", "integration", "faults"]
    items.sort(key=lambda item: next((n for n, kind in enumerate(kinds) if kind in item.path.parts), len(kinds)))


@pytest.fixture(scope="session", autouse=True)
def _scrubbed_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing of the developer's own configuration reaches a test."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(("PREHEAT_", "AWS_")):
                patch.delenv(name)
        empty = tmp_path_factory.mktemp("no-aws-files")
        patch.setenv("AWS_CONFIG_FILE", str(empty / "config"))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(empty / "credentials"))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """A fresh bucket and the boto3 client to fill it with, past the code under test."""

    name: str
    client: Any

    def put(self, key: str, body: bytes = b"") -> str:
        """Return the new object's etag, without quotes."""
        etag = self.client.put_object(Bucket=self.name, Key=key, Body=body)["ETag"]
        return str(etag).strip('"')

    def put_many(self, objects: dict[str, bytes]) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self.put, objects.keys(), objects.values()))

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)

    def uri(self, key: str = "") -> str:
        return f"s3://{self.name}/{key}"


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JuiceFSGateway]:
    """A real S3 server that checks signatures; it lives as long as the test session."""
    with JuiceFSGateway(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def s3_client(s3_server: JuiceFSGateway) -> Iterator[Any]:
    client = s3_server.client()
    yield client
    client.close()


@pytest.fixture
def s3_environment(s3_server: JuiceFSGateway, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The variables of the S3 server, set in this process for one test."""
    environment = s3_server.environment()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment


@pytest.fixture
def bucket(s3_client: Any) -> Bucket:
    """A new, empty bucket."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    s3_client.create_bucket(Bucket=name)
    return Bucket(name=name, client=s3_client)
