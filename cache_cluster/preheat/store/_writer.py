"""The writer that the stores share: it counts and checksums, its sink keeps the bytes."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from preheat.errors import StoreError, StoreFull
from preheat.store._base import CachedObject
from preheat.store._parts import Parts
from preheat.units import human_size


class Sink(Protocol):
    """Where the bytes of one object go until it is published."""

    def write(self, data: memoryview, offset: int) -> None:
        """Keep bytes of the object; the caller may reuse their memory afterwards."""
        ...

    def read(self, start: int, end: int) -> bytes:
        """Return bytes that were written, before or after the object was published."""
        ...

    def publish(self, item: CachedObject) -> None:
        """Make the object visible."""
        ...

    def discard(self) -> None:
        """Forget the bytes."""
        ...


class BufferSink:
    """Collects a small object in memory and hands it over as one piece.

    The pieces are kept as they came: a buffer that grows cost three times as much, in fresh memory.
    """

    def __init__(self, publish: Callable[[CachedObject, bytes], None]) -> None:
        self._publish = publish
        self._pieces: dict[int, bytes] = {}
        """By where they begin in the object."""

    def write(self, data: memoryview, offset: int) -> None:
        """Copy the bytes."""
        self._pieces[offset] = bytes(data)

    def read(self, start: int, end: int) -> bytes:
        """Copy bytes out of the pieces."""
        pieces = sorted(self._pieces.copy().items())
        return b"".join(
            piece[max(start - offset, 0) : end - offset]
            for offset, piece in pieces
            if offset < end and offset + len(piece) > start
        )

    def publish(self, item: CachedObject) -> None:
        """Hand the whole object over."""
        if len(self._pieces) != 1:
            self._pieces = {0: b"".join(piece for _, piece in sorted(self._pieces.items()))}
        self._publish(item, self._pieces[0])

    def discard(self) -> None:
        """Free the pieces."""
        self._pieces = {}


def announce(
    path: str, *, etag: str, size: int, last_modified: float, job_id: str, attributes: str = ""
) -> CachedObject:
    """Return what is known of an object before its bytes came."""
    return CachedObject(
        path=path,
        etag=etag,
        size=size,
        last_modified=last_modified,
        job_id=job_id,
        cached_at=0.0,
        checksums=b"",
        attributes=attributes,
    )


class Writer:
    """An :class:`~preheat.store.ObjectWriter` over a sink."""

    def __init__(self, sink: Sink, announced: CachedObject, *, capacity: int) -> None:
        self._sink = sink
        self._announced = announced
        self._capacity = capacity
        self._parts = Parts(announced)
        self._open = True
        self._discarded = False

    def append(self, data: bytes | memoryview, *, part: int = 0) -> None:
        """Add bytes to a part; those beyond the announced size are only counted, and :meth:`commit` refuses them.

        Raises:
            StoreFull: the object does not fit even after eviction.
            StoreError: the disk refused the bytes, or the writer or its store is closed.
        """
        self._check_open()
        size = self._announced.size
        if size > self._capacity:
            path, room = self._announced.path, human_size(self._capacity)
            raise StoreFull(f"{path} has {human_size(size)}, more than the whole page store ({room}).")
        view = memoryview(data)
        checksums = self._parts.part(part)
        offset = part + checksums.size
        if expected := view[: max(size - offset, 0)]:
            self._sink.write(expected, offset)
        checksums.update(view)

    def read(self, start: int, end: int) -> bytes:
        """Return bytes [start, end) of what was appended, after verifying each whole block that they touch.

        Raises:
            InvalidRequest: not all of them were appended.
            StoreError: the bytes were discarded, or are lost.
        """
        if self._discarded:
            raise StoreError(f"The bytes of {self._announced.path} were discarded.", remedy="Read it again.")
        return self._parts.read(start, end, self._sink.read)

    def commit(self) -> CachedObject:
        """Publish the object in place of any older version.

        Raises:
            VersionChanged: fewer or more bytes were appended than the size that was announced.
            StoreFull: the object does not fit even after eviction.
            StoreError: the disk refused the object, or the writer or its store is closed.
        """
        self._check_open()
        checksums = self._parts.checksums()
        announced = self._announced
        item = CachedObject(
            path=announced.path,
            etag=announced.etag,
            size=announced.size,
            last_modified=announced.last_modified,
            job_id=announced.job_id,
            cached_at=time.time(),
            checksums=checksums,
            attributes=announced.attributes,
        )
        self._sink.publish(item)
        self._open = False
        return item

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open:
            self._open = False
            self._discarded = True
            self._sink.discard()

    def _check_open(self) -> None:
        if not self._open:
            raise StoreError(f"The writer of {self._announced.path} is closed.", remedy="Open a new writer.")
