"""How workers learn of each other's writes: a record for each path in the engine, which every worker follows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import msgspec

from preheat.engine import Bucket, Entry
from preheat.keys import key_of
from preheat.paths import UfsPath
from preheat.worker.writes._follower import Follower
from preheat.worker.writes._recent import RecentWrites
from preheat.writes import Written

Ended = Callable[[UfsPath, str], None]
"""Is told a path and the id of a write that is not pending there any more."""


class Superseded(Protocol):
    """Is told of what is at a path now: its etag, empty if no copy may be kept. Quick, and raises nothing.

    Nor may a copy that was cached ``before``: the bytes may be the same, and what their writer says of them not.
    """

    def __call__(self, path: UfsPath, etag: str, *, before: float = 0.0) -> None: ...


class WriteLog(Follower):
    """Announces this worker's writes, and follows the others'.

    Args:
        worker_id: this worker.
        recent: remembers them.
        superseded: told of each write, this worker's own too, before readers may see what came of it.
        ended: told of each pending write that others ended.
    """

    _BUCKET = Bucket.WRITES

    def __init__(self, worker_id: str, *, recent: RecentWrites, superseded: Superseded, ended: Ended) -> None:
        super().__init__()
        self._worker_id = worker_id
        self._superseded = superseded
        self._ended = ended
        self._started_at = time.time()
        self._recent = recent

    def note(self, path: UfsPath, etag: str) -> None:
        """Know a write of this worker; the others are told by :meth:`announce`."""
        written = self._written(path, etag)
        self._recent.remember(written, 0)
        self._superseded(path, etag, before=written.written_at)

    async def announce(self, path: UfsPath, etag: str, *, ends: str = "") -> int:
        """Tell the other workers, and return the revision that :meth:`reached` waits for.

        Args:
            path: what was written.
            etag: of the version that is there now; empty if there is none.
            ends: id of the pending write that is none any more.

        Raises:
            EngineUnavailable: they may not come to know.
        """
        written = replace(self._written(path, etag), ends=ends)
        revision = await self._known_engine().put(self._BUCKET, key_of(written.path), msgspec.json.encode(written))
        known = self._recent.get(written.path)
        if known is None or known.revision < revision:
            self._recent.remember(written, revision)
        return revision

    def _apply(self, entry: Entry) -> None:
        if entry.value is None:
            return
        written = msgspec.json.decode(entry.value, type=Written)
        known = self._recent.get(written.path)
        own = written.worker == self._worker_id and written.written_at >= self._started_at
        if own or (known is not None and known.revision > entry.revision):
            return
        path = UfsPath.parse(written.path)
        self._recent.remember(written, entry.revision)
        self._superseded(path, written.etag, before=written.written_at)
        if written.ends:
            self._ended(path, written.ends)

    def _written(self, path: UfsPath, etag: str) -> Written:
        return Written(path=str(path), etag=etag, worker=self._worker_id, written_at=time.time())
