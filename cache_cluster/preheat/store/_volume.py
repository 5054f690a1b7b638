"""One directory of a page store: pack files, the index, and the lock that keeps other processes out.

::

    DIRECTORY/lock                  held while the directory is open
    DIRECTORY/index.sqlite          one row an object; the row is what publishes it
    DIRECTORY/packs/00000001.pack   bytes of many small objects, or of one large object

An object is visible from memory as soon as its bytes are written; its row follows with the next flush. Bytes are
written before their row, so the process may be killed between any two steps: when the directory is opened again, rows
whose bytes are not there and packs without a row are removed. What was not flushed then simply is not cached. It never
gives way to an older version: the row of an object that takes another version's place is written before it is visible.
"""

from __future__ import annotations

import fcntl
import os
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

from preheat.errors import CorruptPage, StoreError, StoreInUse
from preheat.store._base import CachedObject, StoreUsage
from preheat.store._catalog import Catalog, Entry, Pack
from preheat.store._faults import disk_faults
from preheat.store._index import Index
from preheat.store._packs import PackFiles
from preheat.store._pages import intact, whole_blocks

_PACKS_IN_CAPACITY = 16
"""Eviction drops whole packs: with at least this many, one is a small part of the cache."""
_MAX_UNSAVED = 1000
"""Rows that may wait for a flush."""


