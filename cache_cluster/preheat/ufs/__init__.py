"""Under stores: where the data lives for good."""

from preheat.ufs._base import Download, UnderStore
from preheat.ufs._memory import MemoryUnderStore

__all__ = ["Download", "MemoryUnderStore", "UnderStore"]
