"""Mounts: what they cover, what is refused, and who may change them."""

from __future__ import annotations

import asyncio
import json

import httpx
import msgspec
import pytest

from preheat.access import Role
from preheat.api._access import needed_role
from preheat.cli._mounts import parse_freshness
from preheat.engine import Bucket
from preheat.errors import BucketNotFound, InvalidPath, InvalidRequest
from preheat.mounts import DEFAULT, Freshness, Mount, MountTable, WriteMode
from preheat.paths import UfsPath
from tests.unit.memory_cluster import Cluster


def test_the_longest_prefix_counts():
    outer = Mount(name="outer", path="s3://b/x/", temporary=("_tmp/",))
    inner = Mount(name="inner", path="s3://b/x/y/", freshness=Freshness.ALWAYS_CHECK)
    table = MountTable([outer, inner])
    found = [table.of(f"s3://b/{key}").name for key in ("x/y/1", "x/y", "x/yy", "x/", "x", "z")]
    assert found == ["inner", "outer", "outer", "outer", "", ""]
    assert table.of("s3://b/z") is DEFAULT
    assert outer.is_temporary(UfsPath.parse("s3://b/x/_tmp/1"))
    assert not outer.is_temporary(UfsPath.parse("s3://b/x/_tmp"))
    assert (table.names, table.checks_nothing) == (("inner", "outer"), False)
    assert str(table.resolve("inner", "a b/%")) == "s3://b/x/y/a b/%"
    assert str(MountTable().resolve("b", "x")) == "s3://b/x"
    with pytest.raises(BucketNotFound):
        table.resolve("b", "x")


def test_what_leads_out_of_a_mount_does_not_belong_to_it():
    outer = Mount(name="outer", path="s3://b/x/")
    inner = Mount(name="inner", path="s3://b/x/y/", writes=WriteMode.THROUGH)
    table = MountTable([outer, inner])
    found = [
        table.of(f"s3://b/x/{key}").name for key in ("y/../z", "y/z/../../z", "y/z/../z", "../z", "y/./z", "y/..z")
    ]
    assert found == ["outer", "outer", "inner", "", "inner", "inner"]
    assert str(table.resolve("inner", "a/./b/../c")) == "s3://b/x/y/a/./b/../c"
    for key in ("..", "../x", "a/../../x", "./../x", "a//../../x"):
        with pytest.raises(InvalidPath, match="leads out"):
            table.resolve("inner", key)


async def test_mounts_are_added_changed_and_removed(client: httpx.AsyncClient, cluster: Cluster):
    body = {"path": "s3://b/data", "freshness": "max-age", "maxAge": 600, "writes": "async", "temporary": ["_tmp/"]}
    response = await client.put("/v1/mounts/my.data", json=body)
    shown = {"name": "my.data", **body, "path": "s3://b/data/", "maxAge": 600.0, "writeReplicas": 1}
    assert (response.status_code, response.json()) == (201, shown)
    assert (await client.put("/v1/mounts/my.data", json=body)).status_code == 200
    entry = await cluster.engine.get(Bucket.MOUNTS, "my.data")
    assert entry is not None
    mount = msgspec.json.decode(entry.value or b"", type=Mount)
    assert (mount.freshness, mount.max_age, mount.writes) == (Freshness.MAX_AGE, 600.0, WriteMode.ASYNC)
    assert (await client.put("/v1/mounts/inner", json={"path": "s3://b/data/x/"})).status_code == 201
    again = await client.put("/v1/mounts/other", json={"path": "s3://b/data/"})
    assert (again.status_code, "my.data" in again.json()["detail"]) == (409, True)
    await client.put("/v1/mounts/my.data", json={"path": "file:///data/"})
    mounts = (await client.get("/v1/mounts")).json()["mounts"]
    assert [(item["name"], item["path"]) for item in mounts] == [
        ("inner", "s3://b/data/x/"),
        ("my.data", "file:///data/"),
    ]
    for status in (204, 404):
        assert (await client.delete("/v1/mounts/inner")).status_code == status
    assert await cluster.engine.get(Bucket.MOUNTS, "inner") is None


REFUSED: list[tuple[str, dict[str, object]]] = [
    ("no", {}),
    ("a..b", {}),
    ("UPPER", {}),
    ("abc", {"path": "data/"}),
    ("abc", {"path": "s3://b/a//b/"}),
    ("abc", {"path": "s3://b/../c/"}),
    ("abc", {"freshness": "sometimes"}),
    ("abc", {"freshness": "max-age"}),
    ("abc", {"freshness": "pinned", "maxAge": 5}),
    ("abc", {"maxAge": -1, "freshness": "max-age"}),
    ("abc", {"writeReplicas": 0}),
    ("abc", {"temporary": ["_tmp"]}),
    ("abc", {"temporary": ["/tmp/"]}),
    ("abc", {"temporary": ["../x/"]}),
    ("abc", {"temporary": [""]}),
    ("abc", {"fresh": True}),
]


async def test_what_is_no_mount_is_refused(client: httpx.AsyncClient):
    for name, body in REFUSED:
        response = await client.put(f"/v1/mounts/{name}", json={"path": "s3://b/data/", **body})
        assert (response.status_code, response.json()["code"][:8]) == (400, "invalid_"), (name, body)
    assert (await client.get("/v1/mounts")).json() == {"mounts": []}


def test_admins_change_them_and_readers_see_them():
    assert needed_role("GET", "/v1/mounts") is Role.READ
    assert needed_role("PUT", "/v1/mounts/x") is needed_role("DELETE", "/v1/mounts/x") is Role.ADMIN
    assert needed_role("POST", "/v1/pins") is needed_role("DELETE", "/v1/pins/x") is Role.SUBMIT


def test_policies_as_people_write_them():
    assert parse_freshness("max-age=10m") == (Freshness.MAX_AGE, 600.0)
    assert parse_freshness("pinned") == (Freshness.PINNED, 0.0)
    for text in ("max-age", "max-age=", "max-age=soon", "pinned=1h", "sometimes", ""):
        with pytest.raises(InvalidRequest):
            parse_freshness(text)


async def test_the_commands(url: str, run):
    line = "mount add data s3://b/data --freshness max-age=10m --writes async --write-replicas 2"
    added = await asyncio.to_thread(run, *line.split(), "--temporary", "_tmp/", "--temporary", "_old/")
    assert added.code == 0, added
    listed = await asyncio.to_thread(run, "mount", "ls")
    assert "data  s3://b/data/  max-age=10 m 00 s  async, 2 workers  _tmp/ _old/" in listed.out
    assert json.loads((await asyncio.to_thread(run, "mount", "ls", "--json")).out)["mounts"][0]["maxAge"] == 600.0
    wrong = await asyncio.to_thread(run, "mount", "add", "data", "s3://b/data", "--freshness", "often")
    assert (wrong.code, "max-age=10m" in wrong.err) == (2, True)
    assert "Removed" in (await asyncio.to_thread(run, "mount", "rm", "data")).out
    assert (await asyncio.to_thread(run, "mount", "rm", "data")).code == 1
