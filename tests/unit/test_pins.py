"""Pins and drift, by the API and the command line, of a cluster whose origin changes."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import httpx
import pytest

from preheat.access import Grant, Role, acting_for
from preheat.cli import main
from preheat.errors import Forbidden
from preheat.jobs import Job, JobSpec, JobState
from tests.unit.memory_cluster import Cluster, load

PATH = "s3://b/data/"
LOG_LINE = re.compile(r"^\d{4}-\d\d-\d\d [\d:]+ \[.*\n", re.MULTILINE)
"""The coordinator's, in the same process."""


@pytest.fixture
def cluster(cluster: Cluster) -> Cluster:
    cluster.fill(10)
    return cluster


async def done(cluster: Cluster, spec: JobSpec, state: JobState = JobState.SUCCEEDED) -> Job:
    known = await cluster.coordinator.service.submit(spec)
    assert await cluster.ended(known.job.id) is state
    return (await cluster.coordinator.service.get(known.job.id)).job


async def pin(client: httpx.AsyncClient, status: int = 201, **body: str) -> dict[str, Any]:
    response = await client.post("/v1/pins", json={"path": PATH, **body})
    assert response.status_code == status, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def drift(client: httpx.AsyncClient, path: str = PATH, status: int = 200, **params: object) -> dict[str, Any]:
    response = await client.get("/v1/drift", params={"path": path, **params})  # type: ignore[arg-type]
    assert response.status_code == status, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def test_a_path_is_bound_to_what_a_load_listed(client: httpx.AsyncClient, cluster: Cluster):
    assert "preheat job load" in (await pin(client, 409))["remedy"]
    first = await done(cluster, load())
    made = await pin(client)
    assert made["version"] == f"sha256:{first.work.version}"
    assert await pin(client, 200, job=first.id) == made
    cluster.origin.write(f"{PATH}0003", b"new")
    second = await done(cluster, load(load_metadata_only=True))
    moved = await pin(client, job=second.id)
    assert (moved["id"], moved["version"]) == (made["id"], f"sha256:{second.work.version}")
    assert await pin(client, version=made["version"])
    assert (await client.get("/v1/pins")).json()["pins"][0]["version"] == made["version"]
    inventories = (await client.get("/v1/inventories")).json()["inventories"]
    assert [(item["jobId"], item["pinned"]) for item in inventories] == [(second.id, False), (first.id, True)]
    assert (await client.delete(f"/v1/inventories/{inventories[1]['id']}")).status_code == 409
    assert (await client.delete(f"/v1/pins/{made['id']}")).status_code == 204
    assert (await client.delete(f"/v1/pins/{made['id']}")).status_code == 404
    assert (await client.get("/v1/pins")).json() == {"pins": []}
    assert (await client.delete(f"/v1/inventories/{inventories[1]['id']}")).status_code == 204


REFUSED = [
    ({"version": "sha256:" + "0" * 64}, 409, "There is sha256:"),
    ({"job": "nope"}, 409, "the job nope"),
    ({"path": "s3://b/data"}, 409, "preheat job load --path s3://b/data "),
    ({"version": "md5:1"}, 400, "64 hexadecimal digits"),
    ({"path": "data"}, 400, "no scheme"),
]


async def test_what_cannot_be_pinned_says_what_can(client: httpx.AsyncClient, cluster: Cluster):
    await done(cluster, load())
    for body, status, words in REFUSED:
        problem = await pin(client, status, **body)
        assert words in f"{problem['detail']} {problem['remedy']}"


async def test_a_load_replaces_no_pinned_copy(client: httpx.AsyncClient, cluster: Cluster):
    await done(cluster, load())
    await pin(client)
    cluster.origin.write(f"{PATH}0003", b"new")
    cluster.origin.write(f"{PATH}added", b"new")
    cluster.origin.write("s3://b/elsewhere", b"new")
    for path in (PATH, "s3://b/", f"{PATH}0003"):
        failed = await done(cluster, load(path), JobState.FAILED)
        changed = [f"{PATH}0003"] if path.endswith("3") else [f"{PATH}0003", f"{PATH}added"]
        assert [(item.path, item.code) for item in failed.failures] == [(uri, "version_changed") for uri in changed]
        assert "preheat fs unpin s3://b/data/" in failed.reason
    assert cluster.cached(f"{PATH}0003") == [b"object 3"]
    assert cluster.cached(f"{PATH}added") == []
    assert cluster.cached("s3://b/elsewhere") == [b"new"]
    retried = await cluster.coordinator.service.retry(failed.id)
    assert await cluster.ended(retried.job.id) is JobState.FAILED
    few = await done(cluster, load(max_failed_files=2))
    assert "No inventory is kept" in few.reason  # it is not what was listed
    await done(cluster, load(load_metadata_only=True))
    await pin(client)
    await done(cluster, load())
    assert cluster.cached(f"{PATH}0003") == [b"new"]


