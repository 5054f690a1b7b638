from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preheat.destinations import check, target
from preheat.errors import InvalidPath, InvalidRequest
from preheat.paths import UfsPath
from preheat.ufs import Selection

SEGMENT = st.sampled_from(["", ".", "..", "a", "b", "dir", "ü 100%+", "a\tb"])
KEY = st.lists(SEGMENT, min_size=1, max_size=4).map("/".join).filter(bool)
PLACE = st.builds("s3://{}/{}".format, st.sampled_from(["one", "two"]), KEY | st.just(""))


@pytest.mark.parametrize(
    ("path", "destination", "key", "expected"),
    [
        ("s3://a/dir/", "s3://b/y/", "dir/k", "s3://b/y/k"),
        ("s3://a/dir/", "s3://b/y", "dir/k/l", "s3://b/y/k/l"),
        ("s3://a/dir/", "s3://b", "dir/k", "s3://b/k"),
        ("s3://a/dir/", "s3://a/dir2/", "dir/k", "s3://a/dir2/k"),
        ("s3://a/", "s3://b/y/", "k", "s3://b/y/k"),
        ("s3://a", "s3://b/", "k/l", "s3://b/k/l"),
        ("s3://a/p/x", "s3://b/y", "p/x", "s3://b/y"),
        ("s3://a/p/x", "s3://b/y", "p/x/k", "s3://b/y/k"),
        ("s3://a/p/x", "s3://b/d/", "p/x", "s3://b/d/x"),
        ("s3://a/p/x", "s3://b/d/", "p/x/k", "s3://b/d/x/k"),
        ("s3://a/p/x", "s3://b", "p/x", "s3://b/x"),
        ("s3a://a/dir/", "s3n://b/y/", "dir/k", "s3://b/y/k"),
        ("s3://a/dir/", "s3://b/y/", "dir//./k/../", "s3://b/y//./k/../"),
        ("s3://a/dir//", "s3://b/y//", "dir///k", "s3://b/y///k"),
        ("s3://a/dir/", "file:///data/y", "dir/k", "file:///data/y/k"),
        ("s3://a/p/x", "file:///data/", "p/x", "file:///data/x"),
        ("s3://a/p/x", "file:///data/y", "p/x/k", "file:///data/y/k"),
        ("file:///data/dir/", "s3://b/y", "data/dir/k 100%+", "s3://b/y/k 100%+"),
        ("file:///data/x", "file:///data/y", "data/x", "file:///data/y"),
        ("s3://a/d/sub/", "s3://a/d/", "d/sub/k", "s3://a/d/k"),
    ],
)
def test_targets(path: str, destination: str, key: str, expected: str) -> None:
    check(path, destination)

    assert str(target(path, destination, key)) == expected


@pytest.mark.parametrize(
    "key", ["dir/../../etc/passwd", "dir/..", "dir/./k", "dir//k", "dir//etc/passwd", "dir/k/", "dir/k//l", "dir/\0"]
)
@pytest.mark.parametrize("path", ["s3://a/dir/", "s3://a/dir"])
def test_a_file_never_lands_elsewhere_than_its_key_says(path: str, key: str) -> None:
    with pytest.raises(InvalidPath):
        target(path, "file:///data/y", key)


def test_a_key_that_gets_too_long_is_refused() -> None:
    with pytest.raises(InvalidPath, match="2049 bytes"):
        target("s3://a/x", "s3://b/y/", "x/" + "k" * (2048 - 3))


def test_an_object_without_a_name_has_no_target() -> None:
    with pytest.raises(InvalidPath, match="'dir/'"):
        target("s3://a/dir/", "s3://b/", "dir/")


@pytest.mark.parametrize("key", ["other", "directory", "dir", "xdir/k"])
def test_a_key_of_another_path_is_refused(key: str) -> None:
    with pytest.raises(InvalidPath, match=key):
        target("s3://a/dir/", "s3://b/", key)


@pytest.mark.parametrize(
    ("path", "destination"),
    [
        ("s3://a/dir/", "s3://a/dir/"),
        ("s3://a/dir/", "s3://a/dir"),
        ("s3://a/dir/", "s3a://a/dir/sub/"),
        ("s3://a/dir/", "s3://a/dir/sub"),
        ("s3://a", "s3://a/anything"),
        ("s3://a/x", "s3://a/x"),
        ("s3://a/x", "s3://a/"),
        ("s3://a/x", "s3://a/x/"),
        ("s3://a/x", "s3://a/x/y"),
        ("s3://a/d/x", "s3://a/d/"),
        ("file:///data/dir/", "file:///data//dir"),
        ("file:///data/x", "file:///data/"),
    ],
)
def test_a_destination_at_or_in_the_path_is_refused(path: str, destination: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check(path, destination)

    assert repr(path) in refused.value.message
    assert f"destination={destination!r}" in refused.value.message
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("path", "destination"),
    [("s3://a/dir/", "s3://a/dir2"), ("s3://a/x", "s3://a/xy"), ("s3://a/x", "s3://b/x"), ("s3://a/x/", "s3://a/")],
)
def test_a_destination_beside_or_above_the_path_is_allowed(path: str, destination: str) -> None:
    check(path, destination)


def test_an_object_that_would_overwrite_another_of_the_path_is_refused() -> None:
    check("s3://a/d/sub/", "s3://a/d/")

    with pytest.raises(InvalidPath, match="'s3://a/d/sub/k'"):
        target("s3://a/d/sub/", "s3://a/d/", "d/sub/sub/k")


@given(path=PLACE, destination=PLACE, below=KEY)
def test_no_target_is_listed_below_the_path(path: str, destination: str, below: str) -> None:
    source = UfsPath.parse(path)
    key = source.key + below if path.endswith("/") else f"{source.key}/{below}"
    try:
        check(path, destination)
        found = target(path, destination, key)
    except InvalidRequest:
        return

    assert (found.scheme, found.bucket) == ("s3", UfsPath.parse(destination).bucket)
    assert found.key.startswith(UfsPath.parse(destination).key)
    assert found.key.endswith(below)
    assert found.bucket != source.bucket or not Selection.of(source, "").selects(found.key)


@given(path=PLACE, destination=PLACE, below=st.lists(KEY, unique=True, max_size=6))
def test_two_objects_never_share_a_target(path: str, destination: str, below: list[str]) -> None:
    source = UfsPath.parse(path)
    separator = "" if path.endswith("/") else "/"
    targets = []
    for name in below:
        try:
            targets.append(target(path, destination, f"{source.key}{separator}{name}"))
        except InvalidPath:
            continue

    assert len(set(targets)) == len(targets)


@given(below=KEY)
def test_a_file_is_always_below_its_destination(below: str) -> None:
    try:
        found = target("s3://a/dir/", "file:///data/y", f"dir/{below}")
    except InvalidPath:
        return

    assert f"/{found.key}" == posixpath.normpath(f"/{found.key}") == f"/data/y/{below}"
