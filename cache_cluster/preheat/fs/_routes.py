"""Which worker to ask: the client's view of the placement, without I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf

from preheat.placement import Member, PlacementMap


class Routes:
    """The last known placement map, and the workers in it that did not answer lately.

    A worker that did not answer is left out for a while: its objects go to the worker that would own them without it.
    Once every worker is left out, all are tried again. Times are those of one monotonic clock, in seconds.

    Args:
        refresh_seconds: how long a map is used before it is asked for again.
        suspect_seconds: how long a worker that did not answer is left out.
        fixed: a map that is never asked for.
    """

    def __init__(self, *, refresh_seconds: float, suspect_seconds: float, fixed: PlacementMap | None = None) -> None:
        self._refresh_seconds = refresh_seconds
        self._suspect_seconds = suspect_seconds
        self._map = fixed or PlacementMap()
        self._due_at = inf if fixed else -inf
        self._refreshes = fixed is None
        self._suspects: dict[str, float] = {}

    @property
    def known(self) -> bool:
        """Whether there is a worker to ask."""
        return bool(self._map.members)

    @property
    def urls(self) -> tuple[str, ...]:
        """The workers' base URLs."""
        return tuple(member.url for member in self._map.members)

    def is_due(self, now: float) -> bool:
        """Return whether the map should be asked for."""
        return self._refreshes and now >= self._due_at

    def learn(self, placement: PlacementMap | None, now: float) -> None:
        """Use a new map; keep the old one if there is none, or if it is empty: a worker may serve all the same."""
        if placement is not None and placement.members:
            self._map = placement
        self._due_at = now + self._refresh_seconds

    def suspect(self, member: Member, now: float) -> None:
        """Leave a worker out for a while, and ask for the map soon."""
        self._suspects[member.id] = now + self._suspect_seconds
        self._due_at = now

    def owner(self, path: str, now: float) -> Member | None:
        """Return the worker to ask for a path; none if no worker is known."""
        return next(iter(self._answering(now).owners(path)), None)

    def shares(self, paths: Sequence[str], now: float) -> list[tuple[Member, list[int]]]:
        """Return the workers to ask for many paths, each with the positions of its paths; nothing if none is known."""
        placement = self._answering(now)
        shares: dict[str, tuple[Member, list[int]]] = {}
        for index, path in enumerate(paths):
            for member in placement.owners(path):
                shares.setdefault(member.id, (member, []))[1].append(index)
        return list(shares.values())

    def _answering(self, now: float) -> PlacementMap:
        """Return the map without the workers that are left out."""
        self._suspects = {worker: until for worker, until in self._suspects.items() if until > now}
        if not self._suspects:
            return self._map
        answering = tuple(member for member in self._map.members if member.id not in self._suspects)
        return replace(self._map, members=answering) if answering else self._map
