"""The last writes that a worker knows of: by them it tells whether what another one has is out of date."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from preheat.writes import Written

_MAX_PATHS = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class RecentWrite:
    """One write."""

    written: Written
    revision: int
    """Of its record; 0 while the engine has not got it."""


class RecentWrites:
    """Knows the last write of each of the paths that were written last, this worker's own ones too."""

    def __init__(self) -> None:
        self._writes: OrderedDict[str, RecentWrite] = OrderedDict()

    def get(self, uri: str) -> RecentWrite | None:
        """Return the last write of a path."""
        return self._writes.get(uri)

    def etag(self, uri: str) -> str | None:
        """Return the version that was written last; empty if no copy can be trusted, none if nothing is known."""
        known = self._writes.get(uri)
        return known.written.etag if known else None

    def remember(self, written: Written, revision: int) -> None:
        """Know a write, in place of an older one of its path."""
        self._writes[written.path] = RecentWrite(written=written, revision=revision)
        self._writes.move_to_end(written.path)
        if len(self._writes) > _MAX_PATHS:
            self._writes.popitem(last=False)

    def forget(self, uri: str) -> None:
        """Know nothing of a path any more."""
        self._writes.pop(uri, None)
