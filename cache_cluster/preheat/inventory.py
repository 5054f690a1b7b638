"""The inventory of a dataset: every object of one listing, in order, in compressed blocks. Pure.

What a job listed is known afterwards without listing again: it tells which version of each object a pinned dataset has,
what drifted at the under store, and what a directory holds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

BLOCK_OBJECTS = 4096
"""Objects in one block."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Inventory:
    """One listing that is known."""

    id: str
    path: str
    """URI that was listed: an object's, or a prefix ending with a slash (or standing for one)."""
    version: str
    """The dataset's version: ``sha256:…``."""
    objects: int
    bytes: int
    listed_at: float
    """When the listing began, in seconds since the epoch: what it tells was true no earlier."""
    job_id: str
    first_keys: tuple[str, ...]
    """The first key of each block, in order."""

    def block_of(self, key: str) -> int:
        """Return the number of the block that would hold a key, or whatever follows it; 0 before the first."""
        return max(0, bisect_right(self.first_keys, key) - 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """A path that is bound to one dataset version: its copies are never evicted, and nothing else is read there."""

    id: str
    path: str
    inventory: str
    """Id of the inventory that says which version of each object."""
    version: str
    pinned_at: float


def longest_covering(uri: str, inventories: Sequence[Inventory]) -> Inventory | None:
    """Return the latest inventory whose path covers a URI."""
    covering = [item for item in inventories if item.path == uri or f"{uri}/".startswith(f"{item.path.rstrip('/')}/")]
    return max(covering, key=lambda item: item.listed_at, default=None)
