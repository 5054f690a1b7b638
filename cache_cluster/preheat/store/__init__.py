"""The page store: where one worker keeps its cached objects."""

from preheat.store._base import PAGE_SIZE, CachedObject, ObjectWriter, PageStore, StoreUsage
from preheat.store._disk import DiskStore
from preheat.store._memory import MemoryStore

__all__ = ["PAGE_SIZE", "CachedObject", "DiskStore", "MemoryStore", "ObjectWriter", "PageStore", "StoreUsage"]
