"""One stream of a coordinator's events for all triggers of a process: a thousand that wait cost it one connection.

A trigger that waits by :class:`Subscription` sends nothing while its job goes on, but what renews its claim. The
stream tells of changes only, so the job is asked for once after each connection. While there is none, triggers poll,
and notice that nobody answers.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import TypeAlias
from weakref import WeakKeyDictionary

import aiohttp

from airflow_preheat import _client
from airflow_preheat._endpoint import Endpoint
from airflow_preheat.jobs import Job

log = logging.getLogger(__name__)
Read: TypeAlias = Callable[[float], Awaitable[Job]]

_SILENCE = 45.0
"""Seconds without a byte after which a connection is given up; a coordinator sends something every 15."""
_MIN_RETRY, _MAX_RETRY = 1.0, 15.0
_NO_CONNECTION = 0


class JobEvents:
    """Keeps one connection to ``/v1/events`` while anybody is subscribed."""

    def __init__(self, endpoint: Endpoint, connector: Callable[[], aiohttp.TCPConnector]) -> None:
        self.connection = _NO_CONNECTION
        """The number of the present connection, another one each time; 0 while there is none."""
        self.subscriptions: defaultdict[str, set[Subscription]] = defaultdict(set)
        self.settled = asyncio.Event()
        """Set once the first attempt to connect has come to something."""
        self._endpoint = endpoint
        self._connector = connector
        self._connections = 0
        self._reader = asyncio.create_task(self._read(), name=f"preheat-events-{endpoint.conn_id}")

    async def close(self) -> None:
        """End the connection."""
        self._reader.cancel()
        await asyncio.wait([self._reader])

    async def _read(self) -> None:
        delay = _MIN_RETRY
        async with aiohttp.ClientSession(connector=self._connector(), trust_env=False) as session:
            while True:
                before = self._connections
                try:
                    if not await self._follow(session):
                        return
                except (aiohttp.ClientError, OSError, ValueError) as error:
                    log.debug("The events of %s broke off: %r", self._endpoint.url, error)
                finally:
                    self._disconnected()
                delay = _MIN_RETRY if self._connections > before else min(2 * delay, _MAX_RETRY)
                await asyncio.sleep(delay)

    async def _follow(self, session: aiohttp.ClientSession) -> bool:
        """Hand out what one connection tells; return whether another one may tell more."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._endpoint.connect_timeout, sock_read=_SILENCE)
        call = _client.Call(method="GET", path="/v1/events")
        headers = _client.headers(self._endpoint, call) | {"Accept": "text/event-stream"}
        url = f"{self._endpoint.url}{call.path}"
        async with session.get(url, headers=headers, timeout=timeout, allow_redirects=False) as response:
            if response.status != HTTPStatus.OK:
                return response.status >= HTTPStatus.INTERNAL_SERVER_ERROR
            self._connections += 1
            self.connection = self._connections
            self.settled.set()
            async for name, data in _parse(response.content.iter_any()):
                self._hand_out(name, data)
        return True

    def _hand_out(self, name: str, data: bytes) -> None:
        if name not in {"job", "job-gone"}:
            return
        job = json.loads(data)
        for subscription in self.subscriptions.get(job["id"], ()):
            subscription.tell(job if name == "job" else None)

    def _disconnected(self) -> None:
        self.connection = _NO_CONNECTION
        self.settled.set()
        for subscriptions in self.subscriptions.values():
            for subscription in subscriptions:
                subscription.tell(None)


class Subscription:
    """What one trigger is told of one job."""

    def __init__(self, events: JobEvents) -> None:
        self._events = events
        self._read_on = _NO_CONNECTION
        """During which connection the job was last asked for: the connection tells what has changed since."""
        self._latest: Job | None = None
        self._told = asyncio.Event()

    def tell(self, job: Job | None) -> None:
        """Take news: the job as it is now, or that it has to be asked for."""
        self._latest = job
        if job is None:
            self._read_on = _NO_CONNECTION
        self._told.set()

    async def next(self, read: Read, seconds: float, urgent: Callable[[Job], bool]) -> Job | None:
        """Return the job as soon as it is urgent, or as it is after so many seconds; ``None`` if nothing has changed.

        Args:
            read: asks the coordinator for the job, which may wait so many seconds before it answers.
            seconds: how long to wait.
            urgent: whether a state of the job is worth being told at once.
        """
        connection = self._events.connection
        if connection != _NO_CONNECTION and connection == self._read_on:
            return await self._news(seconds, urgent)
        self._latest = None
        job = await read(0.0 if connection else seconds)
        self._read_on = connection
        return job

    async def _news(self, seconds: float, urgent: Callable[[Job], bool]) -> Job | None:
        with suppress(TimeoutError):  # what has come until then will do
            async with asyncio.timeout(seconds):
                while self._latest is None or not urgent(self._latest):
                    if self._read_on == _NO_CONNECTION:
                        break
                    self._told.clear()
                    await self._told.wait()
        latest, self._latest = self._latest, None
        return latest


_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Endpoint, JobEvents]] = WeakKeyDictionary()


@asynccontextmanager
async def subscribed(
    endpoint: Endpoint, job_id: str, connector: Callable[[], aiohttp.TCPConnector]
) -> AsyncIterator[Subscription]:
    """Be told of a job, by the connection that others in this event loop have to the same coordinator, or a new one."""
    shared = _shared.setdefault(asyncio.get_running_loop(), {})
    if endpoint not in shared:
        shared[endpoint] = JobEvents(endpoint, connector)
    events, subscription = shared[endpoint], Subscription(shared[endpoint])
    events.subscriptions[job_id].add(subscription)
    try:
        with suppress(TimeoutError):  # then it polls until there is a connection
            await asyncio.wait_for(events.settled.wait(), endpoint.connect_timeout)
        yield subscription
    finally:
        events.subscriptions[job_id].discard(subscription)
        if not events.subscriptions[job_id]:
            del events.subscriptions[job_id]
        if not events.subscriptions:
            del shared[endpoint]
            await events.close()


async def _parse(chunks: AsyncIterator[bytes]) -> AsyncIterator[tuple[str, bytes]]:
    """Yield the name and the data of each event of a stream; comments have neither."""
    rest = b""
    async for chunk in chunks:
        *events, rest = (rest + chunk).split(b"\n\n")
        for event in events:
            lines = (line.partition(b": ") for line in event.splitlines())
            fields = {name: value for name, _, value in lines if name}
            if b"event" in fields and b"data" in fields:
                yield fields[b"event"].decode(), fields[b"data"]
