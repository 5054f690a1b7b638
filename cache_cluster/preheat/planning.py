"""Planning: which objects go into one batch, and to whom. Pure: no clock, no engine, no under store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

import msgspec

from preheat.copies import HeldObject
from preheat.jobs import Action, Batch, JobSpec, JobType, Tally
from preheat.placement import Member, PlacementMap
from preheat.versions import ObjectInfo

Owners = tuple[str, ...]
Route = tuple[Owners, Owners]
"""Who is to have an object, and who has it as far as that matters."""

_Key = TypeVar("_Key")
_MESSAGE_BYTES = 900_000
"""Of a batch, or of a result in which all of it failed: the engine takes 1 MiB in one message."""
_REPORT_BYTES = 500
"""What one failed entry's code and message take in a result."""

_JOINT = (Action.FETCH, Action.VERIFY, Action.NOTE)
"""What each owner of an object does for itself, whoever the others are."""

_PASSES = {
    JobType.LOAD: (Action.FETCH,),
    JobType.FREE: (Action.TRIM,),
    JobType.COPY: (Action.COPY,),
    JobType.MOVE: (Action.COPY, Action.MOVE),
    JobType.REPLICATE: (Action.FETCH, Action.TRIM),
    JobType.REBALANCE: (Action.REBALANCE,),
    JobType.PERSIST: (Action.PERSIST,),
}


def passes(spec: JobSpec) -> tuple[Action, ...]:
    """Return what is done with all of a job's objects, one pass after the other; the first does what the job is for.

    What destroys comes second: a move deletes when everything is copied, a replicate drops when it has its copies.
    """
    if spec.options.load_metadata_only:
        return (Action.NOTE,)
    return _PASSES[spec.type] + ((Action.VERIFY,) if spec.options.verify else ())


