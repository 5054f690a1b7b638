"""The contract of the engine: durable work queues and watched, compare-and-swap key-value state.

A queue delivers each message to one puller at a time, again after ``lease_seconds`` without a renewal, until it is
acknowledged. Subjects are dot-separated; each subject holds one message at most, so that publishing the same work
twice is refused rather than done twice.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

_TOKEN = re.compile(r"[A-Za-z0-9_-]+")


def is_token(text: str) -> bool:
    """Say whether a text can be a key, or one token of a subject."""
    return _TOKEN.fullmatch(text) is not None


class Queue(StrEnum):
    """The work queues."""

    JOBS = "jobs"  #: ``jobs.<priority>.<job>``: held by the coordinator that owns the job
    BATCHES = "batches"  #: ``batches.<worker>.<priority>.<job>.<batch>``: pulled by one worker
    RESULTS = "results"  #: ``results.<job>.<batch>.<worker>``: pulled by the job's owner


class Bucket(StrEnum):
    """The key-value buckets."""

    JOBS = "jobs"  #: job id → Job, written by its owner
    CONTROLS = "controls"  #: job id → JobControl, written by any coordinator
    IDENTITIES = "identities"  #: hash of an identity → id of its latest job
    KEYS = "keys"  #: hash of an idempotency key → job id; expires
    FAILURES = "failures"  #: job id and number → a chunk of the job's failed objects
    WORKERS = "workers"  #: worker id → heartbeat; expires
    WORKER_CONTROLS = "worker_controls"  #: worker id → WorkerControl, written by any coordinator
    COORDINATORS = "coordinators"  #: coordinator id → beacon; expires
    TOKENS = "tokens"  #: token id → what it may do, with a hash of its secret
    SECRETS = "secrets"  #: "workers" → what workers show to each other, "receipts" → what signs; made by the first
    CLUSTER = "cluster"  #: "placement" → PlacementMap; "movers" → which jobs move copies where
    MOUNTS = "mounts"  #: mount name → Mount, written by any coordinator
    INVENTORIES = "inventories"  #: inventory id → Inventory: that a listing is known, and of which version
    INVENTORY_BLOCKS = "inventory_blocks"  #: inventory id and number → a block of its objects; read, not watched
    PINS = "pins"  #: pin id → Pin: a path that is bound to one dataset version
    WRITES = "writes"  #: hash of a path → Written: what was written there last, through a worker; expires
    PENDING = "pending"  #: hash of a path → PendingWrite: what was written there and the under store has not got yet
    TTLS = "ttls"  #: hash of a path → Ttl: when what is cached below it is to be freed
    DATASETS = "datasets"  #: dataset name → Record: what was declared of it, and what has become of it


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One key's value at a revision."""

    key: str
    value: bytes | None
    """None if the key was deleted or expired."""
    revision: int


class Lease(Protocol):
    """One delivered message."""

    subject: str
    data: bytes

    async def ack(self) -> None:
        """Remove the message for good; an acknowledgement lost with the connection means a redelivery."""
        ...

    async def renew(self) -> None:
        """Keep the message for another ``lease_seconds``."""
        ...

    async def release(self, delay: float = 0) -> None:
        """Give the message back for redelivery after ``delay`` seconds."""
        ...


class Consumer(Protocol):
    """Pulls the messages of a queue that match a subject filter."""

    async def pull(self, count: int, timeout: float) -> Sequence[Lease]:  # noqa: ASYNC109 - part of a pull request
        """Return up to ``count`` messages, none if ``timeout`` seconds pass."""
        ...

    async def close(self) -> None:
        """Stop pulling; what was not acknowledged is redelivered."""
        ...


class Engine(Protocol):
    """Queues and state."""

    async def publish(self, queue: Queue, subject: str, data: bytes) -> bool:
        """Store a message durably; false if the subject already holds one.

        Raises:
            EngineUnavailable: it was not acknowledged in time, so it may or may not be stored.
        """
        ...

    async def consume(self, queue: Queue, subject: str, *, name: str, lease_seconds: float) -> Consumer:
        """Return a durable consumer of the messages whose subject matches (``*`` one token, ``>`` the rest)."""
        ...

    async def forget_consumer(self, queue: Queue, name: str) -> None:
        """Delete a durable consumer; nothing happens if there is none."""
        ...

    async def peek(self, queue: Queue, subject: str) -> bytes | None:
        """Return the message that a subject holds, delivered or not."""
        ...

    async def purge(self, queue: Queue, subject: str) -> None:
        """Drop every message whose subject matches."""
        ...

    async def get(self, bucket: Bucket, key: str) -> Entry | None:
        """Return a key's value."""
        ...

    async def put(self, bucket: Bucket, key: str, value: bytes, *, revision: int | None = None) -> int:
        """Write a key and return its new revision.

        ``revision`` is the one that the key must have (0: must not exist); none overwrites.

        Raises:
            Conflict: the key has another revision.
        """
        ...

    async def delete(self, bucket: Bucket, key: str, *, revision: int | None = None) -> None:
        """Remove a key; with a revision, only if it has this one.

        Raises:
            Conflict: the key has another revision, or is gone.
        """
        ...

    def watch(self, bucket: Bucket) -> AsyncIterator[Entry | None]:
        """Yield every key's current value, then None once, then each change as it happens."""
        ...

    async def close(self) -> None:
        """Disconnect."""
        ...
