"""What the pages ask a coordinator, on the server: the browser gets neither its address nor the token."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar, cast

from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_preheat import _client
from airflow_preheat._client import Call
from airflow_preheat._dialects import Talk
from airflow_preheat.async_hooks import PreheatAsyncHook
from airflow_preheat.exceptions import (
    PreheatError,
    PreheatJobNotFoundError,
    PreheatRequestError,
    PreheatUnavailableError,
)
from airflow_preheat.hooks import PreheatHook
from airflow_preheat.ui._tasks import TaskJob

T = TypeVar("T")
ANSWER_SECONDS = 10.0
"""How long a page waits for a coordinator at most."""
_WARMTH_SECONDS = 6.0
_WARMTHS_AT_ONCE = 4
SHOWN_JOBS = 20
SHOWN_DATASETS = 50
_UNENDED = "state=WAITING&state=RUNNING&state=VERIFYING"


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """What a cluster does now."""

    workers: list[dict[str, Any]]
    unended: list[dict[str, Any]]
    """Jobs that have not ended."""
    recent: list[dict[str, Any]]
    """The last jobs, these among them."""


class CacheHook(PreheatAsyncHook):
    """Reads what a page shows; it does not try again, since the page does."""

    async def overview(self) -> Overview:
        """Return the workers, the jobs that have not ended, and the last ones of all."""
        await self._check_native()
        workers, unended, recent = await asyncio.gather(
            self._read("/v1/workers"),
            self._read(f"/v1/jobs?{_UNENDED}&limit={SHOWN_JOBS}"),
            self._read(f"/v1/jobs?limit={SHOWN_JOBS}"),
        )
        return Overview(workers=workers["workers"], unended=unended["jobs"], recent=recent["jobs"])

    async def kept_datasets(self) -> list[dict[str, Any]]:
        """Return the datasets that the coordinator keeps warm by itself; none if it is too old to know of such."""
        await self._check_native()
        call = Call(method="GET", path="/v1/datasets")
        reply = await self._talk(_answer(call))
        if reply.status == HTTPStatus.NOT_FOUND:
            return []
        return cast("list[dict[str, Any]]", _client.decode(self._endpoint, call, reply)["datasets"])

    async def jobs_of(self, task: TaskJob) -> list[dict[str, Any]]:
        """Return the jobs of a task.

        Raises:
            PreheatJobNotFoundError: the coordinator does not know its only job; of several, those are left out.
        """
        await self.dialect()  # once, and not once for each
        found = await asyncio.gather(*(self._job(job_id) for job_id in task.job_ids[:SHOWN_JOBS]))
        if len(found) == 1 and isinstance(found[0], PreheatError):
            raise found[0]
        return [job for job in found if not isinstance(job, PreheatError)]

    async def warmths(self, paths: list[str]) -> dict[str, dict[str, Any] | PreheatError]:
        """Return how warm these paths are, or why that is not known: to say it, workers look at every object."""
        turns = asyncio.Semaphore(_WARMTHS_AT_ONCE)
        answers = await asyncio.gather(*(self._warmth(path, turns) for path in paths))
        return dict(zip(paths, answers, strict=True))

    async def _job(self, job_id: str) -> dict[str, Any] | PreheatJobNotFoundError:
        try:
            return cast("dict[str, Any]", await self.get_job(job_id))
        except PreheatJobNotFoundError as error:
            return error

    async def _warmth(self, path: str, turns: asyncio.Semaphore) -> dict[str, Any] | PreheatError:
        try:
            async with asyncio.timeout(_WARMTH_SECONDS), turns:
                return cast("dict[str, Any]", await self.warmth(path))
        except TimeoutError:
            return PreheatUnavailableError(f"not counted within {_WARMTH_SECONDS:.0f} s")
        except PreheatError as error:
            return error

    async def _read(self, path: str) -> dict[str, Any]:
        call = Call(method="GET", path=path)
        return _client.decode(self._endpoint, call, await self._talk(_answer(call)))

    async def _check_native(self) -> None:
        if (await self.dialect()).name != "preheat":
            raise PreheatRequestError(
                f"The Airflow connection {self.preheat_conn_id!r} leads to an Alluxio, which does not tell this. "
                "The tab Preheat of a task shows the job of that task."
            )

    async def _deliver(self, call: _client.Call) -> _client.Reply:
        return _client.available(self._endpoint, call, await self._exchange(call))


async def ask(conn_id: str, question: Callable[[CacheHook], Awaitable[T]]) -> T:
    """Return the answer of the coordinator that an Airflow connection leads to.

    Raises:
        PreheatRequestError: there is no such connection of the type ``preheat``.
        PreheatUnavailableError: there was no answer within ``ANSWER_SECONDS``.
        PreheatError: any other error of the coordinator.
    """
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await _check_type(conn_id)
            async with CacheHook(conn_id) as hook:
                return await question(hook)
    except TimeoutError as error:
        raise PreheatUnavailableError(
            f"The coordinator of the Airflow connection {conn_id!r} did not answer within {ANSWER_SECONDS:.0f} s. "
            "Try the connection with `airflow connections test`."
        ) from error


async def _check_type(conn_id: str) -> None:
    try:
        connection = await get_async_connection(conn_id)
    except AirflowNotFoundException as error:
        raise PreheatRequestError(
            f"There is no Airflow connection {conn_id!r}. Add it under Admin, Connections, with the type Preheat."
        ) from error
    if connection.conn_type != PreheatHook.conn_type:
        raise PreheatRequestError(
            f"The Airflow connection {conn_id!r} is of the type {connection.conn_type!r} and not 'preheat'."
        )


def _answer(call: Call) -> Talk[_client.Reply]:
    return (yield call)
