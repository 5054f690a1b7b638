"""The page store's twin in memory, for tests and for trying Preheat without a disk."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf

from preheat.errors import CorruptPage, StoreError, StoreFull
from preheat.settings import StoreSettings
from preheat.store._base import BLOCK_SIZE, CachedObject, StoreUsage
from preheat.store._eviction import POLICIES, Use, Watermarks
from preheat.store._extents import Extent
from preheat.store._pages import check_version, clip, intact, whole_blocks
from preheat.store._pins import Pins
from preheat.store._writer import BufferSink, Writer, announce
from preheat.units import human_size

_UNUSED = Use(0, 0, 0)


@dataclass(kw_only=True, slots=True)
class _Held:
    item: CachedObject
    data: bytes
    use: Use = _UNUSED


class MemoryStore:
    """A :class:`~preheat.store.PageStore` in memory.

    After :meth:`close` it is empty and refuses writers.

    Args:
        capacity: bytes.
        settings: what makes room for new objects.
    """

    def __init__(self, *, capacity: int, settings: StoreSettings = StoreSettings()) -> None:  # noqa: B008 - frozen
        self._capacity = capacity
        self._marks = Watermarks.of(capacity, settings)
        self._worth = POLICIES[settings.eviction]
        self._pins = Pins()
        self._tick = 0
        self._held: dict[str, _Held] = {}  # oldest first
        self._used = self._evicted = self._corrupt = 0
        self._closed = False
        self._lock = threading.Lock()

    def writer(
        self, path: str, *, etag: str, size: int, last_modified: float, job_id: str = "", attributes: str = ""
    ) -> Writer:
        """Start to write one object of exactly ``size`` bytes; several writers may be open at once."""
        item = announce(path, etag=etag, size=size, last_modified=last_modified, job_id=job_id, attributes=attributes)
        return Writer(BufferSink(self._store), item, capacity=self._capacity)

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
        """Publish an object all of whose bytes are at hand; raises as a writer does."""
        size = len(data)
        with self.writer(
            path, etag=etag, size=size, last_modified=last_modified, job_id=job_id, attributes=attributes
        ) as writer:
            writer.append(data)
            return writer.commit()

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
            self._note_read(held)
            return held.data[start:end]

    def read_small(self, paths: Sequence[str], limit: float = inf) -> list[tuple[CachedObject, bytes]]:
        """Return the objects at some paths, up to the first that is not cached, larger than a block, or not intact."""
        found: list[tuple[CachedObject, bytes]] = []
        with self._lock:
            for path in paths:
                held = self._held.get(path)
                if held is None or len(held.data) > BLOCK_SIZE or not intact(held.data, held.item.checksums):
                    break
                self._note_read(held)
                found.append((held.item, held.data))
                limit -= len(held.data)
                if limit <= 0:
                    break
        return found

    def extent(self, item: CachedObject, start: int, end: int) -> Extent | None:  # noqa: ARG002 - part of the protocol
        """Return none: there are no files."""
        return None

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

    def pin(self, prefix: str) -> None:
        """Never evict the objects whose path starts with the prefix, also those that come later."""
        self._pins.add(prefix, ())

    def unpin(self, prefix: str) -> bool:
        """Let the objects be evicted that are pinned by exactly this prefix alone; false if it is not pinned."""
        return self._pins.remove(prefix, ())

    def pins(self) -> tuple[str, ...]:
        """Return the pinned prefixes, in order."""
        return self._pins.prefixes

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

    def _store(self, item: CachedObject, data: bytes) -> None:
        with self._lock:
            if self._closed:
                raise StoreError("The page store in memory is closed.", remedy="Open a new one.")
            self._make_room(item.size)
            if replaced := self._held.get(item.path):
                self._remove(replaced)
            self._tick += 1
            self._held[item.path] = _Held(item=item, data=data, use=Use(self._tick, 0, 0))
            self._used += item.size

    def _note_read(self, held: _Held) -> None:
        self._tick += 1
        held.use = Use(held.use.admitted, self._tick, held.use.reads + 1)

    def _make_room(self, size: int) -> None:
        """Drop the least worthy objects until the store is at its low watermark."""
        if not self._marks.update(self._used + size):
            return
        pins = self._pins.prefixes
        victims = [held for held in self._held.values() if held.item.size and not held.item.path.startswith(pins)]
        for held in sorted(victims, key=lambda held: self._worth(held.use, self._tick)):
            if not self._marks.update(self._used + size):
                return
            self._remove(held)
            self._evicted += 1
        if self._used + size > self._capacity:
            needed, room = human_size(size), human_size(self._capacity)
            raise StoreFull(f"{needed} do not fit beside pinned objects; the capacity is {room}.")

    def _remove(self, held: _Held) -> None:
        del self._held[held.item.path]
        self._used -= held.item.size
