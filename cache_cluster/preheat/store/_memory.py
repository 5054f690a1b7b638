"""The page store's twin in memory, for tests and for trying Preheat without a disk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

from preheat.errors import CorruptPage, StoreError
from preheat.store._base import CachedObject, StoreUsage
from preheat.store._pages import check_version, clip, intact, whole_blocks
from preheat.store._writer import BufferSink, Writer, announce


@dataclass(frozen=True, kw_only=True, slots=True)
class _Held:
    item: CachedObject
    data: bytes


class MemoryStore:
    """A :class:`~preheat.store.PageStore` in memory; the oldest objects make room for new ones.

    After :meth:`close` it is empty and refuses writers.

    Args:
        capacity: bytes.
    """

    def __init__(self, *, capacity: int) -> None:
        self._capacity = capacity
        self._held: dict[str, _Held] = {}  # oldest first
        self._used = self._evicted = self._corrupt = 0
        self._closed = False
        self._lock = threading.Lock()

    def writer(self, path: str, *, etag: str, size: int, last_modified: float, job_id: str = "") -> Writer:
        """Start to write one object of exactly ``size`` bytes; several writers may be open at once."""
        item = announce(path, etag=etag, size=size, last_modified=last_modified, job_id=job_id)
        return Writer(BufferSink(self._store), item, capacity=self._capacity)

    def lookup(self, path: str) -> CachedObject | None:
        """Return the object at exactly this path."""
        held = self._held.get(path)
        return None if held is None else held.item

    def read(self, item: CachedObject, start: int = 0, end: int | None = None) -> bytes:
        """Return bytes [start, end) of exactly this version, cut to its size.

        Raises:
            ObjectNotFound: it is not cached any more.
            VersionChanged: another version took its place.
            CorruptPage: a block did not match its checksum; the object was dropped.
            InvalidRequest: a bound is negative.
        """
        start, end = clip(item, start, end)
        with self._lock:
            check_version(item, self.lookup(item.path))
            held = self._held[item.path]
            first, last, checksums = whole_blocks(held.item, start, end)
            if not intact(memoryview(held.data)[first:last], checksums):
                self._remove(held)
                self._corrupt += 1
                raise CorruptPage(f"{item.path} does not match its checksum in bytes {first}-{last}.")
            return held.data[start:end]

    def read_into(self, item: CachedObject, start: int, end: int, buffer: memoryview) -> memoryview:
        """Return bytes [start, end) as a part of ``buffer``; raises as :meth:`read` does."""
        data = self.read(item, start, end)
        buffer[: len(data)] = data
        return buffer[: len(data)]

    def verify(self, item: CachedObject) -> None:
        """Read every block back and compare its checksum; raises as :meth:`read` does."""
        self.read(item)

    def delete(self, path: str) -> bool:
        """Drop the object; false if it was not there."""
        with self._lock:
            held = self._held.get(path)
            if held is not None:
                self._remove(held)
            return held is not None

    def scan(self, prefix: str = "", *, after: str = "") -> Iterator[CachedObject]:
        """Yield the objects whose path starts with the prefix and is greater than ``after``, in path order.

        Safe while others write.
        """
        with self._lock:
            paths = sorted(path for path in self._held if path.startswith(prefix) and path > after)
        for path in paths:
            if item := self.lookup(path):
                yield item

    def usage(self) -> StoreUsage:
        """Return how full the store is."""
        with self._lock:
            return StoreUsage(
                capacity=self._capacity,
                used=self._used,
                objects=len(self._held),
                evicted=self._evicted,
                corrupt=self._corrupt,
            )

    def flush(self) -> None:
        """Do nothing: memory does not survive."""

    def close(self) -> None:
        """Forget everything. Idempotent."""
        with self._lock:
            self._closed = True
            self._held.clear()
            self._used = 0

    def _store(self, item: CachedObject, data: bytearray) -> None:
        with self._lock:
            if self._closed:
                raise StoreError("The page store in memory is closed.", remedy="Open a new one.")
            if replaced := self._held.get(item.path):
                self._remove(replaced)
            while self._used + item.size > self._capacity:
                self._remove(next(held for held in self._held.values() if held.item.size))
                self._evicted += 1
            self._held[item.path] = _Held(item=item, data=bytes(data))
            self._used += item.size

    def _remove(self, held: _Held) -> None:
        del self._held[held.item.path]
        self._used -= held.item.size
