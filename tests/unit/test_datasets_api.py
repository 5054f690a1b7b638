"""Declared datasets by REST, by the command line and by a file, on an in-memory cluster."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from structlog.testing import capture_logs

from preheat.access import Grant, Role, acting_for
from preheat.api._config_file import follow_config, read_config
from preheat.api._datasets import PreloadBody
from preheat.coordinator import Claim, Coordinator
from preheat.coordinator._datasets import Datasets
from preheat.datasets import Cause, Cycle, Dataset, Owner, Phase, Preload, Record, Run
from preheat.engine import Bucket, MemoryEngine
from preheat.errors import Conflict, Forbidden, InvalidRequest
from preheat.jobs import JobControl, JobState
from preheat.mounts import Freshness, Mount, MountTable, WriteMode
from tests.unit.memory_cluster import Cluster, load

PATH = "s3://b/data/"
FULL: dict[str, Any] = {
    "path": PATH,
    "subPaths": ["0000", "s3://b/data/0001"],
    "replicas": 2,
    "ttl": "7d",
    "quota": "10GiB",
    "freshness": "max-age=10m",
    "preload": {
        "enabled": True,
        "schedule": "0 2 * * *",
        "timezone": "Europe/Berlin",
        "deadline": "06:00 Europe/Berlin",
    },
}


async def until(fulfilled: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(10):
        while not (found := await fulfilled()):
            await asyncio.sleep(0.01)
    return found


async def phase(client: httpx.AsyncClient, wanted: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        shown = (await client.get("/v1/datasets/images")).json()
        return shown if shown["status"]["phase"] == wanted else None

    return await until(look)


async def test_a_dataset_is_declared_loaded_shown_and_removed(client: httpx.AsyncClient, cluster: Cluster):
    data = cluster.fill(5)
    body = {"path": PATH, "preload": {"enabled": True}}
    answer = await client.put("/v1/datasets/images", json=body)
    assert (answer.status_code, answer.json()["status"]["phase"]) == (201, "")
    shown = await phase(client, "Loaded")
    status = shown["status"]
    assert (status["progress"], status["hotFraction"], status["listed"]["files"]) == (1.0, 1.0, 5)
    assert status["version"].startswith("sha256:")
    assert (await client.get(f"/v1/jobs/{status['jobId']}")).json()["state"] == "SUCCEEDED"
    assert {item["type"] for item in status["conditions"] if item["status"]} == {
        "WorkersReady",
        "MetadataLoaded",
        "Loaded",
    }
    assert all(cluster.cached(uri) for uri in data)
    control = await cluster.engine.get(Bucket.CONTROLS, status["jobId"])
    assert control
    assert [*msgspec.json.decode(control.value or b"", type=JobControl).waiters] == ["dataset images"]
    assert (await client.put("/v1/datasets/images", json=body)).status_code == 200
    assert [item["name"] for item in (await client.get("/v1/datasets")).json()["datasets"]] == ["images"]
    metrics = (await client.get("/metrics")).text
    assert 'preheat_dataset_phase{dataset="images",phase="Loaded"} 1.0' in metrics
    assert 'preheat_dataset_condition{condition="Loaded",dataset="images"} 1.0' in metrics
    assert "Loaded</td>" in (await client.get("/")).text
    for status_code in (204, 404):
        assert (await client.delete("/v1/datasets/images")).status_code == status_code
    assert (await client.get("/v1/datasets/images")).status_code == 404
    assert all(cluster.cached(uri) for uri in data)


async def test_all_that_can_be_declared_is_shown_as_it_is(client: httpx.AsyncClient, cluster: Cluster):
    shown = (await client.put("/v1/datasets/images", json=FULL)).json()
    expected = {**FULL, "subPaths": ["0000", "0001"], "ttl": 7 * 86400.0, "quota": 10 << 30, "name": "images"}
    preload = {"path": None, "order": None, "rewarm": "all", **FULL["preload"]}
    assert {name: shown[name] for name in expected} == {**expected, "preload": preload}
    assert shown["status"]["nextLoad"]
    again = {name: shown[name] for name in expected}
    assert (await client.put("/v1/datasets/images", json=again)).json()["declaredAt"] == shown["declaredAt"]
    loose = {"path": "s3a://b/data", "replicas": 2.0, "quota": 2.0, "preload": None}
    assert (await client.put("/v1/datasets/other", json=loose)).json()["path"] == PATH

    async def ruled() -> bool:
        return cluster.coordinator.mounts.rule("images") is not None

    await until(ruled)
    assert (await client.get("/v1/mounts")).json() == {"mounts": []}


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("a.b", {}, "name="),
    ("images", {"replica": 2}, "replica"),
    ("images", {"replicas": 1.5}, "replicas"),
    ("images", {"name": "other"}, "name="),
    ("images", {"quota": "many"}, "quota="),
    ("images", {"ttl": "soon"}, "ttl="),
    ("images", {"freshness": "max-age"}, "freshness="),
    ("images", {"subPaths": ["s3://b/other/"]}, "not below"),
    ("images", {"preload": {"schedule": "nightly"}}, "schedule="),
    ("images", {"preload": {"enabled": "yes"}}, "enabled"),
]


async def test_what_cannot_be_declared_is_refused(client: httpx.AsyncClient):
    for name, change, named in REFUSED:
        answer = await client.put(f"/v1/datasets/{name}", json={**FULL, **change})
        assert (answer.status_code, named in answer.json()["detail"]) == (400, True), answer.text
    assert (await client.get("/v1/datasets")).json() == {"datasets": []}


def test_a_rule_changes_how_fresh_reads_are_and_nothing_else():
    outer = Mount(name="outer", path="s3://b/", writes=WriteMode.THROUGH, temporary=("_tmp/",))
    inner = Mount(name="inner", path="s3://b/data/inner/")
    rule = Mount(name="", path=PATH, freshness=Freshness.ALWAYS_CHECK)
    table = MountTable([outer, inner, rule])
    found = table.of(f"{PATH}x")
    assert (found.name, found.path, found.writes) == ("outer", "s3://b/", WriteMode.THROUGH)
    assert [table.of(f"s3://b/{key}").freshness for key in ("data/x", "data/inner/x", "x")] == [
        Freshness.ALWAYS_CHECK,
        Freshness.NEVER_CHECK,
        Freshness.NEVER_CHECK,
    ]
    assert (table.names, table.checks_nothing) == (("inner", "outer"), False)
    alone = MountTable([rule])
    assert (alone.names, str(alone.resolve("b", "x")), alone.of("s3://b/x").name) == ((), "s3://b/x", "")


async def test_a_load_never_attaches_to_a_job_that_brings_metadata_only(cluster: Cluster):
    cluster.fill(3)
    await cluster.pause_workers()
    service = cluster.coordinator.service
    noting = (await service.submit(load(load_metadata_only=True))).job
    loading = await service.submit(load())
    assert (loading.attached, loading.job.id != noting.id) == (False, True)
    found = await service.find(load())
    assert found
    assert found.job.id == loading.job.id
    cluster.resume_workers()
    for job in (noting, loading.job):
        await cluster.ended(job.id)
    assert cluster.cached(f"{PATH}0000")
    noted = (await service.submit(load(load_metadata_only=True))).job
    found = await service.find(load())
    assert found
    assert found.job.id == noted.id, "the latest of the path, as Alluxio's clients ask for it"


@pytest.mark.parametrize("others", [False, True])
async def test_a_load_of_what_is_no_longer_declared_stops_unless_others_wait(cluster: Cluster, others: bool):
    cluster.fill(5)
    datasets, service = cluster.coordinator.datasets, cluster.coordinator.service
    item = Dataset(name="images", path=PATH, preload=Preload(enabled=True, schedule="0 0 1 1 *"))
    await datasets.declare(item)

    async def listed() -> bool:
        return (await datasets.get("images")).listed is not None

    async def loading() -> bool:
        return (await datasets.get("images")).phase is Phase.LOADING

    await until(listed)
    await cluster.pause_workers()
    await datasets.declare(replace(item, preload=Preload(enabled=True)))
    await until(loading)
    job_id = (await datasets.get("images")).last_job
    if others:
        await service.claim(job_id, Claim(waiter="dag", fence="1"))
    await datasets.remove("images")

    async def left() -> bool:
        return (await cluster.engine.get(Bucket.DATASETS, "images")) is None

    await until(left)
    if others:
        cluster.resume_workers()
    assert await cluster.ended(job_id) is (JobState.SUCCEEDED if others else JobState.STOPPED)


async def test_of_two_coordinators_that_write_one_wins():
    engine = MemoryEngine()
    first, second = Datasets(engine), Datasets(engine)
    record, _ = await first.declare(Dataset(name="images", path=PATH))
    await second.get("images")
    (_, revision) = second.view.values()[0]
    assert await first.write(replace(record, observed=True), revision)
    assert not await second.write(replace(record, held=True), revision)
    latest = await second.get("images")
    assert (latest.observed, latest.held) == (True, False)
    await asyncio.gather(*(each.declare(Dataset(name="texts", path=PATH)) for each in (first, second)))
    assert [record.dataset.name for record in second.list()] == ["images", "texts"]


async def test_two_coordinators_with_one_file_remove_what_it_has_no_more():
    engine = MemoryEngine()
    first, second = Datasets(engine), Datasets(engine)
    for each in (first, second):
        await each.declare_file([Dataset(name="images", path=PATH)])
    for each in (first, second):  # the second has not heard of it yet
        await each.declare_file([])
    assert (first.list(), second.list()) == ([], [])


async def test_a_coordinator_that_dies_after_a_submit_leaves_one_job(cluster: Cluster):
    cluster.fill(3)
    datasets, service = cluster.coordinator.datasets, cluster.coordinator.service
    dataset = Dataset(name="images", path=PATH, preload=Preload(enabled=True))
    run = Run(key="dataset images 0 0", spec=dataset.load_spec(0.0))
    submitted = (await service.submit(run.spec, idempotency_key=run.key)).job
    await cluster.ended(submitted.id)
    cycle = Cycle(cause=Cause.DECLARED, began_at=1.0, listed=True)
    assert await datasets.write(Record(dataset=dataset, changed_at=1.0, cycle=cycle, run=run, runs=1), 0)

    async def loaded() -> str:
        record = await datasets.get("images")
        return record.loaded.job_id if record.loaded else ""

    assert await until(loaded) == submitted.id
    assert len(service.list()) == 1


async def test_a_token_declares_and_sees_its_own_paths_only(cluster: Cluster):
    datasets = cluster.coordinator.datasets
    await datasets.declare(Dataset(name="images", path=PATH))
    with acting_for(Grant(role=Role.SUBMIT, prefixes=("s3://b/other/",))):
        assert datasets.list() == []
        ordered = Dataset(name="own", path="s3://b/other/", preload=Preload(order="s3://b/order.txt"))
        taken = Dataset(name="images", path="s3://b/other/")
        for refused in (datasets.get("images"), datasets.remove("images"), datasets.declare(ordered)):
            with pytest.raises(Forbidden):
                await refused
        with pytest.raises(Forbidden):
            await datasets.declare(taken)
    with acting_for(Grant(role=Role.READ)), pytest.raises(Forbidden):
        await datasets.declare(taken)


async def test_how_fresh_all_readers_are_is_for_an_admin_to_say(cluster: Cluster):
    datasets = cluster.coordinator.datasets
    plain, ruled = Dataset(name="images", path=PATH), Dataset(name="images", path=PATH, freshness="never-check")
    with acting_for(Grant(role=Role.SUBMIT)):
        await datasets.declare(plain)
        with pytest.raises(Forbidden):
            await datasets.declare(ruled)
    with acting_for(Grant(role=Role.ADMIN)):
        await datasets.declare(ruled)
    with acting_for(Grant(role=Role.SUBMIT)):
        for refused in (datasets.declare(plain), datasets.remove("images")):
            with pytest.raises(Forbidden):
                await refused


async def test_what_an_order_file_names_elsewhere_is_not_loaded(client: httpx.AsyncClient, cluster: Cluster):
    cluster.fill(3)
    cluster.origin.write("s3://b/secret", b"secret")
    cluster.origin.write("s3://b/order.txt", b"data/0002\ndata/0000\nsecret\n")
    body = {"path": PATH, "preload": {"enabled": True, "order": "s3://b/order.txt"}}
    await client.put("/v1/datasets/images", json=body)

    async def failing() -> list[str]:
        shown = (await client.get("/v1/datasets/images")).json()["status"]["conditions"]
        return [item["message"] for item in shown if item["type"] == "Failing"]

    (message,) = await until(failing)
    assert "s3://b/secret" in message
    assert (cluster.cached("s3://b/secret"), len(cluster.cached(f"{PATH}0002"))) == ([], 1)


FILE = """
[datasets.images]
path = "s3://b/data/"
replicas = 1.0
preload = {enabled = true, deadline = "2h"}

