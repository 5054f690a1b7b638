"""Batches of jobs with a bandwidth limit: what waits for bytes waits beside the others, and holds little memory."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from dataclasses import dataclass, field

from preheat.jobs import Action, Batch
from preheat.versions import ObjectInfo
from preheat.worker._intake import HeldBatch

_MOST_BATCHES = 8
"""Of limited jobs, in work at once beside the others."""
_ROOM = 64 << 20
"""Bytes that they hold in memory while these wait to be paid for; a page store holds an object up to 4 MiB."""
_MOST_HELD = 4 << 20
_SECONDS_AHEAD = 0.25
"""How far ahead of the limit its fetches are: longer than most objects take to come."""
_BRINGS = frozenset({Action.FETCH, Action.REBALANCE, Action.PERSIST})
_ENTRIES_A_TURN = 16
"""Of a batch that a lane does with one permit, while others wait for theirs."""
_BYTES_A_TURN = 1 << 20
"""The same: one that is larger is the last one."""
_LINE_BYTES = 1 << 20
"""Of batches that stand in one job's line."""


class Permits:
    """The fetches that one batch may have under way: of those that all share, until it steps aside with its own.

    Args:
        shared: the permits that all batches share.
    """

    def __init__(self, shared: asyncio.Semaphore) -> None:
        self._present = shared
        self._taken = 0
        self.stepped_aside: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def take(self) -> asyncio.Semaphore:
        """Wait for a permit; :meth:`give_back` takes what is returned."""
        while True:
            permits = self._present
            await permits.acquire()
            if permits is self._present:
                self._taken += 1
                return permits
            permits.release()

    def has(self, permits: asyncio.Semaphore) -> bool:
        """Whether a permit that was taken still counts: it does until the batch steps aside."""
        return permits is self._present

    def give_back(self, permits: asyncio.Semaphore) -> None:
        """Give back a permit, unless that was done when the batch stepped aside."""
        if permits is self._present:
            self._taken -= 1
            permits.release()

    def step_aside(self, lanes: int) -> None:
        """Give back what is taken of the shared permits, and have ``lanes`` permits from now on; only once."""
        for _ in range(self._taken):
            self._present.release()
        self._present, self._taken = asyncio.Semaphore(lanes), 0
        self.stepped_aside.set_result(None)

    def widen(self, lanes: int) -> None:
        """Have more permits, after it has stepped aside."""
        for _ in range(lanes):
            self._present.release()


class Lane:
    """What does a batch's entries one after the other.

    It keeps its permit for a few of them, if they are small: to wait for a permit each would cost a small object dear.

    Args:
        permits: of the batch.
    """

    def __init__(self, permits: Permits) -> None:
        self._permits = permits
        self._held: asyncio.Semaphore | None = None
        self._left = 0

    async def begin(self, entry: ObjectInfo) -> None:
        """Wait for a permit, unless the one that is held is for this entry, too."""
        if self._held is not None and (self._left <= 0 or not self._permits.has(self._held)):
            self.leave()
        if self._held is None:
            self._held, self._left = await self._permits.take(), _BYTES_A_TURN
        self._left -= _BYTES_A_TURN // _ENTRIES_A_TURN + entry.size

    def leave(self) -> None:
        """Give the permit back, if one is held."""
        if self._held is not None:
            self._permits.give_back(self._held)
            self._held = None


@dataclass(kw_only=True, eq=False)
class Work:
    """A batch in work."""

    batch: Batch
    permits: Permits
    lanes: int = 0
    """Permits of its own, once it has stepped aside."""
    ending: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """Done when all entries that are left have a permit."""
    _left: int = field(init=False)

    def __post_init__(self) -> None:
        self._left = len(self.batch.entries)

    def note_done(self) -> None:
        """Note that an entry is done."""
        self._left -= 1
        if self._left <= self.lanes and not self.ending.done():
            self.ending.set_result(None)

    @property
    def is_aside(self) -> bool:
        """Whether it has stepped aside."""
        return self.permits.stepped_aside.done()


