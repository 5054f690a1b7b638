"""The event loop of a server process."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from contextlib import suppress

import uvloop

_GARBAGE_THRESHOLDS = (20_000, 20, 50)
"""How much is to pile up before Python looks for cycles: looking often took a tenth of the time of a load."""


def run_until_cancelled(main: Coroutine[None, None, None]) -> None:
    """Run a server until it ends or is cancelled; what is imported by now is taken to stay."""
    gc.freeze()
    gc.set_threshold(*_GARBAGE_THRESHOLDS)
    with suppress(asyncio.CancelledError):
        uvloop.run(main)
