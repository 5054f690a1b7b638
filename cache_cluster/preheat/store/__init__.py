"""The page store: where one worker keeps its cached objects."""

from preheat.store._base import PAGE_SIZE, CachedObject, ObjectWriter, PageStore, StoreUsage

__all__ = ["PAGE_SIZE", "CachedObject", "ObjectWriter", "PageStore", "StoreUsage"]
