"""Index files: every line does something or is reported, and a new owner goes on where the last one was."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preheat.coordinator import _catalog, _index_file
from preheat.coordinator._cached import MemoryCachedListing
from preheat.coordinator._index_file import IndexFile, Position, parse_line
from preheat.coordinator._source import JobSource
from preheat.engine import MemoryEngine
from preheat.errors import NotFound, ObjectNotFound, OriginUnavailable, VersionChanged
from preheat.jobs import FailedObject, JobOptions, JobSpec, JobState, Progress
from preheat.paths import UfsPath
from preheat.ufs import Download, FileUnderStore, MemoryUnderStore, UnderStore
from preheat.versions import ObjectInfo
from tests.unit.memory_cluster import Cluster
from tests.unit.source_pages import every_resume_completes

INDEX = "s3://b/index.txt"
SPEC = JobSpec(index=INDEX)


@pytest.fixture
def origin() -> MemoryUnderStore:
    return MemoryUnderStore(page_size=3)


def source_of(ufs: UnderStore, *, attempts: int = 2) -> JobSource:
    listing = MemoryCachedListing({})
    return JobSource(engine=MemoryEngine(), ufs=ufs, listing_attempts=attempts, cached=listing, members=tuple)


@pytest.fixture
def source(origin: MemoryUnderStore) -> JobSource:
    return source_of(origin)


@pytest.fixture
def _small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_index_file, "_BLOCK_LINES", 3)
        patch.setattr(_index_file, "_CHUNK_BYTES", 5)
        yield


async def read(source: JobSource, spec: JobSpec = SPEC) -> tuple[list[str], dict[str, str]]:
    """Return what is done, and the code of what failed."""
    pages = [page async for page in source.pages(spec, Progress()) if page]
    done = [page.root + item.key for page in pages for item in page.objects]
    return done, {item.path: item.code for page in pages for item in page.missing}


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (b"s3://c/x", "s3://c/x"),
        (b"s3a://c/x\r", "s3://c/x"),
        (b"file:///data/x", "file:///data/x"),
        (b"a/b", "s3://b/a/b"),
        (b" a  b ", "s3://b/ a  b "),
        (b"/a//b", "s3://b//a//b"),
        (b"a\r\r", "s3://b/a\r"),
        (b"100%+a?x#y", "s3://b/100%+a?x#y"),
        (b"# no comment", "s3://b/# no comment"),
        ("ä/日本/🙂".encode(), "s3://b/ä/日本/🙂"),
        (b"\xef\xbb\xbfa", "s3://b/a"),
        (b"dir/", "s3://b/dir/"),
        (b"s3://c", "s3://c/"),
        (b"k" * 1024, "s3://b/" + "k" * 1024),
    ],
)
def test_lines(line: bytes, path: str):
    assert parse_line(line, 1, UfsPath.parse(INDEX)) == UfsPath.parse(path)


@pytest.mark.parametrize("line", [b"", b"\r", b"  \t ", b"\xef\xbb\xbf\r"])
def test_a_blank_line_names_nothing(line: bytes):
    assert parse_line(line, 1, UfsPath.parse(INDEX)) is None


@pytest.mark.parametrize(
    ("line", "shown", "reason"),
    [
        (b"caf\xe9.jpg", "caf\\xe9.jpg", "not UTF-8"),
        (b"ftp://h/x", "ftp://h/x", "no scheme that Preheat knows"),
        (b"s3://", "s3://", "names no bucket"),
        (b"a\x00\x1bb", "a\\x00\\x1bb", "characters"),
        (b"file://a/../b", "file://a/../b", "not an absolute path"),
        (b"k" * 2049, "k" * 300 + "…", "2049 bytes"),
        (b"k" * 4097, "k" * 300 + "…", "more than 4096 bytes"),
    ],
)
def test_a_line_that_is_no_path_is_a_failure_with_its_number(line: bytes, shown: str, reason: str):
    failed = parse_line(line, 17, UfsPath.parse(INDEX))
    assert isinstance(failed, FailedObject)
    assert (failed.path, failed.code, failed.size) == (shown, "invalid_path", 0)
    assert failed.message.startswith(f"Line 17 of {INDEX}: ")
    assert reason in failed.message


def test_a_file_beside_its_index_is_named_by_its_absolute_path():
    index = UfsPath.parse("file:///lists/index")
    assert str(parse_line(b"/data/x", 1, index)) == "file:///data/x"
    assert str(parse_line(b"data/x", 1, index)) == "file:///data/x"


@pytest.mark.parametrize("cursor", ["", "a%3A%2Fb:17:3:", "e:0:1:2", "e:5:9:k:e/y:ü"])
def test_a_position_is_its_text(cursor: str):
    position = Position.parse(cursor)
    assert Position.parse(str(position)) == position
    assert not cursor or str(position) == cursor


@pytest.mark.usefixtures("_small_blocks")
async def test_all_kinds_of_lines(source: JobSource, origin: MemoryUnderStore):
    for path in ("s3://b/a b%+", "s3://b/x//ü", "s3://c/y", *(f"s3://b/dir/{n}" for n in range(8)), "s3://c/d/1"):
        origin.write(path, b"x")
    lines = [b"a b%+\r", b"", b"x//\xc3\xbc", b"a b%+", b"s3://c/y", b"dir/", b"gone", b"s3://b/caf\xe9", b"s3://c/d/"]
    origin.write(INDEX, b"\n".join([*lines, b"x" * 9000, b"s3://nobody/x", b"s3://nobody/", b"empty/"]))
    done, failed = await read(source)
    assert done == ["s3://b/a b%+", "s3://b/x//ü", "s3://c/y", *(f"s3://b/dir/{n}" for n in range(8)), "s3://c/d/1"]
    assert failed == {
        "s3://b/gone": "object_not_found",
        "s3://b/caf\\xe9": "invalid_path",
        "x" * 300 + "…": "invalid_path",
        "s3://nobody/x": "bucket_not_found",
        "s3://nobody/": "bucket_not_found",
        "s3://b/empty/": "object_not_found",
    }
    assert len(await every_resume_completes(source, SPEC)) == len(done) + len(failed)


LINES = st.lists(
    st.one_of(
        st.integers(0, 30).map(lambda n: f"s3://b/{n:02d}".encode()),  # the even ones exist
        st.integers(0, 5).map(lambda n: f"s3://c/{n}".encode()),
        st.sampled_from([b"dir/", b"s3://c/dir/", b"none/", b"", b"\r", b" ", b"\xff", b"nope://x", b"y" * 5000]),
    ),
    max_size=25,
)


def expected(lines: list[bytes]) -> Counter[str]:
    found = Counter[str]()
    for line in lines:
        if line in (b"dir/", b"s3://c/dir/"):
            found.update(f"{'s3://c/' if b':' in line else 's3://b/'}dir/{n}" for n in range(7))
        elif line.strip():
            failed = parse_line(line, 2, UfsPath.parse(INDEX))
            found[failed.path if isinstance(failed, FailedObject) else str(failed)] += 1
    return found


@pytest.mark.usefixtures("_small_blocks")
@given(lines=LINES, ending=st.sampled_from([b"\n", b"\r\n"]), closed=st.booleans())
@settings(deadline=None)
async def test_wherever_owners_die_every_line_is_done_once(lines: list[bytes], ending: bytes, closed: bool):
    origin = MemoryUnderStore(page_size=3)
    for number in range(0, 31, 2):
        origin.write(f"s3://b/{number:02d}", b"x")
    for number in range(7):
        origin.write(f"s3://b/dir/{number}", b"x")
        origin.write(f"s3://c/dir/{number}", b"x")
    origin.write(INDEX, ending.join(lines) + (ending if closed else b""))
    if not any(line.strip() for line in lines):
        with pytest.raises(ObjectNotFound, match="names nothing"):
            await every_resume_completes(source_of(origin), SPEC)
        return
    whole, wanted = Counter(await every_resume_completes(source_of(origin), SPEC)), expected(lines)
    assert whole.keys() == wanted.keys()
    assert all(1 <= whole[name] <= count for name, count in wanted.items())  # a duplicate within a block is done once


async def test_blocks_are_large_and_duplicates_within_one_are_done_once(source: JobSource, origin: MemoryUnderStore):
    lines = [f"{'b' if number % 2 else 'c'}/{number % 1200:04d}" for number in range(2400)]
    for line in lines[:1200]:
        origin.write(f"s3://b/{line}", b"x")
    origin.write(INDEX, "\n".join(lines).encode())
    pages = [page async for page in source.pages(SPEC, Progress()) if page]
    assert [len(page.objects) for page in pages] == [1000, 1000, 400]
    assert [item.key for page in pages for item in page.objects] == lines
    origin.write(INDEX, b"b/0001\n" * 1000)
    assert (await read(source))[0] == ["s3://b/b/0001"]


async def test_a_filter_leaves_out_lines_and_what_is_below_them(source: JobSource, origin: MemoryUnderStore):
    for key in ("1.jpg", "dir/2.jpg", "dir/2.txt", "3.txt"):
        origin.write(f"s3://b/{key}", b"x")
    origin.write(INDEX, b"1.jpg\n3.txt\ngone.txt\ngone.jpg\ndir/\n")
    spec = JobSpec(index=INDEX, options=JobOptions(file_filter_regex=r".*\.jpg"))
    assert await read(source, spec) == (["s3://b/1.jpg", "s3://b/dir/2.jpg"], {"s3://b/gone.jpg": "object_not_found"})
    assert len(await every_resume_completes(source, spec)) == 3


@pytest.mark.parametrize("body", [b"", b"\n\r\n  \n", b"\xef\xbb\xbf"])
async def test_an_index_that_names_nothing_fails_the_job(source: JobSource, origin: MemoryUnderStore, body: bytes):
    origin.write(INDEX, body)
    with pytest.raises(ObjectNotFound, match=r"index='s3://b/index\.txt' names nothing"):
        await read(source)


async def test_an_index_that_is_not_there_fails_the_job(source: JobSource, origin: MemoryUnderStore):
    origin.write("s3://b/other")
    with pytest.raises(NotFound, match=r"index\.txt"):
        await read(source)


@pytest.mark.usefixtures("_small_blocks")
async def test_an_index_that_changes_under_the_job_fails_it(source: JobSource, origin: MemoryUnderStore):
    origin.write(INDEX, b"a\nb\nc\nd\ne\nf\n")
    pages = source.pages(SPEC, Progress())
    page = await anext(pages)
    assert page is not None
    origin.write(INDEX, b"a\nb\nX\nd\ne\nf\n")
    with pytest.raises(VersionChanged, match=r"index='s3://b/index\.txt' changed while the job ran"):
        await anext(pages)
    with pytest.raises(VersionChanged, match="Submit the job again"):
        await anext(source.pages(SPEC, Progress(cursor=page.cursor)))


async def test_a_job_of_an_index_file(cluster: Cluster):
    data = cluster.fill(90)
    index = "s3://b/lists/index"
    cluster.origin.write(index, "\n".join(["data/", "gone", *list(data)[:3], "\r"]).encode() + b"\xff\n")
    known = await cluster.coordinator.service.submit(JobSpec(index=index, options=JobOptions(max_failed_files=2)))
    assert await cluster.ended(known.job.id) is JobState.SUCCEEDED
    job = (await cluster.coordinator.service.get(known.job.id)).job
    assert (job.work.listed.objects, job.work.failed.objects) == (95, 2)
    assert [item.path for item in job.failures] == ["\\r\\xff", "s3://b/gone"]
    assert all(cluster.cached(uri) for uri in data)


@pytest.mark.usefixtures("_small_blocks")
async def test_a_job_whose_index_changes_fails(cluster: Cluster):
    data = cluster.fill(90)
    cluster.origin.write("s3://b/index", "\n".join(data).encode())
    await cluster.pause_workers()  # so that the coordinator stops reading at its limit of open batches
    known = await cluster.coordinator.service.submit(JobSpec(index="s3://b/index"))
    async with asyncio.timeout(5):
        while not (await cluster.coordinator.service.get(known.job.id)).job.work.open:
            await asyncio.sleep(0.01)
    cluster.origin.write("s3://b/index", b"data/")
    cluster.resume_workers()
    assert await cluster.ended(known.job.id) is JobState.FAILED
    job = (await cluster.coordinator.service.get(known.job.id)).job
    assert job.reason.startswith("index='s3://b/index' changed while the job ran")


async def test_files_of_the_machine(tmp_path: Path):
    (tmp_path / "data").mkdir()
    for name in ("1", "2"):
        (tmp_path / "data" / name).write_text(name)
    index = tmp_path / "index"
    index.write_text(f"{tmp_path}/data/1\n{tmp_path}/data/\nfile://{tmp_path}/data/3\n")
    done, failed = await read(source_of(FileUnderStore()), JobSpec(index=f"file://{index}"))
    assert done == [f"file://{tmp_path}/data/{name}" for name in ("1", "1", "2")]
    assert failed == {f"file://{tmp_path}/data/3": "object_not_found"}


async def test_memory_is_that_of_a_block_however_long_a_line_is(origin: MemoryUnderStore):
    origin.write(INDEX, b"a\n" + b"x" * (32 << 20) + b"\nb")
    file = IndexFile(origin, UfsPath.parse(INDEX), attempts=1)
    tracemalloc.start()
    try:
        blocks = [block async for block in file.blocks(Position())]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [type(name) for name in blocks[0].names] == [UfsPath, FailedObject, UfsPath]
    assert blocks[0].end == Position(etag=blocks[0].start.etag, offset=(32 << 20) + 4, line=4)
    assert peak < 4 << 20


class FlakyUnderStore(MemoryUnderStore):
    """Fails every second request."""

    calls = 0

    def _flinch(self) -> None:
        self.calls += 1
        if self.calls % 2:
            raise OriginUnavailable("Try again.")

    async def stat(self, path: UfsPath) -> ObjectInfo:
        self._flinch()
        return await super().stat(path)

    async def get(self, path: UfsPath, *, etag: str | None = None, start: int = 0, end: int | None = None) -> Download:
        self._flinch()
        return await super().get(path, etag=etag, start=start, end=end)


async def test_requests_that_fail_are_tried_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_catalog, "_pause", lambda failures: 0.0)
    origin = FlakyUnderStore()
    origin.write("s3://b/a", b"x")
    origin.write(INDEX, b"a\n")
    assert await read(source_of(origin)) == (["s3://b/a"], {})
    origin.calls = 0
    with pytest.raises(OriginUnavailable):
        await read(source_of(origin, attempts=1))


class StallingUnderStore(MemoryUnderStore):
    """Sends a part of a body, and then nothing, or the end."""

    def __init__(self, *, stalls: bool) -> None:
        super().__init__(chunk_bytes=2)
        self._stalls = stalls

    async def _chunks(self, body: memoryview) -> AsyncIterator[memoryview]:
        yield body[:2]
        if self._stalls:
            await asyncio.Event().wait()


@pytest.mark.parametrize(("stalls", "message"), [(True, "did not arrive within"), (False, "has 2 bytes where 4")])
async def test_an_index_that_does_not_come_whole_is_an_outage(
    monkeypatch: pytest.MonkeyPatch, stalls: bool, message: str
):
    monkeypatch.setattr(_index_file, "_READ_SECONDS", 0.05)
    origin = StallingUnderStore(stalls=stalls)
    origin.write(INDEX, b"a\nb\n")
    with pytest.raises(OriginUnavailable, match=message):
        await read(source_of(origin, attempts=1))
