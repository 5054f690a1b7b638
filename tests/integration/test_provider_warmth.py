"""The provider's sensors and watchers against the real coordinator and workers, in one loop."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from airflow_preheat._looks import JobLook, WarmthLook
from airflow_preheat.async_hooks import PreheatAsyncHook
from airflow_preheat.exceptions import PreheatRequestError, PreheatVersionUnknownError
from airflow_preheat.hooks import PreheatHook
from airflow_preheat.triggers import DatasetWarmTrigger
from preheat.jobs import JobSpec, JobState, JobType
from tests.unit.memory_cluster import Cluster, load
from tests.unit.served_cluster import serve

PATH = "s3://b/data/"


@pytest.fixture
async def cluster(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    cluster = Cluster()
    cluster.fill(20)
    await cluster.start_all()
    async with serve(cluster) as url:
        monkeypatch.setenv("AIRFLOW_CONN_PREHEAT_DEFAULT", json.dumps({"conn_type": "preheat", "extra": {"url": url}}))
        yield cluster
    await cluster.stop_all()


async def done(cluster: Cluster, spec: JobSpec) -> str:
    known = await cluster.coordinator.service.submit(spec)
    assert await cluster.ended(known.job.id) is JobState.SUCCEEDED
    return known.job.id


async def test_a_dataset_becomes_warm_and_cold_again(cluster: Cluster):
    look = WarmthLook(path=PATH)
    async with PreheatAsyncHook() as hook:
        assert (await hook.look(look)).note.startswith(f"{PATH} is 0.00 % hot: 0 of 20 files")
        assert (await hook.look(JobLook(path=PATH))).result is None
        assert (await hook.look(WarmthLook(path="s3://b/none/"))).result is None
        job_id = await done(cluster, load(replicas=2))
        warm = await hook.look(look)
        assert warm.result is not None
        assert (warm.result["files"], warm.result["hot_fraction"]) == (20, 1.0)
        version = warm.result["dataset_version"]
        job = await hook.look(JobLook(path=PATH, submitted_after="2020-01-01T00:00:00Z"))
        assert job.result is not None
        assert (job.result["job_id"], job.result["dataset_version"]) == (job_id, version)
        assert (await hook.look(JobLook(path=PATH, submitted_after="2999-01-01T00:00:00Z"))).result is None
        assert await asyncio.to_thread(lambda: PreheatHook().warmth(PATH, version=version)) == await hook.warmth(
            PATH
        ) | {"source": "version"}
        with pytest.raises(PreheatVersionUnknownError, match="No inventory"):
            await hook.warmth(PATH, version=f"sha256:{'0' * 64}")
        with pytest.raises(PreheatRequestError, match="version"):
            await hook.warmth(PATH, version="None")
        await done(cluster, JobSpec(type=JobType.FREE, paths=(PATH,)))
        assert (await hook.look(look)).result is None


async def test_a_watcher_fires_for_each_version_that_became_warm(cluster: Cluster):
    events = DatasetWarmTrigger(path=PATH, poll_interval=0.05).run()
    await done(cluster, load(load_metadata_only=True))
    await done(cluster, load())
    async with asyncio.timeout(20):
        first = (await anext(events)).payload
        cluster.origin.write(f"{PATH}0003", b"new")
        await done(cluster, load())
        second = (await anext(events)).payload
    await events.aclose()
    assert (first["files"], first["hot_fraction"]) == (20, 1.0)
    assert first["dataset_version"] != second["dataset_version"]
