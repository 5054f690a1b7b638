"""Listing a tree level by level in the order of the keys, for stores that do not list in that order themselves."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from preheat.ufs._selection import may_hold

T = TypeVar("T")

Children = Callable[[str], Iterable[tuple[str, T | None]]]
"""Returns what is directly below a prefix: keys, in order, with their objects; a sub-prefix ends with a slash and has
none."""


def walk(prefix: str, after: str, children: Children[T]) -> Iterator[T]:
    """Yield what is below a prefix in ascending order of the keys, from the first one greater than ``after``.

    A directory sorts as its name with a slash, so ``a-b`` comes before ``a/b``. Sub-prefixes without a key that is
    left are not opened.
    """
    for key, item in children(prefix):
        if item is None:
            if may_hold(key, after):
                yield from walk(key, after, children)
        elif key > after:
            yield item


def by_key(children: Iterable[tuple[str, T | None]]) -> Iterator[tuple[str, T | None]]:
    """Bring what comes in the order of the names into the order of the keys, while it comes.

    A directory's key is its name with a slash, so it waits for the names that begin with its own and sort before that,
    such as ``a-b`` after ``a``; no other name comes between the two.
    """
    waiting: list[str] = []
    for key, item in children:
        while waiting and waiting[0] < key:
            yield heapq.heappop(waiting), None
        if item is None:
            heapq.heappush(waiting, key)
        else:
            yield key, item
    yield from ((key, None) for key in sorted(waiting))
