"""From listings of all kinds to a job's accounts, whoever owns it: all adds up, and no more is counted than is hot."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, field, replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preheat import accounting
from preheat.coordinator import _index_file
from preheat.coordinator._cached import MemoryCachedListing
from preheat.coordinator._source import JobSource, Page
from preheat.coordinator._window_plan import plan_window
from preheat.coordinator._windows import windows
from preheat.engine import MemoryEngine
from preheat.errors import ObjectNotFound
from preheat.jobs import Action, BatchResult, FailedObject, Job, JobOptions, JobSpec, Progress, Tally
from preheat.placement import Member, PlacementMap
from preheat.planning import PlannedBatch, Planner
from preheat.ufs import MemoryUnderStore

WORKERS = ("worker-0", "worker-1", "worker-2")
INDEX = "s3://a/index.txt"
BLOCK_LINES = 4
THERE = [f"s3://{bucket}/{key}" for bucket in "ab" for key in ("d/0", "d/1", "d/2", "d/3", "e/0", "x", "y", "z")]
LINES = st.lists(
    st.sampled_from([*THERE, *THERE, "s3://a/d/", "s3://b/e/", "s3://a/nothing/", "s3://a/gone", "s3://c/"]),
    max_size=14,
)


@dataclass
class Load:
    """A load as its owners do it, and beside its record what is really hot."""

    data: st.DataObject
    source: JobSource
    job: Job
    pages: AsyncGenerator[Page | None, None] | None = None
    batches: dict[str, PlannedBatch] = field(default_factory=dict)
    accounts: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """The URIs of each account: a joint one, or a batch."""
    hot: set[str] = field(default_factory=set)
    lost: str = ""

    async def take_over(self) -> None:
        """Go on as another coordinator with the record; what the last one had listed beyond it is listed again."""
        if self.pages:
            await self.pages.aclose()
        recorded = msgspec.json.encode(accounting.without_open_failures(self.job))
        failed = {key: batch.failed for key, batch in self.job.work.open.items()}
        job = msgspec.json.decode(recorded, type=Job)
        restored = {key: replace(batch, failed=failed[key]) for key, batch in job.work.open.items()}
        self.job = replace(job, generation=job.generation + 1, work=replace(job.work, open=restored))
        enough = self.data.draw(st.integers(0, 30))
        self.pages = windows(self.source.pages(self.job.spec, self.job.work), lambda: enough)

    async def list_on(self, *, recorded: bool = True) -> None:
        """Plan the next window; an owner may die before it is recorded."""
        assert self.pages
        work, page = self.job.work, await anext(self.pages)
        if page is None:
            last = work.path_index + 1 == self.job.spec.parts
            self.keep(accounting.record_listed_path(work, last=last))
            return
        planned, after = plan_window(work, page, planner=self.planner(), placement=self.placement())
        if recorded:
            self.open(planned, after)

    def planner(self) -> Planner:
        generation, spec = self.job.generation, self.job.spec
        return Planner(job_id="j", spec=spec, action=Action.FETCH, generation=generation, batch_bytes=1 << 20)

    def placement(self) -> PlacementMap:
        return PlacementMap(members=tuple(Member(id=each, url="") for each in WORKERS if each != self.lost))

    def open(self, planned: list[PlannedBatch], work: Progress) -> None:
        self.keep(work)
        self.batches |= {item.batch.id: item for item in planned}
        for item in planned:
            self.accounts[self.account(item.batch.id)] |= {item.batch.root + entry.key for entry in item.batch.entries}

    def account(self, batch_id: str) -> str:
        return self.job.work.open[batch_id].joint or batch_id

    def keep(self, work: object) -> None:
        self.job = replace(self.job, work=work)  # type: ignore[arg-type]

    def report(self, failing: bool) -> None:
        waited_for = sorted(batch_id for batch_id, batch in self.job.work.open.items() if batch.waiting)
        batch_id = self.data.draw(st.sampled_from(waited_for))
        waiting = self.job.work.open[batch_id].waiting
        batch = self.batches[batch_id].batch
        failed = self.data.draw(st.sets(st.sampled_from(batch.entries), max_size=1)) if failing else set()
        numbers = [number for number, entry in zip(batch.numbers, batch.entries, strict=True) if entry in failed]
        result = BatchResult(
            batch_id=batch_id,
            job_id="j",
            worker=self.data.draw(st.sampled_from(waiting)),
            done=Tally(objects=len(batch.entries) - len(failed), bytes=sum(e.size for e in {*batch.entries} - failed)),
            failed=tuple(FailedObject(path=batch.root + e.key, size=e.size, code="x", message="") for e in failed),
            first_failed=min(numbers, default=None),
        )
        account = self.account(batch_id)
        work, cold = accounting.record_result(self.job.work, result)
        if account not in work.open:
            self.hot |= self.accounts[account] - {item.path for item in cold}
        self.keep(work)

    def lose(self, worker: str) -> None:
        """Give the batches of a worker that died to those that live."""
        self.lost = worker
        for batch_id in accounting.lost_batches(self.job.work, set(WORKERS) - {worker}):
            batch = self.batches[batch_id].batch
            planned = self.planner().plan_again(batch, placement=self.placement(), first=self.job.work.batches)
            self.open(planned, accounting.replace_batch(self.job.work, batch_id, planned))


async def load(
    data: st.DataObject, spec: JobSpec, origin: MemoryUnderStore, order: list[str], named: list[str]
) -> None:
    """Do a load in any order of events and check it after each.

    ``order`` has an entry for each that counts, ``named`` also those that a filter leaves out: they make blocks too.
    """
    source = JobSource(
        engine=MemoryEngine(), ufs=origin, listing_attempts=1, cached=MemoryCachedListing({}), members=tuple
    )
    done = Load(data=data, source=source, job=Job(id="j", spec=spec, submitted_at=0.0))
    await done.take_over()
    steps = st.sampled_from(["list", "list", "list", "report", "report", "fail", "lose", "take over", "die"])
    counted, budget = 0, data.draw(st.integers(0, 25))
    while not done.job.work.complete:
        budget -= 1
        step = data.draw(steps) if budget > 0 else "report" if done.job.work.open else "list"
        if step in ("list", "die") and not done.job.work.listing_done:
            await done.list_on(recorded=step == "list")
        if step in ("take over", "die"):
            await done.take_over()
        if step in ("report", "fail") and done.job.work.open:
            done.report(step == "fail")
        if step == "lose" and not done.lost:
            done.lose(data.draw(st.sampled_from(WORKERS)))
        before, counted, work = counted, accounting.hot_in_order(done.job), done.job.work
        assert work.listed == work.done + work.skipped + work.failed + sum(
            (batch.tally for batch in work.open.values()), Tally()
        )
        truth = next((number for number, uri in enumerate(order) if uri not in done.hot), len(order))
        assert before <= counted <= truth
    assert done.pages
    await done.pages.aclose()
    assert done.job.work.listed.objects == len(order)
    alone = len(set(order)) == len(order) and len({uri[: len("s3://b")] for uri in named}) < 2
    if alone or not done.job.work.failed.objects:  # what comes twice may fail once; buckets by turns count as one
        assert counted == next((number for number, uri in enumerate(order) if uri not in done.hot), len(order))


def ordered(lines: list[str], *, wanted: str) -> list[str]:
    """Return what an index file names, in its order; a directory ends a block, in which each name counts once."""
    order, block = list[str](), list[str]()
    for line in lines:
        directory = line.endswith("/")
        if directory or len(block) == BLOCK_LINES:
            order, block = order + list(dict.fromkeys(block)), []
        if directory:
            order += [uri for uri in THERE if uri.startswith(line)] or [line]
        else:
            block.append(line)
    named = order + list(dict.fromkeys(block))
    return [uri for uri in named if uri[-1] in wanted or uri.endswith("/")]


@pytest.fixture(scope="module")
def origin() -> MemoryUnderStore:
    origin = MemoryUnderStore(page_size=2)
    for uri in THERE:
        origin.write(uri, uri.encode())
    return origin


def options(data: st.DataObject, wanted: str) -> JobOptions:
    return JobOptions(
        batch_size=data.draw(st.integers(1, 4)),
        replicas=data.draw(st.integers(1, 2)),
        file_filter_regex=f".*[{wanted}]" if wanted != "0123xyze" else "",
    )


@settings(deadline=None, max_examples=80)
@given(data=st.data(), lines=LINES, wanted=st.sampled_from(["0123xyze", "02xe"]))
def test_an_index_file_is_accounted_for_in_its_order(
    origin: MemoryUnderStore, data: st.DataObject, lines: list[str], wanted: str
):
    origin.write(INDEX, "\n".join(lines).encode())
    spec = JobSpec(index=INDEX, options=options(data, wanted))
    with pytest.MonkeyPatch.context() as patched, suppress(ObjectNotFound):
        patched.setattr(_index_file, "_BLOCK_LINES", BLOCK_LINES)
        asyncio.run(load(data, spec, origin, ordered(lines, wanted=wanted), lines))


@settings(deadline=None, max_examples=30)
@given(data=st.data(), paths=st.lists(st.sampled_from(["s3://a/d/", "s3://b/", "s3://a/x"]), min_size=1, max_size=4))
def test_paths_are_accounted_for_one_after_the_other(origin: MemoryUnderStore, data: st.DataObject, paths: list[str]):
    spec = JobSpec(paths=tuple(paths), options=options(data, "0123xyze"))
    order = [uri for path in paths for uri in THERE if uri.startswith(path)]
    asyncio.run(load(data, spec, origin, order, order))
