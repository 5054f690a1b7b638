"""A job's objects from any point of its progress on: no object twice, none left out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import msgspec
import pytest

from preheat.coordinator import _catalog
from preheat.coordinator._cached import MemoryCachedListing
from preheat.coordinator._failures import CHUNK_OBJECTS, FailureLog
from preheat.coordinator._source import JobSource
from preheat.engine import Bucket, MemoryEngine
from preheat.errors import JobNotFound, OriginUnavailable
from preheat.jobs import FailedObject, Job, JobOptions, JobSpec, Progress
from preheat.paths import UfsPath
from preheat.ufs import MemoryUnderStore
from preheat.versions import ObjectInfo
from tests.unit.source_pages import every_resume_completes, names


@pytest.fixture
def engine() -> MemoryEngine:
    return MemoryEngine()


@pytest.fixture
def origin() -> MemoryUnderStore:
    return MemoryUnderStore(page_size=7)


@pytest.fixture
def source(engine: MemoryEngine, origin: MemoryUnderStore) -> JobSource:
    return JobSource(engine=engine, ufs=origin, listing_attempts=2, cached=MemoryCachedListing({}), members=tuple)


async def test_listings(source: JobSource, origin: MemoryUnderStore):
    for number in range(20):
        origin.write(f"s3://b/x/{number:02d}", b"x")
        origin.write(f"s3://c/y/{number:02d}", b"y")
    whole = await every_resume_completes(source, JobSpec(paths=("s3://b/x/", "s3://c/y/", "s3://b/x/07")))
    assert whole == [f"s3://b/x/{n:02d}" for n in range(20)] + [f"s3://c/y/{n:02d}" for n in range(20)] + [
        "s3://b/x/07"
    ]
    spec = JobSpec(paths=("s3://b/x/",), options=JobOptions(file_filter_regex=".*[05]"))
    assert len(await every_resume_completes(source, spec)) == 4


async def test_failed_objects_of_another_job(source: JobSource, origin: MemoryUnderStore, engine: MemoryEngine):
    paths = [f"s3://{bucket}/{number:04d}" for number in range(CHUNK_OBJECTS) for bucket in "bcd"]
    for path in paths[::2]:
        origin.write(path, b"x")
    for bucket in "bcd":
        origin.write(f"s3://{bucket}/other", b"x")
    failed = [FailedObject(path=path, size=1, code="x", message="m") for path in paths]
    job = Job(id="j", spec=JobSpec(paths=("s3://b/",)), submitted_at=0.0)
    job = replace(job, failure_chunks=await FailureLog(engine).append(job, failed))
    await engine.put(Bucket.JOBS, "j", msgspec.json.encode(job))
    assert job.failure_chunks == {0: 3}
    whole = await every_resume_completes(source, JobSpec(paths=("s3://b/",), retry_of="j"))
    assert sorted(whole) == sorted(paths)


async def test_a_forgotten_job_cannot_be_retried(source: JobSource):
    with pytest.raises(JobNotFound, match="whose failed files"):
        await anext(source.pages(JobSpec(paths=("s3://b/",), retry_of="gone"), Progress()))


async def test_what_failed_because_of_its_name_stays_failed(
    source: JobSource, origin: MemoryUnderStore, engine: MemoryEngine
):
    origin.write("s3://b/a", b"x")
    failed = [
        FailedObject(path=path, size=0, code="x", message="m") for path in ("\\xff", "s3://b/a", "s3://no/a", "ftp:")
    ]
    job = Job(id="j", spec=JobSpec(index="s3://b/index"), submitted_at=0.0)
    job = replace(job, failure_chunks=await FailureLog(engine).append(job, failed))
    await engine.put(Bucket.JOBS, "j", msgspec.json.encode(job))
    spec = JobSpec(index="s3://b/index", retry_of="j")
    assert await every_resume_completes(source, spec) == ["\\xff", "ftp:", "s3://b/a", "s3://no/a"]
    pages = [page async for page in source.pages(spec, Progress()) if page]
    assert [item.code for page in pages for item in page.missing] == ["x", "x", "bucket_not_found"]


async def test_long_names_fill_a_chunk_of_the_failure_log_sooner(engine: MemoryEngine):
    log = FailureLog(engine)
    failed = [
        FailedObject(path=f"s3://b/{n:04d}" + "ü" * 500, size=1, code="x", message="m" * 1000) for n in range(1500)
    ]
    job = Job(id="j", spec=JobSpec(paths=("s3://b/",)), submitted_at=0.0)
    job = replace(job, failure_chunks=await log.append(job, failed))
    chunks = [chunk async for chunk in log.read(job)]
    assert [item for chunk in chunks for item in chunk] == failed
    assert max(len(msgspec.json.encode(chunk)) for chunk in chunks) < 600_000


async def test_a_listing_that_breaks_off_goes_on(engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_catalog, "_pause", lambda failures: 0.0)
    origin = FlakyUnderStore(page_size=7)
    paths = [f"s3://b/{number:02d}" for number in range(20)]
    for path in paths:
        origin.write(path, b"x")
    origin.breaks = 2
    spec = JobSpec(paths=("s3://b/",))
    source = JobSource(engine=engine, ufs=origin, listing_attempts=2, cached=MemoryCachedListing({}), members=tuple)
    assert [name async for page in source.pages(spec, Progress()) if page for name in names(page)] == paths
    origin.away = True
    with pytest.raises(OriginUnavailable):
        [page async for page in source.pages(spec, Progress())]


class FlakyUnderStore(MemoryUnderStore):
    """Breaks some listings off after a page, or is away."""

    breaks = 0
    away = False

    async def list(self, path: UfsPath, *, after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        if self.away:
            raise OriginUnavailable("away")
        async for page in super().list(path, after=after):
            yield page
            if self.breaks:
                self.breaks -= 1
                raise OriginUnavailable("broken off")
