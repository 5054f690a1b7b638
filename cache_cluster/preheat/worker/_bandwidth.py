"""A bandwidth limit that can change while it is in use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_STEP_SECONDS = 0.25
"""How soon a changed limit is felt by who waits already."""
_LEAST_SECONDS = 1e-4
"""Shorter sleeps would only keep the loop busy."""


class BandwidthLimit:
    """Spaces transfers so that they average the limit: each waits until those booked before it are paid for.

    Args:
        limit: returns the bytes per second that are allowed now, or none.
    """

    def __init__(self, limit: Callable[[], int | None]) -> None:
        self._limit = limit
        self._booked = 0
        """Bytes announced so far."""
        self._paid = 0.0
        """Bytes of them whose time has passed."""
        self._counted_at = 0.0

    @property
    def rate(self) -> int | None:
        """Bytes per second that are allowed now, or none."""
        return self._limit()

    async def wait(self, size: int, begins: Callable[[], None] = lambda: None) -> None:
        """Book ``size`` bytes and return when those booked before are paid for; call ``begins`` if that takes time."""
        if self._limit() is None:
            self._booked += size
            self._paid = self._booked
            return
        mine = self._booked
        self._pay()
        self._booked += size
        while (rate := self._pay()) and self._paid < mine:
            begins()
            await asyncio.sleep(max(_LEAST_SECONDS, min((mine - self._paid) / rate, _STEP_SECONDS)))

    def _pay(self) -> int | None:
        """Count the time since the last count at the present limit, and return that."""
        now, rate = asyncio.get_running_loop().time(), self._limit()
        earned = (now - self._counted_at) * rate if rate else self._booked
        self._paid = min(self._booked, self._paid + earned)
        self._counted_at = now
        return rate
