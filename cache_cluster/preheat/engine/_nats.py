"""The engine on NATS JetStream: one embedded node or a cluster, the same code.

Queues are work-queue streams that refuse a second message on a subject; buckets are JetStream key-value buckets. A
watch starts over after a reconnect, since what expired meanwhile sends no event; its readers take entries as state.
A call goes on over the loss of a server or an election, until ``request_seconds`` have passed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext, api
from nats.js.kv import KeyValue

from preheat.engine._base import Bucket, Consumer, Entry, Queue
from preheat.engine._nats_queue import LOST, NatsConsumer
from preheat.engine._nats_watch import NatsWatch
from preheat.errors import Conflict, EngineUnavailable
from preheat.logs import get_logger
from preheat.settings import EngineSettings

log = get_logger("engine")
T = TypeVar("T")

_PREFIX = "preheat"
_SUBJECT_OCCUPIED = 10077  # JSStreamStoreFailedF: maximum messages per subject exceeded
_WRONG_REVISION = (10071, 10164)
_TTL_SECONDS = {Bucket.KEYS: 86400.0, Bucket.WRITES: 86400.0, Bucket.WORKERS: 60.0, Bucket.COORDINATORS: 60.0}
_IDLE_CONSUMER_SECONDS = 7 * 86400.0
_ATTEMPT_SECONDS = 3.0
RECONNECT_SECONDS = 0.2


class NatsEngine:
    """An :class:`~preheat.engine.Engine` on a JetStream connection."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._client: Client
        self._js: JetStreamContext
        self._buckets: dict[Bucket, KeyValue] = {}
        self._reconnected = asyncio.Event()
        self._closing = False
        self.last_error: Exception | None = None
        """What kept it from connecting, for the message that says so."""

    async def open(self, client: Client) -> None:
        """Bind a connection and create the streams and buckets; close it again if cancelled before."""
        self._client = client
        self._js = client.jetstream(timeout=_ATTEMPT_SECONDS)
        try:
            await self._create_insistently()
        except asyncio.CancelledError:
            await client.close()
            raise

    async def _create_insistently(self) -> None:
        while True:
            try:
                await self._create()
            except LOST as error:  # a cluster without a leader yet; connect() holds the deadline
                self.last_error = error
                await asyncio.sleep(RECONNECT_SECONDS)
            else:
                return

    async def _create(self) -> None:
        for queue in Queue:
            await self._js.add_stream(
                name=_stream(queue),
                subjects=[f"{_PREFIX}.{queue}.>"],
                retention=api.RetentionPolicy.WORK_QUEUE,
                discard=api.DiscardPolicy.NEW,
                discard_new_per_subject=True,
                max_msgs_per_subject=1,
                num_replicas=self._settings.replicas,
                storage=api.StorageType.FILE,
            )
        for bucket in Bucket:
            self._buckets[bucket] = await self._js.create_key_value(
                bucket=f"{_PREFIX}_{bucket}",
                ttl=_TTL_SECONDS.get(bucket),
                replicas=self._settings.replicas,
                storage=api.StorageType.FILE,
            )

    async def on_error(self, error: Exception) -> None:
        """Keep the client's every retry out of the log; the loss itself is logged once."""
        log.debug("The engine's connection reports an error.", action="engine_error", error=repr(error))

    async def on_disconnect(self) -> None:
        """Say that the connection is lost; the client looks for it for ever."""
        if not self._closing:
            log.warning("The engine is out of reach; trying again.", action="engine_lost")

    async def on_reconnect(self) -> None:
        """Note that the connection was lost and found: watches start over."""
        log.info("The engine is back.", action="engine_back")
        self._reconnected.set()
        self._reconnected = asyncio.Event()

    async def publish(self, queue: Queue, subject: str, data: bytes) -> bool:
        """Store a message; see :class:`~preheat.engine.Engine`."""
        attempts = 0

        async def attempt() -> bool:
            nonlocal attempts
            attempts += 1
            try:
                await self._js.publish(f"{_PREFIX}.{queue}.{subject}", data, stream=_stream(queue))
            except nats.js.errors.APIError as error:
                if error.err_code != _SUBJECT_OCCUPIED:
                    raise
                # An earlier try may have been stored, and its answer lost.
                return attempts > 1 and await self.peek(queue, subject) == data
            return True

        return await self._insist(attempt)

    async def consume(self, queue: Queue, subject: str, *, name: str, lease_seconds: float) -> Consumer:
        """Bind a durable pull consumer; see :class:`~preheat.engine.Engine`."""

        async def attempt() -> Consumer:
            subscription = await self._js.pull_subscribe(
                f"{_PREFIX}.{queue}.{subject}",
                durable=_consumer(name),
                stream=_stream(queue),
                config=api.ConsumerConfig(
                    ack_wait=lease_seconds, max_ack_pending=10_000, inactive_threshold=_IDLE_CONSUMER_SECONDS
                ),
            )
            return NatsConsumer(subscription)

        return await self._insist(attempt)

    async def forget_consumer(self, queue: Queue, name: str) -> None:
        """Delete a durable consumer; see :class:`~preheat.engine.Engine`."""

        async def attempt() -> None:
            try:
                await self._js.delete_consumer(_stream(queue), _consumer(name))
            except nats.js.errors.NotFoundError:
                return

        await self._insist(attempt)

    async def peek(self, queue: Queue, subject: str) -> bytes | None:
        """Return the message on a subject; see :class:`~preheat.engine.Engine`."""

        async def attempt() -> bytes | None:
            try:
                message = await self._js.get_last_msg(_stream(queue), f"{_PREFIX}.{queue}.{subject}")
            except nats.js.errors.NotFoundError:
                return None
            return bytes(message.data or b"")

        return await self._insist(attempt)

    async def purge(self, queue: Queue, subject: str) -> None:
        """Drop messages; see :class:`~preheat.engine.Engine`."""

        async def attempt() -> None:
            await self._js.purge_stream(_stream(queue), subject=f"{_PREFIX}.{queue}.{subject}")

        await self._insist(attempt)

    async def get(self, bucket: Bucket, key: str) -> Entry | None:
        """Return a key's value; see :class:`~preheat.engine.Engine`."""

        async def attempt() -> Entry | None:
            try:
                entry = await self._buckets[bucket].get(key)
            except nats.js.errors.KeyNotFoundError:
                return None
            return Entry(key=key, value=entry.value or b"", revision=entry.revision or 0)

        return await self._insist(attempt)

    async def put(self, bucket: Bucket, key: str, value: bytes, *, revision: int | None = None) -> int:
        """Write a key; see :class:`~preheat.engine.Engine`."""
        if revision is None:
            return await self._insist(lambda: self._buckets[bucket].put(key, value))
        return await self._compare_and_swap(self._buckets[bucket], key, value, revision)

    async def _compare_and_swap(self, bucket: KeyValue, key: str, value: bytes, revision: int) -> int:
        attempts = 0

        async def attempt() -> int:
            nonlocal attempts
            attempts += 1
            try:
                if revision == 0:
                    return int(await bucket.create(key, value))
                return await bucket.update(key, value, last=revision)
            except nats.js.errors.KeyWrongLastSequenceError as error:
                current = await self._current(bucket, key) if attempts > 1 else None
                if current is not None and current.value == value:  # an earlier try was stored, its answer lost
                    return int(current.revision or 0)
                raise Conflict(f"The key {key!r} was written by another process.") from error

        return await self._insist(attempt)

    async def _current(self, bucket: KeyValue, key: str) -> KeyValue.Entry | None:
        try:
            return await bucket.get(key)
        except nats.js.errors.KeyNotFoundError:
            return None

    async def delete(self, bucket: Bucket, key: str, *, revision: int | None = None) -> None:
        """Remove a key; see :class:`~preheat.engine.Engine`."""
        values, attempts = self._buckets[bucket], 0

        async def attempt() -> None:
            nonlocal attempts
            attempts += 1
            try:
                await (values.purge(key) if revision is None else values.delete(key, last=revision))
            except nats.js.errors.APIError as error:
                if error.err_code not in _WRONG_REVISION:
                    raise
                if attempts == 1 or await self._current(values, key):  # else it was done, and the answer lost
                    raise Conflict(f"The key {key!r} was written by another process.") from error

        await self._insist(attempt)

    async def watch(self, bucket: Bucket) -> AsyncIterator[Entry | None]:
        """Follow a bucket; see :class:`~preheat.engine.Engine`."""
        announced = False
        while not self._client.is_closed:
            try:
                async with aclosing(self._watch_connection(bucket)) as entries:
                    async for entry in entries:
                        if entry is not None or not announced:
                            announced = announced or entry is None
                            yield entry
            except EngineUnavailable as error:
                log.warning("A watch waits for the engine.", action="watch_lost", error=str(error))

    async def _watch_connection(self, bucket: Bucket) -> AsyncGenerator[Entry | None]:
        """Follow a bucket until the connection was lost and found."""
        reconnected = asyncio.create_task(self._reconnected.wait())
        watch = await self._insist(lambda: NatsWatch.open(self._js, f"{_PREFIX}_{bucket}"))
        try:
            while not self._client.is_closed:
                update = asyncio.ensure_future(watch.updates.get())
                await asyncio.wait({update, reconnected}, return_when=asyncio.FIRST_COMPLETED)
                if not update.done():
                    update.cancel()
                    return
                yield update.result()
        finally:
            reconnected.cancel()
            if not self._client.is_closed:
                await watch.close()

    async def close(self) -> None:
        """Disconnect."""
        self._closing = True
        await self._client.close()

    async def _insist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try until ``request_seconds`` pass: an election or a restart of the engine is not an error."""
        error: BaseException | None = None
        try:
            async with asyncio.timeout(self._settings.request_seconds):
                while True:
                    try:
                        return await attempt()
                    except nats.js.errors.APIError as refused:
                        if not _is_temporary(refused):
                            raise
                        error = refused
                    except LOST as lost:
                        error = lost
                    await asyncio.sleep(RECONNECT_SECONDS)
        except TimeoutError as timeout:
            raise EngineUnavailable(
                f"NATS did not acknowledge within {self._settings.request_seconds:.0f} s ({error!r})."
            ) from timeout


def _is_temporary(error: nats.js.errors.APIError) -> bool:
    if isinstance(
        error, nats.js.errors.KeyNotFoundError
    ):  # a refused create looks for the key at a copy that is behind
        return True
    return (error.code or 500) >= 500


def _stream(queue: Queue) -> str:
    return f"{_PREFIX}_{queue}"


def _consumer(name: str) -> str:
    return name.replace(".", "_")
