"""Sees everything and touches nothing: the engine's records, the coordinators' answers, the workers' disks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from preheat.coordinator._failures import FailureLog
from preheat.engine import Bucket
from preheat.jobs import Job, JobState, JobType
from preheat.placement import PlacementMap
from preheat.versions import ObjectInfo
from tests.faults.history import Disks, Ending, Record, Success
from tests.faults.origin import FaultyOrigin
from tests.faults.workloads import INDEX

if TYPE_CHECKING:
    from tests.faults.scenario import Scenario


class Observer:
    """Writes the history."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._engine = scenario.machines.engine
        self._history = scenario.history
        self._last: dict[str, Job] = {}
        self._began: dict[str, tuple[float, Disks]] = {}
        self._answered: dict[tuple[str, str], int] = {}
        self._placement = PlacementMap()

    def watches(self) -> Iterator[Coroutine[Any, Any, None]]:
        """Return what has to run all the time."""
        yield self._watch_jobs()
        yield self._watch_placement()
        yield self._poll()

    def unfinished(self) -> list[str]:
        """Return the jobs that have not ended."""
        return [job.id for job in self._last.values() if not job.state.ended]

    async def look_around(self) -> None:
        """Note what is left when everything came to rest."""
        self._history.origin_changes = self._scenario.origin.changes
        self._history.drops = self._scenario.machines.drops
        for job in self._last.values():
            named = [len(chunk) async for chunk in FailureLog(self._engine).read(job)]
            self._history.failures[job.id] = sum(named)
        for queue, stream in self._engine._streams.items():
            self._history.left_in_queues += [f"{queue}: {subject}" for subject in stream.messages]

    async def _watch_jobs(self) -> None:
        async for entry in self._engine.watch(Bucket.JOBS):
            if entry is None:
                continue
            if entry.value is None:
                self._last.pop(entry.key, None)
                self._history.removed[entry.key] = time.time()
                continue
            job = msgspec.json.decode(entry.value, type=Job)
            ended = job.state.ended and self._last.get(job.id) != job
            self._last[job.id] = job
            self._history.records.append(Record(at=time.time(), source="engine", revision=entry.revision, job=job))
            if job.state is not JobState.WAITING and job.id not in self._began:
                self._began[job.id] = time.time(), self._disks(job)
            if ended and job.generation:
                self._note_ending(job)
            if ended and job.state is JobState.SUCCEEDED and job.spec.type is JobType.LOAD:
                await self._note_success(job)

    def _note_ending(self, job: Job) -> None:
        began_at, before = self._began[job.id]
        ending = Ending(began_at=began_at, at=time.time(), job=job, before=before, after=self._disks(job))
        self._history.endings.append(ending)

    def _disks(self, job: Job) -> Disks:
        return self._scenario.machines.disks(job.spec.paths[0]) if job.spec.type.lists_cache else {}

    async def _note_success(self, job: Job) -> None:
        """Look at the disks at this very moment: nothing below waits."""
        paths = _named(self._scenario.origin) if job.spec.index else job.spec.paths
        listed = [await self._scenario.origin.now_at(path) for path in paths]
        found = [info for infos in listed for info in infos]
        cold = [uri for info in found for uri in self._cold(info, job.spec.options.replicas)]
        success = Success(
            at=time.time(),
            job=job,
            epoch=self._placement.epoch,
            listing=tuple(found),
            missing=listed.count([]) if job.spec.index else 0,
            cold=tuple(cold),
        )
        self._history.successes.append(success)

    def _cold(self, info: ObjectInfo, replicas: int) -> Iterator[str]:
        uri = f"s3://b/{info.key}"
        for owner in self._placement.owners(uri, replicas):
            store = self._scenario.machines.stores.get(owner.id)
            held = store.lookup(uri) if store else None
            expected = self._scenario.origin.versions[uri, info.etag]
            if store is None or held is None or held.etag != info.etag or store.read(held) != expected:
                yield f"{uri} on {owner.id}"

    async def _watch_placement(self) -> None:
        async for entry in self._engine.watch(Bucket.CLUSTER):
            if entry is not None and entry.value is not None:
                self._placement = msgspec.json.decode(entry.value, type=PlacementMap)
                self._history.placements.append((time.time(), self._placement))
                self._scenario.note(f"placement {[member.id for member in self._placement.members]}")

    async def _poll(self) -> None:
        """Ask every coordinator for all jobs, again and again."""
        while True:
            await asyncio.sleep(0.7)
            for process in self._scenario.serving():
                for known in process.coordinator.service.list():
                    place = process.name, known.job.id
                    if self._answered.get(place) != known.revision:
                        self._answered[place] = known.revision
                        self._history.answers.append(
                            Record(at=time.time(), source=process.name, revision=known.revision, job=known.job)
                        )


def _named(origin: FaultyOrigin) -> list[str]:
    """Return the paths that the index file names, in its order."""
    lines = origin.body_now(INDEX).decode().split()
    return [line if "://" in line else f"s3://b/{line}" for line in lines]
