"""What an endpoint hands to the connection to be sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import NamedTuple

from preheat.store import CachedObject, Extent


class Placed(NamedTuple):
    """A whole answer whose body is in a file."""

    head: bytes
    extent: Extent
    item: CachedObject
    start: int
    """Where in the object the body begins."""


Parts = tuple[bytes, ...]
"""A whole answer: its head and, apart so that it need not be copied, its body."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """An answer whose body is sent page by page; its first page is at hand, so its head may go out."""

    head: bytes
    length: int | None
    """Bytes of the whole body; none if it is chunked, and so ends by itself."""
    first: bytes | memoryview
    rest: AsyncIterator[bytes | memoryview]
