"""Many reads by few requests: each worker is asked for all that it owns, and answers with a stream of frames."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from http import HTTPStatus
from typing import Any, Protocol

from preheat.batch_read import Frame, Read
from preheat.errors import NoLiveWorker, PreheatError, Unavailable
from preheat.fs._demand import Demand
from preheat.fs._reader import Outcome
from preheat.placement import Member

LEAST_READS = 8
"""For fewer a request each is as cheap: level for 3 objects of 4 KiB, or 6 of 100 KiB, from one worker."""
_READS = 1000
"""Reads in one request: enough for the request itself to cost nothing, and few to ask for again when it breaks."""
_REQUESTS = 8
"""Requests under way at once."""
_GETS = 32
"""Objects too large for a batch that are read at once."""
_PAUSE_SECONDS = 0.1
_SUCCESS = {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}


class NoBatches(Exception):
    """A worker has no endpoint for batches."""


class Workers(Protocol):
    """What a batch needs of the client."""

    async def shares(self, paths: Sequence[str]) -> Sequence[tuple[Member, Sequence[int]]]:
        """Return whom to ask for some paths, each with the positions of its own; raises if there is nobody."""
        ...

    def ask_batch(self, member: Member, reads: Sequence[Read], demand: Demand) -> AsyncIterator[Sequence[Frame]]:
        """Ask a worker, and yield the frames of its answer as they come.

        Raises:
            NoBatches: it answers none. PreheatError: it refuses the batch as a whole. Unavailable: it does not answer,
                or breaks off.
        """
        ...

    def suspect(self, member: Member) -> None:
        """Ask others than this worker for a while."""
        ...

    async def read(self, read: Read, demand: Demand) -> bytes:
        """Read by a request of its own; raises as the data port answers."""
        ...


class BatchRead:
    """Some reads, and what became of them.

    Args:
        workers: who is asked.
        reads: what is wanted. Of what begins behind an object's end the bytes are none.
        demand: how fresh it has to be.
        attempts: how often a read is asked for that no worker answered.
    """

    def __init__(self, workers: Workers, reads: Sequence[Read], demand: Demand, *, attempts: int) -> None:
        self._workers = workers
        self._reads = reads
        self._demand = demand
        self._attempts = attempts
        self._outcomes: list[Outcome | None] = [None] * len(reads)
        self._large: list[int] = []
        """Positions of the reads that a batch does not answer."""
        self._last: PreheatError | None = None
        """Why a worker left reads unanswered."""

    async def run(self) -> list[Outcome]:
        """Return each read's bytes, or why there are none."""
        missing = list(range(len(self._reads)))
        for attempt in range(self._attempts):
            if not missing:
                break
            await asyncio.sleep(_PAUSE_SECONDS * attempt)
            await self._try(missing)
            await _limited(_GETS, [self._get(index) for index in self._large])
            self._large = []
            missing = [index for index in missing if self._outcomes[index] is None]
        return [outcome if outcome is not None else self._unanswered(i) for i, outcome in enumerate(self._outcomes)]

    async def _try(self, missing: Sequence[int]) -> None:
        try:
            shares = await self._workers.shares([self._reads[index].path for index in missing])
        except PreheatError as error:
            self._fail(missing, error)
            return
        requests = [
            self._ask(member, [missing[position] for position in own[start : start + _READS]])
            for member, own in shares
            for start in range(0, len(own), _READS)
        ]
        await _limited(_REQUESTS, requests)

    async def _ask(self, member: Member, indexes: Sequence[int]) -> None:
        try:
            reads = [self._reads[index] for index in indexes]
            async for frames in self._workers.ask_batch(member, reads, self._demand):
                for frame in frames:
                    self._take(indexes[frame.index], frame)
        except NoBatches:
            self._large += indexes
        except Unavailable as error:
            self._last = error
        except PreheatError as error:
            self._fail(indexes, error)
        large = set(self._large)
        if any(self._outcomes[index] is None for index in indexes if index not in large):
            self._workers.suspect(member)

    def _take(self, index: int, frame: Frame) -> None:
        if frame.status in _SUCCESS:
            self._outcomes[index] = frame.body
        elif frame.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # it begins behind the end
            self._outcomes[index] = b""
        elif frame.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            self._large.append(index)
        elif frame.status == HTTPStatus.SERVICE_UNAVAILABLE:  # this worker stops
            self._last = frame.problem
        else:
            self._outcomes[index] = frame.problem

    async def _get(self, index: int) -> None:
        try:
            self._outcomes[index] = await self._workers.read(self._reads[index], self._demand)
        except PreheatError as error:
            self._outcomes[index] = error

    def _fail(self, indexes: Iterable[int], error: PreheatError) -> None:
        for index in indexes:
            if self._outcomes[index] is None:
                self._outcomes[index] = error

    def _unanswered(self, index: int) -> NoLiveWorker:
        return NoLiveWorker(f"path='{self._reads[index].path}': no worker answers: {self._last!r}.")


async def _limited(limit: int, calls: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run coroutines, some at a time."""
    turns = asyncio.Semaphore(limit)

    async def in_turn(call: Coroutine[Any, Any, None]) -> None:
        async with turns:
            await call

    async with asyncio.TaskGroup() as tasks:
        for call in calls:
            tasks.create_task(in_turn(call))
