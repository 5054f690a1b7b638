"""Which bytes of an object on its way into the page store have arrived, for readers who follow it."""

from __future__ import annotations

import asyncio
from bisect import bisect_right, insort

from preheat.store import ObjectWriter
from preheat.versions import ObjectInfo


class Arrivals:
    """Notes what was appended to one object's writer, and wakes those who wait for more.

    All is called in the event loop's thread.
    """

    def __init__(self) -> None:
        self.info: ObjectInfo | None = None
        """The version that comes, as soon as it is known."""
        self.writer: ObjectWriter | None = None
        """Reads back what has arrived, until the object is published or dropped."""
        self._starts: list[int] = []
        self._ends: dict[int, int] = {}
        self._news: asyncio.Future[None] | None = None

    def begin(self, info: ObjectInfo, writer: ObjectWriter) -> None:
        """Say which version comes."""
        self.info = info
        self.writer = writer
        self._tell()

    def add(self, part: int, size: int) -> None:
        """Note bytes that were appended behind those that the part beginning at ``part`` has."""
        if part not in self._ends:
            insort(self._starts, part)
        self._ends[part] = self._ends.get(part, part) + size
        self._tell()

    def end(self) -> None:
        """Say that nothing more comes, and that the writer is closed."""
        self.writer = None
        self._tell()

    def until(self, start: int) -> int:
        """Return up to where everything from ``start`` on has arrived; ``start`` if its byte has not."""
        for part in self._starts[max(bisect_right(self._starts, start) - 1, 0) :]:
            if not part <= start < self._ends[part]:
                break
            start = self._ends[part]
        return start

    async def more(self) -> None:
        """Wait for the next thing to be noted."""
        if self._news is None:
            self._news = asyncio.get_running_loop().create_future()
        await asyncio.wait({self._news})  # a reader who leaves must not cancel it for the others

    def _tell(self) -> None:
        if self._news is not None:
            self._news.set_result(None)
            self._news = None
