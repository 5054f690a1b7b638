"""``GET /v1/events``: changes of jobs, workers, datasets and the placement map as server-sent events.

One listener hears of every change and notes it for the connections that want it: a note is the name of what changed,
and the event is written when the connection sends it. So a connection that nothing happens to costs nothing, and a
slow one holds one note for each thing that changed and then gets its latest state, never a queue.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from preheat.access import caller, may_see
from preheat.api._answers import JobViews, PlacementView, WorkerView
from preheat.api._dataset_views import shown
from preheat.coordinator import Coordinator
from preheat.datasets import ConditionType, Record
from preheat.jobs import Job, JobState
from preheat.registry import Heartbeat

HEARTBEAT_SECONDS = 15.0
_PACE_SECONDS = 0.2
"""After sending, so that a busy job is told five times a second and not at each of its changes."""
_EVENTS_AT_ONCE = 100
_MAX_JOBS = 100
_EXAMPLE = 'event: job\ndata: {"id": "0197f3a0-5f6e-7cc2-8e6a-3f0d2a6b9c11", "state": "RUNNING"}\nid: 12\n\n'
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}}}
}

Note = tuple[str, str]
"""What changed: the event's name, and the id of the job or the worker, or the dataset's name."""
_PLACEMENT: Note = ("placement", "")


def events_router(coordinator: Coordinator, hub: EventHub) -> APIRouter:
    """Return the route of the events."""
    router = APIRouter(tags=["events"])

    @router.get("/events", response_class=StreamingResponse, responses=_RESPONSES)
    async def events(
        job: Annotated[list[str] | None, Query(max_length=_MAX_JOBS, description="Only these jobs.")] = None,
        state: Annotated[list[JobState] | None, Query(description="Only jobs that are now in these states.")] = None,
        last_event_id: Annotated[int | None, Header(ge=0, description="The last `id` that arrived.")] = None,
    ) -> StreamingResponse:
        """Stream what changes: first the present state, or what changed after `Last-Event-ID`."""
        for job_id in job or ():
            await coordinator.service.get(job_id)
        wanted = Filter(jobs=frozenset(job or ()), states=frozenset(state or ()))
        return StreamingResponse(
            hub.stream(wanted, after=last_event_id),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    return router


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """What a connection wants to hear of; empty sets stand for everything."""

    jobs: frozenset[str] = frozenset()
    states: frozenset[JobState] = frozenset()

    @property
    def everything(self) -> bool:
        """Whether workers, datasets and the placement map are wanted too."""
        return not self.jobs and not self.states

    def takes(self, job: Job) -> bool:
        """Say whether a job is wanted as it is now, by a caller who may see it."""
        asked = (not self.jobs or job.id in self.jobs) and (not self.states or job.state in self.states)
        return asked and may_see(job.spec)


class Connection:
    """What one client has still to be told."""

    def __init__(self, wanted: Filter, *, after: int) -> None:
        self.wanted = wanted
        self.sent = after
        """Every change of a job up to this revision was told: what the client resumes from."""
        self.closed = False
        self._notes: dict[Note, None] = {}
        self._noted = asyncio.Event()

    def note(self, note: Note) -> None:
        """Remember that something changed, once however often it does."""
        self._notes[note] = None
        self._noted.set()

    def close(self) -> None:
        """Tell nothing more."""
        self.closed = True
        self._noted.set()

    @property
    def told_all(self) -> bool:
        """Whether nothing is left to tell."""
        return not self._notes

    async def take(self, seconds: float) -> list[Note]:
        """Return some of the notes, the oldest first, once there are any; none if the time passes."""
        try:
            async with asyncio.timeout(seconds):
                await self._noted.wait()
        except TimeoutError:
            return []
        taken = [note for note, _ in zip(self._notes, range(_EVENTS_AT_ONCE), strict=False)]
        for note in taken:
            del self._notes[note]
        if self.told_all:
            self._noted.clear()
        return taken


class EventHub:
    """Notes changes for the connections that want them, and writes the events."""

    def __init__(self, coordinator: Coordinator, views: JobViews) -> None:
        self._coordinator = coordinator
        self._views = views
        self._everything: set[Connection] = set()
        self._by_job: defaultdict[str, set[Connection]] = defaultdict(set)
        self._workers: dict[str, tuple[object, ...]] = {}
        self._datasets: dict[str, tuple[object, ...]] = {}
        self._transfers: dict[str, dict[str, int]] = {}
        self._epoch = 0
        self._late: set[str] = set()
        """Running jobs of which it was told that they will be late."""
        coordinator.jobs.listeners.add(self._on_job)
        coordinator.cluster.listeners.add(self._on_worker)
        coordinator.datasets.view.listeners.add(self._on_dataset)

    async def stream(self, wanted: Filter, *, after: int | None) -> AsyncIterator[bytes]:
        """Yield the events for one connection, several in one piece, and comments while nothing happens."""
        connection = self._connect(wanted, after)
        try:
            yield b": preheat\n\n"
            while not connection.closed:
                notes = await connection.take(HEARTBEAT_SECONDS)
                if not notes:
                    yield b": heartbeat\n\n"
                elif events := self._write(connection, notes):
                    yield events
                    await asyncio.sleep(_PACE_SECONDS)
        finally:
            for connections in self._places(connection):
                connections.discard(connection)
            for job_id in wanted.jobs:
                if not self._by_job[job_id]:
                    del self._by_job[job_id]

    def close(self) -> None:
        """End the streams that are open: their clients connect again, to another coordinator."""
        for connections in (self._everything, *self._by_job.values()):
            for connection in connections:
                connection.close()

    def _connect(self, wanted: Filter, after: int | None) -> Connection:
        jobs = self._coordinator.jobs
        resumes = after is not None and after <= jobs.watched  # else the state was lost, or is not all here yet
        since = after if resumes and after is not None else 0
        connection = Connection(wanted, after=since)
        if wanted.everything:
            connection.note(_PLACEMENT)
            for worker in self._coordinator.cluster.workers():
                connection.note(("worker", worker.id))
            for record in self._coordinator.datasets.list():
                connection.note(("dataset.status", record.dataset.name))
        for job, revision in jobs.values():
            if revision > since and wanted.takes(job) and (resumes or not wanted.everything or not job.state.ended):
                connection.note(("job", job.id))
        for connections in self._places(connection):
            connections.add(connection)
        return connection

    def _places(self, connection: Connection) -> list[set[Connection]]:
        jobs = connection.wanted.jobs
        return [self._by_job[job_id] for job_id in jobs] if jobs else [self._everything]

    def _on_job(self, job_id: str) -> None:
        notes = [("job", job_id)] + ([("job.late", job_id)] if self._is_newly_late(job_id) else [])
        for connections in (self._everything, self._by_job.get(job_id, ())):
            for connection in connections:
                for note in notes:
                    connection.note(note)

    def _is_newly_late(self, job_id: str) -> bool:
        """Say once of a job that it will be late."""
        known = self._coordinator.jobs.get(job_id)
        if known is None or known[0].state.ended:
            self._late.discard(job_id)
        elif known[0].late_since is not None and job_id not in self._late:
            self._late.add(job_id)
            return True
        return False

    def _on_worker(self, worker_id: str) -> None:
        worker = self._worker(worker_id)
        for job_id in self._moved(worker_id, worker.transfers if worker else {}):
            self._on_job(job_id)
        placement = self._coordinator.cluster.placement
        facts = _facts(worker, live=placement.member(worker_id) is not None) if worker else ()
        if self._workers.get(worker_id, ()) != facts:
            self._workers[worker_id] = facts
            self._tell_everyone(("worker", worker_id))
        if placement.epoch != self._epoch:
            self._epoch = placement.epoch
            self._tell_everyone(_PLACEMENT)

    def _on_dataset(self, name: str) -> None:
        known = self._coordinator.datasets.view.get(name)
        facts = _told(known[0]) if known and not known[0].removed else ()
        if self._datasets.get(name, ()) != facts:
            self._datasets[name] = facts
            self._tell_everyone(("dataset.status", name))
        if not facts:
            self._datasets.pop(name, None)

    def _moved(self, worker_id: str, transfers: dict[str, int]) -> list[str]:
        """Return the jobs of which a worker has fetched more, or less, since its last heartbeat."""
        before = self._transfers.pop(worker_id, {})
        if transfers:
            self._transfers[worker_id] = transfers
        return [job_id for job_id in before | transfers if before.get(job_id) != transfers.get(job_id)]

    def _tell_everyone(self, note: Note) -> None:
        for connection in self._everything:
            if connection.wanted.everything:
                connection.note(note)

    def _write(self, connection: Connection, notes: list[Note]) -> bytes:
        """Return the events; only the last one's id says that everything was told that changed until now."""
        sent, told = connection.sent, self._coordinator.jobs.watched
        events = [event for note in notes if (event := self._event(connection.wanted, *note))]
        if connection.told_all:
            connection.sent = told
        ids = [sent] * (len(events) - 1) + [connection.sent]
        return b"".join(b"%sid: %d\n\n" % written for written in zip(events, ids, strict=False))

    def _event(self, wanted: Filter, kind: str, key: str) -> bytes:
        if kind in ("job", "job.late"):
            known = self._coordinator.service.peek(key)
            if known is None:  # and so nobody can say any more who might see it
                unseen = kind != "job" or (caller().prefixes and not wanted.jobs)
                return b"" if unseen else _lines("job-gone", _identified(key))
            return _lines(kind, self._views.json(known)) if wanted.takes(known.job) else b""
        if kind == "dataset.status":
            return self._dataset_event(key)
        if kind == "worker":
            worker = self._worker(key)
            return _lines("worker", self._worker_json(worker)) if worker else _lines("worker-gone", _identified(key))
        view = PlacementView.of(self._coordinator.cluster.placement)
        return _lines(kind, view.model_dump_json(by_alias=True).encode())

    def _dataset_event(self, name: str) -> bytes:
        if record := self._coordinator.datasets.peek(name):
            view = shown(record, self._coordinator.service)
            return _lines("dataset.status", view.model_dump_json(by_alias=True).encode())
        return b"" if caller().prefixes else _lines("dataset-gone", msgspec.json.encode({"name": name}))

    def _worker_json(self, worker: Heartbeat) -> bytes:
        live = any(worker.id == other.id for other in self._coordinator.cluster.live())
        unfinished = self._coordinator.service.unfinished_batches()[worker.id]
        return WorkerView.of(worker, live=live, unfinished=unfinished).model_dump_json(by_alias=True).encode()

    def _worker(self, worker_id: str) -> Heartbeat | None:
        return next((worker for worker in self._coordinator.cluster.workers() if worker.id == worker_id), None)


def _facts(worker: Heartbeat, *, live: bool) -> tuple[object, ...]:
    """Return what a worker's event is worth sending for: not how full or how busy it is."""
    return (live, worker.leaving, worker.url, worker.zone, worker.capacity, worker.started_at)


def _told(record: Record) -> tuple[object, ...]:
    """Return what a dataset's event is worth sending for: not how far a load is, nor how many workers there are."""
    counted = ConditionType.WORKERS_READY
    conditions = [(item, "" if item.type is counted else item.message) for item in record.conditions]
    said = tuple((item.type, item.status, item.reason, message) for item, message in conditions)
    version = record.loaded.version if record.loaded else ""
    return (record.dataset, record.owner, record.phase, said, record.last_job, version)


def _lines(event: str, data: bytes) -> bytes:
    return b"event: %s\ndata: %s\n" % (event.encode(), data)


def _identified(key: str) -> bytes:
    return msgspec.json.encode({"id": key})
