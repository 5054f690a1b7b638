"""Which workers are live, as a coordinator sees it, and the placement map that all coordinators keep."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from math import inf

import msgspec

from preheat.engine import Bucket, Engine, Entry
from preheat.errors import Conflict, EngineUnavailable, WorkerNotFound
from preheat.logs import get_logger
from preheat.placement import Member, PlacementMap
from preheat.registry import Heartbeat, Registry, WorkerControl, next_placement
from preheat.views import Listeners

log = get_logger("coordinator")
_PLACEMENT = "placement"
_NOBODY = "_nobody"
"""Id of no worker: forgetting it shows that heartbeats can be written."""
_TICK_SECONDS = 0.5


class ClusterView:
    """The workers that are live and the placement map; every coordinator keeps the map current, by compare-and-swap."""

    def __init__(self, engine: Engine, *, worker_timeout_seconds: float) -> None:
        self._engine = engine
        self._registry = Registry(timeout_seconds=worker_timeout_seconds)
        self._listened = 0.0
        """Seconds in which heartbeats could arrive. Silence is counted in these: an engine that is away, or a process
        that is not scheduled, would make every worker silent at once."""
        self._revision = 0
        self._heard: dict[str, int] = {}
        """The revision of each worker's last heartbeat: a watch that starts over repeats it."""
        self.placement = PlacementMap()
        self.listeners = Listeners()
        """Told the id of a worker that was heard of or forgotten, and of each member when the map changes."""
        self.loaded = asyncio.Event()

    def live(self) -> list[Heartbeat]:
        """Return the workers that can be given work."""
        return self._registry.live(self._listened)

    def leaving(self) -> tuple[Member, ...]:
        """Return the workers that are drained: they serve what they hold, and are not in the map."""
        return tuple(Member(id=worker.id, url=worker.url) for worker in self._registry.leaving(self._listened))

    def workers(self) -> list[Heartbeat]:
        """Return every worker known, live or not."""
        return self._registry.all()

    async def set_drained(self, worker_id: str, *, drained: bool) -> None:
        """Ask a worker to hand its batches over and take no more, or to take part again.

        Raises:
            WorkerNotFound: no worker has this id.
        """
        if worker_id not in _ids(self.workers()):
            raise WorkerNotFound(f"There is no worker {worker_id!r}.")
        await self._engine.put(Bucket.WORKER_CONTROLS, worker_id, msgspec.json.encode(WorkerControl(drained=drained)))

    async def follow(self) -> None:
        """Follow heartbeats and keep the placement map, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            heartbeats = self._engine.watch(Bucket.WORKERS)
            async for entry in heartbeats:
                if entry is None:
                    break
                self._record(entry)
            await self._load_placement()
            self.loaded.set()
            tasks.create_task(self._follow_heartbeats(heartbeats))
            tasks.create_task(self._follow_placement())
            tasks.create_task(self._tick())

    async def _follow_heartbeats(self, entries: AsyncIterator[Entry | None]) -> None:
        async for entry in entries:
            if entry is not None:
                self._record(entry)
                await self._keep_placement()

    async def _follow_placement(self) -> None:
        async for entry in self._engine.watch(Bucket.CLUSTER):
            if entry is not None and entry.key == _PLACEMENT:
                self._apply_placement(entry)

    async def _tick(self) -> None:
        """Notice workers that fell silent."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            if not self._registry.suspects(self._listened) or await self._heartbeats_arrive():
                self._listened += _TICK_SECONDS
            await self._keep_placement()

    async def _heartbeats_arrive(self) -> bool:
        """Say whether the engine takes writes where heartbeats go; waits for it as long as a write may take."""
        try:
            await self._engine.delete(Bucket.WORKERS, _NOBODY)
        except EngineUnavailable:
            return False
        return True

    def _record(self, entry: Entry) -> None:
        if entry.revision <= self._heard.get(entry.key, 0):
            return
        self._heard[entry.key] = entry.revision
        if entry.value is None:
            self._registry.forget(entry.key)
        else:
            self._registry.record(msgspec.json.decode(entry.value, type=Heartbeat), self._listened)
        self.listeners.tell(entry.key)

    async def _load_placement(self) -> None:
        if entry := await self._engine.get(Bucket.CLUSTER, _PLACEMENT):
            self._apply_placement(entry)
        await self._keep_placement()

    def _apply_placement(self, entry: Entry) -> None:
        if entry.value is None or entry.revision <= self._revision:
            return
        before = _ids(self.placement.members if self._revision else self.workers())
        self.placement = msgspec.json.decode(entry.value, type=PlacementMap)
        self._revision = entry.revision
        self._believe(joined=_ids(self.placement.members) - before, left=before - _ids(self.placement.members))
        for worker_id in before | _ids(self.placement.members):
            self.listeners.tell(worker_id)

    def _believe(self, *, joined: set[str], left: set[str]) -> None:
        """Take over what another coordinator noticed first: else each would undo the other's change of the map.

        One that starts finds the last heartbeats of dead workers too; who is not in the map has to send another.
        """
        for worker in self.workers():
            if worker.id in joined:
                self._registry.record(worker, self._listened)
            elif worker.id in left and not worker.leaving:
                self._registry.record(worker, -inf)

    async def _keep_placement(self) -> None:
        changed = next_placement(self.placement, self.live())
        if changed is None:
            return
        value = msgspec.json.encode(changed)
        try:
            revision = await self._engine.put(Bucket.CLUSTER, _PLACEMENT, value, revision=self._revision)
        except Conflict:  # another coordinator saw the same change first; its map arrives by the watch
            return
        except EngineUnavailable as error:  # the next tick tries again
            log.warning("The placement map waits for the engine.", action="placement_late", error=str(error))
            return
        self._apply_placement(Entry(key=_PLACEMENT, value=value, revision=revision))
        names = [member.id for member in changed.members]
        log.info("The live workers changed.", action="placement_changed", epoch=changed.epoch, workers=names)


def _ids(workers: Iterable[Member | Heartbeat]) -> set[str]:
    return {worker.id for worker in workers}
