"""What the workers tell each other of writes that went through them. Pure: the records live in the engine."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """What a path was last known to hold, after a write or a removal that went through a worker. It expires."""

    path: str
    """URI."""
    etag: str
    """Of the version that is there now; empty if there is none, or nobody knows: then no copy may be kept."""
    worker: str
    """The worker that wrote it."""
    written_at: float
    """Seconds since the epoch."""


def key_of(uri: str) -> str:
    """Return the key of a path's records: a path may have characters that no key may have."""
    return hashlib.sha256(uri.encode()).hexdigest()
