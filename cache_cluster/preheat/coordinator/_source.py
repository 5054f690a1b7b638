"""Where a job's objects come from: the listings of its paths, or the failed objects of another job."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import msgspec

from preheat.coordinator._failures import FailureLog
from preheat.engine import Bucket, Engine
from preheat.errors import JobNotFound, ObjectNotFound, OriginUnavailable
from preheat.jobs import FailedObject, Job, JobSpec, Progress
from preheat.paths import UfsPath
from preheat.ufs import UnderStore
from preheat.versions import ObjectInfo

_STATS_AT_ONCE = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Some objects of one bucket, in order."""

    root: str
    """URI of the bucket, ending with a slash."""
    objects: Sequence[ObjectInfo]
    cursor: str
    """Where the listing goes on after this page."""
    missing: tuple[FailedObject, ...] = ()
    """Objects that were asked for and are not there."""


class JobSource:
    """The pages of a job, from a point of its progress on."""

    def __init__(self, *, engine: Engine, ufs: UnderStore, listing_attempts: int) -> None:
        self._engine = engine
        self._ufs = ufs
        self._attempts = listing_attempts

    async def pages(self, spec: JobSpec, progress: Progress) -> AsyncIterator[Page | None]:
        """Yield the pages after ``progress``, and None at the end of each path.

        Raises:
            BucketNotFound, AccessDenied: as named.
            OriginUnavailable: the under store broke the listing off ``listing_attempts`` times in a row.
        """
        cursor = progress.cursor
        for uri in spec.paths[progress.path_index :]:
            pages = self._failed(spec.retry_of, cursor) if spec.retry_of else self._listed(uri, cursor)
            async for page in pages:
                yield _filtered(spec, page)
            yield None
            cursor = ""

    async def _listed(self, uri: str, cursor: str) -> AsyncIterator[Page]:
        path = UfsPath.parse(uri)
        root = str(path.with_key(""))
        failures = 0
        while True:
            try:
                async for objects in self._ufs.list(path, after=cursor):
                    failures, cursor = 0, objects[-1].key
                    yield Page(root=root, objects=objects, cursor=cursor)
            except OriginUnavailable:
                failures += 1
                if failures >= self._attempts:
                    raise
                await asyncio.sleep(2.0 ** (failures - 1))
            else:
                return

    async def _failed(self, job_id: str, cursor: str) -> AsyncIterator[Page]:
        """Look each failed object of a job up anew; one that is gone stays failed."""
        entry = await self._engine.get(Bucket.JOBS, job_id)
        if entry is None or entry.value is None:
            raise JobNotFound(f"The job {job_id}, whose failed files were to be retried, is not known any more.")
        job = msgspec.json.decode(entry.value, type=Job)
        first, done = (int(part) for part in cursor.split(":")) if cursor else (0, 0)
        number = first
        async for chunk in FailureLog(self._engine).read(job, first=first):
            for page in (await self._look_up(chunk, number))[done:]:
                yield page
            number, done = number + 1, 0

    async def _look_up(self, chunk: Sequence[FailedObject], number: int) -> list[Page]:
        """Return one page per bucket; a cursor is the chunk's number and how many of its pages are done."""
        gate = asyncio.Semaphore(_STATS_AT_ONCE)

        async def stat(failed: FailedObject) -> ObjectInfo | FailedObject:
            async with gate:
                try:
                    return await self._ufs.stat(UfsPath.parse(failed.path))
                except ObjectNotFound as error:
                    return FailedObject(path=failed.path, size=0, code=error.code, message=str(error))

        found: dict[str, list[ObjectInfo | FailedObject]] = defaultdict(list)
        for failed, result in zip(chunk, await asyncio.gather(*map(stat, chunk)), strict=True):
            found[str(UfsPath.parse(failed.path).with_key(""))].append(result)
        return [_page(root, found[root], f"{number}:{done}") for done, root in enumerate(sorted(found), start=1)]


def _page(root: str, results: Sequence[ObjectInfo | FailedObject], cursor: str) -> Page:
    return Page(
        root=root,
        objects=sorted((item for item in results if isinstance(item, ObjectInfo)), key=lambda item: item.key),
        cursor=cursor,
        missing=tuple(item for item in results if isinstance(item, FailedObject)),
    )


def _filtered(spec: JobSpec, page: Page) -> Page:
    """Keep the objects whose key the job's filter matches in full; the cursor moves past the others too."""
    matches = _matcher(spec.options.file_filter_regex)
    if matches is None:
        return page
    objects = [item for item in page.objects if matches(item.key)]
    return Page(root=page.root, objects=objects, cursor=page.cursor, missing=page.missing)


def _matcher(pattern: str | None) -> Callable[[str], object] | None:
    return re.compile(pattern).fullmatch if pattern else None
