"""An event loop whose clock jumps to the next timer: minutes of leases and time-outs take milliseconds, and a seed
always gives the same history."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from unittest.mock import patch

T = TypeVar("T")
_EPOCH = 1_700_000_000.0


class Stuck(Exception):
    """Tasks wait for something that nothing in the loop will ever bring."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop without sockets or threads; when nothing is ready, time passes at once."""

    def __init__(self) -> None:
        self._now = 0.0
        selector = selectors.SelectSelector()
        self._poll = selector.select
        selector.select = self._pass_time  # type: ignore[method-assign]
        super().__init__(selector)

    def time(self) -> float:
        return self._now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Run the function here and now: a thread's end would fall on a random moment."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - as an executor does
            future.set_exception(error)
        return future

    def _pass_time(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._poll(0)
        if not ready and timeout is None:
            raise Stuck("no timer is set and no task is ready")
        if not ready and timeout:
            self._now += timeout
        return ready


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in virtual time; ``time.time()`` and ``time.monotonic()`` follow it."""
    loop = VirtualLoop()
    with (
        patch("time.monotonic", loop.time),
        patch("time.time", lambda: _EPOCH + loop.time()),
        asyncio.Runner(loop_factory=lambda: loop) as runner,
    ):
        return runner.run(main)
