"""uvicorn, with an end that does not break off those who wait."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from socket import socket

import uvicorn

_ENDING = (signal.SIGINT, signal.SIGTERM)


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

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop serving at a signal, and do not send it again afterwards: what is around the server ends by itself."""
        if threading.current_thread() is not threading.main_thread():  # where there are no signals
            yield
            return
        loop = asyncio.get_running_loop()
        for signum in _ENDING:
            loop.add_signal_handler(signum, self.handle_exit, signum, None)
        try:
            yield
        finally:
            for signum in _ENDING:
                loop.remove_signal_handler(signum)
