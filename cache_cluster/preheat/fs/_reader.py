"""What the filesystem reads from: the workers, or else the under store itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import BinaryIO, Protocol

import msgspec

from preheat.batch_read import Read
from preheat.errors import PreheatError
from preheat.fs._demand import Demand
from preheat.paths import UfsPath

Outcome = bytes | PreheatError


class RemoteObject(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One object as ``/v1/stat`` and ``/v1/list`` describe it."""

    key: str
    size: int
    etag: str
    last_modified: float
    cached: bool = False


class RemotePage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of ``/v1/list``."""

    objects: list[RemoteObject]
    next: str | None = None


class Reader(Protocol):
    """Reads objects; errors are those of :mod:`preheat.errors`."""

    async def stat(self, path: UfsPath, demand: Demand) -> RemoteObject:
        """Return one object."""
        ...

    async def list(self, path: UfsPath, demand: Demand, *, after: str = "", limit: int = 1000) -> RemotePage:
        """Return one page of the objects at and below a path whose keys are greater than ``after``."""
        ...

    async def read(self, read: Read, demand: Demand) -> bytes:
        """Return an object's bytes, or a range of them; none of what begins behind the object's end."""
        ...

    async def read_many(self, reads: Sequence[Read], demand: Demand) -> Sequence[Outcome]:
        """Return the bytes of each read, or why there are none."""
        ...

    async def download(self, path: UfsPath, demand: Demand, file: BinaryIO, progress: Callable[[int], None]) -> None:
        """Write an object to a seekable file from its beginning, and tell how many bytes have been written."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...
