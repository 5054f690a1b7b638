"""The engine's twin in memory, for tests: the same contract, no process. One loop only."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from preheat.engine._base import Bucket, Consumer, Entry, Lease, Queue
from preheat.errors import Conflict


@dataclass
class _Message:
    subject: str
    data: bytes
    available_at: float = 0.0
    """Loop time from which it may be delivered (again)."""


@dataclass
class _Stream:
    messages: dict[str, _Message] = field(default_factory=dict)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)


class MemoryEngine:
    """An :class:`~preheat.engine.Engine` without NATS."""

    def __init__(self) -> None:
        self._streams: dict[Queue, _Stream] = defaultdict(_Stream)
        self._values: dict[Bucket, dict[str, Entry]] = defaultdict(dict)
        self._watchers: dict[Bucket, list[asyncio.Queue[Entry]]] = defaultdict(list)
        self._revisions = count(1)

    async def publish(self, queue: Queue, subject: str, data: bytes) -> bool:
        """Store a message; see :class:`~preheat.engine.Engine`."""
        stream = self._streams[queue]
        if subject in stream.messages:
            return False
        async with stream.changed:
            stream.messages[subject] = _Message(subject, data)
            stream.changed.notify_all()
        return True

    async def consume(self, queue: Queue, subject: str, *, name: str, lease_seconds: float) -> Consumer:  # noqa: ARG002
        """Return a consumer; names do not matter here, since nothing outlives the process."""
        return _MemoryConsumer(self._streams[queue], subject, lease_seconds)

    async def forget_consumer(self, queue: Queue, name: str) -> None:
        """Nothing to delete."""

    async def peek(self, queue: Queue, subject: str) -> bytes | None:
        """Return the message on a subject; see :class:`~preheat.engine.Engine`."""
        message = self._streams[queue].messages.get(subject)
        return message.data if message else None

    async def purge(self, queue: Queue, subject: str) -> None:
        """Drop messages; see :class:`~preheat.engine.Engine`."""
        messages = self._streams[queue].messages
        for name in [name for name in messages if subject_matches(subject, name)]:
            del messages[name]

    async def get(self, bucket: Bucket, key: str) -> Entry | None:
        """Return a key's value; see :class:`~preheat.engine.Engine`."""
        entry = self._values[bucket].get(key)
        return entry if entry and entry.value is not None else None

    async def put(self, bucket: Bucket, key: str, value: bytes, *, revision: int | None = None) -> int:
        """Write a key; see :class:`~preheat.engine.Engine`."""
        current = await self.get(bucket, key)
        if revision is not None and revision != (current.revision if current else 0):
            raise Conflict(f"The key {key!r} was written by another process.")
        return self._store(bucket, Entry(key=key, value=value, revision=next(self._revisions)))

    async def delete(self, bucket: Bucket, key: str, *, revision: int | None = None) -> None:
        """Remove a key; see :class:`~preheat.engine.Engine`."""
        current = await self.get(bucket, key)
        if revision is not None and revision != (current.revision if current else 0):
            raise Conflict(f"The key {key!r} was written by another process.")
        self._store(bucket, Entry(key=key, value=None, revision=next(self._revisions)))

    def _store(self, bucket: Bucket, entry: Entry) -> int:
        self._values[bucket][entry.key] = entry
        for watcher in self._watchers[bucket]:
            watcher.put_nowait(entry)
        return entry.revision

    async def watch(self, bucket: Bucket) -> AsyncIterator[Entry | None]:
        """Follow a bucket; see :class:`~preheat.engine.Engine`."""
        updates: asyncio.Queue[Entry] = asyncio.Queue()
        self._watchers[bucket].append(updates)
        try:
            for entry in list(self._values[bucket].values()):
                yield entry
            yield None
            while True:
                yield await updates.get()
        finally:
            self._watchers[bucket].remove(updates)

    async def close(self) -> None:
        """Nothing to release."""


def subject_matches(pattern: str, subject: str) -> bool:
    """Say whether a subject matches a pattern of NATS: ``*`` is one token, a last ``>`` is one or more."""
    wanted, tokens = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted = wanted[:-1]
        if len(tokens) <= len(wanted):
            return False
        tokens = tokens[: len(wanted)]
    return len(wanted) == len(tokens) and all(w in ("*", t) for w, t in zip(wanted, tokens, strict=True))


class _MemoryConsumer:
    def __init__(self, stream: _Stream, pattern: str, lease_seconds: float) -> None:
        self._stream = stream
        self._pattern = pattern
        self._lease_seconds = lease_seconds

    async def pull(self, count: int, timeout: float) -> Sequence[Lease]:  # noqa: ASYNC109 - part of a pull request
        deadline = asyncio.get_running_loop().time() + timeout
        while not (leases := self._take(count)):
            try:
                async with asyncio.timeout_at(min(deadline, self._next_redelivery())), self._stream.changed:
                    await self._stream.changed.wait()
            except TimeoutError:
                if asyncio.get_running_loop().time() >= deadline:
                    return ()
        return leases

    def _matching(self) -> list[_Message]:
        messages = self._stream.messages.values()
        return [message for message in messages if subject_matches(self._pattern, message.subject)]

    def _take(self, count: int) -> list[Lease]:
        now = asyncio.get_running_loop().time()
        ready = [message for message in self._matching() if message.available_at <= now][:count]
        for message in ready:
            message.available_at = now + self._lease_seconds
        return [_MemoryLease(self._stream, message, self._lease_seconds) for message in ready]

    def _next_redelivery(self) -> float:
        return min((message.available_at for message in self._matching()), default=float("inf"))

    async def close(self) -> None:
        return


class _MemoryLease:
    def __init__(self, stream: _Stream, message: _Message, lease_seconds: float) -> None:
        self._stream = stream
        self._message = message
        self._lease_seconds = lease_seconds
        self.subject = message.subject
        self.data = message.data

    async def ack(self) -> None:
        if self._stream.messages.get(self.subject) is self._message:
            del self._stream.messages[self.subject]

    async def renew(self) -> None:
        self._message.available_at = asyncio.get_running_loop().time() + self._lease_seconds

    async def release(self, delay: float = 0) -> None:
        async with self._stream.changed:
            self._message.available_at = asyncio.get_running_loop().time() + delay
            self._stream.changed.notify_all()
