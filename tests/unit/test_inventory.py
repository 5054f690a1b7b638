"""Inventories as values: which paths they cover, what their blocks hold, and two listings side by side."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from preheat.coordinator._comparison import ChangeKind, Comparison, side_by_side
from preheat.inventory import Block, BlockHead, Coverage, Inventory, Pin, Position, head_of, pack, stored_block
from preheat.versions import DatasetVersion, ObjectInfo

KEYS = st.text("ab/é", max_size=5)
URIS = KEYS.map(lambda key: f"s3://b/{key}")
HEAD = BlockHead(first_key="a", start=Position(), end=Position(objects=7, bytes=70, version="ab" * 32))


def info(key: str, etag: str = "e", size: int = 1) -> ObjectInfo:
    return ObjectInfo(key=key, size=size, etag=etag, last_modified=1.5)


LISTINGS = st.dictionaries(KEYS, st.tuples(st.sampled_from("efg"), st.integers(0, 3))).map(
    lambda objects: [info(key, *objects[key]) for key in sorted(objects)]
)


def inventory(number: int, path: str, **others: object) -> Inventory:
    values = {"version": "", "objects": 0, "bytes": 0, "listed_at": 0.0, "job_id": "", "first_keys": ()}
    return Inventory(id=str(number), path=path, **(values | others))  # type: ignore[arg-type]


def covers(path: str, uri: str) -> bool:
    """What :func:`preheat.inventory.covering_paths` has to agree with."""
    return uri.startswith(path) if path.endswith("/") else uri == path or uri.startswith(f"{path}/")


@given(st.lists(URIS, max_size=6), URIS)
def test_the_latest_listing_and_the_longest_pin_cover_a_path(paths: list[str], uri: str):
    listed = [inventory(number, path, listed_at=float(number)) for number, path in enumerate(paths)]
    pins = {path: Pin(id=path, path=path, inventory="", version="", pinned_at=0) for path in paths}
    coverage = Coverage(listed, pins.values())
    assert coverage.latest(uri) == max(
        (item for item in listed if covers(item.path, uri)), key=lambda item: item.listed_at, default=None
    )
    assert coverage.pin(uri) == max(
        (pin for pin in pins.values() if covers(pin.path, uri)), key=lambda pin: len(pin.path), default=None
    )


def test_what_is_retired_is_found_by_its_pin_alone_and_goes_when_the_pin_does():
    old, new = (inventory(number, "s3://b/x/", listed_at=float(number)) for number in range(2))
    pin = Pin(id="p", path="s3://b/x/", inventory=old.id, version="", pinned_at=0)
    assert Coverage([old, new]).superseded() == [old]
    assert Coverage([old, new], [pin]).superseded() == []
    retired = replace(old, retired_at=100.0)
    assert Coverage([retired]).latest("s3://b/x/1") is None
    assert Coverage([retired], [pin]).inventories[pin.inventory] == retired
    assert Coverage([retired], [pin]).expired(1000.0) == []
    assert Coverage([retired]).expired(100.0) == []
    assert Coverage([retired]).expired(100.1) == [retired]


@given(LISTINGS, st.lists(st.integers(0, 9), max_size=4), KEYS, KEYS, st.integers(0, 5))
def test_a_block_holds_what_was_put_into_it(
    objects: list[ObjectInfo], cuts: list[int], key: str, after: str, limit: int
):
    bounds = [0, *sorted(min(cut, len(objects)) for cut in cuts), len(objects)]
    parts = tuple(pack(objects[start:end]) for start, end in pairwise(bounds))
    value = stored_block(HEAD, parts)
    block = Block(value)
    assert head_of(value) == block.head == HEAD
    assert block.up_to("\U0010ffff") == objects
    assert block.find(key) == next((item for item in objects if item.key == key), None)
    assert block.up_to(key) == [item for item in objects if item.key <= key]
    below = [item for item in objects if item.key.startswith(key) and item.key > after]
    assert block.below(key, after=after, limit=limit) == below[:limit]


async def paged(objects: Sequence[ObjectInfo], cuts: Sequence[int]) -> AsyncIterator[Sequence[ObjectInfo]]:
    bounds = [0, *sorted(min(cut, len(objects)) for cut in cuts), len(objects)]
    for start, end in pairwise(bounds):
        yield objects[start:end]


CUTS = st.lists(st.integers(0, 9), max_size=5)


@given(LISTINGS, LISTINGS, CUTS, CUTS, st.integers(0, 4))
async def test_drift_is_what_a_comparison_of_sets_finds(
    old: list[ObjectInfo], new: list[ObjectInfo], old_cuts: list[int], new_cuts: list[int], limit: int
):
    found = Comparison(limit=limit)
    async for pair in side_by_side(paged(old, old_cuts), paged(new, new_cuts)):
        found.add(*pair)
    before, after = ({item.key: (item.etag, item.size) for item in listing} for listing in (old, new))
    naive = {
        ChangeKind.ADDED: after.keys() - before.keys(),
        ChangeKind.DELETED: before.keys() - after.keys(),
        ChangeKind.CHANGED: {key for key in before.keys() & after.keys() if before[key] != after[key]},
    }
    assert found.counts == {kind: len(keys) for kind, keys in naive.items()}
    assert found.unchanged.objects == len(set(before.items()) & set(after.items()))
    changes = sorted((key, kind) for kind, keys in naive.items() for key in keys)
    assert [(change.key, change.kind) for change in found.examples] == changes[:limit]
    versions = [DatasetVersion(), DatasetVersion()]
    for version, listing in zip(versions, (old, new), strict=True):
        version.update(listing)
    assert [found.old_version.state, found.new_version.state] == [version.state for version in versions]
    assert found.drifted is (before != after)