class LimitedBatches:
    """Which batches of limited jobs are in work, and which wait in their job's line. Does no work itself.

    Args:
        most_lanes: fetches at once of one batch, at most.
    """

    def __init__(self, most_lanes: int) -> None:
        self._most_lanes = most_lanes
        self._lines: dict[str, deque[HeldBatch]] = {}
        self._in_work: defaultdict[str, list[Work]] = defaultdict(list)
        self._room = _ROOM

    def concerns(self, batch: Batch) -> bool:
        """Whether a limited job's batch is likely to wait for bytes; copies may pass this worker by, for instance."""
        return batch.action in _BRINGS or batch.job_id in self._in_work

    def add(self, held: HeldBatch) -> bool:
        """Put a batch into its job's line; false if that is too long."""
        line = self._lines.get(held.job_id, ())
        if line and sum(len(other.data) for other in line) + len(held.data) > _LINE_BYTES:
            return False
        self._lines.setdefault(held.job_id, deque()).append(held)
        return True

    def next(self) -> HeldBatch | None:
        """Take the batch that is to be begun now; jobs of one priority take turns."""
        if sum(map(len, self._in_work.values())) >= _MOST_BATCHES:
            return None
        heads = [line[0] for job_id, line in self._lines.items() if self._may_begin(job_id)]
        first = min(heads, key=lambda held: held.rank, default=None)
        if first is not None:
            self._lines[first.job_id].popleft()
            if not self._lines[first.job_id]:
                del self._lines[first.job_id]
        return first

    def _may_begin(self, job_id: str) -> bool:
        """Whether nothing of a job is in work but the last entries of a batch, which no time is to be lost with."""
        in_work = self._in_work.get(job_id, ())
        return not in_work or (len(in_work) == 1 and in_work[0].ending.done())

    def begin(self, work: Work, rate: float) -> None:
        """Let a batch step aside, with as many lanes as ``rate`` bytes per second need and memory has room for."""
        self._in_work[work.batch.job_id].append(work)
        work.lanes = self._reserve(work.batch, self._lanes_for(work.batch, rate))
        work.permits.step_aside(work.lanes)

    def quicken(self, job_id: str, rate: float) -> None:
        """Give the batches of a job more lanes if its limit was raised."""
        for work in self._in_work.get(job_id, ()):
            if (missing := self._lanes_for(work.batch, rate) - work.lanes) > 0:
                more = self._reserve(work.batch, missing)
                work.lanes += more
                work.permits.widen(more)

    def end(self, work: Work) -> None:
        """Note that a batch is not in work any more."""
        others = self._in_work[work.batch.job_id]
        others.remove(work)
        if not others:
            del self._in_work[work.batch.job_id]
        if line := self._lines.pop(work.batch.job_id, None):
            self._lines[work.batch.job_id] = line  # behind those that wait
        self._room += work.lanes * _held_bytes(work.batch)

    def take_line(self, job_id: str) -> list[HeldBatch]:
        """Take all that waits in a job's line."""
        return list(self._lines.pop(job_id, ()))

    def drop_lines(self) -> None:
        """Leave what waits to others."""
        for job_id in tuple(self._lines):
            for held in self.take_line(job_id):
                held.drop()

    def _lanes_for(self, batch: Batch, rate: float) -> int:
        """Return how many fetches at once bring ``rate`` bytes per second: one pays while the others come."""
        mean = max(1.0, batch.tally.bytes / max(1, len(batch.entries)))
        return 1 + int(min(rate * _SECONDS_AHEAD / mean, self._most_lanes - 1))

    def _reserve(self, batch: Batch, lanes: int) -> int:
        """Return how many lanes there is room for, at least one; half of the room is left to other jobs."""
        lanes = max(1, min(lanes, self._room // 2 // _held_bytes(batch)))
        self._room -= lanes * _held_bytes(batch)
        return lanes


def _held_bytes(batch: Batch) -> int:
    """Return how much memory one fetch may hold."""
    return max(1, min(_MOST_HELD, max((entry.size for entry in batch.entries), default=1)))
