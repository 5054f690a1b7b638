"""Pages of a listing, joined until there is enough in them for a batch for each worker.

A page has a thousand objects: with a hundred workers that is ten for each, and a message of the engine for every ten.
So neighbours are joined, twice as many objects each time: the first are planned at once, the later ones fill their
batches.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from math import perm

from preheat.coordinator._catalog import Page

MOST_OBJECTS = 65_536
"""Of a window: the coordinator holds them, at about 0.5 KB each, and whoever takes the job over lists them again."""
_MOST_MESSAGES = 32_768
"""To workers, of a window: all of them are in the job's record while they are open, and the engine takes 8 MB of it."""
_SECONDS = 1.0
"""Of listing for one window: what a slow under store has told by then is planned."""


def filling(*, batch_size: int, workers: int, owners: int) -> int:
    """Return how many objects fill the workers' batches, with no more of these than a job's record has room for.

    Where the entries of a batch must have several ``owners`` in common, and there are more ways to choose these than a
    window may have batches, each further object may be a batch of its own.
    """
    fills = batch_size * workers
    few = perm(workers, min(owners, workers)) * owners <= _MOST_MESSAGES
    return fills if few else min(fills, _MOST_MESSAGES // owners)


async def windows(
    pages: AsyncGenerator[Page | None, None],
    enough: Callable[[], int],
    *,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncGenerator[Page | None, None]:
    """Yield what ``pages`` yields, with neighbours of one bucket joined.

    Args:
        pages: None ends a path.
        enough: how many objects fill the workers' batches now; at most :data:`MOST_OBJECTS` are joined.
        clock: seconds that do not go back.
    """
    held, part, wanted, began = None, False, 0, clock()
    async with aclosing(pages):
        async for page in pages:
            # What ends a block of several buckets is counted when all of its window is hot: that stays small.
            rest, part = part, page is not None and not page.whole
            if held and not _continues(held, page):
                yield held
                held = None
            if page is None or rest or not _plain(page):
                yield page
                continue
            held = _joined(held, page) if held else page
            if len(held.objects) >= wanted or clock() - began > _SECONDS:
                wanted = min(2 * len(held.objects), enough(), MOST_OBJECTS)
                yield held
                held, began = None, clock()
        if held:
            yield held


def _plain(page: Page) -> bool:
    """Say whether a page can be joined: what is missing from others is counted where it is missing."""
    return page.whole and not page.missing


def _continues(held: Page, page: Page | None) -> bool:
    return page is not None and _plain(page) and page.root == held.root


def _joined(held: Page, page: Page) -> Page:
    return replace(held, objects=[*held.objects, *page.objects], cursor=page.cursor)
