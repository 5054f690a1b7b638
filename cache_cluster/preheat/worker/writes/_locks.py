"""One writer of a path at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from preheat.paths import UfsPath


class PathLocks:
    """A lock for each path that is being written by this process."""

    def __init__(self) -> None:
        self._locks: dict[UfsPath, asyncio.Lock] = {}
        self._users: dict[UfsPath, int] = {}

    @asynccontextmanager
    async def hold(self, path: UfsPath) -> AsyncIterator[None]:
        """Be the only one in the block, for this path. It waits as long as the others' writes take."""
        lock = self._locks.setdefault(path, asyncio.Lock())
        self._users[path] = self._users.get(path, 0) + 1
        try:
            async with lock:
                yield
        finally:
            self._users[path] -= 1
            if not self._users[path]:
                del self._users[path], self._locks[path]
