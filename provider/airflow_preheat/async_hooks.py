"""The coordinator's API for triggers: :mod:`airflow_preheat.hooks` without a blocking call."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from itertools import count
from types import TracebackType
from typing import Self, TypeVar, cast

import aiohttp
from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import BaseHook

from airflow_preheat import _client, _datasets
from airflow_preheat._dialects import Dialect, Talk, choose
from airflow_preheat._endpoint import DEFAULT_CONN_ID, Endpoint
from airflow_preheat._events import Subscription, subscribed
from airflow_preheat._looks import Finding, Listed, Look, Warmth, ask_inventories, ask_warmth
from airflow_preheat._watch import JobEvent, JobWatch
from airflow_preheat.exceptions import PreheatError, PreheatUnavailableError
from airflow_preheat.jobs import Claim, Job, progress

T = TypeVar("T")


class PreheatAsyncHook(BaseHook):
    """Speaks to a Preheat coordinator, or to that of an Alluxio, from an event loop; use it with ``async with``.

    Args:
        preheat_conn_id: the Airflow connection of the coordinator.
    """

    def __init__(self, preheat_conn_id: str = DEFAULT_CONN_ID) -> None:
        super().__init__()
        self.preheat_conn_id = preheat_conn_id
        self._dialect: Dialect | None = None
        self._subscription: Subscription | None = None

    async def __aenter__(self) -> Self:
        self._endpoint = Endpoint.from_connection(await get_async_connection(self.preheat_conn_id))
        self._ssl = await _tls(self._endpoint)
        connector = aiohttp.TCPConnector(ssl=self._ssl)
        self._session = aiohttp.ClientSession(connector=connector, trust_env=False)
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def wait_for_job(self, watch: JobWatch) -> JobEvent:
        """Claim a job; wait until it has ended, the deadline has passed or the coordinator is away for too long.

        All that wait in one event loop share a stream of what the coordinator tells of its jobs.
        """
        async with AsyncExitStack() as stack:
            while (wait := watch.next_poll(asked_at := time.time())) is not None:
                try:
                    job = await self._look(watch, wait, stack)
                    event = watch.seen(job, long_poll=(await self.dialect()).long_poll) if job else None
                except PreheatError as error:
                    event = watch.missed(error, time.time())
                else:
                    self._tell(watch, job)
                if event is not None:
                    return event
                await asyncio.sleep(watch.pause(asked_at, time.time()))
        return watch.expired()

    def _tell(self, watch: JobWatch, job: Job | None) -> None:
        if job is None:
            return
        self.log.info("Preheat job %s is %s", job["id"], progress(job))
        if warning := watch.warning(job):
            self.log.warning(warning)

    async def dialect(self) -> Dialect:
        """Return how the coordinator wants to be spoken to; see :attr:`airflow_preheat.hooks.PreheatHook.dialect`."""
        if self._dialect is None:
            self._dialect = await self._talk(choose(self._endpoint))
        return self._dialect

    async def get_job(
        self, job_id: str, *, wait: float = 0.0, after: int | None = None, first: int | None = None
    ) -> Job:
        """Return a job; see :meth:`airflow_preheat.hooks.PreheatHook.get_job`."""
        return await self._talk((await self.dialect()).get_job(job_id, wait=wait, after=after, first=first))

    async def claim(self, claim: Claim) -> Job:
        """Wait for a job from now on; see :meth:`airflow_preheat.hooks.PreheatHook.claim`."""
        return await self._talk((await self.dialect()).claim(claim))

    async def renew(self, claim: Claim) -> Job:
        """Let a claim's lease begin anew; see :meth:`airflow_preheat.hooks.PreheatHook.renew`."""
        return await self._talk((await self.dialect()).renew(claim))

    async def cancel(self, claim: Claim) -> Job:
        """Wait for a job no longer; see :meth:`airflow_preheat.hooks.PreheatHook.cancel`."""
        return await self._talk((await self.dialect()).cancel(claim))

    async def look(self, look: Look, *, wait: float = 0.0) -> Finding:
        """Return how things stand; see :meth:`airflow_preheat.hooks.PreheatHook.look`."""
        return await self._talk(look.talk(self._endpoint, await self.dialect(), wait))

    async def inventories(self) -> list[Listed]:
        """Return what the last loads listed, and what is pinned."""
        return await self._talk(ask_inventories(self._endpoint, await self.dialect()))

    async def warmth(self, path: str, *, version: str | None = None) -> Warmth:
        """Return how warm a dataset is; see :meth:`airflow_preheat.hooks.PreheatHook.warmth`."""
        return await self._talk(ask_warmth(self._endpoint, await self.dialect(), path, version))

    async def drift(self, path: str) -> _datasets.Drift:
        """Return how a dataset differs; see :meth:`airflow_preheat.hooks.PreheatHook.drift`."""
        return await self._talk(_datasets.drift(self._endpoint, await self.dialect(), path))

    async def _look(self, watch: JobWatch, wait: float, stack: AsyncExitStack) -> Job | None:
        job_id, now = watch.claim.job_id, time.time()
        if not watch.claimed or watch.must_renew(now):
            job = await (self.renew(watch.claim) if watch.claimed else self.claim(watch.claim))
            watch.held(now)
            return job
        if not (await self.dialect()).events:
            return await self.get_job(job_id, wait=wait, after=_client.UNTIL_ENDED, first=watch.wait.first)
        if self._subscription is None:
            subscription = subscribed(self._endpoint, job_id, lambda: aiohttp.TCPConnector(ssl=self._ssl))
            self._subscription = await stack.enter_async_context(subscription)

        def read(seconds: float) -> Awaitable[Job]:
            return self.get_job(job_id, wait=seconds, after=_client.UNTIL_ENDED, first=watch.wait.first)

        return await self._subscription.next(read, wait, watch.ends)

    async def _talk(self, talk: Talk[T]) -> T:
        """Send what a dialect asks for until it has its answer."""
        try:
            call = next(talk)
            while True:
                call = talk.send(await self._deliver(call))
        except StopIteration as end:
            return cast("T", end.value)

    async def _deliver(self, call: _client.Call) -> _client.Reply:
        for attempt in count():
            try:
                return _client.available(self._endpoint, call, await self._exchange(call))
            except PreheatUnavailableError as error:
                delay = _client.retry_delay(call, attempt)
                if delay is None:
                    raise
                self.log.warning("%s Trying again in %s s.", error, delay)
            await asyncio.sleep(delay)
        raise AssertionError("count() has no end")

    async def _exchange(self, call: _client.Call) -> _client.Reply:
        endpoint = self._endpoint
        timeout = aiohttp.ClientTimeout(
            total=endpoint.request_timeout + call.wait, sock_connect=endpoint.connect_timeout
        )
        try:
            async with self._session.request(
                call.method,
                f"{endpoint.url}{call.path}",
                params=call.query,
                json=call.body,
                headers=_client.headers(endpoint, call),
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                body = await response.read()
                return _client.Reply(status=response.status, reason=response.reason or "", body=body)
        except (aiohttp.ClientError, OSError) as error:
            raise _client.unreachable(endpoint, error) from error


async def _tls(endpoint: Endpoint) -> ssl.SSLContext | bool:
    if not endpoint.verify_tls:
        return False
    if endpoint.ca_cert is None:
        return True
    try:
        return await asyncio.to_thread(ssl.create_default_context, cafile=endpoint.ca_cert)
    except OSError as error:
        raise _client.unreachable(endpoint, OSError(f"ca_cert: {error.strerror or error}")) from error
