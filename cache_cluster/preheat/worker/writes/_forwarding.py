"""What workers show to each other and no client has: a secret of the cluster, which the engine keeps.

Only who has the credentials of the engine can read it: the coordinators and the workers. The first worker makes it.
Overwritten there, it changes for all workers, of which each hears at a moment of its own: for some seconds after it has
heard, a worker still shows the one before, and for some more it takes either.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from math import inf

import msgspec

from preheat.engine import Bucket, Engine, Entry
from preheat.errors import Conflict, EngineUnavailable, Forbidden
from preheat.logs import get_logger
from preheat.views import BucketView

log = get_logger("worker")
FORWARDED = "X-Preheat-Forwarded"
"""Header of a request that a worker passes on: whoever gets it does it, and does not pass it on again."""
_KEY = "workers"
_BYTES = 32
_RETRY_SECONDS = 1.0
_CONFLICT_SECONDS = 0.05
_SHOWN_SECONDS = 5.0
"""For which a worker goes on showing the secret before: another may not have heard of the new one."""
_TAKEN_SECONDS = 30.0
"""For which it takes the one before: another may have heard later, and shows it as long."""


class Forwarding:
    """Marks what this worker passes on, and recognises what others do.

    Args:
        clock: returns seconds that only grow.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._secret = ""
        self._before = ""
        self._changed_at = -inf
        self.known = asyncio.Event()
        """Set once the secret is."""

    @asynccontextmanager
    async def following(self, engine: Engine) -> AsyncIterator[None]:
        """Keep the secret current while the block runs."""
        view = BucketView(engine, Bucket.SECRETS, str, only=_KEY)
        view.listeners.add(lambda _: self._take(view))
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(view.follow()), tasks.create_task(self._make(engine, view))]
            try:
                yield
            finally:
                for task in background:
                    task.cancel()

    @property
    def headers(self) -> dict[str, str]:
        """What marks a request; nothing while the secret is not known."""
        shown = self._recent(_SHOWN_SECONDS) or self._secret
        return {FORWARDED: shown} if shown else {}

    def check(self, shown: str) -> None:
        """Return if this is what a worker shows.

        Raises:
            EngineUnavailable: the secret is not known here yet.
            Forbidden: it is not.
        """
        if not self._secret:
            raise EngineUnavailable("What workers show to each other is not known here yet.", remedy="Try again.")
        taken = [secret for secret in (self._secret, self._recent(_TAKEN_SECONDS)) if secret]
        if not any(hmac.compare_digest(shown.encode(), secret.encode()) for secret in taken):
            raise Forbidden("Only workers of this cluster may pass a request on.", remedy=f"Leave {FORWARDED} out.")

    def _recent(self, seconds: float) -> str:
        """Return the secret before, if it was the present one within some seconds; else nothing."""
        return self._before if self._clock() - self._changed_at < seconds else ""

    def _take(self, view: BucketView[str]) -> None:
        known = view.get(_KEY)
        if known is None or known[0] == self._secret:
            return
        self._before, self._secret = self._secret, known[0]
        self._changed_at = self._clock()
        self.known.set()

    async def _make(self, engine: Engine, view: BucketView[str]) -> None:
        """Make the secret if there is none."""
        await view.loaded.wait()
        while view.get(_KEY) is None:
            value = msgspec.json.encode(secrets.token_urlsafe(_BYTES))
            try:
                revision = await engine.put(Bucket.SECRETS, _KEY, value, revision=0)
            except Conflict:  # another worker was first: the watch brings it
                await asyncio.sleep(_CONFLICT_SECONDS)
            except EngineUnavailable as error:
                log.warning("Writes wait for the engine.", action="secret_late", error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                view.apply(Entry(key=_KEY, value=value, revision=revision))
