"""Paths keep keys as the store spells them, and refuse what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preheat.errors import InvalidPath
from preheat.paths import UfsPath

KEYS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=60)


@given(KEYS)
def test_a_key_survives_the_uri_and_the_url(key: str):
    path = UfsPath.parse(f"s3://bucket/{key}")
    assert path.key == key
    assert UfsPath.parse(str(path)) == path
    assert UfsPath.from_url_path(path.url_path) == path
    assert path.url_path.isascii()


@pytest.mark.parametrize("uri", ["s3a://b/k", "s3n://b/k"])
def test_hadoop_spellings_are_s3(uri: str):
    assert str(UfsPath.parse(uri)) == "s3://b/k"


@pytest.mark.parametrize(
    "uri",
    ["", "bucket/key", "s3:/b/k", "s3:///key", "gs://b/k", "file://host/x", "file:///", "file:///a/../b", "s3://b c/k",
     "s3://b/\x00", "s3://b/" + "k" * 2049, "s3://b/\ud800"],
)  # fmt: skip
def test_what_is_no_path_is_refused_by_name(uri: str):
    with pytest.raises(InvalidPath, match="path="):
        UfsPath.parse(uri)


def test_a_long_key_counts_bytes_not_characters():
    with pytest.raises(InvalidPath, match="2050 bytes"):
        UfsPath.parse("s3://b/" + "é" * 1025)
