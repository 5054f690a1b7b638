"""One directory of a page store, from its lock to its last row: what several threads use at the same time."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from preheat.errors import CorruptPage, StoreError, StoreFull
from preheat.logs import get_logger
from preheat.settings import StoreSettings
from preheat.store._base import BLOCK_SIZE, CachedObject, StoreUsage
from preheat.store._catalog import Entry, Pack
from preheat.store._eviction import POLICIES, Watermarks
from preheat.store._faults import DirectoryFailed, disk_faults
from preheat.store._files import Buffer, Files
from preheat.store._format import (
    FILE_HEADER_SIZE,
    HEAD_SIZE,
    SEGMENT_START,
    describe,
    pieces,
    record_bound,
    segment_count,
)
from preheat.store._locks import Working, lock_directory
from preheat.store._reader import Reader
from preheat.store._recovery import open_holdings
from preheat.store._room import Room
from preheat.store._rows import Page

log = get_logger("store")
_PACKS_IN_CAPACITY = 16
"""Eviction drops whole packs: with at least this many, one is a small part of the cache."""
_PAGE = 1000
_MAX_READ_FAULTS = 3
"""Reads that the disk may refuse before its directory is given up."""


class Volume:
    """The objects in one directory; safe to use from several threads.

    When the disk fails, the directory is given up: until it is opened again it holds nothing and takes nothing.
    Capacity bounds the packs and segments, with their dead bytes, but not the index.

    Args:
        directory: made if it does not exist.
        capacity: bytes.
        settings: see there.
        pins: returns the prefixes of what must not be evicted.
        on_failure: told before the directory is given up.

    Raises:
        StoreInUse: another store has the directory open.
        StoreError: the directory cannot be used.
    """

    def __init__(
        self,
        directory: Path,
        *,
        capacity: int,
        settings: StoreSettings,
        pins: Callable[[], tuple[str, ...]],
        on_failure: Callable[[Volume], None],
    ) -> None:
        self.directory = directory
        self._on_failure = on_failure
        self.failed: StoreError | None = None
        """Why the directory was given up."""
        self.capacity = capacity
        self._segment_size = settings.segment_size
        self._lock = threading.Lock()
        self._closed = False
        self._read_faults = 0
        with ExitStack() as resources:
            resources.callback(os.close, lock_directory(directory))
            self._files = Files(directory)
            resources.callback(self._files.close)
            self._holdings = open_holdings(directory, self._files, limit=settings.entries_in_memory)
            resources.callback(self._holdings.index.close)
            self._room = Room(
                self._holdings,
                marks=Watermarks.of(capacity, settings),
                worth=POLICIES[settings.eviction],
                pins=pins,
                pack_size=max(1, min(settings.pack_size, capacity // _PACKS_IN_CAPACITY)),
            )
            with suppress(StoreFull):  # more is pinned than there is room now: no reason not to serve it
                self._room.make(0)
            self._resources = resources.pop_all()
        self._working = Working(self._lock, self._check_open, self._give_up)
        self.reader = Reader(self._files, self._holdings.ticks.__next__)
        self.peek = self._holdings.entries.get
        """Returns the object at a path if it is in memory."""

    def get(self, path: str) -> Entry | None:
        """Return the object at a path.

        Raises:
            StoreError: the index cannot be read.
        """
        if entry := self.peek(path):
            return entry
        if self._holdings.entries.complete:
            return None
        with self._lock:
            if self._closed or self.failed:
                return None
            try:
                return self._holdings.find(path)
            except DirectoryFailed as error:
                self._give_up(error)
                return None

    @property
    def removals(self) -> int:
        """How often objects went."""
        return self._holdings.removals

    def page(self, prefix: str, *, after: str, limit: int) -> Page:
        """Return the next objects whose paths start with the prefix and are greater than ``after``, in order."""
        with self._lock:
            try:
                if not (self._closed or self.failed):
                    return self._holdings.page(prefix, after=after, limit=limit)
            except DirectoryFailed as error:
                self._give_up(error)
            return Page([], None, 0)

    def usage(self) -> StoreUsage:
        """Return how full the directory is."""
        with self._lock:
            catalog = self._holdings.catalog
            return StoreUsage(
                capacity=0 if self.failed else self.capacity,
                used=catalog.used,
                objects=catalog.objects,
                evicted=self._room.evicted,
                corrupt=self._holdings.corrupt,
                damaged=self._holdings.damaged,
                failed=(str(self.directory),) if self.failed else (),
            )

    def store(self, item: CachedObject, data: Buffer) -> None:
        """Append a small object to a pack and publish it."""
        with self._working:
            description = describe(item)
            size = HEAD_SIZE + len(description) + len(data)
            self._room.make(size + FILE_HEADER_SIZE)
            self._holdings.add(item, description, data, self._room.pack_to_fill(size))

    def open_stream(self, announced: CachedObject) -> Pack:
        """Make room for a large object and create its segments."""
        with self._working:
            segments = segment_count(announced.size, self._segment_size)
            self._room.make(announced.size + segments * FILE_HEADER_SIZE + record_bound(announced, BLOCK_SIZE))
            return self._holdings.new_pack(segments=segments, size=announced.size)

    def reserve_stream(self, pack: Pack, start: int, end: int) -> None:
        """Take room on the disk for bytes [start, end) of a large object that are going to be written, if it can be."""
        for segment, place, size in pieces(start, end, self._segment_size):
            self._files.reserve((pack.number, segment), place, size)

    def write_stream(self, pack: Pack, data: memoryview, offset: int) -> None:
        """Write bytes of a large object; takes no lock, its writer is alone in the segments."""
        self._check_open()
        start = 0
        try:
            for segment, place, size in pieces(offset, offset + len(data), self._segment_size):
                self._files.write((pack.number, segment), data[start : start + size], place)
                start += size
        except DirectoryFailed as error:
            with self._lock:
                self._give_up(error)
            raise

    def read_stream(self, pack: Pack, start: int, end: int) -> bytes:
        """Return bytes of a large object that were written, or fewer if they are lost."""
        return self.reader.segments(pack, start, end, self._segment_size)

    def publish_stream(self, pack: Pack, item: CachedObject) -> None:
        """Publish a large object whose bytes are all written."""
        with self._working:
            end = SEGMENT_START + item.size - (pack.segments - 1) * self._segment_size
            self._holdings.finish_stream(item, pack, self._segment_size, end)

    def discard_stream(self, pack: Pack) -> None:
        """Remove the segments of a large object that is not going to be published."""
        with self._lock:
            if self._holdings.catalog.packs.get(pack.number) is pack:
                with suppress(DirectoryFailed):
                    self._holdings.drop_pack(pack)

    def drop(self, entry: Entry, *, fault: CorruptPage | None = None) -> bool:
        """Remove an object, perhaps because of a fault; false if it is not the one at its path any more."""
        with self._lock:
            try:
                if fault:
                    self._judge(fault)
                return self._drop(entry, corrupt=fault is not None)
            except DirectoryFailed as error:
                self._give_up(error)
                return False

    def retain(self, belongs: Callable[[str], bool]) -> None:
        """Drop the objects whose paths do not belong here."""
        page = self.page("", after="", limit=_PAGE)
        while page.last is not None:
            for entry in page.entries:
                if not belongs(entry.item.path):
                    self.drop(entry)
            page = self.page("", after=page.last, limit=_PAGE)

    def flush(self) -> None:
        """Write the rows of what was published since the last flush.

        Raises:
            StoreFull, StoreError: the disk refused; the next flush tries all of them again.
        """
        with self._working:
            self._check_present()
            self._holdings.save()

    def close(self) -> None:
        """Discard what is being written and let go of the directory. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            with self._resources:
                if not self.failed:
                    with suppress(StoreError):  # then it is as after a crash: what was not flushed is not cached
                        self._holdings.close()
            self._holdings.clear()

    def _drop(self, entry: Entry, *, corrupt: bool) -> bool:
        found = None if self._closed else self._holdings.find(entry.item.path)
        if found is None or found.sequence != entry.sequence:
            return False
        self._holdings.corrupt += corrupt
        self._holdings.drop(found)
        return True

    def _judge(self, fault: CorruptPage) -> None:
        """Count what the disk refused to read; raises DirectoryFailed if that is too much."""
        cause = fault.__cause__
        self._read_faults += isinstance(cause, OSError) and cause.errno == errno.EIO
        if self._read_faults >= _MAX_READ_FAULTS:
            raise DirectoryFailed(fault.message) from fault
        if isinstance(cause, OSError):
            self._check_present()

    def _check_present(self) -> None:
        """Raise DirectoryFailed if the directory vanished: files that are open would hide it."""
        with disk_faults(self.directory):
            (self.directory / "lock").stat()

    def _give_up(self, error: StoreError) -> None:
        if not self.failed:
            self._on_failure(self)
            self.failed = error
            self._holdings.clear()
            log.error(
                "A directory of the page store is given up; what was in it is not cached any more.",
                action="directory_failed",
                directory=str(self.directory),
                error=str(error),
            )

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"The page store in {self.directory} is closed.", remedy="Open it again.")
        if self.failed:
            raise StoreError(self.failed.message, remedy=self.failed.remedy)
