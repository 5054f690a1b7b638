"""What each type of job must have done to the caches and the origin. Pure: history in, violations out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from preheat.jobs import JobState, JobType
from preheat.placement import PlacementMap
from preheat.store import CachedObject
from tests.faults.history import Ending, History
from tests.faults.origin import Change
from tests.faults.workloads import ARCHIVE, COPIED, COPIES, MOVED

_TARGETS = {COPIED: COPIES, MOVED: ARCHIVE}
_SOURCES = {target: source for source, target in _TARGETS.items()}


def violations(history: History) -> list[str]:
    """Return what the history violates."""
    return [
        *_transfers(history),
        *_dropped_last(history),
        *(text for ending in history.endings for text in _checks(history, ending)),
    ]


def _checks(history: History, ending: Ending) -> Iterator[str]:
    kind, succeeded = ending.job.spec.type, ending.job.state is JobState.SUCCEEDED
    if kind is JobType.REPLICATE:
        yield from _survived(history, ending)
        if succeeded:
            yield from _replicated(history, ending)
    elif kind is JobType.REBALANCE:
        yield from _kept(history, ending)
    elif kind is JobType.FREE and succeeded:
        yield from _freed(history, ending)
    elif kind.has_destination and succeeded:
        yield from _transferred(history, ending)


def _freed(history: History, ending: Ending) -> Iterator[str]:
    """No worker that was live throughout holds what it held before; what it loaded meanwhile is something else."""
    for worker in _stayed(history, ending):
        before, after = ending.before.get(worker, {}), ending.after.get(worker, {})
        if kept := [uri for uri, item in before.items() if after.get(uri) == item]:
            yield f"free: {ending.job.id} left {len(kept)} objects on {worker}: {kept[:3]}"


def _replicated(history: History, ending: Ending) -> Iterator[str]:
    """What was cached has all its copies where they belong and, of those that were there before, no other."""
    job = ending.job
    placement = _map_at(history, ending.at)
    if placement.epoch != job.work.epoch or _lost_disk(history, ending.began_at, ending.at):
        return
    for worker, uri, item in _cached_before(ending):
        owners = {member.id for member in placement.owners(uri, job.spec.options.replicas)}
        if placement.member(worker) is None:
            continue
        if cold := [owner for owner in sorted(owners) if uri not in ending.after[owner]]:
            yield f"replicate: {job.id} ended without {uri} on {cold}"
        if worker not in owners and ending.after[worker].get(uri) == item:
            yield f"replicate: {job.id} left {uri} on {worker}"


def _cached_before(ending: Ending) -> Iterator[tuple[str, str, CachedObject]]:
    """Yield what each worker had when the job's owner wrote that it begins, a moment before that was known."""
    for worker, held in ending.before.items():
        for uri, item in held.items():
            if item.cached_at < (ending.job.started_at or 0):
                yield worker, uri, item


def _survived(history: History, ending: Ending) -> Iterator[str]:
    """Whatever the end, nothing that a worker held throughout is gone from all of them."""
    if _lost_disk(history, ending.began_at, ending.at):
        return
    stayed = _stayed(history, ending)
    left = {uri for worker in ending.after.values() for uri in worker}
    held = {uri for worker in stayed for uri in ending.before.get(worker, ())}
    if gone := sorted(held - left):
        yield f"replicate: {ending.job.id} ({ending.job.state}) lost {len(gone)} objects: {gone[:3]}"


def _kept(history: History, ending: Ending) -> Iterator[str]:
    """Whatever the end, no object has fewer copies than workers held throughout; after a success they are in place."""
    if _lost_disk(history, ending.began_at, ending.at):
        return
    job, placement, stayed = ending.job, _map_at(history, ending.at), _stayed(history, ending)
    moved = job.state is JobState.SUCCEEDED and placement.epoch == job.work.epoch
    changed = {change.uri for change in history.origin_changes if ending.began_at <= change.at <= ending.at}
    for uri, holders in _holders(ending).items():
        left = [worker for worker, held in ending.after.items() if uri in held]
        if uri not in changed and len(left) < len(holders & stayed):
            yield f"rebalance: {job.id} ({job.state}) left {left} of {uri}, which was on {holders}"
        if moved and holders & stayed and (owner := placement.owners(uri)[0].id) not in left:
            yield f"rebalance: {job.id} ended without {uri} on {owner}"


def _holders(ending: Ending) -> dict[str, set[str]]:
    """Return which workers held the newest copies of each object before the job began."""
    copies: dict[str, dict[str, CachedObject]] = defaultdict(dict)
    for worker, uri, item in _cached_before(ending):
        copies[uri][worker] = item
    newest = {uri: max(held.values(), key=_age) for uri, held in copies.items()}
    return {
        uri: {worker for worker, item in held.items() if _age(item) == _age(newest[uri])}
        for uri, held in copies.items()
    }