[datasets.texts]
path = "s3://b/texts/"

[[mounts]]
name = "data"
path = "s3://b/data/"
freshness = "max-age=10m"
writes = "through"
"""


@pytest.fixture
async def followed(cluster: Cluster, tmp_path: Path) -> AsyncIterator[tuple[Coordinator, Path]]:
    """A coordinator that follows a file, which is a link as in a ConfigMap's volume."""
    (tmp_path / "first.toml").write_text(FILE)
    link = tmp_path / "preheat.toml"
    link.symlink_to("first.toml")
    following = asyncio.create_task(follow_config(cluster.coordinator, link, read_config(link), look_seconds=0.01))
    yield cluster.coordinator, link
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


def swap(link: Path, content: str) -> None:
    target = link.with_name("second.toml")
    target.write_text(content)
    fresh = link.with_name("fresh")
    fresh.symlink_to(target.name)
    fresh.replace(link)


async def names(coordinator: Coordinator) -> tuple[list[str], list[str]]:
    datasets, mounts = coordinator.datasets.list(), coordinator.mounts.list()
    return [item.dataset.name for item in datasets], [item.name for item in mounts]


async def become(coordinator: Coordinator, datasets: list[str], mounts: list[str]) -> None:
    async def same() -> bool:
        return await names(coordinator) == (datasets, mounts)

    await until(same)


