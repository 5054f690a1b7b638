"""The page store: where one worker keeps its cached objects."""

from preheat.store._base import BLOCK_SIZE, PAGE_SIZE, CachedObject, ObjectWriter, PageStore, StoreUsage
from preheat.store._disk import DiskStore
from preheat.store._memory import MemoryStore
from preheat.store._notes import Notes

__all__ = [
    "BLOCK_SIZE",
    "PAGE_SIZE",
    "CachedObject",
    "DiskStore",
    "MemoryStore",
    "Notes",
    "ObjectWriter",
    "PageStore",
    "StoreUsage",
]
