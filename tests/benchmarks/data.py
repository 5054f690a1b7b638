"""The objects that are loaded, listed and served: what they hold follows from their keys."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import obstore
from obstore.store import S3Store

from testbed.s3 import REGION, S3Server

BUCKET = "bench"
ROOT = "data/"
KIB = 1 << 10
MIB = 1 << 20
_CHECKED = 50
_CHECKED_BYTES = 64 * MIB
_UPLOADS = 32
_BLOCK = MIB
_UPLOAD_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class ObjectSet:
    """Objects of one size below one prefix."""

    name: str
    count: int
    size: int
    root: str = ROOT

    @property
    def prefix(self) -> str:
        """What all its keys start with."""
        return f"{self.root}{self.name}/"

    @property
    def uri(self) -> str:
        """The path to load."""
        return f"s3://{BUCKET}/{self.prefix}"

    def keys(self) -> Iterator[str]:
        """Yield its keys, in order."""
        return (f"{self.prefix}{number:06d}.bin" for number in range(self.count))

    @property
    def checked(self) -> list[str]:
        """Those of its keys whose bytes are compared after a load: some, and at least one."""
        return self.sample(max(1, min(_CHECKED, _CHECKED_BYTES // self.size)))

    def sample(self, count: int) -> list[str]:
        """Return some of its keys, the same ones each time."""
        return random.Random(self.name).sample(list(self.keys()), min(count, self.count))


def content(key: str, size: int) -> bytes:
    """Return what the object at a key holds: random bytes, the same in every run."""
    blocks = range(0, size, _BLOCK)
    return b"".join(random.Random(f"{key}@{start}").randbytes(min(_BLOCK, size - start)) for start in blocks)


def upload(server: S3Server, *sets: ObjectSet) -> None:
    """Make the bucket and put the objects of all sets into it.

    Raises:
        TimeoutError: it took longer than ten minutes.
    """
    client = server.client()
    client.create_bucket(Bucket=BUCKET)
    client.close()
    asyncio.run(_upload(server, sets))


async def _upload(server: S3Server, sets: tuple[ObjectSet, ...]) -> None:
    store = S3Store(
        BUCKET,
        config={
            "endpoint": server.endpoint,
            "access_key_id": server.access_key,
            "secret_access_key": server.secret_key,
            "region": REGION,
            "virtual_hosted_style_request": False,
        },
        client_options={"allow_http": True, "timeout": timedelta(minutes=2)},
    )
    todo = ((key, objects.size) for objects in sets for key in objects.keys())  # noqa: SIM118 - not a dict

    async def put_some() -> None:
        for key, size in todo:
            await obstore.put_async(store, key, content(key, size), use_multipart=False)

    async with asyncio.timeout(_UPLOAD_SECONDS), asyncio.TaskGroup() as tasks:
        for _ in range(_UPLOADS):
            tasks.create_task(put_some())
