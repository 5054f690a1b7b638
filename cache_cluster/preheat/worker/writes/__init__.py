"""Writes through a worker: whole objects, parts, removals and copies."""

from preheat.worker.writes._forwarding import FORWARDED
from preheat.worker.writes._recent import RecentWrites
from preheat.worker.writes._remote import RemoteWorkers
from preheat.worker.writes._service import WriteService
from preheat.worker.writes._staging import Staging
from preheat.worker.writes._uploads import (
    InvalidPart,
    InvalidPartOrder,
    Part,
    PartTooSmall,
    Upload,
    UploadNotFound,
    Uploads,
)
from preheat.worker.writes._wire import info_json, part_json, upload_json

__all__ = [
    "FORWARDED",
    "InvalidPart",
    "InvalidPartOrder",
    "Part",
    "PartTooSmall",
    "RecentWrites",
    "RemoteWorkers",
    "Staging",
    "Upload",
    "UploadNotFound",
    "Uploads",
    "WriteService",
    "info_json",
    "part_json",
    "upload_json",
]
