"""Reading the parts of a job's source one after the other, without a round trip for each of many small ones."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from itertools import islice

from preheat.coordinator._catalog import Page

_MOST_AHEAD = 8
"""Parts of which the first page is asked for before their turn; these pages are the memory it takes."""

Part = AsyncGenerator[Page, None]


async def in_turn(parts: Iterable[Part]) -> AsyncGenerator[Page | None, None]:
    """Yield the pages of all parts in order, and None at the end of each.

    Twice as many parts are begun ahead after each one that was a page at most, and none after a longer one: of that
    one's successor a page asked for now would be old when it is used. Raises what a part raises when its turn comes.
    """
    todo, begun, ahead = iter(parts), deque[_Begun](), 0
    try:
        while part := begun.popleft().read() if begun else next(todo, None):
            begun.extend(_Begun(following) for following in islice(todo, max(0, ahead - len(begun))))
            pages = 0
            async with aclosing(part):
                async for page in part:
                    pages += 1
                    yield page
            yield None
            ahead = min(2 * ahead or 1, _MOST_AHEAD) if pages < 2 else 0
    finally:
        for other in begun:
            await other.close()


class _Begun:
    """A part whose first page was asked for."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._first = asyncio.ensure_future(anext(part, None))

    async def read(self) -> Part:
        try:
            page = await self._first
            while page is not None:
                yield page
                page = await anext(self._part, None)
        finally:
            await self.close()

    async def close(self) -> None:
        self._first.cancel()
        await asyncio.wait([self._first])
        if not self._first.cancelled():
            self._first.exception()  # nobody has to be told any more
        await self._part.aclose()
