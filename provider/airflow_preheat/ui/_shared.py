"""One answer for all who look at the same: a page that many have open is not more work for the coordinator."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    answer: asyncio.Task[Any]
    until: float
    """When it is too old, by the monotonic clock."""

    def is_fresh(self, now: float) -> bool:
        return not self.answer.done() or now < self.until


class Shared:
    """Answers, or failures, of the last seconds. It is to be used in one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked: dict[Hashable, _Asked] = {}

    async def get(self, key: Hashable, seconds: float, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the answer to a question that was asked less than ``seconds`` ago or is being asked; or else ask it.

        That somebody does not wait any longer does not cancel the question: others may.
        """
        now = self._clock()
        self._asked = {known: asked for known, asked in self._asked.items() if asked.is_fresh(now)}
        if key not in self._asked:
            answer = asyncio.get_running_loop().create_task(ask())
            answer.add_done_callback(_retrieve)
            self._asked[key] = _Asked(answer=answer, until=now + seconds)
        return cast("T", await asyncio.shield(self._asked[key].answer))


def _retrieve(answer: asyncio.Task[Any]) -> None:
    """Look at a failure, which asyncio would complain about if all who asked have gone."""
    if not answer.cancelled():
        answer.exception()
