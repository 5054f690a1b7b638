"""Planning: which objects go into one batch, and to whom. Pure: no clock, no engine, no under store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from preheat.jobs import Action, Batch, JobSpec, JobType
from preheat.placement import PlacementMap
from preheat.versions import ObjectInfo

Owners = tuple[str, ...]

_MESSAGE_BYTES = 900_000
"""Of a batch, or of a result in which all of it failed: the engine takes 1 MiB in one message."""
_REPORT_BYTES = 500
"""What one failed entry's code and message take in a result."""

_PASSES = {
    JobType.LOAD: (Action.FETCH,),
    JobType.FREE: (Action.TRIM,),
    JobType.COPY: (Action.COPY,),
    JobType.MOVE: (Action.COPY, Action.MOVE),
    JobType.REPLICATE: (Action.FETCH, Action.TRIM),
}


def passes(spec: JobSpec) -> tuple[Action, ...]:
    """Return what is done with all of a job's objects, one pass after the other; the first does what the job is for.

    What destroys comes second: a move deletes when everything is copied, a replicate drops when it has its copies.
    """
    if spec.options.load_metadata_only:
        return (Action.NOTE,)
    return _PASSES[spec.type] + ((Action.VERIFY,) if spec.options.verify else ())


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedBatch:
    """A batch and the workers that must all do it: the owners of each of its entries; for a TRIM, everybody."""

    batch: Batch
    workers: Owners


@dataclass(frozen=True, kw_only=True)
class Planner:
    """Turns a window of a job's listing into batches."""

    job_id: str
    spec: JobSpec
    action: Action
    generation: int
    batch_bytes: int
    began_at: float | None = None
    """When the job began: of copies that came later no keeper was asked to have one."""

    def plan(
        self,
        objects: Iterable[ObjectInfo],
        *,
        root: str,
        placement: PlacementMap,
        first: int,
    ) -> list[PlannedBatch]:
        """Place every object on its owners and group what has the same ones.

        Args:
            objects: in the order of the listing, which a batch keeps.
            root: URI of the bucket, ending with a slash.
            placement: must have members.
            first: number of the first batch.
        """
        groups = self._groups(objects, root, placement)
        everybody = tuple(member.id for member in placement.members)
        return [
            PlannedBatch(
                workers=everybody if self.action is Action.TRIM else owners,
                batch=self._batch(number, root, owners, entries),
            )
            for number, (owners, entries) in enumerate(groups, start=first)
        ]

    def _groups(
        self, objects: Iterable[ObjectInfo], root: str, placement: PlacementMap
    ) -> Iterator[tuple[Owners, list[ObjectInfo]]]:
        """Yield full groups as they fill up, then the rest."""
        options = self.spec.options
        replicas = self._replicas
        entries: dict[Owners, list[ObjectInfo]] = defaultdict(list)
        sizes: dict[Owners, int] = defaultdict(int)
        texts: dict[Owners, int] = defaultdict(int)
        for item in objects:
            owners = tuple(member.id for member in placement.owners(root + item.key, replicas))
            entries[owners].append(item)
            sizes[owners] += item.size
            texts[owners] += len(root) + len(msgspec.json.encode(item.key)) + len(item.etag) + _REPORT_BYTES
            full = sizes[owners] >= self.batch_bytes or texts[owners] >= _MESSAGE_BYTES
            if full or len(entries[owners]) >= options.batch_size:
                yield owners, entries.pop(owners)
                del sizes[owners], texts[owners]
        yield from entries.items()

    @property
    def _replicas(self) -> int:
        if self.spec.type is JobType.FREE:
            return 0
        return 1 if self.spec.type.has_destination else self.spec.options.replicas

    def _batch(self, number: int, root: str, owners: Owners, entries: list[ObjectInfo]) -> Batch:
        return Batch(
            id=f"{self.action}-{self.generation}-{number}",
            job_id=self.job_id,
            action=self.action,
            root=root,
            entries=tuple(entries),
            skip_if_exists=self.spec.options.skip_if_exists,
            bandwidth=self.spec.options.bandwidth,
            from_peers=self.spec.type is JobType.REPLICATE,
            keepers=owners if self.action is Action.TRIM else (),
            cached_before=self.began_at if self.action is Action.TRIM and owners else None,
            source=self.spec.paths[0] if self.spec.destination else "",
            destination=self.spec.destination,
        )