def _age(item: CachedObject) -> tuple[float, str, int]:
    return item.last_modified, item.etag, item.size


def _dropped_last(history: History) -> Iterator[str]:
    """No copy is dropped unless the others that are to remain are there, or went with a disk."""
    began = {ending.job.id: ending.began_at for ending in history.endings}
    for drop in history.drops:
        since = began.get(drop.job_id, 0)
        lost = {worker for at, worker in history.losses if since <= at <= drop.at}
        if not lost.intersection(drop.without):
            yield f"replicate: {drop.worker} dropped {drop.uri} at {drop.at:.1f}, but {drop.without} have none"


@dataclass
class _Replay:
    """The origin as it was after some of its changes."""

    now: dict[str, bytes] = field(default_factory=dict)
    ages: dict[tuple[str, bytes], int] = field(default_factory=dict)
    """(source, content) → when somebody last wrote it there."""
    copied: dict[str, int] = field(default_factory=dict)
    """Target → of what age its content was when it was written."""

    def apply(self, number: int, change: Change) -> None:
        if change.body is None:
            self.now.pop(change.uri, None)
            return
        self.now[change.uri] = change.body
        if change.by_worker:
            self.copied[change.uri] = self.ages.get((_opposite(change.uri, _SOURCES), change.body), -1)
        else:
            self.ages[change.uri, change.body] = number


def _transfers(history: History) -> Iterator[str]:
    """Whatever the end: what is deleted is at its target, what is written is whole, nothing older replaces newer."""
    replay = _Replay()
    for number, change in enumerate(history.origin_changes):
        if change.by_worker:
            yield from (f"{text} at {change.at:.1f}" for text in _wrong(replay, change))
        replay.apply(number, change)


def _wrong(replay: _Replay, change: Change) -> Iterator[str]:
    uri = change.uri
    if change.body is None:
        if not uri.startswith(MOVED):
            yield f"{uri} was deleted by a worker"
        elif replay.now.get(_opposite(uri, _TARGETS)) != replay.now[uri]:
            yield f"move: {uri} was deleted before it was at its target"
        return
    if not uri.startswith(tuple(_SOURCES)):
        yield f"{uri} was written by a worker"
        return
    source = _opposite(uri, _SOURCES)
    age = replay.ages.get((source, change.body))
    if age is None:
        yield f"{uri} became {len(change.body)} bytes that {source} never had"
    elif replay.copied.get(uri, -1) > age:
        yield f"{uri} became an older version than it was"


def _transferred(history: History, ending: Ending) -> Iterator[str]:
    """Everything that nobody else changed meanwhile is at its target; after a move, none of it at its source."""
    job = ending.job
    (source,) = job.spec.paths
    first, last = _origin_at(history, job.submitted_at), _origin_at(history, ending.at)
    changed = {
        change.uri
        for change in history.origin_changes
        if not change.by_worker and job.submitted_at <= change.at <= ending.at
    }
    for uri, body in first.items():
        if not uri.startswith(source) or uri in changed:
            continue
        if last.get(_opposite(uri, _TARGETS)) != body:
            yield f"{job.spec.type}: {job.id} succeeded without {uri} at its target"
        if job.spec.type is JobType.MOVE and uri in last:
            yield f"move: {job.id} left {uri}"


def _origin_at(history: History, at: float) -> dict[str, bytes]:
    replay = _Replay()
    for number, change in enumerate(history.origin_changes):
        if change.at <= at:
            replay.apply(number, change)
    return replay.now


def _opposite(uri: str, roots: dict[str, str]) -> str:
    root = next((root for root in roots if uri.startswith(root)), "")
    return roots.get(root, "") + uri.removeprefix(root)


def _map_at(history: History, at: float) -> PlacementMap:
    return [placement for since, placement in history.placements if since <= at][-1]


def _stayed(history: History, ending: Ending) -> set[str]:
    """Return the workers that were in each map that the job may have known, without a restart."""
    began = ending.job.work.epoch or _map_at(history, ending.began_at).epoch
    maps = [placement for at, placement in history.placements if at <= ending.at and placement.epoch >= began]
    lives = [{(member.id, member.started_at) for member in placement.members} for placement in maps]
    return {name for name, _ in set.intersection(*lives)} if lives else set()


def _lost_disk(history: History, since: float, until: float) -> bool:
    return any(since <= at <= until for at, _ in history.losses)
