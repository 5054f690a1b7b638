"""Under stores: where the data lives for good."""

from preheat.ufs._base import (
    BucketInfo,
    BucketLister,
    Checksum,
    ChecksummedStore,
    Download,
    Sink,
    Span,
    StreamingStore,
    UnderStore,
)
from preheat.ufs._checksum import PieceChecksums
from preheat.ufs._file import FileUnderStore
from preheat.ufs._memory import MemoryUnderStore
from preheat.ufs._selection import Selection, is_marker
from preheat.ufs._settings import UfsSettings
from preheat.ufs._stores import UnderStores
from preheat.ufs.s3 import HEAD_BYTES, Answer, S3UnderStore, UnusableError, Wire

__all__ = [
    "HEAD_BYTES",
    "Answer",
    "BucketInfo",
    "BucketLister",
    "Checksum",
    "ChecksummedStore",
    "Download",
    "FileUnderStore",
    "MemoryUnderStore",
    "PieceChecksums",
    "S3UnderStore",
    "Selection",
    "Sink",
    "Span",
    "StreamingStore",
    "UfsSettings",
    "UnderStore",
    "UnderStores",
    "UnusableError",
    "Wire",
    "is_marker",
]
