"""Whose turn it is: what a reader waits for comes before what only a job wants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol


class Waiting(Protocol):
    """What a turn is for."""

    @property
    def urgent(self) -> bool:
        """Whether a reader waits for it; that may begin while it stands in line."""
        ...


class Turns:
    """Lets so many go at once; what is urgent goes first, and has some places of its own.

    Args:
        limit: returns how many may go at present.
        reserve: further places for what is urgent, at most as many as the limit.
        closed_until: returns the moment, by the loop's clock, before which nobody may go.
    """

    def __init__(
        self, limit: Callable[[], int], *, reserve: int, closed_until: Callable[[], float] = lambda: 0.0
    ) -> None:
        self._limit = limit
        self._reserve = reserve
        self._closed_until = closed_until
        self._line: list[tuple[Waiting, asyncio.Future[None]]] = []
        self._opening: asyncio.TimerHandle | None = None
        self.taken = 0

    def take_now(self, waiting: Waiting, now: float) -> bool:
        """Take a turn if nobody has to wait, and say whether it was taken; ``now`` is the loop's time."""
        may = not self._line and self._may_go(now, urgent=waiting.urgent)
        self.taken += may
        return may

    async def take(self, waiting: Waiting) -> None:
        """Wait for a turn; :meth:`leave` ends it."""
        loop = asyncio.get_running_loop()
        if self.take_now(waiting, loop.time()):
            return
        place = (waiting, loop.create_future())
        self._line.append(place)
        self._serve()
        try:
            await asyncio.wait({place[1]})
        except asyncio.CancelledError:
            if place in self._line:
                self._line.remove(place)
            else:
                self.leave()
            raise

    def leave(self) -> None:
        """Give a turn back."""
        self.taken -= 1
        self.look_again()

    def look_again(self) -> None:
        """Let go who may: something in line became urgent."""
        if self._line:
            self._serve()

    def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while (place := self._first()) and self._may_go(loop.time(), urgent=place[0].urgent):
            self._line.remove(place)
            self.taken += 1
            place[1].set_result(None)
        if self._line and self._opening is None and (closed := self._closed_until() - loop.time()) > 0:
            self._opening = loop.call_later(closed, self._open)

    def _open(self) -> None:
        self._opening = None
        self._serve()

    def _first(self) -> tuple[Waiting, asyncio.Future[None]] | None:
        urgent = (place for place in self._line if place[0].urgent)
        return next(urgent, self._line[0] if self._line else None)

    def _may_go(self, now: float, *, urgent: bool) -> bool:
        limit = self._limit()
        places = limit + min(self._reserve, limit) if urgent else limit
        return self.taken < places and self._closed_until() <= now