class Volume:
    """The objects in one directory; safe to use from several threads.

    When bytes would not fit, the oldest packs are dropped whole. Capacity bounds the packs, with their dead
    bytes, but not the index.

    Raises:
        StoreInUse: another store has the directory open.
        StoreError: the directory cannot be used.
    """

    def __init__(self, directory: Path, *, capacity: int, pack_size: int) -> None:
        self._directory = directory
        self._pack_size = max(1, min(pack_size, capacity // _PACKS_IN_CAPACITY))
        self._lock = threading.Lock()
        self._evicted = self._corrupt = 0
        self._closed = False
        self._unsaved: dict[str, Entry] = {}
        """Visible objects whose rows are not written yet, by path."""
        with ExitStack() as resources:
            resources.callback(os.close, _lock_directory(directory))
            self._files = PackFiles(directory / "packs")
            resources.callback(self._files.close)
            self._index = Index(directory / "index.sqlite")
            resources.callback(self._index.close)
            self._catalog = self._recover(Catalog(capacity))
            self._make_room(0)
            self._resources = resources.pop_all()

    def get(self, path: str) -> Entry | None:
        """Return the object at a path."""
        return self._catalog.entries.get(path)

    def paths(self, prefix: str, *, after: str, limit: int) -> list[str]:
        """Return the next paths that start with the prefix and are greater than ``after``, in order."""
        with self._lock:
            if self._closed:
                return []
            unsaved = {path for path in self._unsaved if path.startswith(prefix) and path > after}
            return sorted(unsaved.union(self._index.paths(prefix, after=after, limit=limit)))[:limit]

    def usage(self) -> StoreUsage:
        """Return how full the directory is."""
        with self._lock:
            catalog = self._catalog
            return StoreUsage(
                capacity=catalog.capacity,
                used=catalog.used,
                objects=len(catalog.entries),
                evicted=self._evicted,
                corrupt=self._corrupt,
            )

    def read(self, entry: Entry, start: int, end: int) -> bytes:
        """Return bytes [start, end) of an object after verifying each block that they touch.

        Raises:
            CorruptPage: a block is lost or does not match its checksum.
        """
        first, last, checksums = whole_blocks(entry.item, start, end)
        data = self._files.read(entry.pack, entry.offset + first, last - first)
        _check(entry, data, checksums, first)
        return data[start - first : end - first]

    def read_into(self, entry: Entry, start: int, end: int, buffer: memoryview) -> memoryview:
        """Return what :meth:`read` does as a part of the buffer."""
        first, last, checksums = whole_blocks(entry.item, start, end)
        size = self._files.read_into(entry.pack, entry.offset + first, buffer[: last - first])
        _check(entry, buffer[:size], checksums, first)
        return buffer[start - first : end - first]

    def store(self, item: CachedObject, data: bytearray) -> None:
        """Append a small object to a pack and publish it."""
        with self._lock:
            self._check_open()
            self._make_room(len(data))
            pack = self._pack_to_fill(len(data))
            offset = pack.size
            self._files.write(pack.number, data, offset)
            self._catalog.grow(pack, len(data))
            self._publish(Entry(item=item, pack=pack.number, offset=offset))

    def open_stream(self, size: int) -> Pack:
        """Make room for a large object and start a pack of its own."""
        with self._lock:
            self._check_open()
            self._make_room(size)
            return self._new_pack(size=size, streaming=True)

    def write_stream(self, pack: Pack, data: memoryview, offset: int) -> None:
        """Write bytes of a large object; takes no lock, its writer is alone in the pack."""
        self._check_open()
        self._files.write(pack.number, data, offset)

    def read_stream(self, pack: Pack, start: int, end: int) -> bytes:
        """Return bytes of a large object that were written, or fewer if they are lost."""
        return self._files.read(pack.number, start, end - start)

    def publish_stream(self, pack: Pack, item: CachedObject) -> None:
        """Publish a large object whose bytes are all written."""
        with self._lock:
            self._check_open()
            self._publish(Entry(item=item, pack=pack.number, offset=0))
            pack.streaming = False

    def discard_stream(self, pack: Pack) -> None:
        """Remove the pack of a large object that is not going to be published."""
        with self._lock:
            if pack.number in self._catalog.packs:
                self._drop_pack(pack)

    def drop(self, entry: Entry, *, corrupt: bool = False) -> bool:
        """Remove an object; false if it is not the one at its path any more."""
        with self._lock:
            if self.get(entry.item.path) is not entry:
                return False
            self._corrupt += corrupt
            self._catalog.remove(entry)
            self._release(entry)
            self._forget([entry.item.path])
            return True

    def flush(self) -> None:
        """Write the rows of what was published since the last flush.

        Raises:
            StoreFull, StoreError: the disk refused; the next flush tries all of them again.
        """
        with self._lock:
            self._check_open()
            self._save()

    def close(self) -> None:
        """Discard what is being written and let go of the directory. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            with self._resources:
                with suppress(StoreError):  # then it is as after a crash: what was not flushed is not cached
                    self._save()
                for pack in [pack for pack in self._catalog.packs.values() if pack.streaming]:
                    self._drop_pack(pack)
            self._catalog = Catalog(self._catalog.capacity)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"The page store in {self._directory} is closed.", remedy="Open it again.")

    def _recover(self, catalog: Catalog) -> Catalog:
        sizes = self._files.sizes()
        for number, size in sizes.items():
            catalog.add_pack(number, size=size)
        lost: list[str] = []
        for entry in self._index.entries():
            if entry.end <= sizes.get(entry.pack, -1):
                catalog.add(entry)
            else:
                lost.append(entry.item.path)
        self._index.delete(lost)
        for pack in [pack for pack in catalog.packs.values() if not pack.paths]:
            self._files.remove(pack.number)
            catalog.remove_pack(pack)
        catalog.filling = next(reversed(catalog.packs.values()), None)
        return catalog

    def _make_room(self, size: int) -> None:
        for pack in self._catalog.victims(size):
            self._evicted += len(pack.paths)
            self._drop_pack(pack)

    def _pack_to_fill(self, size: int) -> Pack:
        pack = self._catalog.filling
        if pack is None or (pack.size and pack.size + size > self._pack_size):
            pack = self._catalog.filling = self._new_pack()
        return pack

    def _new_pack(self, *, size: int = 0, streaming: bool = False) -> Pack:
        number = self._catalog.next_number
        self._files.create(number)
        return self._catalog.add_pack(number, size=size, streaming=streaming)

    def _publish(self, entry: Entry) -> None:
        path = entry.item.path
        replaced, waiting = self.get(path), self._unsaved.get(path)
        self._unsaved[path] = entry
        if len(self._unsaved) >= _MAX_UNSAVED or (replaced and not _same_version(replaced, entry)):
            try:
                self._save()
            except StoreError:
                del self._unsaved[path]
                self._unsaved |= {path: waiting} if waiting else {}
                raise
        self._catalog.add(entry)
        if replaced:
            self._release(replaced)

    def _save(self) -> None:
        if self._unsaved:
            self._index.put(self._unsaved.values())
            self._unsaved = {}

    def _release(self, entry: Entry) -> None:
        pack = self._catalog.packs[entry.pack]
        if not pack.paths:
            self._drop_pack(pack)

    def _drop_pack(self, pack: Pack) -> None:
        paths = self._catalog.remove_pack(pack)
        self._files.remove(pack.number)
        self._forget(paths)

    def _forget(self, paths: list[str]) -> None:
        for path in paths:
            self._unsaved.pop(path, None)
        self._index.delete(paths)


def _check(entry: Entry, data: bytes | memoryview, checksums: bytes, first: int) -> None:
    if not intact(data, checksums):
        last = first + len(data)
        raise CorruptPage(f"{entry.item.path} does not match its checksum in bytes {first}-{last}.")


def _same_version(one: Entry, other: Entry) -> bool:
    return (one.item.etag, one.item.size) == (other.item.etag, other.item.size)


def _lock_directory(directory: Path) -> int:
    with disk_faults(directory):
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise StoreInUse(f"The page store in {directory} is open in another process.") from error
    return descriptor
