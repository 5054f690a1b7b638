"""Which versions an inventory names, at hand, so that reads of what is pinned need not wait for its blocks.

A block's objects are kept as sorted hashes of 8 bytes, where the objects themselves would take 340: a worker knows four
million of them in 32 MB, and finds one in a microsecond. That two versions of one object have the same hash is as good
as impossible: hashes of 64 bits whose key each process chooses anew.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import OrderedDict

from preheat.inventory import Block, Inventory
from preheat.store import CachedObject
from preheat.versions import ObjectInfo

_MAX_BLOCKS = 1024


class PinnedVersions:
    """Remembers the blocks that were looked at last."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[tuple[str, int], array[int]] = OrderedDict()

    def has(self, inventory: Inventory, uri: str, item: CachedObject) -> bool:
        """Whether a copy is known to be of the version that an inventory names."""
        key = uri.split("/", 3)[3]
        block = (inventory.id, inventory.block_of(key))
        hashes = self._blocks.get(block)
        if hashes is None:
            return False
        self._blocks.move_to_end(block)
        wanted = _hash(key, item)
        place = bisect_left(hashes, wanted)
        return place < len(hashes) and hashes[place] == wanted

    def learn(self, inventory: Inventory, key: str, block: Block) -> None:
        """Know the versions of the block that has a key."""
        place = (inventory.id, inventory.block_of(key))
        if place in self._blocks:
            return
        self._blocks[place] = array(
            "q", sorted(_hash(item.key, item) for item in block.below("", after="", limit=len(block)))
        )
        if len(self._blocks) > _MAX_BLOCKS:
            self._blocks.popitem(last=False)


def _hash(key: str, version: ObjectInfo | CachedObject) -> int:
    return hash((key, version.etag, version.size))
