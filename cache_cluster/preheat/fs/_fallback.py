"""Reads by the workers while one of them answers, and else by the under store itself; never without saying so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import BinaryIO, TypeVar

from preheat.batch_read import Read
from preheat.errors import CoordinatorUnreachable, NoLiveWorker
from preheat.fs._demand import Demand
from preheat.fs._reader import Outcome, Reader, RemoteObject, RemotePage
from preheat.paths import UfsPath

T = TypeVar("T")
_NOBODY = (NoLiveWorker, CoordinatorUnreachable)
_WARN_SECONDS = 60.0
_log = logging.getLogger("preheat.fs")


class WithFallback:
    """A :class:`~preheat.fs._reader.Reader` made of two.

    What asks for a dataset version, or for what is cached only, is asked of the first reader alone. Once that reaches
    nobody it is left in peace for a while, or each read would wait for it.

    Args:
        first: asked first; falls back when it raises NoLiveWorker or CoordinatorUnreachable.
        second: makes the reader to fall back on, once.
        pause: seconds until the first is asked again.
    """

    def __init__(self, first: Reader, second: Callable[[], Reader], *, pause: float) -> None:
        self._first = first
        self._make_second = second
        self._second: Reader | None = None
        self._pause = pause
        self._clock = asyncio.get_running_loop().time
        self._again_at = self._warn_at = self._clock()

    async def stat(self, path: UfsPath, demand: Demand) -> RemoteObject:
        """Return one object."""
        return await self._ask(demand, lambda reader: reader.stat(path, demand))

    async def list(self, path: UfsPath, demand: Demand, *, after: str = "", limit: int = 1000) -> RemotePage:
        """Return one page of the objects at and below a path."""
        return await self._ask(demand, lambda reader: reader.list(path, demand, after=after, limit=limit))

    async def read(self, read: Read, demand: Demand) -> bytes:
        """Return an object's bytes, or a range of them."""
        return await self._ask(demand, lambda reader: reader.read(read, demand))

    async def read_many(self, reads: Sequence[Read], demand: Demand) -> Sequence[Outcome]:
        """Return the bytes of each read, or why there are none."""
        if not self._is_first_due(demand):
            return await self._fall_back().read_many(reads, demand)
        outcomes = list(await self._first.read_many(reads, demand))
        left = [at for at, outcome in enumerate(outcomes) if isinstance(outcome, _NOBODY)]
        if left and demand.current_will_do:
            self._note(outcomes[left[0]])
            again = await self._fall_back().read_many([reads[at] for at in left], demand)
            for at, outcome in zip(left, again, strict=True):
                outcomes[at] = outcome
        return outcomes

    async def download(self, path: UfsPath, demand: Demand, file: BinaryIO, progress: Callable[[int], None]) -> None:
        """Write an object to a seekable file from its beginning."""
        await self._ask(demand, lambda reader: reader.download(path, demand, file, progress))

    async def close(self) -> None:
        """Close both."""
        await self._first.close()
        if self._second is not None:
            await self._second.close()

    async def _ask(self, demand: Demand, call: Callable[[Reader], Awaitable[T]]) -> T:
        if self._is_first_due(demand):
            try:
                return await call(self._first)
            except _NOBODY as error:
                if not demand.current_will_do:
                    raise
                self._note(error)
        return await call(self._fall_back())

    def _is_first_due(self, demand: Demand) -> bool:
        return self._clock() >= self._again_at or not demand.current_will_do

    def _fall_back(self) -> Reader:
        if self._second is None:
            self._second = self._make_second()
        return self._second

    def _note(self, error: Outcome) -> None:
        """Leave the workers in peace for a while, and say so once a minute."""
        now = self._clock()
        self._again_at = now + self._pause
        if now >= self._warn_at:
            self._warn_at = now + _WARN_SECONDS
            _log.warning("No worker answers: preheat:// reads from the under store itself, past the cache. %s", error)
