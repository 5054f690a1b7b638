"""Which workers are live, and the placement map that follows from it. Pure: the caller gives the time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from preheat.placement import SLOTS, Member, PlacementMap

_GIB = float(1 << 30)


@dataclass(frozen=True, kw_only=True, slots=True)
class Heartbeat:
    """What a worker says of itself every few seconds."""

    id: str
    url: str
    """Base URL of its data port."""
    s3_url: str = ""
    """The endpoint for S3 clients; empty if it serves none."""
    capacity: int
    """Bytes."""
    used: int = 0
    objects: int = 0
    active_batches: int = 0
    pool_size: int = 0
    """Batches that it works on at once."""
    load_average: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Of its machine, over 1, 5 and 15 minutes."""
    started_at: float = 0.0
    """Seconds since the epoch; tells one process from the next with the same id."""
    leaving: bool = False
    """The worker is stopping or drained: it takes no more batches."""
    stopped: bool = False
    """It is the last one: nobody answers any more."""
    zone: str = ""
    """What fails together, such as a rack: copies go to different ones where there are."""
    transfers: dict[str, int] = field(default_factory=dict)
    """By job: bytes that its batches in work have fetched so far."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerControl:
    """What was asked of a worker. Any coordinator writes it; the worker obeys."""

    drained: bool = False
    """It finishes the batches in work, hands the others over, and takes no more; it goes on serving reads."""
    started_at: float = 0.0
    """Of the heartbeats of the process that is meant; 0 means whichever has the id, over restarts."""

    def concerns(self, started_at: float) -> bool:
        """Say whether the process that started then is to be drained."""
        return self.drained and self.started_at in (0.0, started_at)


@dataclass(frozen=True, kw_only=True, slots=True)
class Beacon:
    """What a coordinator says of itself every few seconds, so that workers can forward requests to it."""

    id: str
    url: str
    """Base URL of its REST API."""
    started_at: float = 0.0
    """Seconds since the epoch."""


class Registry:
    """The heartbeats seen, and when."""

    def __init__(self, *, timeout_seconds: float) -> None:
        self._timeout = timeout_seconds
        self._seen: dict[str, tuple[Heartbeat, float]] = {}

    def record(self, heartbeat: Heartbeat, now: float) -> None:
        """Note a heartbeat at a time in seconds."""
        self._seen[heartbeat.id] = (heartbeat, now)

    def forget(self, worker_id: str) -> None:
        """Drop a worker that is gone for good."""
        self._seen.pop(worker_id, None)

    def suspects(self, now: float) -> bool:
        """Say whether somebody was silent for more than half of the timeout, and is not given up yet."""
        return any(self._timeout / 2 < now - seen < self._timeout for _, seen in self._seen.values())

    def all(self) -> list[Heartbeat]:
        """Return the last heartbeat of every worker known, by id."""
        return [heartbeat for _, (heartbeat, _) in sorted(self._seen.items())]

    def live(self, now: float) -> list[Heartbeat]:
        """Return the workers that sent one within the timeout and do not leave, by id."""
        return [heartbeat for heartbeat in self._heard(now) if not heartbeat.leaving]

    def leaving(self, now: float) -> list[Heartbeat]:
        """Return the workers that sent one within the timeout and leave, but have not stopped yet, by id."""
        return [heartbeat for heartbeat in self._heard(now) if heartbeat.leaving and not heartbeat.stopped]

    def _heard(self, now: float) -> list[Heartbeat]:
        return [heartbeat for _, (heartbeat, seen) in sorted(self._seen.items()) if now - seen < self._timeout]


def next_placement(current: PlacementMap, live: Iterable[Heartbeat]) -> PlacementMap | None:
    """Return the map at the next epoch if the live workers differ from the current map's; none if they do not.

    The first map decides about the slots: with others everything would move.
    """
    members = tuple(
        Member(
            id=worker.id,
            url=worker.url,
            weight=max(worker.capacity / _GIB, 1e-9),
            zone=worker.zone,
            started_at=worker.started_at,
        )
        for worker in live
    )
    if members == current.members:
        return None
    return PlacementMap(epoch=current.epoch + 1, members=members, slots=current.slots if current.epoch else SLOTS)
