"""Where a job's objects come from: its paths, its index file, or the failed objects of another job.

A path is listed, a name is looked up; either in the under store or, for what is done with cached objects, in the
workers' caches. A page's cursor says what comes next and no more: whoever takes the job over goes on exactly there.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, repeat

import msgspec

from preheat.access import Role, authorize, caller
from preheat.coordinator._ahead import Part, in_turn
from preheat.coordinator._bound import BoundCatalog
from preheat.coordinator._cached import CachedCatalog, CachedListing, HeldPage
from preheat.coordinator._catalog import Catalog, FilteredCatalog, OriginCatalog, Page
from preheat.coordinator._failures import FailureLog
from preheat.coordinator._index_file import Block, IndexFile, Position
from preheat.coordinator._lookup import REFUSED, by_bucket, look_up, refused
from preheat.coordinator._pinned import PinnedCatalog
from preheat.engine import Bucket, Engine
from preheat.errors import InvalidPath, JobNotFound, ObjectNotFound
from preheat.filters import KeyFilter
from preheat.inventories import Inventories
from preheat.jobs import FailedObject, Job, JobSpec, JobType, Progress
from preheat.paths import UfsPath
from preheat.placement import Member
from preheat.ufs import UnderStore

__all__ = ["JobSource", "Page"]

_Pages = Callable[[str], Part]
"""Yields the pages after a cursor."""


class JobSource:
    """The pages of a job, from a point of its progress on.

    Args:
        engine: has the failed objects of other jobs.
        ufs: the under store.
        listing_attempts: tries of one request that the under store or a live worker does not answer.
        cached: asks a worker what it holds.
        members: the workers in the placement map, now.
        drained: the workers that hold something and are not in it, now.
        inventories: say what is pinned.
        pending: what is to be persisted; by default nothing.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        ufs: UnderStore,
        listing_attempts: int,
        cached: CachedListing,
        members: Callable[[], Sequence[Member]],
        drained: Callable[[], Sequence[Member]] = tuple,
        inventories: Inventories | None = None,
        pending: Catalog | None = None,
    ) -> None:
        self._engine = engine
        self._ufs = ufs
        self._attempts = listing_attempts
        self._inventories = inventories
        self._pending = pending
        self._origin = OriginCatalog(ufs, attempts=listing_attempts)
        self._caches = CachedCatalog(cached, members, attempts=listing_attempts)
        self._all_caches = CachedCatalog(cached, lambda: (*members(), *drained()), attempts=listing_attempts)

    def pages(self, spec: JobSpec, progress: Progress) -> AsyncGenerator[Page | None, None]:
        """Yield the pages after ``progress``, and None at the end of each path.

        An index file, and the failed objects of another job, count as one path.

        Raises:
            BucketNotFound, ObjectNotFound, AccessDenied, InvalidPath: what is to be listed cannot be.
            VersionChanged: the index file changed while the job ran.
            OriginUnavailable: the under store did not answer ``listing_attempts`` times in a row.
            NoLiveWorker: nor did a worker that is in the placement map.
            JobNotFound: the job whose failed objects are to be done is not known any more.
        """
        parts = self._parts(spec)[progress.path_index :]
        cursors = chain([progress.cursor], repeat(""))
        return in_turn(part(cursor) for part, cursor in zip(parts, cursors, strict=False))

    async def held(self, path: str, *, after: str, limit: int) -> HeldPage:
        """Return what the live workers hold at and below a path after a key, at most ``limit`` objects of each.

        Raises:
            InvalidPath: it is no path.
            Forbidden: the caller's token is bound to others.
            NoLiveWorker: nobody is there, or one of the workers does not answer.
        """
        parsed = UfsPath.parse(path)
        authorize(caller(), Role.READ, [parsed])
        return await self._caches.page(parsed, after=after, limit=limit)

    def _parts(self, spec: JobSpec) -> list[_Pages]:
        catalog: Catalog = self._caches if spec.type.lists_cache else self._origin
        if spec.type is JobType.REBALANCE:
            catalog = self._all_caches
        if spec.type is JobType.PERSIST and self._pending:
            catalog = self._pending
        if spec.options.file_filter_regex:
            catalog = FilteredCatalog(catalog, KeyFilter(spec.options.file_filter_regex))
        if spec.type is JobType.LOAD and self._inventories and not spec.options.load_metadata_only:
            catalog = PinnedCatalog(catalog, self._inventories)  # what is filtered out is no failure
        if spec.within:
            catalog = BoundCatalog(catalog, spec.within)
        if spec.retry_of:
            return [partial(self._failed, catalog, spec.retry_of)]
        if spec.index:
            return [partial(self._indexed, catalog, UfsPath.parse(spec.index))]
        return [partial(_listed, catalog, UfsPath.parse(uri)) for uri in spec.paths]

    async def _failed(self, catalog: Catalog, job_id: str, cursor: str) -> Part:
        """Look each failed object of a job up anew; one that is gone stays failed.

        A cursor is the number of a chunk of the log, and how many of the chunk's pages are done.
        """
        entry = await self._engine.get(Bucket.JOBS, job_id)
        if entry is None or entry.value is None:
            raise JobNotFound(f"The job {job_id}, whose failed files were to be retried, is not known any more.")
        job = msgspec.json.decode(entry.value, type=Job)
        number, done = (int(part) for part in cursor.split(":")) if cursor else (0, 0)
        async for chunk in FailureLog(self._engine).read(job, first=number):
            groups = by_bucket(_name(failed) for failed in chunk)
            for done_then, names in enumerate(groups[done:], start=done + 1):
                yield replace(await look_up(catalog, names), cursor=f"{number}:{done_then}")
            number, done = number + 1, 0

    async def _indexed(self, catalog: Catalog, index: UfsPath, cursor: str) -> Part:
        file = IndexFile(self._ufs, index, attempts=self._attempts)
        async for block in file.blocks(Position.parse(cursor)):
            pages = _named(catalog, block) if block.directory is None else _below(catalog, block, block.directory)
            async for page in pages:
                yield page


async def _listed(catalog: Catalog, path: UfsPath, cursor: str) -> Part:
    async for page in catalog.pages(path, after=cursor):
        yield page


async def _named(catalog: Catalog, block: Block) -> Part:
    """Look the names of a block up, bucket by bucket."""
    groups = by_bucket(block.names)
    done = int(block.start.within or 0)
    for done_then, names in enumerate(groups[done:], start=done + 1):
        whole = done_then == len(groups)
        cursor = block.end if whole else replace(block.start, within=str(done_then))
        yield replace(await look_up(catalog, names), cursor=str(cursor), whole=whole)


async def _below(catalog: Catalog, block: Block, directory: UfsPath) -> Part:
    """List a directory of an index file; one that cannot be listed is one failure, like a name that is not there."""
    after = block.start.within
    try:
        async for page in catalog.pages(directory, after=after):
            after = page.cursor
            yield replace(page, cursor=str(replace(block.start, within=after)))
        if not after:
            raise ObjectNotFound(f"path='{directory}': nothing is below it.")
    except REFUSED as error:
        failed = refused(directory, error)
        yield Page(root=str(directory.with_key("")), objects=(), cursor=str(block.end), missing=(failed,))


def _name(failed: FailedObject) -> UfsPath | FailedObject:
    try:
        return UfsPath.parse(failed.path)
    except InvalidPath:  # it was no path when it failed, and is none now
        return failed
