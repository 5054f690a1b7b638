"""What workers show to each other and no client has: a secret of the cluster, which the engine keeps.

Only who has the credentials of the engine can read it: the coordinators and the workers. The first worker makes it.
Overwritten there, it changes for all workers at once.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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


class Forwarding:
    """Marks what this worker passes on, and recognises what others do."""

    def __init__(self) -> None:
        self._secret = ""
        self.known = asyncio.Event()
        """Set once the secret is."""

    @asynccontextmanager
    async def following(self, engine: Engine) -> AsyncIterator[None]:
        """Keep the secret current while the block runs."""
        view = BucketView(engine, Bucket.SECRETS, str)
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
        return {FORWARDED: self._secret} if self._secret else {}

    def check(self, shown: str) -> None:
        """Return if this is what a worker shows.

        Raises:
            EngineUnavailable: the secret is not known here yet.
            Forbidden: it is not.
        """
        if not self._secret:
            raise EngineUnavailable("What workers show to each other is not known here yet.", remedy="Try again.")
        if not hmac.compare_digest(shown.encode(), self._secret.encode()):
            raise Forbidden("Only workers of this cluster may pass a request on.", remedy=f"Leave {FORWARDED} out.")

    def _take(self, view: BucketView[str]) -> None:
        if known := view.get(_KEY):
            self._secret = known[0]
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
