"""What the data port makes of a request, without a socket."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preheat.errors import InvalidPath, InvalidRequest, ObjectNotFound
from preheat.paths import UfsPath
from preheat.versions import ObjectInfo
from preheat.worker._ranges import asked_by, resolve
from preheat.worker.port import _http as http

INFO = ObjectInfo(key="k", size=1000, etag="abc", last_modified=1_700_000_000.5)


def request(**headers: str) -> http.Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return http.Request(method="GET", target="/v1/data/s3/b/k", headers=named, keep_alive=True)


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=990-", 990, 1000),
        ("bytes=990-5000", 990, 1000),
        ("bytes=-10", 990, 1000),
        ("bytes=-5000", 0, 1000),
        ("bytes=990-" + "9" * 5000, 990, 1000),
        ("bytes=-" + "9" * 5000, 0, 1000),
        ("bytes=" + "0" * 5000 + "-9", 0, 10),
        ("BYTES = 1-2 ", 1, 3),
    ],
)
def test_one_range_is_served(header: str, start: int, end: int) -> None:
    assert http.slice_of(request(range=header), INFO) == http.Slice(status=206, start=start, end=end)


@pytest.mark.parametrize(
    "header",
    [
        "bytes=-",
        "bytes=a-b",
        "bytes=5-4",
        "items=0-1",
        "bytes=0-1,5-6",
        "0-1",
        "",
        "bytes=--1",
    ],
)
def test_a_malformed_or_multiple_range_is_ignored(header: str) -> None:
    assert http.slice_of(request(range=header), INFO) == http.Slice(status=200, end=1000)


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=5000-6000", "bytes=-0", "bytes=" + "9" * 5000 + "-"])
def test_a_range_without_a_byte_is_refused_with_the_size(header: str) -> None:
    with pytest.raises(http.UnsatisfiableRange) as raised:
        http.slice_of(request(range=header), INFO)
    assert b"Content-Range: bytes */1000\r\n" in http.problem_answer(raised.value).encode(
        head_only=False, keep_alive=True
    )


@given(header=st.from_regex(r"\A\s*bytes\s*=\s*[0-9]{0,25}\s*-\s*[0-9]{0,25}\s*\Z"), size=st.integers(0, 1 << 60))
def test_what_is_asked_for_is_what_is_answered(header: str, size: int) -> None:
    """A range is fetched as far as it is known before the size is, and cut when that is known: they must agree."""
    info = ObjectInfo(key="k", size=size, etag="abc", last_modified=0)
    asked = asked_by(header)
    try:
        part = http.slice_of(request(range=header), info)
    except http.UnsatisfiableRange:
        assert asked is None or resolve(asked, size)[0] >= size or header.strip().endswith("0")
    else:
        assert (part.start, part.end) == ((0, size) if asked is None else resolve(asked, size))


def test_an_empty_object_has_no_ranges() -> None:
    empty = ObjectInfo(key="k", size=0, etag="abc", last_modified=0)
    assert http.slice_of(request(), empty) == http.Slice(status=200)
    with pytest.raises(http.UnsatisfiableRange):
        http.slice_of(request(range="bytes=0-"), empty)


@given(data=st.binary(max_size=40), first=st.integers(0, 50), last=st.integers(0, 50))
def test_a_range_selects_what_its_numbers_say(data: bytes, first: int, last: int) -> None:
    info = ObjectInfo(key="k", size=len(data), etag="abc", last_modified=0)
    try:
        part = http.slice_of(request(range=f"bytes={first}-{last}"), info)
    except http.UnsatisfiableRange:
        assert not data[first : last + 1]
    else:
        expected = data[first : last + 1] if last >= first else data
        assert data[part.start : part.end] == expected


@pytest.mark.parametrize(
    ("header", "status"), [('"abc"', 304), ('W/"abc"', 304), ('"x", "abc"', 304), ("*", 304), ('"x"', 200)]
)
def test_if_none_match(header: str, status: int) -> None:
    assert http.slice_of(request(if_none_match=header), INFO).status == status


def test_if_none_match_comes_before_range() -> None:
    assert http.slice_of(request(if_none_match='"abc"', range="bytes=5000-"), INFO).status == 304


@pytest.mark.parametrize(
    ("header", "status"), [('"abc"', 206), ('"old"', 200), ('W/"abc"', 200), ("Tue, 14 Nov 2023 22:13:20 GMT", 200)]
)
def test_if_range_of_another_version_gives_all_of_this_one(header: str, status: int) -> None:
    assert http.slice_of(request(if_range=header, range="bytes=1-2"), INFO).status == status


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        (None, None),
        ("*", None),
        ('"abc"', ("abc",)),
        ("abc", ("abc",)),
        ('"a", "b,c"', ("a", "b,c")),
        ('W/"abc"', ()),
        ("", ()),
        ('""', ("",)),
    ],
)
def test_if_match(header: str | None, accepted: tuple[str, ...] | None) -> None:
    assert http.accepted_etags(header) == accepted


def test_the_head_of_a_range() -> None:
    part = http.Slice(status=206, start=10, end=20)
    lines = http.object_head(request(), INFO, part, hit=True).decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 206 Partial Content"
    assert {
        'ETag: "abc"',
        "Content-Length: 10",
        "Content-Range: bytes 10-19/1000",
        "Last-Modified: Tue, 14 Nov 2023 22:13:20 GMT",
        "Accept-Ranges: bytes",
        "X-Preheat-Cache: hit",
        "Connection: keep-alive",
    } <= set(lines)
    assert lines[-2:] == ["", ""]


def test_the_head_of_a_304_announces_no_body() -> None:
    head = http.object_head(request(), INFO, http.Slice(status=304), hit=False)
    assert head.startswith(b"HTTP/1.1 304 ")
    assert b"Content-Length" not in head
    assert b"X-Preheat-Cache: miss" in head


@pytest.mark.parametrize("key", ["k", "a/b", "a//b", "ü €.txt", "50%", "a%2Fb", "a?b#c", "a+b", "../x", "a/./b", " "])
def test_a_key_survives_its_url(key: str) -> None:
    path = UfsPath(scheme="s3", bucket="b", key=key)
    assert http.data_path(f"/v1/data/{path.url_path}?ignored=1") == path


@pytest.mark.parametrize(
    "target",
    [
        "/v1/data/",
        "/v1/data/s3//k",
        "/v1/data/http/b/k",
        "/v1/data/file//etc/../root/x",
        "/v1/data/file//%2e%2e/root/x",
        "/v1/data/file//a/%2E%2E%2Froot",
        "/v1/data/file/host/x",
        "/v1/data/s3/b/%ff",
        "/v1/data/s3/b/%00",
    ],
)
def test_a_target_that_names_no_object_is_refused(target: str) -> None:
    with pytest.raises(InvalidPath):
        http.data_path(target)


def test_the_parameters_of_a_listing() -> None:
    _, fields = http.split_target("/v1/list?path=s3%3A%2F%2Fb%2Fa%20b%2F&after=x%2By&limit=7")
    assert http.list_query(fields) == http.ListQuery(path=UfsPath.parse("s3://b/a b/"), after="x+y", limit=7)


@pytest.mark.parametrize("limit", ["0", "-1", "10001", "x", "", "9" * 40, "١"])
def test_a_limit_that_is_none_is_refused(limit: str) -> None:
    with pytest.raises(InvalidRequest, match="limit="):
        http.list_query({"path": "s3://b/", "limit": limit})


def test_a_missing_path_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="path"):
        http.path_parameter({})


def test_a_query_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="UTF-8"):
        http.split_target("/v1/stat?path=%ff")


def test_an_error_is_problem_json() -> None:
    answer = http.problem_answer(ObjectNotFound("path='s3://b/k': none."))
    assert (answer.status, answer.content_type) == (404, "application/problem+json")
    assert json.loads(answer.body)["code"] == "object_not_found"


def test_a_head_has_the_length_but_not_the_body() -> None:
    answer = http.json_answer({"a": 1})
    whole = answer.encode(head_only=False, keep_alive=False)
    assert whole == answer.encode(head_only=True, keep_alive=False) + b'{"a":1}'
    assert b"Content-Length: 7\r\n" in whole
    assert b"Connection: close\r\n" in whole
