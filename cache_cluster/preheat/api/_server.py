"""uvicorn, with an end that does not break off those who wait."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from socket import socket

import uvicorn


class GracefulServer(uvicorn.Server):
    """Ends long-polls and streams before it waits for the requests that are open: they would hold it up.

    Args:
        config: uvicorn's.
        end_waits: end them; called once, when the server is to stop.
    """

    def __init__(self, config: uvicorn.Config, *, end_waits: Sequence[Callable[[], None]]) -> None:
        super().__init__(config)
        self._end_waits = end_waits

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Stop serving."""
        for end in self._end_waits:
            end()
        await super().shutdown(sockets)
