"""What is pending below a path: found in order, and without a look at the rest."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preheat.coordinator import _persist
from preheat.engine import Bucket, Entry, MemoryEngine
from preheat.keys import key_of
from preheat.paths import UfsPath
from preheat.ufs import Selection
from preheat.views import BucketView
from preheat.worker._pending import PendingTable
from preheat.writes import OrderedUris, PendingWrite

KEYS = st.text(alphabet="ab-/é\U0001f600", min_size=1, max_size=5)
URIS = st.builds("s3://{}/{}".format, st.sampled_from(["b", "c", "b-"]), KEYS)


@given(
    kept=st.sets(URIS, max_size=20), gone=st.sets(URIS, max_size=5), key=st.just("") | KEYS, after=st.just("") | KEYS
)
def test_it_is_what_a_look_at_all_of_them_finds(kept: set[str], gone: set[str], key: str, after: str):
    ordered = OrderedUris()
    for uri in [*kept, *gone, *kept]:
        ordered.add(uri)
    for uri in [*gone - kept, *gone - kept, "s3://b/never"]:
        ordered.discard(uri)
    path = UfsPath.parse("s3://b/").with_key(key)
    selection = Selection.of(path, after)
    keys = (uri.removeprefix("s3://b/") for uri in kept if uri.startswith("s3://b/"))
    expected = sorted((key for key in keys if selection.selects(key)), key=str.encode)
    assert list(ordered.below(path, after)) == [f"s3://b/{key}" for key in expected]


def test_a_page_costs_a_page_however_much_is_pending():
    class Counted(dict[str, PendingWrite]):
        looks = 0

        def __getitem__(self, uri: str) -> PendingWrite:
            self.looks += 1
            return super().__getitem__(uri)

    table = PendingTable()
    table._by_uri = found = Counted()
    for number in range(5000):
        uri = f"s3://b/run-{number % 5}/{number:05}"
        write = PendingWrite(path=uri, id=str(number), etag="e", size=1, written_at=0.0, holders=("worker-0",))
        table.set(str(number), write, number + 1)
    page = table.below(UfsPath.parse("s3://b/run-3/"), "run-3/00100", 10)
    assert [info.key for info in page] == [f"run-3/{number:05}" for number in range(103, 150, 5)]
    assert found.looks == 10


async def test_a_coordinator_lists_in_pages_what_is_to_be_persisted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_persist, "_PAGE", 3)
    view = BucketView(MemoryEngine(), Bucket.PENDING, PendingWrite)
    catalog = _persist.PendingCatalog(view)

    def change(number: int, revision: int, *, temporary: bool = False, gone: bool = False) -> None:
        uri = f"s3://b/run/{number}"
        write = PendingWrite(
            path=uri, id="w", etag="e", size=1, written_at=0.0, holders=("worker-0",), temporary=temporary
        )
        value = None if gone else msgspec.json.encode(write)
        view.apply(Entry(key=key_of(uri), value=value, revision=revision))

    for number in range(8):
        change(number, number + 1, temporary=number == 4)
    change(2, 10, gone=True)
    change(5, 11)
    pages = [page async for page in catalog.pages(UfsPath.parse("s3://b/run/"), after="run/0")]
    assert [[info.key for info in page.objects] for page in pages] == [["run/1", "run/3", "run/5"], ["run/6", "run/7"]]
    assert [page.cursor for page in pages] == ["run/5", "run/7"]
    listing = catalog.pages(UfsPath.parse("s3://b/run"), after="")
    assert len((await anext(listing)).objects) == 3
    change(5, 12, gone=True)
    assert [info.key async for page in listing for info in page.objects] == ["run/6", "run/7"]
    assert [await catalog.find(UfsPath.parse(f"s3://b/run/{number}")) for number in (2, 4)] == [None, None]
