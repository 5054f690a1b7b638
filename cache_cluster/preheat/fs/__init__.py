"""Reading through the cache with fsspec: ``preheat://bucket/key``."""

from preheat.fs._client import ReadStats
from preheat.fs._filesystem import PreheatFileSystem

__all__ = ["PreheatFileSystem", "ReadStats"]
