"""What can be set about the under stores."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class UfsSettings:
    """Deadlines and sizes; the defaults report an endpoint that does not answer in less than ten seconds."""

    connect_seconds: float = 2.0
    """Deadline of one attempt to connect."""
    read_seconds: float = 30.0
    """A response that sends nothing for this long is given up."""
    retries: int = 2
    """Further attempts after a connection error, a timeout or a 5xx answer."""
    retry_seconds: float = 5.0
    """No further attempt starts later than this after the first one."""
    page_size: int = 1000
    """Objects per page of a listing; S3 allows no more than 1000."""
    chunk_bytes: int = 8 << 20
    """Bytes per chunk of a download, and so its memory."""
    part_bytes: int = 8 << 20
    """Bytes per part of an upload to S3, which allows no fewer than 5 MiB; what is not larger goes in one request."""
    parts_in_flight: int = 2
    """Parts of one upload that are sent at once; with the next one to be sent they are its memory."""
    forkable: bool = False
    """Whether S3 is read without obstore, whose threads are missing in the child of a process that used it."""
