"""Which worker a client asks, and what folders it makes of flat listings."""

from __future__ import annotations

from typing import Any

import fsspec
import pytest

from preheat.fs._listing import child, directories, next_start
from preheat.fs._reader import RemoteObject
from preheat.fs._routes import Routes
from preheat.paths import UfsPath
from preheat.placement import Member, PlacementMap

MEMBERS = tuple(Member(id=f"worker-{number}", url=f"http://w{number}") for number in range(3))
MAP = PlacementMap(epoch=1, members=MEMBERS)


def routes(**options: Any) -> Routes:
    return Routes(refresh_seconds=30, suspect_seconds=10, **options)


def test_the_owner_is_the_one_that_placement_names() -> None:
    known = routes()
    assert known.owner("s3://b/k", 0) is None
    known.learn(MAP, 0)
    for number in range(50):
        assert known.owner(f"s3://b/{number}", 0) == MAP.owners(f"s3://b/{number}")[0]


def test_a_worker_that_does_not_answer_is_left_out_for_a_while() -> None:
    known = routes()
    known.learn(MAP, 0)
    first, second = MAP.owners("s3://b/k", 2)
    known.suspect(first, 100)
    assert known.owner("s3://b/k", 109) == second
    assert known.owner("s3://b/k", 110) == first


def test_many_paths_are_shared_among_their_owners() -> None:
    known = routes()
    assert known.shares(["s3://b/k"], 0) == []
    known.learn(MAP, 0)
    paths = [f"s3://b/{number}" for number in range(50)]
    shares = known.shares(paths, 0)
    assert sorted(index for _, indexes in shares for index in indexes) == list(range(50))
    assert all(known.owner(paths[index], 0) == member for member, indexes in shares for index in indexes)
    known.suspect(MEMBERS[0], 0)
    assert {member.id for member, _ in known.shares(paths, 1)} == {"worker-1", "worker-2"}


def test_when_none_answers_all_are_tried_again() -> None:
    known = routes()
    known.learn(MAP, 0)
    for member in MEMBERS:
        known.suspect(member, 0)
    assert known.owner("s3://b/k", 1) == MAP.owners("s3://b/k")[0]


def test_the_map_is_asked_for_at_first_when_old_and_when_a_worker_is_silent() -> None:
    known = routes()
    assert known.is_due(0)
    known.learn(MAP, 0)
    assert not known.is_due(29)
    assert known.is_due(30)
    known.learn(None, 30)  # the coordinator was away
    assert known.known
    assert not known.is_due(59)
    known.suspect(MEMBERS[0], 40)
    assert known.is_due(40)


def test_an_empty_map_does_not_replace_a_known_one() -> None:
    known = routes()
    known.learn(PlacementMap(), 0)
    assert not known.known
    known.learn(MAP, 0)
    known.learn(PlacementMap(epoch=2), 1)
    assert known.urls == ("http://w0", "http://w1", "http://w2")


def test_fixed_workers_are_never_asked_for() -> None:
    known = routes(fixed=MAP)
    known.suspect(MEMBERS[0], 5)
    assert not known.is_due(1e9)


def item(key: str) -> RemoteObject:
    return RemoteObject(key=key, size=1, etag="e", last_modified=0)


def test_the_children_of_a_directory() -> None:
    root = UfsPath.parse("s3://b/d/")
    assert child(root, item("d/x"))["name"] == "b/d/x"
    assert child(root, item("d/sub/y/z")) == {"name": "b/d/sub", "type": "directory", "size": 0}
    assert child(UfsPath.parse("s3://b/"), item("top/x"))["name"] == "b/top"
    assert child(UfsPath.parse("file:///data"), item("data/f"))["name"] == "/data/f"


def test_a_listing_goes_on_behind_the_child_that_a_page_ended_in() -> None:
    root = UfsPath.parse("s3://b/d/")
    assert next_start(root, "d/x") == "d/x"
    assert "d/sub/zzz" < next_start(root, "d/sub/a") < "d/sub0"


def test_the_directories_that_files_imply() -> None:
    root = UfsPath.parse("s3://b/d")
    assert set(directories(root, ["b/d/x", "b/d/e/f/g"])) == {"b/d", "b/d/e", "b/d/e/f"}
    assert directories(root, ["b/d"]) == {}


def test_another_cluster_in_the_environment_is_another_filesystem(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PREHEAT_COORDINATOR_URL", "http://127.0.0.1:1")
    first = fsspec.filesystem("preheat")
    assert fsspec.filesystem("preheat") is first
    monkeypatch.setenv("PREHEAT_COORDINATOR_URL", "http://127.0.0.1:2")
    second = fsspec.filesystem("preheat")
    assert first.fsid != second.fsid
    monkeypatch.setenv("PREHEAT_TOKEN", "another")
    assert fsspec.filesystem("preheat") is not second
