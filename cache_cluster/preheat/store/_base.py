"""The contract of a page store: where one worker keeps its cached objects.

An object is visible whole or not at all: it appears when its writer commits, and a crash before that leaves nothing
that can be read. What was committed since the last :meth:`PageStore.flush` may be missing after a crash, but never is
a version that it replaced there instead. A read verifies the checksum of each block that it touches. Calls are
synchronous and quick (page cache and one index look-up); a store may be called from several threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from types import TracebackType
from typing import Protocol, Self

import msgspec

from preheat.store._extents import Extent

PAGE_SIZE = 1 << 20
"""Bytes that are read and sent as one piece."""
BLOCK_SIZE = 64 << 10
"""Bytes under one checksum: small, because a read of a few bytes has to verify the whole block; divides a page."""


class CachedObject(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One object as it stands in the store.

    A struct, and not a dataclass as other values are: a load makes as many as there are objects, and all stay.
    """

    path: str
    """URI in the under store."""
    etag: str
    size: int
    last_modified: float
    """Seconds since the epoch, as the under store said."""
    job_id: str
    """The job that loaded it; empty for a demand read."""
    cached_at: float
    """Seconds since the epoch."""
    checksums: bytes
    """CRC-32C of each block, four bytes each, little endian: as numbers they would take nine times the memory."""
    attributes: str = ""
    """What its writer said of it besides, as :func:`preheat.attributes.lines_of` has it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreUsage:
    """How full a store is, and what it did since it was opened."""

    capacity: int
    """Bytes."""
    used: int
    """Bytes of the objects that can be read."""
    objects: int
    evicted: int = 0
    """Objects dropped to make room."""
    corrupt: int = 0
    """Objects dropped because a block's checksum did not match, or what is known of them was damaged."""
    damaged: int = 0
    """Stretches of the files that could not be understood when a lost index was rebuilt from them."""
    failed: tuple[str, ...] = ()
    """Directories that were given up: what was in them is not cached any more."""


class ObjectWriter(Protocol):
    """Receives one object's bytes. Leaving the context without :meth:`commit` discards them."""

    def append(self, data: bytes | memoryview, *, part: int = 0) -> None:
        """Add bytes behind those that the same part has.

        Args:
            data: the bytes; their memory may be reused afterwards.
            part: where the part begins in the object, a multiple of :data:`PAGE_SIZE`. Parts may be written at the
                same time, but each by one thread; together they must cover the object.

        Raises:
            StoreFull: the object does not fit even after eviction.
        """
        ...

    def read(self, start: int, end: int) -> bytes:
        """Return bytes [start, end) of what was appended, before or after the commit, so that readers can follow.

        May be called by any thread; bytes count as appended when their :meth:`append` returned.

        Raises:
            InvalidRequest: not all of them were appended.
            StoreError: the bytes were discarded, or are lost.
        """
        ...

    def commit(self) -> CachedObject:
        """Publish the object in place of any older version.

        Raises:
            VersionChanged: fewer or more bytes were appended than the size that was announced.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class PageStore(Protocol):
    """One worker's cached objects."""

    def writer(
        self, path: str, *, etag: str, size: int, last_modified: float, job_id: str = "", attributes: str = ""
    ) -> ObjectWriter:
        """Start to write one object of exactly ``size`` bytes; several writers may be open at once."""
        ...

    def put(
        self,
        path: str,
        data: bytes | memoryview,
        *,
        etag: str,
        last_modified: float,
        job_id: str = "",
        attributes: str = "",
    ) -> CachedObject:
        """Publish a small object all of whose bytes are at hand, in place of any older version.

        It takes half the time of a writer. The memory of the bytes may be reused afterwards.

        Raises:
            StoreFull: the object does not fit even after eviction.
        """
        ...

    def lookup(self, path: str) -> CachedObject | None:
        """Return the object at exactly this path."""
        ...

    def read(self, item: CachedObject, start: int = 0, end: int | None = None) -> bytes:
        """Return bytes [start, end) of exactly this version.

        Raises:
            ObjectNotFound: it is not cached any more.
            VersionChanged: another version took its place.
            CorruptPage: a block did not match its checksum; the object was dropped.
        """
        ...

    def read_small(self, paths: Sequence[str], limit: float = inf) -> list[tuple[CachedObject, bytes]]:
        """Return the objects at some paths, up to the first that is not cached, larger than a block, or not intact.

        For readers of thousands: it takes a third of the time of a look-up and a read each. What it left out is to be
        read by :meth:`read`, which tells why. It ends with the object that brings their bytes to the limit.
        """
        ...

    def extent(self, item: CachedObject, start: int, end: int) -> Extent | None:
        """Return where bytes [start, end) of exactly this version are in a file, to be sent from there.

        It counts as a read. None if they are not known to be intact there, or are too few: then :meth:`read` them.
        """
        ...

    def verify(self, item: CachedObject) -> None:
        """Read every block back and compare its checksum; raises as :meth:`read` does."""
        ...

    def delete(self, path: str) -> bool:
        """Drop the object; false if it was not there."""
        ...

    def scan(self, prefix: str = "", *, after: str = "") -> Iterator[CachedObject]:
        """Yield the objects whose path starts with the prefix and is greater than ``after``, in path order.

        Safe while others write. Its first step costs a look-up and no pass over the store, so it may go page by page.
        """
        ...

    def pin(self, prefix: str) -> None:
        """Never evict the objects whose path starts with the prefix, also those that come later. It may be pinned.

        Raises:
            StoreError: that could not be noted durably.
        """
        ...

    def unpin(self, prefix: str) -> bool:
        """Let the objects be evicted that are pinned by exactly this prefix alone; false if it is not pinned."""
        ...

    def pins(self) -> tuple[str, ...]:
        """Return the pinned prefixes, in order."""
        ...

    def usage(self) -> StoreUsage:
        """Return how full the store is."""
        ...

    def flush(self) -> None:
        """Make what was committed survive the death of the process.

        Raises:
            StoreFull, StoreError: the disk refused; all of it stays readable, and the next flush tries again.
        """
        ...

    def close(self) -> None:
        """Release the directory; open writers are discarded. Idempotent."""
        ...
