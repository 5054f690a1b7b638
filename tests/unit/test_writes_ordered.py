"""What is pending below a path: found in order, and without a look at the rest."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from preheat.paths import UfsPath
from preheat.ufs import Selection
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
