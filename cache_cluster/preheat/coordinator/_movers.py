"""Who may drop copies where: two jobs that do could each take the other's for spare, and none would be left.

A job that moves copies enters before it begins. While it has not ended, no other one enters whose paths overlap with
its own. What is known of that is one record, changed by compare-and-swap; a job that ended without leaving, because
its coordinator died, is in nobody's way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

import msgspec

from preheat.engine import Bucket, Engine
from preheat.errors import Conflict
from preheat.jobs import Job, JobSpec, JobType

_KEY = "movers"
_ATTEMPTS = 20
"""At a record that others change at the same moment."""
_MOVING = (JobType.REPLICATE, JobType.REBALANCE)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Movers:
    """The jobs that move copies."""

    paths: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By job: what it was asked for; an empty path is everywhere."""


class Movers:
    """Lets jobs that move copies in, one at a path."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def enter(self, job: Job) -> str:
        """Let a job in unless another one is in its way, whose id is returned; empty if it is in, or moves nothing.

        Raises:
            EngineUnavailable: nobody can tell now.
            Conflict: too many others came at the same moment.
        """
        if job.spec.type not in _MOVING:
            return ""
        paths = _paths(job.spec)
        for _ in range(_ATTEMPTS):
            movers, revision = await self._read()
            others = {id_: theirs for id_, theirs in movers.paths.items() if id_ != job.id}
            for id_, theirs in others.items():
                if overlap(paths, theirs) and await self._is_running(id_):
                    return id_
            kept = {id_: theirs for id_, theirs in others.items() if not overlap(paths, theirs)}
            if await self._write(_Movers(paths={**kept, job.id: paths}), revision):
                return ""
        raise Conflict("Other jobs begin all the time.", remedy="Submit again.")

    async def leave(self, job: Job) -> None:
        """Be in nobody's way any more; who does not get to that is not, either, once its job has ended."""
        if job.spec.type not in _MOVING:
            return
        movers, revision = await self._read()
        others = {id_: theirs for id_, theirs in movers.paths.items() if id_ != job.id}
        await self._write(_Movers(paths=others), revision)

    async def _is_running(self, job_id: str) -> bool:
        entry = await self._engine.get(Bucket.JOBS, job_id)
        if entry is None or entry.value is None:
            return False
        return not msgspec.json.decode(entry.value, type=Job).state.ended

    async def _read(self) -> tuple[_Movers, int]:
        entry = await self._engine.get(Bucket.CLUSTER, _KEY)
        if entry is None or entry.value is None:
            return _Movers(), entry.revision if entry else 0
        return msgspec.json.decode(entry.value, type=_Movers), entry.revision

    async def _write(self, movers: _Movers, revision: int) -> bool:
        try:
            await self._engine.put(Bucket.CLUSTER, _KEY, msgspec.json.encode(movers), revision=revision)
        except Conflict:
            return False
        return True


def overlap(some: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """Whether an object could be at or below paths of both; pure."""
    return any(one.startswith(other) or other.startswith(one) for one, other in product(some, others))


def _paths(spec: JobSpec) -> tuple[str, ...]:
    """Return what a job touches; of one that takes its objects from elsewhere nobody knows."""
    return spec.paths if spec.paths and not (spec.index or spec.retry_of) else ("",)
