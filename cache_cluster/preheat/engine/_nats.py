"""The engine on NATS JetStream: one embedded node or a cluster, the same code.

Queues are work-queue streams that refuse a second message on a subject; buckets are JetStream key-value buckets. A
watch starts over after a reconnect, since what expired meanwhile sends no event; its readers take entries as state.
A call goes on over the loss of a server or an election, until ``request_seconds`` have passed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar
from urllib.parse import urlsplit

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext, api
from nats.js.kv import KeyValue

from preheat.engine._base import Bucket, Consumer, Engine, Entry, Queue
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
_TTL_SECONDS = {Bucket.KEYS: 86400.0, Bucket.WORKERS: 60.0}
_IDLE_CONSUMER_SECONDS = 7 * 86400.0
_ATTEMPT_SECONDS = 3.0
_RECONNECT_SECONDS = 0.2
_LOST = (nats.errors.Error, OSError, asyncio.TimeoutError)


async def connect(settings: EngineSettings, *, name: str) -> Engine:
    """Connect, and create what is missing of the streams and buckets.

    ``settings.url`` may name several servers of a cluster, separated by commas; the others are learnt from them.

    Raises:
        EngineUnavailable: nothing answers within ``settings.connect_seconds``, or nothing that can do what is asked.
    """
    engine = NatsEngine(settings)
    try:
        async with asyncio.timeout(settings.connect_seconds):
            await engine.open(await _connect_until_answered(settings.url, engine, name))
    except TimeoutError as error:
        await engine.close()
        raise EngineUnavailable(
            f"NATS did not answer within {settings.connect_seconds:.0f} s ({engine.last_error!r})."
        ) from error
    return engine


async def _connect_until_answered(url: str, engine: NatsEngine, name: str) -> Client:
    while True:
        try:
            return await nats.connect(
                **_servers_and_credentials(url),
                connect_timeout=2,
                max_reconnect_attempts=-1,
                reconnect_time_wait=_RECONNECT_SECONDS,
                ping_interval=5,
                max_outstanding_pings=2,
                name=name,
                error_cb=engine.on_error,
                disconnected_cb=engine.on_disconnect,
                reconnected_cb=engine.on_reconnect,
            )
        except (nats.errors.NoServersError, OSError) as error:
            engine.last_error = error
            await asyncio.sleep(_RECONNECT_SECONDS)


def _servers_and_credentials(url: str) -> dict[str, Any]:
    """Take the credentials out of the URLs: servers that the client learns of later are given them too."""
    parts = [urlsplit(part.strip()) for part in url.split(",")]
    options: dict[str, Any] = {"servers": [part._replace(netloc=part.netloc.rpartition("@")[2]).geturl() for part in parts]}
    named = next((part for part in parts if part.username), None)
    if named is None:
        return options
    if named.password is None:
        return options | {"token": named.username}
    return options | {"user": named.username, "password": named.password}


class NatsEngine:
    """An :class:`~preheat.engine.Engine` on a JetStream connection."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._client: Client
        self._js: JetStreamContext
        self._buckets: dict[Bucket, KeyValue] = {}
        self._reconnected = asyncio.Event()

    async def open(self, client: Client) -> None:
        """Bind a connection and create the streams and buckets."""
        self._client = client
        self._js = client.jetstream(timeout=_ATTEMPT_SECONDS)
        while True:
            try:
                await self._create()
            except _LOST as error:  # a cluster without a leader yet; connect() holds the deadline
                log.info("Waiting for JetStream.", action="engine_wait", error=repr(error))
                await asyncio.sleep(_RECONNECT_SECONDS)
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
        log.warning("The engine is out of reach; trying again.", action="engine_lost")

    async def on_reconnect(self) -> None:
        """Note that the connection was lost and found: watches start over."""
        log.info("The engine is back.", action="engine_back")
        self._reconnected.set()
        self._reconnected = asyncio.Event()

    async def publish(self, queue: Queue, subject: str, data: bytes) -> bool:
        """Store a message; see :class:`~preheat.engine.Engine`."""

        async def attempt() -> bool:
            try:
                await self._js.publish(f"{_PREFIX}.{queue}.{subject}", data, stream=_stream(queue))
            except nats.js.errors.APIError as error:
                if error.err_code != _SUBJECT_OCCUPIED:
                    raise
                return False
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
            return _NatsConsumer(subscription)

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

    async def delete(self, bucket: Bucket, key: str) -> None:
        """Remove a key; see :class:`~preheat.engine.Engine`."""
        await self._insist(lambda: self._buckets[bucket].purge(key))

    async def watch(self, bucket: Bucket) -> AsyncIterator[Entry | None]:
        """Follow a bucket; see :class:`~preheat.engine.Engine`."""
        announced = False
        while not self._client.is_closed:
            try:
                async for entry in self._watch_connection(bucket):
                    if entry is not None or not announced:
                        announced = announced or entry is None
                        yield entry
            except EngineUnavailable as error:
                log.warning("A watch waits for the engine.", action="watch_lost", error=str(error))

    async def _watch_connection(self, bucket: Bucket) -> AsyncIterator[Entry | None]:
        """Follow a bucket until the connection was lost and found."""
        reconnected = asyncio.create_task(self._reconnected.wait())
        watcher = await self._insist(self._buckets[bucket].watchall)
        try:
            while not self._client.is_closed:
                update = asyncio.ensure_future(watcher._updates.get())  # noqa: SLF001 - updates() hides the end mark
                await asyncio.wait({update, reconnected}, return_when=asyncio.FIRST_COMPLETED)
                if not update.done():
                    update.cancel()
                    return
                entry = update.result()
                yield None if entry is None else _entry(entry)
        finally:
            reconnected.cancel()
            if not self._client.is_closed:
                await watcher.stop()  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """Disconnect."""
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
                    except _LOST as lost:
                        error = lost
                    await asyncio.sleep(_RECONNECT_SECONDS)
        except TimeoutError as timeout:
            raise EngineUnavailable(
                f"NATS did not acknowledge within {self._settings.request_seconds:.0f} s ({error!r})."
            ) from timeout


