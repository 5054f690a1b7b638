"""A job's objects from any point of its progress on: no object twice, none left out."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from preheat.coordinator._failures import CHUNK_OBJECTS, FailureLog
from preheat.coordinator._source import JobSource, Page
from preheat.engine import Bucket, MemoryEngine
from preheat.errors import JobNotFound
from preheat.jobs import FailedObject, Job, JobSpec, LoadOptions, Progress
from preheat.ufs import MemoryUnderStore


@pytest.fixture
def engine() -> MemoryEngine:
    return MemoryEngine()


@pytest.fixture
def origin() -> MemoryUnderStore:
    return MemoryUnderStore(page_size=7)


@pytest.fixture
def source(engine: MemoryEngine, origin: MemoryUnderStore) -> JobSource:
    return JobSource(engine=engine, ufs=origin, listing_attempts=2)


def names(page: Page) -> list[str]:
    return [page.root + item.key for item in page.objects] + [item.path for item in page.missing]


async def every_resume_completes(source: JobSource, spec: JobSpec) -> list[str]:
    """Read all pages, then again from after each page: what was read before and after are the whole, once."""
    pages = [page async for page in source.pages(spec, Progress())]
    whole = [name for page in pages if page for name in names(page)]
    index, before = 0, list[str]()
    for page in pages:
        if page is None:
            index += 1
            progress = Progress(path_index=index)
        else:
            before += names(page)
            progress = Progress(path_index=index, cursor=page.cursor)
        after = [name async for rest in source.pages(spec, progress) if rest for name in names(rest)]
        assert before + after == whole
    return whole


async def test_listings(source: JobSource, origin: MemoryUnderStore):
    for number in range(20):
        origin.put(f"s3://b/x/{number:02d}", b"x")
        origin.put(f"s3://c/y/{number:02d}", b"y")
    whole = await every_resume_completes(source, JobSpec(paths=("s3://b/x/", "s3://c/y/", "s3://b/x/07")))
    assert whole == [f"s3://b/x/{n:02d}" for n in range(20)] + [f"s3://c/y/{n:02d}" for n in range(20)] + [
        "s3://b/x/07"
    ]
    spec = JobSpec(paths=("s3://b/x/",), options=LoadOptions(file_filter_regex=".*[05]"))
    assert len(await every_resume_completes(source, spec)) == 4


async def test_failed_objects_of_another_job(source: JobSource, origin: MemoryUnderStore, engine: MemoryEngine):
    paths = [f"s3://{bucket}/{number:04d}" for number in range(CHUNK_OBJECTS) for bucket in "bcd"]
    for path in paths[::2]:
        origin.put(path, b"x")
    for bucket in "bcd":
        origin.put(f"s3://{bucket}/other", b"x")
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
