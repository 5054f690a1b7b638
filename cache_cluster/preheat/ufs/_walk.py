"""Listing a tree level by level in the order of the keys, for stores that do not list in that order themselves."""

from __future__ import annotations

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