def _is_temporary(error: nats.js.errors.APIError) -> bool:
    return (error.code or 500) >= 500


def _stream(queue: Queue) -> str:
    return f"{_PREFIX}_{queue}"


def _consumer(name: str) -> str:
    return name.replace(".", "_")


def _entry(entry: Any) -> Entry:
    return Entry(key=entry.key, value=None if entry.operation else entry.value or b"", revision=entry.revision or 0)


class _NatsConsumer:
    def __init__(self, subscription: JetStreamContext.PullSubscription) -> None:
        self._subscription = subscription

    async def pull(self, count: int, timeout: float) -> Sequence[Lease]:  # noqa: ASYNC109 - part of a pull request
        try:
            messages = await self._subscription.fetch(count, timeout=timeout)
        except TimeoutError:
            return ()
        except _LOST as error:
            raise EngineUnavailable(f"NATS refused a pull ({error!r}).") from error
        return [_NatsLease(message) for message in messages]

    async def close(self) -> None:
        await self._subscription.unsubscribe()


class _NatsLease:
    def __init__(self, message: Msg) -> None:
        self._message = message
        self.subject = message.subject.split(".", 2)[2]
        self.data = message.data

    async def ack(self) -> None:
        await self._send(self._message.ack())

    async def renew(self) -> None:
        await self._send(self._message.in_progress())

    async def release(self, delay: float = 0) -> None:
        await self._send(self._message.nak(delay=delay or None))

    async def _send(self, call: Awaitable[None]) -> None:
        try:
            await call
        except _LOST as error:
            raise EngineUnavailable(f"NATS did not take an acknowledgement ({error!r}).") from error
