"""The queues' side of NATS: durable pull consumers and what they deliver."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence

import nats.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.errors import ServiceUnavailableError

from preheat.engine._base import Lease
from preheat.errors import EngineUnavailable

LOST = (nats.errors.Error, OSError, asyncio.TimeoutError)
"""What nats-py raises when a server or a leader is gone."""
_NO_LEADER_SECONDS = 0.1
_SHORTEST_SECONDS = 0.01


class NatsConsumer:
    """A :class:`~preheat.engine.Consumer` on a durable pull consumer."""

    def __init__(self, subscription: JetStreamContext.PullSubscription) -> None:
        self._subscription = subscription

    async def pull(self, count: int, timeout: float) -> Sequence[Lease]:  # noqa: ASYNC109 - part of a pull request
        """Ask for messages; see :class:`~preheat.engine.Consumer`."""
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            try:
                messages = await self._subscription.fetch(count, timeout=max(left, _SHORTEST_SECONDS))
            except TimeoutError:
                return ()
            except LOST as error:
                if left < _NO_LEADER_SECONDS or not isinstance(error, ServiceUnavailableError):
                    raise EngineUnavailable(f"NATS refused a pull ({error!r}).") from error
                await asyncio.sleep(_NO_LEADER_SECONDS)  # a consumer just made, or a dead node's, has no leader yet
            else:
                return [NatsLease(message) for message in messages]

    async def close(self) -> None:
        """Stop pulling."""
        await self._subscription.unsubscribe()


class NatsLease:
    """A :class:`~preheat.engine.Lease` on a delivered message."""

    def __init__(self, message: Msg) -> None:
        self._message = message
        self.subject = message.subject.split(".", 2)[2]
        self.data = message.data

    async def ack(self) -> None:
        """Remove the message; see :class:`~preheat.engine.Lease`."""
        await self._send(self._message.ack())

    async def renew(self) -> None:
        """Keep the message; see :class:`~preheat.engine.Lease`."""
        await self._send(self._message.in_progress())

    async def release(self, delay: float = 0) -> None:
        """Give the message back; see :class:`~preheat.engine.Lease`."""
        await self._send(self._message.nak(delay=delay or None))

    async def _send(self, call: Awaitable[None]) -> None:
        try:
            await call
        except LOST as error:
            raise EngineUnavailable(f"NATS did not take an acknowledgement ({error!r}).") from error
