"""Under stores: where the data lives for good."""

from preheat.ufs._base import Download, UnderStore

__all__ = ["Download", "UnderStore"]
