"""The write side of a worker: any worker takes any write, and the path's owner does it.

A write is acknowledged when the place that the mount names has it, this worker's copy is replaced, and the other
workers that are well know of it: whoever reads afterwards, anywhere, gets what was written. What is given up by its
client while its body arrives leaves nothing; once the body is here the write goes on to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from preheat.engine import Engine
from preheat.errors import EngineUnavailable, ReadOnly, Unavailable
from preheat.logs import get_logger
from preheat.mounts import Mount, WriteMode
from preheat.paths import UfsPath
from preheat.placement import Member
from preheat.store import PageStore
from preheat.ufs import UnderStore
from preheat.versions import ObjectInfo
from preheat.worker._policies import Policies
from preheat.worker._reads import ReadService
from preheat.worker.fills import Owners
from preheat.worker.writes._body import Body
from preheat.worker.writes._conditions import ALWAYS, Condition
from preheat.worker.writes._copies import WrittenCopies
from preheat.worker.writes._log import WriteLog
from preheat.worker.writes._remote import NotReachedError, RemoteWorkers
from preheat.worker.writes._staging import Chunks, Staging
from preheat.worker.writes._through import ThroughWrites
from preheat.worker.writes._uploads import Part, Upload, Uploads, check_number, worker_of
from preheat.worker.writes._wire import RemoteWrites

T = TypeVar("T")
log = get_logger("worker")
_EVERYBODY = 1 << 30
_TOLD = 32
"""Workers that are told of a write directly, at most: those that rank highest for its path."""
_TOLD_SECONDS = 1.0
_SWEEP_SECONDS = 600.0


class WriteService:
    """Writes objects.

    Args:
        worker_id: this worker.
        store: this worker's cache.
        origin: the under store.
        reads: serves the cache.
        policies: says what may be written, and how.
        staging: receives bodies.
        owners: says who owns a path.
        remote: the other workers.
        uploads: those in parts; by default as S3 has them.
    """
