"""Pages of ListObjects, against a model that looks at every key; tokens; and what is read to make them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preheat.versions import ObjectInfo
from preheat.worker.s3._errors import S3Error
from preheat.worker.s3._listing import ListPage, ListQuery, list_page
from preheat.worker.s3._tokens import decode_token, encode_token


class Bucket:
    """Objects in order, as a source lists them, and the number of requests."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._objects = [ObjectInfo(key=key, size=1, etag="e", last_modified=0.0) for key in sorted(set(keys))]
        self._keys = [item.key for item in self._objects]
        self.requests = 0
        self.read = 0

    async def __call__(self, directory: str, *, after: str, limit: int) -> Sequence[ObjectInfo]:
        assert directory == "" or directory.endswith("/")
        assert limit >= 1
        after.encode()
        self.requests += 1
        begin = bisect_right(self._keys, after)
        found = [item for item in self._objects[begin:] if item.key.startswith(directory)][:limit]
        self.read += len(found)
        return found


def model(keys: Sequence[str], query: ListQuery) -> tuple[list[str], bool]:
    """Return the names of a page, objects and groups in one order, and whether there are more."""
    names: set[str] = set()
    for key in keys:
        if not key.startswith(query.prefix):
            continue
        at = key.find(query.delimiter, len(query.prefix)) if query.delimiter else -1
        names.add(key if at < 0 else key[: at + len(query.delimiter)])
    wanted = sorted(name for name in names if name > query.after)
    return wanted[: query.max_keys], len(wanted) > query.max_keys > 0


def names_of(page: ListPage) -> list[str]:
    return sorted([*(item.key for item in page.objects), *page.groups])


letters = st.text(st.sampled_from(["a", "b", "/", "-", "0", "ä", "\ue000", "\U0010ffff", "\x01"]), max_size=6)
keys_of = st.lists(letters.filter(bool), max_size=25)


@settings(max_examples=400)
@given(
    keys=keys_of,
    prefix=letters,
    delimiter=st.sampled_from(["", "/", "-", "ab", "a"]),
    after=letters,
    max_keys=st.integers(0, 6),
)
async def test_pages_are_those_of_the_model(keys: list[str], prefix: str, delimiter: str, after: str, max_keys: int):
    query = ListQuery(prefix=prefix, delimiter=delimiter, after=after, max_keys=max_keys)
    page = await list_page(query, Bucket(keys))
    assert (names_of(page), page.truncated) == model(keys, query)
    assert list(page.groups) == sorted(page.groups)


@settings(max_examples=200)
@given(keys=keys_of, prefix=letters, delimiter=st.sampled_from(["", "/", "a"]), max_keys=st.integers(1, 4))
@pytest.mark.parametrize("version", [1, 2])
async def test_pages_follow_each_other(version: int, keys: list[str], prefix: str, delimiter: str, max_keys: int):
    fields = {"prefix": prefix, "delimiter": delimiter, "max-keys": str(max_keys)}
    found: list[str] = []
    resume: dict[str, str] = {"list-type": "2"} if version == 2 else {}
    while True:
        page = await list_page(ListQuery.of({**fields, **resume}), Bucket(keys))
        found += names_of(page)
        if not page.truncated:
            break
        if version == 2:
            resume["continuation-token"] = page.next_token
        else:
            resume["marker"] = page.next_after
    assert found == model(keys, ListQuery(prefix=prefix, delimiter=delimiter))[0]


async def test_a_group_is_passed_over_and_not_read():
    bucket = Bucket([f"{directory}/{number:05}" for directory in "abc" for number in range(9000)] + ["d"])
    page = await list_page(ListQuery(delimiter="/"), bucket)
    assert (page.groups, [item.key for item in page.objects]) == (("a/", "b/", "c/"), ["d"])
    assert (bucket.requests, bucket.read <= 4 * 1001) == (4, True)


async def test_a_prefix_within_a_name_is_gone_to():
    bucket = Bucket([f"data/{number:06}" for number in range(20_000)])
    page = await list_page(ListQuery(prefix="data/01999"), bucket)
    assert (len(page.objects), bucket.requests, bucket.read) == (10, 1, 10)


async def test_a_full_page_reads_one_more_key():
    bucket = Bucket([f"{number:06}" for number in range(3000)])
    page = await list_page(ListQuery(), bucket)
    assert (len(page.objects), page.truncated, bucket.read, bucket.requests) == (1000, True, 1001, 1)
    assert (await list_page(ListQuery(max_keys=0), bucket), bucket.read) == (ListPage(), 1001)


class TestQuery:
    def test_defaults(self):
        assert ListQuery.of({}) == ListQuery(version=1, fetch_owner=True)
        assert ListQuery.of({"list-type": "2"}) == ListQuery()
        assert ListQuery.of({"list-type": "2", "max-keys": "", "encoding-type": ""}) == ListQuery()

    def test_everything(self):
        fields = {"list-type": "2", "prefix": "p", "delimiter": "/", "start-after": "s", "max-keys": "5000"}
        query = ListQuery.of({**fields, "encoding-type": "url", "fetch-owner": "true", "marker": "m"})
        expected = ListQuery(prefix="p", delimiter="/", after="s", start_after="s", url_encoded=True, fetch_owner=True)
        assert query == expected
        token = encode_token("t")
        assert ListQuery.of({**fields, "continuation-token": token}).after == "t"
        assert ListQuery.of({"marker": "m", "continuation-token": token}).after == "m"

    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            ({"max-keys": "-1"}, "InvalidArgument"),
            ({"max-keys": "1e3"}, "InvalidArgument"),
            ({"max-keys": "١"}, "InvalidArgument"),
            ({"encoding-type": "xml"}, "InvalidArgument"),
            ({"list-type": "3"}, "InvalidArgument"),
            ({"prefix": "ä" * 513}, "KeyTooLongError"),
            ({"marker": "x" * 1025}, "KeyTooLongError"),
            ({"list-type": "2", "continuation-token": ""}, "InvalidArgument"),
        ],
    )
    def test_what_is_refused(self, fields: dict[str, str], code: str):
        with pytest.raises(S3Error) as refused:
            ListQuery.of(fields)
        assert refused.value.s3_code == code

    def test_the_largest_number(self):
        assert ListQuery.of({"max-keys": "9" * 10_000}).max_keys == 1000


class TestTokens:
    @given(st.text(st.characters(blacklist_categories=["Cs"])))
    def test_there_and_back(self, after: str):
        assert decode_token(encode_token(after)) == after or len(after.encode()) > 1024

    @given(st.text(max_size=20), st.integers(0, 40), st.characters(blacklist_categories=["Cs"]))
    def test_a_changed_one_is_refused(self, after: str, at: int, character: str):
        token = encode_token(after.encode(errors="ignore").decode())
        at %= len(token)
        changed = token[:at] + character + token[at + 1 :]
        if changed != token:
            with pytest.raises(S3Error, match="incorrect"):
                decode_token(changed)

    @pytest.mark.parametrize("token", ["", "x", "é", "AAAA", "A" * 100_000, encode_token("x") + "="])
    def test_what_is_none(self, token: str):
        with pytest.raises(S3Error, match="incorrect"):
            decode_token(token)

    def test_the_longest(self):
        key = "ä" * 512
        assert decode_token(encode_token(key)) == key
