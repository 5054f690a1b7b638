"""Watched buckets in memory: a process's view of the shared state, so that a look at it costs no round trip."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from preheat.engine import Bucket, Engine, Entry

T = TypeVar("T")


class BucketView(Generic[T]):
    """One bucket as a dictionary of decoded values with their revisions, and a way to wait for a change."""

    def __init__(self, engine: Engine, bucket: Bucket, value_type: type[T]) -> None:
        self._engine = engine
        self._bucket = bucket
        self._decoder = msgspec.json.Decoder(value_type)
        self._entries: dict[str, tuple[T, int]] = {}
        self._waiters: dict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self.loaded = asyncio.Event()
        """Set once the state that was there at the start is known."""

    async def follow(self) -> None:
        """Watch the bucket until cancelled."""
        async for entry in self._engine.watch(self._bucket):
            if entry is None:
                self.loaded.set()
            else:
                self.apply(entry)

    def apply(self, entry: Entry) -> None:
        """Take an entry over unless a newer one is known; also called by writers, who then read what they wrote."""
        known = self._entries.get(entry.key)
        if known and known[1] >= entry.revision:
            return
        if entry.value is None:
            self._entries.pop(entry.key, None)
        else:
            self._entries[entry.key] = (self._decoder.decode(entry.value), entry.revision)
        for waiter in self._waiters.pop(entry.key, ()):
            if not waiter.done():
                waiter.set_result(None)

    def get(self, key: str) -> tuple[T, int] | None:
        """Return a key's value and revision."""
        return self._entries.get(key)

    def values(self) -> list[tuple[T, int]]:
        """Return all values and revisions."""
        return list(self._entries.values())

    async def wait_until(self, key: str, accept: Callable[[T, int], bool], deadline: float) -> None:
        """Return when the key is gone, its value is accepted, or the loop's clock reaches the deadline."""
        loop = asyncio.get_running_loop()
        while (known := self._entries.get(key)) and not accept(*known) and loop.time() < deadline:
            waiter = loop.create_future()
            self._waiters[key].add(waiter)
            try:
                async with asyncio.timeout_at(deadline):
                    await waiter
            except TimeoutError:
                return
            finally:
                if waiters := self._waiters.get(key):
                    waiters.discard(waiter)
