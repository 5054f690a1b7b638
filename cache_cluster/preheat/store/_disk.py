"""The page store on disk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from preheat.errors import CorruptPage
from preheat.store._base import CachedObject, StoreUsage
from preheat.store._catalog import Entry, Pack
from preheat.store._pages import check_version, clip
from preheat.store._volume import Volume
from preheat.store._writer import BufferSink, Sink, Writer, announce

T = TypeVar("T")
PACK_SIZE = 256 << 20
"""Bytes at which a pack of small objects is full."""
STREAM_ABOVE = 4 << 20
"""Bytes above which an object is written as it comes, to a pack of its own; until then a writer holds it."""
_VERIFY_STEP = 8 << 20
_SCAN_STEP = 1000


class DiskStore:
    """A :class:`~preheat.store.PageStore` in a directory, which it owns while it is open.

    After :meth:`close` it is empty and refuses writers.

    Args:
        directory: made if it does not exist.
        capacity: bytes that the pack files may take.
        pack_size: bytes of a full pack, at most a sixteenth of the capacity.
        stream_above: bytes; see :data:`STREAM_ABOVE`.

    Raises:
        StoreInUse: another process has the directory open.
        StoreError: the directory cannot be used, or holds something else.
    """

    def __init__(
        self, directory: Path, *, capacity: int, pack_size: int = PACK_SIZE, stream_above: int = STREAM_ABOVE
    ) -> None:
        self._volume = Volume(directory, capacity=capacity, pack_size=pack_size)
        self._capacity = capacity
        self._stream_above = stream_above

    def writer(self, path: str, *, etag: str, size: int, last_modified: float, job_id: str = "") -> Writer:
        """Start to write one object of exactly ``size`` bytes; several writers may be open at once."""
        large = size > self._stream_above
        sink: Sink = _StreamSink(self._volume, size) if large else BufferSink(self._volume.store)
        item = announce(path, etag=etag, size=size, last_modified=last_modified, job_id=job_id)
        return Writer(sink, item, capacity=self._capacity)

    def lookup(self, path: str) -> CachedObject | None:
        """Return the object at exactly this path."""
        entry = self._volume.get(path)
        return None if entry is None else entry.item

    def read(self, item: CachedObject, start: int = 0, end: int | None = None) -> bytes:
        """Return bytes [start, end) of exactly this version, cut to its size.

        Raises:
            ObjectNotFound: it is not cached any more.
            VersionChanged: another version took its place.
            CorruptPage: a block did not match its checksum; the object was dropped.
            InvalidRequest: a bound is negative.
        """
        if end is None or not 0 <= start <= end <= item.size:
            start, end = clip(item, start, end)
        return self._read(item, lambda entry: self._volume.read(entry, start, end))

    def read_into(self, item: CachedObject, start: int, end: int, buffer: memoryview) -> memoryview:
        """Return bytes [start, end) as a part of ``buffer``; raises as :meth:`read` does."""
        start, end = clip(item, start, end)
        return self._read(item, lambda entry: self._volume.read_into(entry, start, end, buffer))

    def verify(self, item: CachedObject) -> None:
        """Read every block back and compare its checksum; raises as :meth:`read` does."""
        self._current(item)
        for start in range(0, item.size, _VERIFY_STEP):
            self.read(item, start, start + _VERIFY_STEP)

    def delete(self, path: str) -> bool:
        """Drop the object; false if it was not there."""
        while entry := self._volume.get(path):
            if self._volume.drop(entry):
                return True
        return False

    def scan(self, prefix: str = "", *, after: str = "") -> Iterator[CachedObject]:
        """Yield the objects whose path starts with the prefix and is greater than ``after``, in path order.

        Safe while others write.
        """
        while paths := self._volume.paths(prefix, after=after, limit=_SCAN_STEP):
            for path in paths:
                if item := self.lookup(path):
                    yield item
            after = paths[-1]

    def usage(self) -> StoreUsage:
        """Return how full the store is."""
        return self._volume.usage()

    def flush(self) -> None:
        """Make what was committed survive the death of the process, in one transaction.

        Raises:
            StoreFull, StoreError: the disk refused; all of it stays readable, and the next flush tries again.
        """
        self._volume.flush()

    def close(self) -> None:
        """Release the directory; open writers are discarded. Idempotent."""
        self._volume.close()

    def _read(self, item: CachedObject, read: Callable[[Entry], T]) -> T:
        while True:
            entry = self._current(item)
            try:
                return read(entry)
            except CorruptPage:
                if self._volume.drop(entry, corrupt=True):
                    raise
                # Another thread took the object away meanwhile: what it left decides.

    def _current(self, item: CachedObject) -> Entry:
        entry = self._volume.get(item.path)
        check_version(item, None if entry is None else entry.item)
        assert entry is not None
        return entry


class _StreamSink:
    """Writes a large object to a pack of its own as its bytes come, in any order and from several threads."""

    def __init__(self, volume: Volume, size: int) -> None:
        self._volume = volume
        self._size = size
        self._pack: Pack | None = None
        self._opening = threading.Lock()

    def write(self, data: memoryview, offset: int) -> None:
        with self._opening:
            if self._pack is None:
                self._pack = self._volume.open_stream(self._size)
        self._volume.write_stream(self._pack, data, offset)

    def read(self, start: int, end: int) -> bytes:
        assert self._pack is not None
        return self._volume.read_stream(self._pack, start, end)

    def publish(self, item: CachedObject) -> None:
        assert self._pack is not None
        self._volume.publish_stream(self._pack, item)

    def discard(self) -> None:
        if self._pack is not None:
            self._volume.discard_stream(self._pack)
