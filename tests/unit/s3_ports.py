"""S3 ports of workers in one loop, over in-memory twins, and clients for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from preheat.settings import TlsSettings
from preheat.ufs import MemoryUnderStore
from preheat.worker._forward import Forward
from preheat.worker.port import Server
from preheat.worker.s3 import Access, S3Credentials, S3Endpoints
from tests.unit.writing_workers import Group, Worker, working

_session = boto3.Session("key", "secret", region_name="us-east-1")


def boto_client(url: str, *, verify: Path | None = None) -> Any:
    """Return a client that does not try again: a test wants to see the first answer."""
    return _session.client(
        "s3",
        endpoint_url=url,
        verify=str(verify) if verify else None,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )


@dataclass(frozen=True, kw_only=True)
class S3Port:
    """One worker's S3 port."""

    worker: Worker
    forward: Forward
    server: Server
    client: Any

    @property
    def url(self) -> str:
        return self.server.url

    async def __call__(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Have boto3 do an operation, in a thread; a body comes as bytes."""

        def call() -> dict[str, Any]:
            bucket = {} if operation == "list_buckets" else {"Bucket": "data"}
            answer = getattr(self.client, operation)(**bucket | parameters)
            if "Body" in answer:
                answer["Body"] = answer["Body"].read()
            return answer

        return await asyncio.wait_for(asyncio.to_thread(call), 20)

    async def refused(self, operation: str, **parameters: Any) -> tuple[int, str]:
        """Return the status and the code with which an operation is refused."""
        try:
            answer = await self(operation, **parameters)
        except ClientError as error:
            return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
        raise AssertionError(f"{operation} was not refused: {answer}")


@dataclass(frozen=True, kw_only=True)
class S3Group:
    """Some workers with S3 ports."""

    group: Group
    ports: list[S3Port]

    @property
    def origin(self) -> MemoryUnderStore:
        return self.group.origin

    def owner(self, key: str) -> S3Port:
        return next(port for port in self.ports if port.worker is self.group.owner(key))

    def other(self, key: str) -> S3Port:
        return next(port for port in self.ports if port.worker is not self.group.owner(key))


@asynccontextmanager
async def s3_ports(
    directory: Path,
    count: int = 1,
    *,
    origin: MemoryUnderStore | None = None,
    tls: TlsSettings | None = None,
    credentials: S3Credentials | None = None,
) -> AsyncIterator[S3Group]:
    """Run workers whose buckets are those of ``writing_workers``."""
    async with AsyncExitStack() as stack:
        group = await stack.enter_async_context(working(directory, count, origin=origin))
        ports = [await stack.enter_async_context(_port(worker, tls, credentials)) for worker in group.workers]
        yield S3Group(group=group, ports=ports)


@asynccontextmanager
async def _port(worker: Worker, tls: TlsSettings | None, credentials: S3Credentials | None) -> AsyncIterator[S3Port]:
    forward = Forward(worker.reads, worker_id=worker.id, owners=worker.group.owners)
    endpoints = S3Endpoints(
        worker.reads,
        forward=forward,
        writes=worker.writes,
        policies=worker.policies,
        lister=worker.group.origin,
        access=Access(credentials),
    )
    async with Server(endpoints, tls=tls) as server:
        client = boto_client(server.url, verify=tls.ca if tls else None)
        yield S3Port(worker=worker, forward=forward, server=server, client=client)
        client.close()
    await forward.close()
