"""``preheat fs rm``: what it asks of the workers, and what it asks the person first."""

from __future__ import annotations

import io
import json

import pytest

from preheat.cli import _fs_data, main
from tests.unit.conftest import StandIn

PATH = "s3://b/data/"
LIST = "/v1/list"


def worker_of(server: StandIn, *keys: str) -> None:
    """Let the stand-in be the only worker too, and list some objects of 1 KiB."""
    server.reply("GET", "/v1/placement", {"epoch": 1, "members": [{"id": "worker-0", "url": server.url}]})
    objects = [{"key": key, "size": 1024, "etag": "e", "lastModified": 1.0} for key in keys]
    server.reply("GET", LIST, {"objects": objects, "next": None})
    for key in keys:
        server.reply("DELETE", f"/v1/data/s3/b/{key}", {"deleted": key})


def deleted(server: StandIn) -> list[str]:
    return sorted(target for method, target, *_ in server.asked if method == "DELETE")


def test_one_file_is_deleted_without_a_question(run, server: StandIn):
    worker_of(server, "data/a")
    assert run("fs", "rm", f"{PATH}a").out == "Deleted 1 file, 1.00 KiB.\n"
    assert deleted(server) == ["/v1/data/s3/b/data/a"]


@pytest.mark.parametrize("path", [PATH, "s3://b", "s3://b/"])
def test_a_directory_takes_a_word(run, server: StandIn, path: str):
    worker_of(server, "data/a")
    ended = run("fs", "rm", path)
    assert (ended.code, "Add -R" in ended.err, deleted(server)) == (1, True, [])


def test_a_missing_file_is_an_error(run, server: StandIn):
    worker_of(server)
    problem = {"status": 404, "code": "object_not_found", "detail": "path='s3://b/data/a' does not exist."}
    server.reply("DELETE", "/v1/data/s3/b/data/a", problem, status=404)
    ended = run("fs", "rm", f"{PATH}a", "--json")
    assert (ended.code, json.loads(ended.out)["code"]) == (1, "object_not_found")


@pytest.mark.parametrize(("answer", "code", "gone"), [("y\n", 0, True), ("n\n", 1, False), ("", 1, False)])
def test_all_below_a_path_is_deleted_if_the_person_says_so(
    server: StandIn, monkeypatch: pytest.MonkeyPatch, capsys, answer: str, code: int, gone: bool
):
    monkeypatch.setattr(_fs_data, "_WINDOW", 2)
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    keys = ["data/a", "data/b", "data/c"]
    worker_of(server, *keys)
    with pytest.raises(SystemExit) as ended:
        main(["fs", "rm", "-R", PATH])
    printed = capsys.readouterr()
    assert (ended.value.code or 0) == code
    assert "Delete 3 files, 3.00 KiB, at and below s3://b/data/ at the under store?" in printed.err
    assert deleted(server) == ([f"/v1/data/s3/b/{key}" for key in keys] if gone else [])
    assert ("Deleted 3 files, 3.00 KiB." in printed.out) is gone


def test_what_may_not_be_written_ends_it(run, server: StandIn):
    worker_of(server, "data/a", "data/b")
    problem = {"status": 403, "code": "read_only", "detail": "path='s3://b/data/a': nobody may write there."}
    server.reply("DELETE", "/v1/data/s3/b/data/a", problem, status=403)
    ended = run("fs", "rm", "-R", PATH, "--yes")
    assert (ended.code, "nobody may write there" in ended.err) == (1, True)
    worker_of(server)
    assert "nothing is at or below it" in run("fs", "rm", "-R", PATH, "--yes").err
