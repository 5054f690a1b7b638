"""What is known of writes that went through workers. Pure: the records live in the engine."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

from preheat.attributes import Attributes, lines_of
from preheat.paths import UfsPath
from preheat.versions import ObjectInfo

HELD_PREFIX = "pending:"
"""Of the names under which page stores hold what is pending: no path begins so, and it is never evicted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """What a path was last known to hold, after a write or a removal that went through a worker. It expires."""

    path: str
    """URI."""
    etag: str
    """Of the version that is there now; empty if there is none, or nobody knows: then no copy may be kept."""
    worker: str
    """The worker that wrote it."""
    ends: str = ""
    """Id of the pending write that is none any more."""
    written_at: float
    """Seconds since the epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingWrite:
    """A version that was acknowledged and is held by workers: in the cache alone, or until the under store has it."""

    path: str
    """URI."""
    id: str
    """Of this write: no other one has it."""
    etag: str
    """Its MD5, or what S3 makes of those of its parts."""
    size: int
    """Bytes."""
    written_at: float
    """Seconds since the epoch."""
    holders: tuple[str, ...]
    """Ids of the workers that have its bytes, the owner first."""
    temporary: bool = False
    """It is never persisted."""
    attributes: Attributes = field(default_factory=dict)
    """What its writer says of it besides."""
    claimed_by: str = ""
    """Who changes the under store's object now: nobody else may."""
    claimed_until: float = 0.0
    """Seconds since the epoch; a claim that is not renewed ends."""

    @property
    def held_name(self) -> str:
        """Under which name its holders' page stores have it."""
        return held_name(self.id, self.path)

    @property
    def info(self) -> ObjectInfo:
        """The version as a listing shows it."""
        key = UfsPath.parse(self.path).key
        told = lines_of(self.attributes)
        return ObjectInfo(key=key, size=self.size, etag=self.etag, last_modified=self.written_at, attributes=told)

    def is_claimed(self, now: float, *, but_by: str = "") -> bool:
        """Whether somebody other than ``but_by`` has a claim."""
        return self.claimed_by not in ("", but_by) and self.claimed_until > now


class OrderedUris:
    """URIs in their order, so that those below a path are found without a look at the others.

    To add or remove one moves the references behind it: some 10 µs where there are 100,000.
    """

    def __init__(self) -> None:
        self._uris: list[str] = []

    def add(self, uri: str) -> None:
        """Have a URI; nothing happens if it is there."""
        place = bisect_left(self._uris, uri)
        if self._uris[place : place + 1] != [uri]:
            self._uris.insert(place, uri)

    def discard(self, uri: str) -> None:
        """Not have it any more; nothing happens if it is not there."""
        place = bisect_left(self._uris, uri)
        if self._uris[place : place + 1] == [uri]:
            del self._uris[place]

    def below(self, path: UfsPath, after: str = "") -> Iterator[str]:
        """Yield those at and below a path whose key is greater than ``after``, in order; none may come or go meanwhile.

        ``s3://b/x/`` has below it what starts with it; ``s3://b/x`` is the object ``x`` and what starts with ``x/``.
        """
        root, uri = str(path.with_key("")), str(path)
        prefix = uri
        if path.key and not path.key.endswith("/"):
            prefix = f"{uri}/"
            if after < path.key and self._uris[(place := bisect_left(self._uris, uri)) : place + 1] == [uri]:
                yield uri
        last = root + after
        for place in range(bisect_left(self._uris, max(prefix, last)), len(self._uris)):
            if not (found := self._uris[place]).startswith(prefix):
                return
            if found != last:
                yield found


def held_name(write_id: str, uri: str) -> str:
    """Return the name under which a page store holds a pending version."""
    return f"{HELD_PREFIX}{write_id}:{uri}"