def owners_of_a_batch(spec: JobSpec) -> int:
    """Return of how many workers it is that a batch's entries must have the same ones, in any of the job's passes.

    What drops copies names those who keep them. All else is one batch for each worker, however many copies there are.
    """
    if spec.type is JobType.REBALANCE:
        return 2  # from one worker to another
    return spec.options.replicas if spec.type is JobType.REPLICATE else 1


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedBatch:
    """A batch and the workers that must all do it: the owners of each of its entries; for a TRIM, everybody."""

    batch: Batch
    workers: Owners
    then: Owners = ()
    """Workers that do it when those have: what they drop is there by then."""
    joint: str = ""
    """Name of the account of objects whose copies are in several batches: this one has some copies of some of them."""
    copy: int = 0
    """Which copy of its entries it makes: each copy of a joint account's objects is in one batch."""

    @property
    def tally(self) -> Tally:
        """Objects and bytes that no batch for another copy has."""
        return Tally() if self.copy else self.batch.tally


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
    drained: Sequence[Member] = ()
    """Workers that are not in the map, and whose copies a rebalance moves as well."""

    def plan(
        self,
        objects: Iterable[ObjectInfo],
        *,
        root: str,
        placement: PlacementMap,
        first: int,
        numbers: Iterable[int] | None = None,
    ) -> list[PlannedBatch]:
        """Place every object on its owners and group what has the same ones; what needs nothing is left out.

        Objects with several owners have too many sets of them to fill batches. So each copy is in a batch of its own
        worker, with others of which the further copies are elsewhere, and such batches have a joint account.

        Args:
            objects: in the order of the listing, which a batch keeps.
            root: URI of the bucket, ending with a slash.
            placement: must have members.
            first: number of the first batch.
            numbers: of each object, as :func:`preheat.accounting.entry_numbers` gives them; by default from 0 on.
        """

        def moved(path: str, item: ObjectInfo) -> tuple[Route, ...]:
            return self._moved(path, item, placement) if isinstance(item, HeldObject) else ()

        def owned(path: str, _: ObjectInfo) -> tuple[Route, ...]:
            return ((_owners(placement, path, replicas), ()),)

        replicas, numbers = self._replicas, count() if numbers is None else numbers
        if self.action in _JOINT and min(replicas, len(placement.members)) > 1:
            return self._jointly(zip(objects, numbers, strict=False), root, placement, first)
        route = moved if self.action is Action.REBALANCE else owned
        return self._planned(self._groups(objects, numbers, root, route), root, placement, first)

    def plan_again(self, batch: Batch, *, placement: PlacementMap, first: int) -> list[PlannedBatch]:
        """Place the entries of an open batch anew, one of whose workers left; otherwise as :meth:`plan`."""
        if batch.action is not Action.REBALANCE:
            return self.plan(
                batch.entries, root=batch.root, placement=placement, first=first, numbers=batch.numbers or None
            )
        holders = tuple(sorted({*batch.holders, *batch.keepers}))

        def kept(path: str, _: ObjectInfo) -> tuple[Route, ...]:
            return ((_owners(placement, path, len(batch.keepers)), holders),)

        groups = self._groups(batch.entries, batch.numbers or count(), batch.root, kept)
        return self._planned(groups, batch.root, placement, first)

    def _moved(self, path: str, item: HeldObject, placement: PlacementMap) -> tuple[Route, ...]:
        """Return the route of an object whose copies move to its first owners; none if they are there.

        Copies that the job itself brought are not counted: an owner before this one may have begun to move it. With
        fewer workers in the map than copies, drained ones keep theirs.
        """
        copies = item.copies_before(self.job_id)
        owners = _owners(placement, path, copies) if copies else ()
        kept = [worker for worker in item.workers if worker not in owners][: copies - len(owners)]
        holders = tuple(worker for worker in item.workers if worker not in kept)
        if not owners or (set(owners) == set(holders) and not item.outdated):
            return ()
        return ((owners, tuple(sorted(holders + item.outdated))),)

    def _planned(
        self, groups: Iterable[tuple[Route, _Group]], root: str, placement: PlacementMap, first: int
    ) -> list[PlannedBatch]:
        everybody = tuple(member.id for member in placement.members)
        reached = {*everybody, *(member.id for member in self.drained)}
        return [
            PlannedBatch(
                workers=everybody if self.action is Action.TRIM else owners,
                then=tuple(worker for worker in holders if worker in reached and worker not in owners),
                batch=self._batch(number, root, (owners, holders), group),
            )
            for number, ((owners, holders), group) in enumerate(groups, start=first)
        ]

    def _groups(
        self,
        objects: Iterable[ObjectInfo],
        numbers: Iterable[int],
        root: str,
        keys_of: Callable[[str, ObjectInfo], Iterable[_Key]],
    ) -> Iterator[tuple[_Key, _Group]]:
        """Yield full groups as they fill up, then the rest; an object is in one for each of its keys."""
        groups: dict[_Key, _Group] = defaultdict(_Group)
        most, most_bytes = self.spec.options.batch_size, self.batch_bytes
        for item, number in zip(objects, numbers, strict=False):
            text = len(root) + len(msgspec.json.encode(item.key)) + len(item.etag) + _REPORT_BYTES
            for key in keys_of(root + item.key, item):
                group = groups[key]
                group.entries.append(item)
                group.numbers.append(number)
                group.size += item.size
                group.text += text
                full = group.size >= most_bytes or group.text >= _MESSAGE_BYTES
                if full or len(group.entries) >= most:
                    yield key, groups.pop(key)
        yield from groups.items()

    def _jointly(
        self, objects: Iterable[tuple[ObjectInfo, int]], root: str, placement: PlacementMap, first: int
    ) -> list[PlannedBatch]:
        """Return batches for each copy and worker; a joint account has so many that every worker's could be full."""

        def owned(path: str, _: ObjectInfo) -> Iterable[tuple[int, str]]:
            return enumerate([member.id for member in owners_of(path, replicas)])

        replicas, owners_of = self._replicas, placement.owners
        planned: list[PlannedBatch] = []
        for items, numbers in self._accounts(objects, len(placement.members)):
            name = f"{self.action}-{self.generation}-{first + len(planned)}-joint"
            for (copy, worker), group in self._groups(items, numbers, root, owned):
                batch = self._batch(first + len(planned), root, ((worker,), ()), group)
                planned.append(PlannedBatch(batch=batch, workers=(worker,), joint=name, copy=copy))
        return planned

    def _accounts(
        self, objects: Iterable[tuple[ObjectInfo, int]], workers: int
    ) -> Iterator[tuple[list[ObjectInfo], list[int]]]:
        """Yield objects and their numbers for one joint account after the other."""
        most, most_bytes = workers * self.spec.options.batch_size, workers * self.batch_bytes
        items, numbers, size = list[ObjectInfo](), list[int](), 0
        for item, number in objects:
            items.append(item)
            numbers.append(number)
            size += item.size
            if len(items) >= most or size >= most_bytes:
                yield items, numbers
                items, numbers, size = [], [], 0
        if items:
            yield items, numbers

    @property
    def _replicas(self) -> int:
        if self.spec.type is JobType.FREE:
            return 0
        return 1 if self.spec.type.has_destination else self.spec.options.replicas

    def _batch(self, number: int, root: str, route: Route, group: _Group) -> Batch:
        owners, holders = route
        drops = self.action in (Action.TRIM, Action.REBALANCE)
        return Batch(
            id=f"{self.action}-{self.generation}-{number}",
            job_id=self.job_id,
            action=self.action,
            root=root,
            entries=tuple(item.info if isinstance(item, HeldObject) else item for item in group.entries),
            numbers=tuple(group.numbers),
            skip_if_exists=self.spec.options.skip_if_exists or self.action is Action.REBALANCE,
            bandwidth=self.spec.options.bandwidth,
            from_peers=self.spec.type in (JobType.REPLICATE, JobType.REBALANCE),
            keepers=owners if drops else (),
            holders=holders,
            drained=tuple(member for member in self.drained if member.id in holders),
            cached_before=self.began_at if drops and owners else None,
            source=self.spec.paths[0] if self.spec.destination else "",
            destination=self.spec.destination,
        )


@dataclass(slots=True)
class _Group:
    """Entries of one batch to come."""

    entries: list[ObjectInfo] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    size: int = 0
    """Bytes of the objects."""
    text: int = 0
    """Bytes of the batch, or of a result in which all of it failed."""


def left_out(objects: Sequence[ObjectInfo], planned: Sequence[PlannedBatch]) -> Tally:
    """Return what of a window is in no batch: there was nothing to do."""
    planned_tally = sum((item.tally for item in planned), Tally())
    if planned_tally.objects == len(objects):
        return Tally()
    return Tally(objects=len(objects), bytes=sum(item.size for item in objects)) - planned_tally


def _owners(placement: PlacementMap, path: str, replicas: int) -> Owners:
    return tuple([member.id for member in placement.owners(path, replicas)])
