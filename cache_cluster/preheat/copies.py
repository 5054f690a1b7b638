"""Copies of objects in caches: what one worker holds, and what all of them hold together."""

from __future__ import annotations

from preheat.versions import ObjectInfo


class CachedCopy(ObjectInfo, frozen=True, kw_only=True, gc=False):
    """One worker's copy of an object."""

    job_id: str = ""
    """The job that brought it; empty for a reader."""


class HeldObject(ObjectInfo, frozen=True, kw_only=True, gc=False):
    """The newest version of an object that workers hold."""

    workers: tuple[str, ...]
    """Who holds this version."""
    job_ids: tuple[str, ...]
    """Which job brought each of these copies; empty for a reader."""
    outdated: tuple[str, ...] = ()
    """Who holds another version."""

    @property
    def info(self) -> ObjectInfo:
        """The object alone."""
        return ObjectInfo(key=self.key, size=self.size, etag=self.etag, last_modified=self.last_modified)

    def copies_before(self, job_id: str) -> int:
        """Return how many copies there are besides those that a job itself brought."""
        return sum(each != job_id for each in self.job_ids)
