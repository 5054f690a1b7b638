"""Windows: nothing is lost or reordered, and they grow until the workers' batches are full."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator
from dataclasses import replace
from itertools import count, repeat

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preheat.coordinator._catalog import Page
from preheat.coordinator._window_plan import plan_window
from preheat.coordinator._windows import MOST_OBJECTS, filling, windows
from preheat.copies import HeldObject
from preheat.errors import OriginUnavailable
from preheat.jobs import Action, FailedObject, JobOptions, JobSpec, JobType, Progress
from preheat.placement import Member, PlacementMap
from preheat.planning import Planner, owners_of_a_batch
from preheat.versions import ObjectInfo

NO_TIME = repeat(0.0)
GONE = FailedObject(path="s3://a/gone", size=0, code="object_not_found", message="It is gone.")


def page(first: int, number: int, *, root: str = "s3://a/", missing: bool = False, whole: bool = True) -> Page:
    objects = [
        ObjectInfo(key=f"{number:06d}", size=1, etag="e", last_modified=0.0) for number in range(first, first + number)
    ]
    return Page(
        root=root, objects=objects, cursor=f"{first + number - 1:06d}", missing=(GONE,) if missing else (), whole=whole
    )


async def listing(pages: Iterable[Page | None]) -> AsyncGenerator[Page | None, None]:
    for item in pages:
        yield item


def joined(pages: Iterable[Page | None], enough: int = 10**9, *, clock: Iterator[float] = NO_TIME) -> list[Page | None]:
    async def run() -> list[Page | None]:
        return [item async for item in windows(listing(pages), lambda: enough, clock=lambda: next(clock))]

    return asyncio.run(run())


def sizes(found: list[Page | None]) -> list[int]:
    return [len(item.objects) if item else 0 for item in found]


PAGES = st.lists(
    st.one_of(
        st.none(),
        st.builds(
            lambda count, root, missing, whole: (count, root, missing, whole),
            st.integers(0, 5),
            st.sampled_from(["s3://a/", "s3://b/"]),
            st.booleans(),
            st.booleans(),
        ),
    )
)


@given(PAGES, st.integers(1, 30))
def test_every_object_comes_once_in_order_with_the_cursor_after_it(parts: list, enough: int):
    pages = [
        None if part is None else page(number * 10, part[0], root=part[1], missing=part[2], whole=part[3])
        for number, part in enumerate(parts)
    ]
    found = joined(pages, enough)

    def told(items: Iterable[Page | None]) -> list[object]:
        flat: list[object] = []
        for item in items:
            flat += ["end"] if item is None else [(item.root, entry.key) for entry in item.objects]
            flat += [] if item is None else list(item.missing)
        return flat

    assert told(found) == told(pages)
    assert {item.cursor for item in found if item} <= {item.cursor for item in pages if item}
    assert all(item.whole for item in found if item and len(item.objects) > 5)


def test_windows_double_until_there_is_enough():
    found = joined([page(number * 100, 100) for number in range(40)], enough=800)
    assert sizes(found) == [100, 200, 400, 800, 800, 800, 800, 100]


def test_a_window_is_bounded_whatever_the_number_of_workers():
    found = joined([page(number * 10_000, 10_000) for number in range(30)])
    assert max(sizes(found)) < MOST_OBJECTS + 10_000


def test_pages_that_fill_the_batches_by_themselves_stay_as_they_are():
    pages = [page(number * 100, 100) for number in range(5)]
    assert joined(pages, enough=100) == pages


def test_what_a_slow_listing_told_in_a_second_is_planned():
    found = joined([page(number * 100, 100) for number in range(6)], clock=count(0, 0.6))
    assert sizes(found) == [100, 200, 200, 100]


@pytest.mark.parametrize("kind", ["missing", "part", "bucket"])
def test_what_is_counted_by_itself_is_not_joined(kind: str):
    other = page(
        200, 5, missing=kind == "missing", whole=kind != "part", root="s3://b/" if kind == "bucket" else "s3://a/"
    )
    found = joined([page(0, 5), page(5, 5), page(10, 5), other, page(300, 5)])
    assert other in found
    assert sizes(found)[:2] == [5, 10]


async def test_an_error_of_the_listing_reaches_the_reader():
    async def failing() -> AsyncGenerator[Page | None, None]:
        yield page(0, 5)
        raise OriginUnavailable("It broke off.")

    reader = windows(failing(), lambda: 1)
    assert await anext(reader) == page(0, 5)
    with pytest.raises(OriginUnavailable):
        await anext(reader)


def test_what_ends_a_block_of_several_buckets_does_not_wait_for_what_follows():
    pages = [page(0, 5, root="s3://b/", whole=False), page(5, 5), page(10, 5), page(15, 5)]
    assert sizes(joined(pages)) == [5, 5, 5, 5]
    assert sizes(joined([page(0, 5), *pages, page(20, 5)])) == [5, 5, 5, 10, 5]


@pytest.mark.parametrize(
    ("kind", "action", "workers", "replicas"),
    [
        (JobType.LOAD, Action.FETCH, 200, 2),
        (JobType.REPLICATE, Action.FETCH, 50, 3),
        (JobType.REBALANCE, Action.REBALANCE, 100, 1),
    ],
)
def test_a_window_leaves_a_record_that_the_engine_takes(kind: JobType, action: Action, workers: int, replicas: int):
    members = tuple(Member(id=f"preheat-worker-{number}", url="") for number in range(workers))
    spec = JobSpec(type=kind, options=JobOptions(replicas=replicas))
    planner = Planner(job_id="j", spec=spec, action=action, generation=1, batch_bytes=1 << 30)
    enough = filling(batch_size=500, workers=workers, owners=owners_of_a_batch(spec))
    window = page(0, min(enough, MOST_OBJECTS))
    if action is Action.REBALANCE:
        window = replace(window, objects=[held(item, number % workers) for number, item in enumerate(window.objects)])
    planned, progress = plan_window(Progress(), window, planner=planner, placement=PlacementMap(members=members))
    assert sum(len(item.workers) + len(item.then) for item in planned) <= 1 << 15
    assert len(msgspec.json.encode(progress)) < 6 << 20


def held(item: ObjectInfo, worker: int) -> HeldObject:
    """Return an object as one worker has it, though not because of this job."""
    return HeldObject(
        key=item.key, size=1, etag="e", last_modified=0.0, workers=(f"preheat-worker-{worker}",), job_ids=("other",)
    )


@pytest.mark.parametrize(
    ("workers", "owners", "objects"), [(0, 1, 0), (2, 3, 1000), (100, 1, 50_000), (100, 2, 50_000), (500, 2, 1 << 14)]
)
def test_a_window_fills_the_batches_unless_there_would_be_too_many(workers: int, owners: int, objects: int):
    assert filling(batch_size=500, workers=workers, owners=owners) == objects
