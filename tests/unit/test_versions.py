"""The dataset version is exactly what its documentation says."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from preheat.versions import DatasetVersion, ObjectInfo

OBJECTS = st.lists(
    st.builds(
        ObjectInfo,
        key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
        size=st.integers(0, 2**40),
        etag=st.text("0123456789abcdef-", max_size=34),
        last_modified=st.just(0.0),
    ),
    max_size=8,
)


def info(key: str, size: int, etag: str) -> ObjectInfo:
    return ObjectInfo(key=key, size=size, etag=etag, last_modified=0.0)


def test_vectors():
    """Computed from the documented serialisation with nothing but hashlib."""
    version = DatasetVersion()
    version.update([info("a/1.jpg", 3, "abc"), info("a/é.jpg", 0, "d41d")])
    first = hashlib.sha256(bytes(32) + b"\0\0\0\x07a/1.jpg" + b"\0\0\0\0\0\0\0\x03" + b"abc").digest()
    second = hashlib.sha256(first + b"\0\0\0\x08a/\xc3\xa9.jpg" + bytes(8) + b"d41d").hexdigest()
    assert str(version) == f"sha256:{second}"


@given(OBJECTS, st.integers(0, 8))
def test_a_stored_state_goes_on_where_it_stopped(objects: list[ObjectInfo], cut: int):
    whole, first = DatasetVersion(), DatasetVersion()
    whole.update(objects)
    first.update(objects[:cut])
    resumed = DatasetVersion(first.state)
    resumed.update(objects[cut:])
    assert str(resumed) == str(whole)


def test_every_part_counts():
    versions = set()
    for objects in ([info("a", 1, "e")], [info("b", 1, "e")], [info("a", 2, "e")], [info("a", 1, "f")], []):
        version = DatasetVersion()
        version.update(objects)
        versions.add(str(version))
    assert len(versions) == 5
