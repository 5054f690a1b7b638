"""A worker's way to the under store: as many requests at once as it bears, readers first, and all of them counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, TypeVar

from preheat.errors import OriginThrottled
from preheat.paths import UfsPath
from preheat.ufs import Checksum, ChecksummedStore, Download, Sink, Span, StreamingStore, UnderStore
from preheat.versions import ObjectInfo
from preheat.worker.fills._concurrency import RequestLimit
from preheat.worker.fills._counters import Counters
from preheat.worker.fills._fill import Fill
from preheat.worker.fills._turns import Turns

T = TypeVar("T")
_MOST_REQUESTS = 96
"""Under way at once: what the fetches of jobs need, and half as many again."""
_RESERVED_REQUESTS = 16
"""Beyond them for readers."""
_PATIENCE_SECONDS = 30.0
"""An origin that asks to slow down is obeyed this long before the fetch fails."""


class Turn:
    """One request's place; it is taken when the request is first made, and left at the end of the context."""

    def __init__(self, turns: Turns, fill: Fill) -> None:
        self._turns = turns
        self._fill = fill
        self._held = False

    def take_now(self, now: float) -> bool:
        """Take the place if nobody has to wait, and say whether it is held; ``now`` is the loop's time."""
        self._held = self._held or self._turns.take_now(self._fill, now)
        return self._held

    async def take(self) -> None:
        """Wait for the place."""
        with self._fill.paused():
            await self._turns.take(self._fill)
        self._held = True

    def leave(self) -> None:
        """Give the place back, if it is held."""
        if self._held:
            self._held = False
            self._turns.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()


class Origin:
    """Asks the under store for the bytes of fills.

    Args:
        store: the under store.
        counters: what is asked of it.
    """

    def __init__(self, store: UnderStore, counters: Counters) -> None:
        self._store = store
        self._checksummed = store if isinstance(store, ChecksummedStore) else None
        self._streaming = store if isinstance(store, StreamingStore) else None
        self._counters = counters
        self._limit = RequestLimit(_MOST_REQUESTS)
        self._turns = Turns(
            lambda: self._limit.allowed, reserve=_RESERVED_REQUESTS, closed_until=lambda: self._limit.closed_until
        )

    def turn(self, fill: Fill) -> Turn:
        """Return the place of a request, not taken yet; hold it until the body is there."""
        return Turn(self._turns, fill)

    def look_again(self) -> None:
        """See who may go now that a fill became urgent."""
        self._turns.look_again()

    async def get(
        self, path: UfsPath, fill: Fill, turn: Turn, *, etag: str | None, start: int, end: int | None
    ) -> Download:
        """Start to read a range, as ``UnderStore.get``."""
        return await self._ask(fill, turn, lambda: self._store.get(path, etag=etag, start=start, end=end), _waited)

    async def get_whole(self, path: UfsPath, fill: Fill, turn: Turn, info: ObjectInfo) -> Download:
        """Start to read all of a small object, compared with the store's checksum if it tells one."""
        store = self._checksummed
        if store is not None:
            return await self._ask(fill, turn, lambda: store.get_whole(path, info), _waited)
        return await self.get(path, fill, turn, etag=info.etag, start=0, end=info.size or None)

    async def pour(self, path: UfsPath, fill: Fill, turn: Turn, span: Span, sink: Sink) -> bool:
        """Read a range in a thread, as ``StreamingStore.pour``; false if the store has to be asked otherwise."""
        store = self._streaming
        if store is None:
            return False
        return await self._ask(fill, turn, lambda: store.pour(path, span, sink), lambda _: 0.0)

    async def checksum(self, path: UfsPath, info: ObjectInfo) -> Checksum | None:
        """Return what the store keeps of an object, if it tells."""
        return await self._checksummed.checksum(path, info) if self._checksummed else None

    async def _ask(
        self, fill: Fill, turn: Turn, request: Callable[[], Awaitable[T]], waited: Callable[[T], float]
    ) -> T:
        """Make a request, again and again while the origin only asks to slow down."""
        if not fill.origin_asked:
            fill.origin_asked = True
            self._counters.origin_reads += 1
            self._counters.load_reads += bool(fill.job_id)
        time = asyncio.get_running_loop().time
        patient_until = time() + _PATIENCE_SECONDS
        while True:
            if not turn.take_now(time()):
                await turn.take()
            asked_at = time()
            try:
                answer = await request()
            except OriginThrottled as error:
                now, under_way = time(), self._turns.taken
                self._counters.origin_throttled += 1
                self._limit.refused(asked_at=asked_at, now=now, retry_after=error.retry_after, under_way=under_way)
                if now >= patient_until:
                    raise
                turn.leave()
                await fill.pay(0)  # raises if the job has ended
            else:
                under_way = self._turns.taken
                self._limit.answered(asked_at=asked_at, now=time(), waited=waited(answer), under_way=under_way)
                return answer


def _waited(download: Download) -> float:
    return download.waited
