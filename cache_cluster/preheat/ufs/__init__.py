"""Under stores: where the data lives for good."""

from preheat.ufs._base import Download, UnderStore
from preheat.ufs._file import FileUnderStore
from preheat.ufs._memory import MemoryUnderStore
from preheat.ufs._s3 import S3UnderStore
from preheat.ufs._selection import Selection, is_marker
from preheat.ufs._settings import UfsSettings
from preheat.ufs._stores import UnderStores

__all__ = [
    "Download",
    "FileUnderStore",
    "MemoryUnderStore",
    "S3UnderStore",
    "Selection",
    "UfsSettings",
    "UnderStore",
    "UnderStores",
    "is_marker",
]