async def test_a_file_declares_owns_and_removes(followed: tuple[Coordinator, Path]):
    coordinator, link = followed
    await coordinator.mounts.put(Mount(name="by-hand", path="s3://b/by-hand/"))
    await coordinator.datasets.declare(Dataset(name="by-hand", path="s3://b/by-hand/"))
    await become(coordinator, ["by-hand", "images", "texts"], ["by-hand", "data"])
    for change in (
        coordinator.datasets.declare(Dataset(name="images", path=PATH)),
        coordinator.datasets.remove("images"),
    ):
        with pytest.raises(Conflict, match=r"preheat\.toml"):
            await change
    swap(link, "[datasets.images]\npath = 's3://b/data/'\nreplica = 2")
    swap(link, "[datasets.texts]\npath = 's3://b/texts/'\nreplicas = 2")
    await become(coordinator, ["by-hand", "texts"], ["by-hand"])
    texts = await coordinator.datasets.get("texts")
    assert (texts.dataset.replicas, texts.owner) == (2, Owner.FILE)


async def test_a_file_that_cannot_be_read_changes_nothing(followed: tuple[Coordinator, Path]):
    coordinator, link = followed
    await become(coordinator, ["images", "texts"], ["data"])
    with capture_logs() as told:
        swap(link, "[datasets.texts")

        async def refused() -> bool:
            return any(line["action"] == "config_refused" for line in told)

        await until(refused)
    assert await names(coordinator) == (["images", "texts"], ["data"])
    link.unlink()
    swap(link, "")
    await become(coordinator, [], [])


