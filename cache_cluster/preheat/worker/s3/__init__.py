"""The S3 port of a worker: the dialect that every S3 client speaks, over the reads and writes of the worker."""

from preheat.worker.s3._access import Access
from preheat.worker.s3._credentials import S3Credentials
from preheat.worker.s3._endpoints import S3Endpoints

__all__ = ["Access", "S3Credentials", "S3Endpoints"]
