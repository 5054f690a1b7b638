"""The queues' side of NATS: durable pull consumers and what they deliver."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

import nats.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from preheat.engine._base import Lease
from preheat.errors import EngineUnavailable

LOST = (nats.errors.Error, OSError, asyncio.TimeoutError)
"""What nats-py raises when a server or a leader is gone."""


class NatsConsumer:
    """A :class:`~preheat.engine.Consumer` on a durable pull consumer."""

    def __init__(self, subscription: JetStreamContext.PullSubscription) -> None:
        self._subscription = subscription

    async def pull(self, count: int, timeout: float) -> Sequence[Lease]:  # noqa: ASYNC109 - part of a pull request
        """Ask for messages; see :class:`~preheat.engine.Consumer`."""
        try:
            messages = await self._subscription.fetch(count, timeout=timeout)
        except TimeoutError:
            return ()
        except LOST as error:
            raise EngineUnavailable(f"NATS refused a pull ({error!r}).") from error
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
