"""A bandwidth limit that can change while it is in use."""

from __future__ import annotations

import asyncio


class Throttle:
    """Spaces transfers so that they average ``rate`` bytes per second: each books its time after the one before."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        """Bytes per second."""
        self._free_at = 0.0
        """Loop time at which everything booked so far has been paid for."""

    async def wait(self, size: int) -> None:
        """Book ``size`` bytes and return when those booked before are paid for."""
        now = asyncio.get_running_loop().time()
        start = max(self._free_at, now)
        self._free_at = start + size / self.rate
        await asyncio.sleep(start - now)
