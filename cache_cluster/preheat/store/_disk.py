"""The page store on disk."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from itertools import groupby
from math import inf
from pathlib import Path
from typing import TypeVar

from preheat.errors import CorruptPage, StoreError
from preheat.logs import get_logger
from preheat.settings import StoreSettings
from preheat.store._base import CachedObject, StoreUsage
from preheat.store._catalog import Entry
from preheat.store._extents import EXTENT_BYTES, Extent
from preheat.store._faults import DirectoryFailed
from preheat.store._members import Members
from preheat.store._pages import check_version, checksums_of, clip
from preheat.store._pins import Pins
from preheat.store._streaming import StreamSink
from preheat.store._volume import Volume
from preheat.store._writer import BufferSink, Sink, Writer, announce

T = TypeVar("T")
log = get_logger("store")
_VERIFY_STEP = 8 << 20
_SCAN_STEP = 1000


class DiskStore:
    """A :class:`~preheat.store.PageStore` in one directory or several, which it owns while it is open.

    Several directories are for several disks: each object is in one of them, and one that fails is given up while the
    others go on. After :meth:`close` it is empty and refuses writers.

    Args:
        directory: made if it does not exist.
        more: the same; for several disks.
        capacity: bytes that the cached data may take; each directory has an equal share.
        settings: see there.

    Raises:
        StoreInUse: another process has a directory open.
        StoreError: a directory holds something else, or none can be used.
    """

    def __init__(
        self,
        directory: Path,
        *more: Path,
        capacity: int,
        settings: StoreSettings = StoreSettings(),  # noqa: B008
    ) -> None:
        directories = (directory, *more)
        self._settings = settings
        self._failed: list[str] = []
        """Directories that could not be opened."""
        self._members = Members()
        with ExitStack() as on_failure:
            self._pins = Pins(directories)
            self._volumes = tuple(self._open(directories, capacity // len(directories), on_failure))
            self._peeks = tuple(volume.peek for volume in self._volumes)
            self._members.join(self._volumes)
            on_failure.pop_all()

    @property
    def directories(self) -> tuple[Path, ...]:
        """The directories that can be used."""
        return tuple(volume.directory for volume in self._members.volumes)

    def writer(
        self, path: str, *, etag: str, size: int, last_modified: float, job_id: str = "", attributes: str = ""
    ) -> Writer:
        """Start to write one object of exactly ``size`` bytes; several writers may be open at once.

        Raises:
            StoreError: no directory is left.
        """
        volume = self._home(path)
        announced = announce(
            path, etag=etag, size=size, last_modified=last_modified, job_id=job_id, attributes=attributes
        )
        large = size > self._settings.stream_above
        sink: Sink = StreamSink(volume, announced) if large else BufferSink(volume.store)
        return Writer(sink, announced, capacity=volume.capacity)

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
        """Publish a small object all of whose bytes are at hand; raises as a writer does."""
        item = CachedObject(
            path=path,
            etag=etag,
            size=len(data),
            last_modified=last_modified,
            job_id=job_id,
            cached_at=time.time(),
            checksums=checksums_of(data),
            attributes=attributes,
        )
        self._home(path).store(item, data)
        return item

    def lookup(self, path: str) -> CachedObject | None:
        """Return the object at exactly this path."""
        for peek in self._peeks:
            if entry := peek(path):
                return entry.item
        home = self._members.of(path)
        found = home.get(path) if home else None
        return found.item if found else None

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
        return self._read(item, lambda volume, entry: volume.reader.read(entry, start, end))

    def read_small(self, paths: Sequence[str], limit: float = inf) -> list[tuple[CachedObject, bytes]]:
        """Return the objects at some paths, up to the first that is not cached, larger than a block, or not intact.

        It ends with the object that brings their bytes to the limit.
        """
        found: list[tuple[CachedObject, bytes]] = []
        with suppress(StoreError):
            for volume, group in self._by_volume(paths):
                wanted = list(group)
                read = volume.reader.read_small(wanted, volume.get, limit) if volume else []
                found += read
                limit -= sum([len(body) for _, body in read])
                if len(read) < len(wanted) or limit <= 0:
                    break
        return found

    def extent(self, item: CachedObject, start: int, end: int) -> Extent | None:
        """Return where bytes [start, end) of exactly this version are in a file, if they are known to be intact."""
        found = self._locate(item.path) if end - start >= EXTENT_BYTES else None
        return found[0].reader.extent(found[1], start, end) if found and found[1].item is item else None

    def verify(self, item: CachedObject) -> None:
        """Read every block back and compare its checksum; raises as :meth:`read` does."""
        self._current(item)
        for start in range(0, item.size, _VERIFY_STEP):
            self._read(item, partial(_verify_step, start))

    def delete(self, path: str) -> bool:
        """Drop the object; false if it was not there."""
        while volume := self._members.of(path):
            entry = volume.get(path)
            if entry is None:
                return False
            if volume.drop(entry):
                return True
        return False

    def scan(self, prefix: str = "", *, after: str = "") -> Iterator[CachedObject]:
        """Yield the objects whose path starts with the prefix and is greater than ``after``, in path order.

        Safe while others write.
        """
        parts = [_entries(volume, prefix, after) for volume in self._volumes]
        for entry, removals, volume in heapq.merge(*parts, key=lambda part: part[0].item.path):
            now = entry if volume.removals == removals else volume.get(entry.item.path)
            if now:
                yield now.item

    def pin(self, prefix: str) -> None:
        """Never evict the objects whose path starts with the prefix, also those that come later.

        Raises:
            StoreError: no directory could note it.
        """
        self._pins.add(prefix, [volume.directory for volume in self._members.volumes])

    def unpin(self, prefix: str) -> bool:
        """Let the objects be evicted that are pinned by exactly this prefix alone; false if it is not pinned."""
        return self._pins.remove(prefix, [volume.directory for volume in self._members.volumes])

    def pins(self) -> tuple[str, ...]:
        """Return the pinned prefixes, in order."""
        return self._pins.prefixes

    def usage(self) -> StoreUsage:
        """Return how full the store is."""
        usages = [volume.usage() for volume in self._volumes]
        return StoreUsage(
            capacity=sum(usage.capacity for usage in usages),
            used=sum(usage.used for usage in usages),
            objects=sum(usage.objects for usage in usages),
            evicted=sum(usage.evicted for usage in usages),
            corrupt=sum(usage.corrupt for usage in usages),
            damaged=sum(usage.damaged for usage in usages),
            failed=(*self._failed, *(name for usage in usages for name in usage.failed)),
        )

    def flush(self) -> None:
        """Make what was committed survive the death of the process, in one transaction a directory.

        Raises:
            StoreFull, StoreError: a disk refused; what is not lost with it stays readable, and the next flush tries
                again.
        """
        faults: list[StoreError] = []
        for volume in self._members.volumes or self._volumes:
            try:
                volume.flush()
            except StoreError as error:
                faults.append(error)
        if faults:
            raise faults[0]

    def close(self) -> None:
        """Release the directories; open writers are discarded. Idempotent."""
        for volume in self._volumes:
            volume.close()

    def _open(self, directories: Sequence[Path], capacity: int, on_failure: ExitStack) -> list[Volume]:
        volumes: list[Volume] = []
        for directory in directories:
            try:
                volume = Volume(
                    directory,
                    capacity=capacity,
                    settings=self._settings,
                    pins=lambda: self._pins.prefixes,
                    on_failure=self._members.leave,
                )
            except DirectoryFailed as error:
                self._failed.append(str(directory))
                if len(self._failed) == len(directories):
                    raise
                log.error(  # noqa: TRY400 - the cause is in the message
                    "A directory of the page store cannot be used; the others go on.",
                    action="directory_failed",
                    directory=str(directory),
                    error=str(error),
                )
            else:
                on_failure.callback(volume.close)
                volumes.append(volume)
        return volumes

    def _home(self, path: str) -> Volume:
        """Return the directory to which a path belongs; raises StoreError if none is left."""
        volume = self._members.of(path)
        if volume is None:
            raise StoreError(
                f"No directory of the page store can be used any more: {', '.join(self.usage().failed)}.",
                remedy="Replace the disk, or check its permissions, and restart the worker.",
            )
        return volume

    def _locate(self, path: str) -> tuple[Volume, Entry] | None:
        for volume in self._volumes:
            if entry := volume.peek(path):
                return volume, entry
        home = self._members.of(path)
        found = home.get(path) if home else None
        return (home, found) if home and found else None

    def _by_volume(self, paths: Sequence[str]) -> Iterable[tuple[Volume | None, Iterable[str]]]:
        volumes = self._members.volumes
        return ((volumes[0], paths),) if len(volumes) == 1 else groupby(paths, key=self._members.of)

    def _read(self, item: CachedObject, read: Callable[[Volume, Entry], T]) -> T:
        while True:
            volume, entry = self._current(item)
            try:
                return read(volume, entry)
            except CorruptPage as fault:
                if volume.drop(entry, fault=fault):
                    raise
                # Another thread took the object away meanwhile: what it left decides.

    def _current(self, item: CachedObject) -> tuple[Volume, Entry]:
        found = self._locate(item.path)
        check_version(item, found[1].item if found else None)
        assert found is not None
        return found


def _verify_step(start: int, volume: Volume, entry: Entry) -> None:
    volume.reader.verify(entry, start, min(start + _VERIFY_STEP, entry.item.size))


def _entries(volume: Volume, prefix: str, after: str) -> Iterator[tuple[Entry, int, Volume]]:
    """Yield the objects of a directory in the order of their paths, and its removals when they were there."""
    page = volume.page(prefix, after=after, limit=_SCAN_STEP)
    while page.last is not None:
        for entry in page.entries:
            yield entry, page.removals, volume
        page = volume.page(prefix, after=page.last, limit=_SCAN_STEP)
