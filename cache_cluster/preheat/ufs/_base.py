"""The contract of an under store (UFS): where the data lives for good.

Listing is in ascending order of the keys' UTF-8 bytes, in pages, resumable after any key. Every call has a deadline.
Vendor errors become BucketNotFound, ObjectNotFound, AccessDenied, OriginUnavailable or VersionChanged; each message
names the path (never a credential).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from preheat.paths import UfsPath
from preheat.versions import ObjectInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class Download:
    """An object's bytes on their way: what the origin says it is, and the stream."""

    info: ObjectInfo
    start: int
    end: int
    chunks: AsyncIterator[memoryview]
    """The bytes [start, end) in order; raises OriginUnavailable if the body ends early."""


class UnderStore(Protocol):
    """One kind of under store."""

    def list(self, path: UfsPath, *, after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        """Yield pages of the objects at and below a path whose key is greater than ``after``.

        ``s3://b/dir/`` lists what starts with ``dir/``; ``s3://b/x`` lists the object ``x`` if there is one and what
        starts with ``x/``, never ``xy``. Directory markers (empty objects whose key ends with a slash) are left out.
        A path with nothing at or below it yields nothing.

        Raises:
            BucketNotFound, AccessDenied, OriginUnavailable: as named.
        """
        ...

    async def stat(self, path: UfsPath) -> ObjectInfo:
        """Return what the store says of one object.

        Raises:
            ObjectNotFound: there is none. Otherwise as :meth:`list`.
        """
        ...

    async def get(self, path: UfsPath, *, etag: str | None = None, start: int = 0, end: int | None = None) -> Download:
        """Start to read bytes [start, end) of an object; of the version ``etag`` only, if given.

        Raises:
            VersionChanged: the object has another etag now. Otherwise as :meth:`stat`.
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
