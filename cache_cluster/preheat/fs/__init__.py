"""Reading through the cache with fsspec: ``preheat://bucket/key``."""

from preheat.fs._filesystem import PreheatFileSystem
from preheat.fs._session import ReadStats

__all__ = ["PreheatFileSystem", "ReadStats"]
