"""The contract of an under store (UFS): where the data lives for good.

Listing is in ascending order of the keys' UTF-8 bytes, in pages, resumable after any key. Every call has a deadline.
Vendor errors become BucketNotFound, ObjectNotFound, AccessDenied, OriginUnavailable or VersionChanged; each message
names the path (never a credential).

A write appears whole or not at all, and is durable when the call returns.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from preheat.attributes import NONE, Attributes
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
    waited: float = 0.0
    """Seconds from the request until the answer began; 0 if the store does not say."""


Sink = Callable[[memoryview], None]
"""Takes the next bytes of a range in the thread that reads them, which uses their memory again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """Bytes [start, end) of one version of an object."""

    info: ObjectInfo
    start: int
    end: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Checksum:
    """What a store keeps of all bytes of an object."""

    name: str
    """The algorithm, as S3 calls it: ``crc64nvme``, ``crc32c``, ``crc32``, ``sha256`` or ``sha1``."""
    value: str
    """Base64."""


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

    async def put(
        self,
        path: UfsPath,
        chunks: AsyncIterator[bytes | memoryview],
        *,
        size: int,
        attributes: Attributes = NONE,
    ) -> ObjectInfo:
        """Write one object of exactly ``size`` bytes in place of what was there, and return it with its new etag.

        Memory holds a few parts, never the object. What the chunks raise is raised here, and nothing is written; of
        several writers at once, the whole object of one stays. The time of its modification is about now: the store
        may round it, or have another clock. A store keeps ``attributes`` if it can keep any.

        Raises:
            VersionChanged: the chunks have fewer or more bytes; nothing was written.
            Conflict: an object cannot stand there, such as a file where there is a directory.
            BucketNotFound, AccessDenied, OriginUnavailable: as named.
        """
        ...

    async def copy(self, source: UfsPath, target: UfsPath, *, etag: str) -> ObjectInfo | None:
        """Let the store itself copy the version ``etag`` of an object, and return the copy with its etag.

        None if it cannot: the two are not in one store, or the object is too large for it. Then nothing was written,
        and the bytes have to be sent with :meth:`put`.

        Raises:
            ObjectNotFound: there is no source.
            VersionChanged: the source has another etag now. Otherwise as :meth:`put`.
        """
        ...

    async def delete(self, path: UfsPath, *, etag: str | None = None) -> bool:
        """Remove one object, only if it is the version ``etag``, if given; false if it was not there.

        The version is looked at right before, for no store is sure to do both in one step: a version that another
        writer puts between the two goes with it.

        Raises:
            VersionChanged: the object has another etag now; it stays. Otherwise as :meth:`list`.
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class BucketInfo:
    """One bucket."""

    name: str
    created_at: float
    """Seconds since the epoch; 0 if the store does not say."""


@runtime_checkable
class BucketLister(Protocol):
    """An under store that tells which buckets there are."""

    async def list_buckets(self) -> Sequence[BucketInfo]:
        """Return the buckets that the credentials may see, by name.

        Raises:
            AccessDenied, OriginUnavailable: as named.
        """
        ...


@runtime_checkable
class StreamingStore(Protocol):
    """An under store that also reads large ranges in threads of its own, on several cores."""

    async def pour(self, path: UfsPath, span: Span, sink: Sink) -> bool:
        """Hand a range to ``sink``, and return when all of it came; what the sink raises is raised here.

        False if nothing came because this store, or this range, has to be read with :meth:`UnderStore.get`. When this
        is cancelled, the sink is not called any more once it ends.

        Raises:
            VersionChanged: the object is another version now; nothing came. Otherwise as :meth:`UnderStore.get`.
        """
        ...


@runtime_checkable
class ChecksummedStore(Protocol):
    """An under store that keeps checksums of objects, of which it may tell."""

    async def get_whole(self, path: UfsPath, info: ObjectInfo) -> Download:
        """Start to read all of a small object, as :meth:`UnderStore.get`.

        Raises:
            OriginCorrupt: the bytes do not match the store's checksum; the chunks may raise it, too.
        """
        ...

    async def checksum(self, path: UfsPath, info: ObjectInfo) -> Checksum | None:
        """Return the checksum of all bytes of this version; none if the store has none, or fails to tell."""
        ...
