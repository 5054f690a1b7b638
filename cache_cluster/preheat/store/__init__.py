"""The page store: where one worker keeps its cached objects."""

from preheat.store._base import BLOCK_SIZE, PAGE_SIZE, CachedObject, ObjectWriter, PageStore, StoreUsage
from preheat.store._disk import DiskStore
from preheat.store._extents import Extent
from preheat.store._memory import MemoryStore
from preheat.store._notes import Notes
from preheat.store._path_ids import PathIds, path_id

__all__ = [
    "BLOCK_SIZE",
    "PAGE_SIZE",
    "CachedObject",
    "DiskStore",
    "Extent",
    "MemoryStore",
    "Notes",
    "ObjectWriter",
    "PageStore",
    "PathIds",
    "StoreUsage",
    "path_id",
]