async def test_what_a_file_declares_is_declared_later_if_it_cannot_be_now(
    followed: tuple[Coordinator, Path], cluster: Cluster, monkeypatch: pytest.MonkeyPatch
):
    coordinator, link = followed
    await become(coordinator, ["images", "texts"], ["data"])

    put = cluster.engine.put

    async def refuse(bucket: Bucket, key: str, value: bytes, *, revision: int | None = None) -> int:
        if bucket is Bucket.DATASETS:
            raise Conflict("Others write all the time.")
        return await put(bucket, key, value, revision=revision)

    with capture_logs() as told, monkeypatch.context() as patched:
        patched.setattr(cluster.engine, "put", refuse)
        swap(link, "")

        async def late() -> bool:
            return any(line["action"] == "config_late" for line in told)

        await until(late)
    await become(coordinator, [], [])


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("[dataset.images]\npath='s3://b/x/'", ["dataset=", "Known there: datasets, mounts"]),
        ("[datasets.images]\npath='s3://b/x/'\nreplica=2", ["datasets.images.replica=2", "subPaths, replicas"]),
        (
            "[datasets.images]\npath='s3://b/x/'\npreload={on=true}",
            ["datasets.images.preload.on=True", "enabled, path"],
        ),
        ("[datasets.images]\nreplicas=2", ["datasets.images.path is missing"]),
        ("[datasets.images]\npath='x/'", ["datasets.images", "x/"]),
        ("[[mounts]]\nname='data'\npath='s3://b/x/'\nfresh=1", ["mounts.0.fresh=1", "Known there: name, path"]),
        ("[[mounts]]\nname='data'\npath='s3://b/x/'\nfreshness='new'", ["freshness='new'"]),
        (
            "[[mounts]]\nname='data'\npath='s3://b/x/'\n[[mounts]]\nname='data'\npath='s3://b/y/'",
            ["mounts.1: name='data' is that of mounts.0 too", "data (s3://b/x/) and data (s3://b/y/)"],
        ),
        (
            "[[mounts]]\nname='data'\npath='s3://b/x/'\n[[mounts]]\nname='more'\npath='s3://b/x'",
            ["mounts.1: path='s3://b/x/' is that of mounts.0 too", "data (s3://b/x/) and more (s3://b/x/)"],
        ),
        ("datasets = ]", ["no TOML", "line 1"]),
    ],
)
def test_the_message_about_a_wrong_file_names_file_key_and_remedy(tmp_path: Path, content: str, named: list[str]):
    file = tmp_path / "preheat.toml"
    file.write_text(content)
    with pytest.raises(InvalidRequest) as refused:
        read_config(file)
    assert [text for text in [str(file), *named] if text not in str(refused.value)] == [], str(refused.value)


