"""The bodies of requests: which are taken, and how a large one gets to its reader a piece at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum

from preheat.errors import PreheatError


class Intake(Enum):
    """What becomes of a request's body."""

    REFUSED = "refused"  #: a request that has one is answered with an error, and its connection closed
    HELD = "held"  #: it is held whole, up to ``max_body_bytes``; it needs a ``Content-Length``
    STREAMED = "streamed"  #: the endpoint reads it as it comes, of any length and in chunks too


class RequestBody:
    """A body on its way in. The connection feeds it, one reader iterates over it.

    Args:
        limit: bytes that wait for the reader before no more is read from the socket.
        continue_due: whether the client waits to be told that its body is wanted.
        on_demand: called when the reader has taken what there was, and when it waits for more.
    """

    def __init__(self, *, limit: int, continue_due: bool, on_demand: Callable[[], None]) -> None:
        self._limit = limit
        self._on_demand = on_demand
        self.continue_due = continue_due
        self._pieces: list[bytes] = []
        self._held = 0
        self._whole = False
        self._error: PreheatError | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether the reader has enough to do."""
        return self._held >= self._limit

    @property
    def is_awaited(self) -> bool:
        """Whether the reader waits for the sender."""
        return self._waiter is not None

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes: it is whole, or broken off."""
        return self._whole or self._error is not None

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self.continue_due = False
        self._pieces.append(data)
        self._held += len(data)
        self._wake()

    def end(self) -> None:
        """Note that it is whole."""
        self._whole = True
        self._wake()

    def fail(self, error: PreheatError) -> None:
        """Have the reader raise an error in place of what is missing."""
        self._error = self._error or error
        self._wake()

    def __aiter__(self) -> RequestBody:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces and not self.is_over:
            self._waiter = asyncio.get_running_loop().create_future()
            self._on_demand()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._error:
            raise self._error
        if not self._pieces:
            raise StopAsyncIteration
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._held = 0
        self._on_demand()
        return data

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)
