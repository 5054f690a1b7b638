"""Which bytes of an object on its way into the page store have arrived, for readers who follow it."""

from __future__ import annotations

import asyncio
import sys
from bisect import bisect_right, insort
from typing import Protocol

from preheat.store import PAGE_SIZE
from preheat.versions import ObjectInfo

_TURNS = 4
"""Of the event loop, until a reader who waits is told, reads and has its bytes sent."""


class Readable(Protocol):
    """What reads back bytes of an object that has come, in part or whole."""

    def read(self, start: int, end: int) -> bytes:
        """Return bytes [start, end)."""
        ...


class _Held:
    """All bytes of a small object."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = data

    def read(self, start: int, end: int) -> bytes:
        return bytes(self._data[start:end])


class Arrivals:
    """Notes what was appended to one object's writer, and wakes those who wait for more.

    All is called in the event loop's thread.
    """

    def __init__(self) -> None:
        self.info: ObjectInfo | None = None
        """The version that comes, as soon as it is known."""
        self.writer: Readable | None = None
        """Reads back what has arrived, until the object is published or dropped."""
        self._starts: list[int] = []  # of the pieces that were asked for, in order
        self._asked: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._waiting: dict[asyncio.Future[None], int] = {}
        """Who waits, and for the byte at which position."""

    def begin(self, info: ObjectInfo, writer: Readable) -> None:
        """Say which version comes."""
        self.info = info
        self.writer = writer
        self._tell()

    def come(self, info: ObjectInfo, data: bytes | memoryview) -> None:
        """Note a small object all of which has come at once."""
        self._starts, self._asked, self._ends = [0], {0: len(data)}, {0: len(data)}
        self.begin(info, _Held(data))

    def ask(self, start: int, end: int) -> None:
        """Note that bytes [start, end) are being fetched."""
        insort(self._starts, start)
        self._asked[start] = end
        self._ends[start] = start

    def add(self, start: int, size: int) -> None:
        """Note bytes that were appended behind those that the piece beginning at ``start`` has."""
        self._ends[start] += size
        self._tell(start, self._ends[start])

    def end(self) -> None:
        """Say that nothing more comes, and that the writer is closed."""
        self.writer = None
        self._tell()

    def read(self, start: int, end: int) -> bytes:
        """Return those of the bytes [start, end) that have arrived without a gap; raises as ``ObjectWriter.read``."""
        stop = min(end, self.until(start))
        return self.writer.read(start, stop) if self.writer and start < stop else b""

    def until(self, start: int) -> int:
        """Return up to where everything from ``start`` on has arrived; ``start`` if its byte has not."""
        for piece in self._starts[max(bisect_right(self._starts, start) - 1, 0) :]:
            if not piece <= start < self._ends[piece]:
                break
            start = self._ends[piece]
        return start

    def expects(self, position: int) -> bool:
        """Whether the byte at a position is being fetched, with no more than a page before it that is to come first."""
        place = bisect_right(self._starts, position)
        if not place:
            return False
        piece = self._starts[place - 1]
        return position < self._asked[piece] and position - self._ends[piece] < PAGE_SIZE

    async def heard(self) -> None:
        """Let those who wait act on what was noted before the caller begins anything else: it keeps the loop busy."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    async def more(self, position: int = 0) -> None:
        """Wait until the byte at a position arrives, or what is said of the whole changes."""
        news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[news] = position
        try:
            await news
        finally:
            self._waiting.pop(news, None)

    def _tell(self, start: int = 0, end: int = sys.maxsize) -> None:
        """Wake those who wait for one of the bytes [start, end); the others would only look and wait again."""
        for news, position in self._waiting.items():
            if start <= position < end and not news.done():
                news.set_result(None)
