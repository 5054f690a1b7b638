"""Planning: which objects go into one batch, and to whom. Pure: no clock, no engine, no under store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from preheat.jobs import Action, Batch, JobSpec
from preheat.placement import PlacementMap
from preheat.versions import ObjectInfo

Owners = tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedBatch:
    """A batch and the workers that must all do it: the owners of each of its entries."""

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

    def plan(
        self, objects: Iterable[ObjectInfo], *, root: str, placement: PlacementMap, first: int
    ) -> list[PlannedBatch]:
        """Place every object on its owners and group what has the same ones.

        Args:
            objects: in the order of the listing, which a batch keeps.
            root: URI of the bucket, ending with a slash.
            placement: must have members.
            first: number of the first batch.
        """
        groups = self._groups(objects, root, placement)
        return [
            PlannedBatch(workers=owners, batch=self._batch(number, root, entries))
            for number, (owners, entries) in enumerate(groups, start=first)
        ]

    def _groups(
        self, objects: Iterable[ObjectInfo], root: str, placement: PlacementMap
    ) -> Iterator[tuple[Owners, list[ObjectInfo]]]:
        """Yield full groups as they fill up, then the rest."""
        options = self.spec.options
        entries: dict[Owners, list[ObjectInfo]] = defaultdict(list)
        sizes: dict[Owners, int] = defaultdict(int)
        for item in objects:
            owners = tuple(member.id for member in placement.owners(root + item.key, options.replicas))
            entries[owners].append(item)
            sizes[owners] += item.size
            if len(entries[owners]) >= options.batch_size or sizes[owners] >= self.batch_bytes:
                yield owners, entries.pop(owners)
                del sizes[owners]
        yield from entries.items()

    def _batch(self, number: int, root: str, entries: list[ObjectInfo]) -> Batch:
        return Batch(
            id=f"{self.action}-{self.generation}-{number}",
            job_id=self.job_id,
            action=self.action,
            root=root,
            entries=tuple(entries),
            skip_if_exists=self.spec.options.skip_if_exists,
            bandwidth=self.spec.options.bandwidth,
        )
