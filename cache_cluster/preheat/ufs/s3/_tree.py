"""Listing a tree level by level in the order of the keys, for servers that list like a file system.

Such a server has the names of a directory in order, and ``a`` before ``a-b``. But a directory's key is its name with a
slash, so that ``a-b`` comes before what is below ``a``.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from preheat.ufs._selection import may_hold
from preheat.ufs.s3._pages import LANES, Pages
from preheat.versions import ObjectInfo

Open = Callable[[str, str], Pages]
"""Returns what is directly below a prefix, behind a name."""
Parts = AsyncGenerator[Sequence[ObjectInfo], None]


class Level:
    """What is below one prefix, behind a key.

    Directories that hold only a few files cost a round trip each, so the ones that come next are asked for ahead: twice
    as many after each one that was answered with one page of files.
    """

    def __init__(self, open_pages: Open, prefix: str, after: str) -> None:
        self.prefix = prefix
        self.is_leaf = True
        """Whether one page held all of it; known in the end."""
        self._open = open_pages
        self._after = after
        self._pages: Pages | None = None
        self._waiting: list[Level] = []
        self._ahead = 1

    def start(self) -> Pages:
        """Ask for the first page."""
        if self._pages is None:
            self._pages = self._open(self.prefix, first_name(self.prefix, self._after))
            self._pages.start()
        return self._pages

    def close(self) -> None:
        """Drop what was asked for and not used."""
        if self._pages is not None:
            self._pages.close()
        for level in self._waiting:
            level.close()

    async def read(self) -> Parts:
        """Yield the objects in the order of the keys, in parts of any size; raises as :meth:`Pages.read`."""
        number = 0
        try:
            async with aclosing(self.start().read()) as pages:
                async for page in pages:
                    number += 1
                    self.is_leaf = number == 1 and not page.prefixes
                    self._wait_for(page.prefixes)
                    keys = [item.key for item in page.objects]
                    last = max([*keys[-1:], *(prefix.rstrip("/") for prefix in page.prefixes[-1:])], default="")
                    first = bisect_right(keys, self._after)
                    async for part in self._merged(page.objects[first:], keys[first:], last):
                        yield part
            async for part in self._merged((), (), None):
                yield part
        finally:
            self.close()

    def _wait_for(self, prefixes: Sequence[str]) -> None:
        new = [Level(self._open, prefix, self._after) for prefix in prefixes if may_hold(prefix, self._after)]
        if new:
            self._waiting = sorted([*self._waiting, *new], key=lambda level: level.prefix)

    async def _merged(self, objects: Sequence[ObjectInfo], keys: Sequence[str], last: str | None) -> Parts:
        """Yield objects, and in between what is below the directories whose turn it is when ``last`` has been named."""
        done = 0
        while self._waiting and (last is None or self._waiting[0].prefix < last):
            level = self._waiting.pop(0)
            end = bisect_left(keys, level.prefix, done)
            if end > done:
                yield objects[done:end]
                done = end
            async with aclosing(self._enter(level)) as parts:
                async for part in parts:
                    yield part
        if done < len(objects):
            yield objects[done:]

    async def _enter(self, level: Level) -> Parts:
        level.start()
        for following in self._waiting[: self._ahead]:
            following.start()
        async with aclosing(level.read()) as parts:
            async for part in parts:
                yield part
        self._ahead = min(2 * self._ahead, LANES) if level.is_leaf else 1


async def in_pages(parts: Parts, size: int) -> Parts:
    """Put parts together to pages of at most ``size`` objects; the first one goes on as it is."""
    held: Sequence[ObjectInfo] = ()
    is_first = True
    async for part in parts:
        if held and (is_first or len(held) + len(part) > size):
            yield held
            held, is_first = (), False
        held = [*held, *part] if held else part
    if held:
        yield held


def first_name(prefix: str, after: str) -> str:
    """Return a key directly below a prefix up to which a listing by names has nothing greater than ``after``.

    Not simply ``after``: behind ``a-b`` there is still ``a/x``, whose directory comes before ``a-b`` by name.
    """
    if not after.startswith(prefix):
        return ""
    name = after[len(prefix) :].partition("/")[0]
    stem = next((name[:end] for end in range(1, len(name)) if name[end] < "/"), name)
    return prefix + stem[:-1] if len(stem) > 1 else ""