async def test_what_a_load_filters_out_is_no_failure_below_a_pin(client: httpx.AsyncClient, cluster: Cluster):
    await done(cluster, load())
    await pin(client)
    cluster.origin.write(f"{PATH}0003", b"new")
    job = await done(cluster, load(file_filter_regex=".*[01]"))
    assert job.work.failed.objects == 0


async def test_drift_names_what_is_not_as_it_was(client: httpx.AsyncClient, cluster: Cluster):
    job = await done(cluster, load())
    same = await drift(client)
    assert (same["drift"], same["pinned"], same["unchanged"]) == (False, False, {"files": 10, "bytes": 80})
    assert same["version"] == same["originVersion"] == f"sha256:{job.work.version}"
    cluster.origin.write(f"{PATH}0003", b"new")
    cluster.origin.write(f"{PATH}0003+", b"added")
    cluster.origin.remove(f"{PATH}0007")
    found = await drift(client)
    assert [found[name] for name in ("drift", "changed", "added", "deleted")] == [True, 1, 1, 1]
    assert (found["unchanged"]["files"], found["version"]) == (8, same["version"])
    assert found["originVersion"] != found["version"]
    changes = {item["key"]: (item["change"], item["old"], item["new"]) for item in found["examples"]}
    kind, old, new = changes["data/0003"]
    assert (kind, old["size"], new["size"]) == ("changed", 8, 3)
    assert old["etag"] != new["etag"]
    assert (changes["data/0003+"][:2], changes["data/0007"][::2]) == (("added", None), ("deleted", None))
    assert len((await drift(client, limit=2))["examples"]) == 2
    below = await drift(client, f"{PATH}0005")
    assert (below["drift"], below["unchanged"]["files"]) == (False, 1)
    await pin(client)
    await done(cluster, load(load_metadata_only=True))
    assert ((await drift(client))["drift"], (await drift(client))["pinned"]) == (True, True)
    await pin(client)
    assert (await drift(client))["drift"] is False


async def test_drift_of_what_nobody_listed(client: httpx.AsyncClient, cluster: Cluster):
    assert "--metadata-only" in (await drift(client, status=404))["remedy"]
    await done(cluster, load())
    assert (await drift(client, "s3://b/data", status=404))["remedy"] == "Write the slash."
    assert "limit=" in (await drift(client, limit=1001, status=400))["detail"]


async def test_a_token_sees_and_changes_its_own_paths_alone(cluster: Cluster):
    await done(cluster, load())
    coordinator = cluster.coordinator
    (made, _) = await coordinator.pins.pin(PATH)
    with acting_for(Grant(role=Role.SUBMIT, prefixes=("s3://b/other/",))):
        assert coordinator.pins.list() == coordinator.inventories.list() == []
        for refused in (
            coordinator.pins.pin(PATH),
            coordinator.pins.unpin(made.id),
            coordinator.inventories.remove(made.inventory),
            coordinator.drift.find(PATH, limit=1, seconds=5),
        ):
            with pytest.raises(Forbidden):
                await refused
    assert coordinator.pins.list() == [made]


@pytest.fixture
def run(url: str, capsys: pytest.CaptureFixture[str]):
    async def run(*arguments: str, code: int = 0) -> str:
        def call() -> int:
            with pytest.raises(SystemExit) as ended:
                main(arguments)
            return int(ended.value.code or 0)

        ended = await asyncio.to_thread(call)
        printed = capsys.readouterr()
        assert ended == code, printed
        return LOG_LINE.sub("", printed.out + printed.err if code else printed.out)

    return run


async def test_the_commands(run, cluster: Cluster):
    job = await done(cluster, load())
    assert f"sha256:{job.work.version}" in await run("fs", "pin", PATH, "--job", job.id)
    assert "origin     the same" in await run("fs", "drift", PATH)
    cluster.origin.write(f"{PATH}0003", b"new")
    printed = await run("fs", "drift", PATH, code=1)
    assert re.search(r"changed +1\n", printed)
    assert re.search(r"changed +data/0003 +8 B \w+ +3 B \w+", printed)
    assert json.loads(await run("fs", "drift", PATH, "--json", code=1))["changed"] == 1
    assert f"{PATH}  sha256:" in await run("fs", "pins")
    assert await run("fs", "unpin", PATH) == f"{PATH} is not pinned any more.\n"
    assert "is not pinned" in await run("fs", "unpin", PATH, code=1)
