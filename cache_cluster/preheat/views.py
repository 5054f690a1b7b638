"""Watched buckets in memory: a process's view of the shared state, so that a look at it costs no round trip."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from preheat.engine import Bucket, Engine, Entry

T = TypeVar("T")

Listener = Callable[[str], None]
"""Is told the key that changed. Quick, and raises nothing: it runs in the midst of what changed it."""


class Listeners:
    """Who is told of changes, as they happen."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def add(self, listener: Listener) -> None:
        """Tell it of every change from now on."""
        self._listeners.append(listener)

    def tell(self, key: str) -> None:
        """Say that a key has changed."""
        for listener in self._listeners:
            listener(key)


class _Waiter(Generic[T]):
    """One call that waits for a value it accepts."""

    def __init__(self, accept: Callable[[T, int], bool]) -> None:
        self.accept = accept
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def look(self, known: tuple[T, int] | None) -> None:
        """End the wait if the key is gone or its value is accepted."""
        if not self.done.done() and (known is None or self.accept(*known)):
            self.done.set_result(None)


class BucketView(Generic[T]):
    """One bucket as a dictionary of decoded values with their revisions, and ways to hear of a change.

    Args:
        engine: has the bucket.
        bucket: which one.
        value_type: of its values.
        only: the one key that is followed, in a bucket whose keys have values of several types; empty is all.
    """

    def __init__(self, engine: Engine, bucket: Bucket, value_type: type[T], *, only: str = "") -> None:
        self._engine = engine
        self._only = only
        self._bucket = bucket
        self._decoder = msgspec.json.Decoder(value_type)
        self._entries: dict[str, tuple[T, int]] = {}
        self._waiters: dict[str, set[_Waiter[T]]] = defaultdict(set)
        self.listeners = Listeners()
        self.watched = 0
        """Every change of the bucket up to this revision is known; a writer's own may be known before."""
        self.loaded = asyncio.Event()
        """Set once the state that was there at the start is known."""

    async def follow(self) -> None:
        """Watch the bucket until cancelled."""
        async for entry in self._engine.watch(self._bucket):
            if entry is None:
                self.loaded.set()
            else:
                self.watched = max(self.watched, entry.revision)
                if self._only in {"", entry.key}:
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
        for waiter in self._waiters.get(entry.key, ()):
            waiter.look(self._entries.get(entry.key))
        self.listeners.tell(entry.key)

    def get(self, key: str) -> tuple[T, int] | None:
        """Return a key's value and revision."""
        return self._entries.get(key)

    def values(self) -> list[tuple[T, int]]:
        """Return all values and revisions."""
        return list(self._entries.values())

    def release(self) -> None:
        """Let every wait end now, as if its time had passed."""
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.look(None)

    async def wait_until(self, key: str, accept: Callable[[T, int], bool], deadline: float) -> None:
        """Return when the key is gone, its value is accepted, or the loop's clock reaches the deadline.

        A change costs the waiters of its own key one call of ``accept`` each, and those of other keys nothing.
        """
        waiter = _Waiter(accept)
        waiter.look(self._entries.get(key))
        self._waiters[key].add(waiter)
        try:
            async with asyncio.timeout_at(deadline):
                await waiter.done
        except TimeoutError:
            return
        finally:
            self._waiters[key].remove(waiter)
            if not self._waiters[key]:
                del self._waiters[key]