def test_a_file_has_mounts_as_the_command_line_does(tmp_path: Path):
    file = tmp_path / "preheat.toml"
    file.write_text(FILE)
    (mount,) = read_config(file).mounts
    assert (mount.freshness, mount.max_age, mount.path) == (Freshness.MAX_AGE, 600.0, PATH)


async def test_the_command_line_declares_and_tells(url: str, cluster: Cluster, tmp_path: Path, run: Any):
    async def call(*arguments: str) -> Any:
        return await asyncio.to_thread(run, *arguments)

    cluster.fill(5)
    file = tmp_path / "preheat.toml"
    file.write_text(FILE)
    assert "images" in (await call("dataset", "apply", "-f", str(file))).out
    options = ("--path", PATH, "--sub-path", "0000", "--preload", "--ttl", "7d", "--quota", "1GiB")
    applied = await call("dataset", "apply", "--name", "part", *options)
    assert (applied.code, "part" in applied.out) == (0, True)

    async def loaded() -> bool:
        rows = [line.split()[:4] for line in (await call("dataset", "ls")).out.splitlines()]
        return ["part", "Loaded", "100.0%", "100.0%"] in rows

    await until(loaded)
    told = (await call("dataset", "status", "part")).out
    assert all(text in told for text in ("0000", "1.00 GiB", "168 h 00 m", "WorkersReady"))
    assert (await call("dataset", "rm", "part")).out == "The dataset part is no longer declared.\n"
    assert (await call("dataset", "rm", "part")).code == 1
    quotas = (await call("fs", "setQuota", PATH, "2")).out.splitlines()
    assert quotas[1].split()[:5] == ["images", "2", "B", "40", "B"]
    assert (await call("fs", "setQuota", "s3://b/other/", "2")).code == 1
    assert (await call("fs", "setQuota", PATH, "unlimited")).code == 0
    assert (await call("fs", "quotas")).out.splitlines() == ["DATASET  QUOTA  NEEDED  EXCEEDED  PATH"]
    assert "--name" in (await call("dataset", "apply")).err
    assert "no table" in (await call("dataset", "apply", "-f", "/dev/null")).err


async def test_what_the_page_on_declaring_datasets_shows_is_run(
    url: str, cluster: Cluster, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs/how-to/declare-datasets.md").read_text()
    (config,), (commands,) = (re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL) for kind in ("toml", "bash"))
    for name in ("images/train/0", "texts/0", "labels/0"):
        cluster.origin.write(f"s3://datasets/{name}", b"x")
    (file := tmp_path / "preheat.toml").write_text(config)
    declared = read_config(file)
    assert [item.name for item in (*declared.datasets, *declared.mounts)] == ["images", "texts", "incoming"]
    for line in commands.splitlines():
        done = await asyncio.to_thread(run, *shlex.split(line)[1:])
        assert done.code == 0, (line, done.err)
    assert sorted(record.dataset.name for record in cluster.coordinator.datasets.list()) == ["images", "texts"]
    keys = {f"`{name}`" for name in PreloadBody.model_json_schema()["properties"]}
    assert {key.replace("`", "`preload.", 1) for key in keys} <= set(re.findall(r"`[a-zA-Z.]+`", page))
