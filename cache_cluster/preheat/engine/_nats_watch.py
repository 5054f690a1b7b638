"""The buckets' side of NATS: a watch that notices within seconds that the server which fed it is gone.

``KeyValue.watch`` of nats-py takes 10 to 20 s to notice: longer than a worker may be silent before it counts as lost.
"""

from __future__ import annotations

import asyncio
from typing import Self

from nats.aio.msg import Msg
from nats.js import JetStreamContext, api
from nats.js.kv import KV_MARKER_REASON, KV_OP

from preheat.engine._base import Entry

_HEARTBEAT_SECONDS = 1.0
"""The client asks for a new consumer when two of them did not come."""
_IDLE_SECONDS = 10.0
"""The server forgets the consumer of a client that is gone."""


class NatsWatch:
    """The present state of a key-value bucket, then None once, then its changes, as they arrive in ``updates``."""

    def __init__(self, prefix: str) -> None:
        self.updates: asyncio.Queue[Entry | None] = asyncio.Queue()
        self._prefix = prefix
        self._announced = False
        self._subscription: JetStreamContext.PushSubscription

    @classmethod
    async def open(cls, js: JetStreamContext, bucket: str) -> Self:
        """Start to watch."""
        watch = cls(f"$KV.{bucket}.")
        watch._subscription = await js.subscribe(
            f"$KV.{bucket}.>",
            stream=f"KV_{bucket}",
            cb=watch._take,
            ordered_consumer=True,
            deliver_policy=api.DeliverPolicy.LAST_PER_SUBJECT,
            idle_heartbeat=_HEARTBEAT_SECONDS,
            inactive_threshold=_IDLE_SECONDS,
        )
        try:
            await watch._announce_if_empty()
        except BaseException:
            await watch.close()
            raise
        return watch

    async def close(self) -> None:
        """Stop watching."""
        await self._subscription.unsubscribe()

    async def _take(self, message: Msg) -> None:
        headers = message.headers or {}
        removed = KV_OP in headers or KV_MARKER_REASON in headers
        self.updates.put_nowait(
            Entry(
                key=message.subject.removeprefix(self._prefix),
                value=None if removed else message.data,
                revision=message.metadata.sequence.stream,
            )
        )
        if not message.metadata.num_pending:
            self._announce()

    async def _announce_if_empty(self) -> None:
        info = await self._subscription.consumer_info()
        if not info.num_pending and not (info.delivered and info.delivered.consumer_seq):
            self._announce()

    def _announce(self) -> None:
        """Mark the end of the state that was there at the start."""
        if not self._announced:
            self._announced = True
            self.updates.put_nowait(None)
