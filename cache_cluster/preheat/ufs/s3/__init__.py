"""Amazon S3 and what speaks its protocol."""

from preheat.ufs.s3._answer import HEAD_BYTES, Answer, UnusableError
from preheat.ufs.s3._connection import Wire
from preheat.ufs.s3._store import S3UnderStore

__all__ = ["HEAD_BYTES", "Answer", "S3UnderStore", "UnusableError", "Wire"]
