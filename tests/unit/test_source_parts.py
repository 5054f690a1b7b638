"""Parts of a source that are begun before their turn: in order all the same, and ended with the one who reads."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import pytest

from preheat.coordinator._ahead import Part, in_turn
from preheat.coordinator._catalog import Page
from preheat.errors import AccessDenied


class Parts:
    """Parts of so many pages each; one with fewer than none fails."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = sizes
        self.begun: list[int] = []
        self.ended: list[int] = []

    def __iter__(self):
        return (self._part(number, pages) for number, pages in enumerate(self._sizes))

    async def _part(self, number: int, pages: int) -> Part:
        self.begun.append(number)
        try:
            await asyncio.sleep(0)
            if pages < 0:
                raise AccessDenied(f"part {number}")
            for page in range(pages):
                yield Page(root="", objects=(), cursor=f"{number}.{page}")
                await asyncio.sleep(0)
        finally:
            self.ended.append(number)


async def test_parts_come_in_order_and_small_ones_are_begun_ahead() -> None:
    sizes = [3, *[1] * 20, 2, 0, 1, 5]
    parts = Parts(sizes)

    pages, ahead = [], []
    async for page in in_turn(parts):
        pages.append(page.cursor if page else None)
        if page is None:
            ahead.append(len(parts.begun) - pages.count(None))

    expected = [[*(f"{number}.{page}" for page in range(size)), None] for number, size in enumerate(sizes)]
    assert pages == [cursor for part in expected for cursor in part]
    assert ahead[:7] == [0, 0, 1, 2, 4, 8, 8]
    assert sorted(parts.ended) == list(range(len(sizes)))


async def test_a_part_that_fails_does_so_in_its_turn() -> None:
    pages = in_turn(Parts([1, 1, 1, -1, 1]))
    seen = [await anext(pages) for _ in range(6)]

    assert [page is None for page in seen] == [False, True] * 3
    with pytest.raises(AccessDenied, match="part 3"):
        await anext(pages)


async def test_who_leaves_leaves_nothing_begun() -> None:
    parts = Parts([1, 1, 1, -1, *[1] * 20])
    async with aclosing(in_turn(parts)) as pages:
        for _ in range(5):
            await anext(pages)

    assert len(parts.begun) > 3
    assert sorted(parts.ended) == parts.begun
