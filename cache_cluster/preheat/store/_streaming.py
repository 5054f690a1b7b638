"""Where the bytes of a large object go while they come."""

from __future__ import annotations

import threading

from preheat.store._base import CachedObject
from preheat.store._catalog import Pack
from preheat.store._volume import Volume

_RESERVED = 8 << 20
"""Bytes of a large object for which room is taken on the disk at once."""


class StreamSink:
    """Writes a large object to segments of its own as its bytes come, in any order and from several threads."""

    def __init__(self, volume: Volume, announced: CachedObject) -> None:
        self._volume = volume
        self._announced = announced
        self._pack: Pack | None = None
        self._opening = threading.Lock()
        self._reserved: set[int] = set()

    def write(self, data: memoryview, offset: int) -> None:
        """Keep bytes of the object."""
        pack = self._pack or self._opened()
        stretch = (offset + len(data) - 1) // _RESERVED
        if stretch not in self._reserved:
            self._reserved.add(stretch)
            start, size = stretch * _RESERVED, self._announced.size
            self._volume.reserve_stream(pack, start, min(start + _RESERVED, size))
        self._volume.write_stream(pack, data, offset)

    def read(self, start: int, end: int) -> bytes:
        """Return bytes that were written."""
        assert self._pack is not None
        return self._volume.read_stream(self._pack, start, end)

    def publish(self, item: CachedObject) -> None:
        """Make the object visible."""
        assert self._pack is not None
        self._volume.publish_stream(self._pack, item)

    def discard(self) -> None:
        """Remove the segments."""
        if self._pack is not None:
            self._volume.discard_stream(self._pack)

    def _opened(self) -> Pack:
        with self._opening:
            if self._pack is None:
                self._pack = self._volume.open_stream(self._announced)
            return self._pack
