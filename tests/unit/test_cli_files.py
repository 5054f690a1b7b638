"""``preheat fs``, ``drain``, ``job set`` and ``job stat -v`` against a coordinator that is really there."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from preheat.cli import main
from preheat.client import Client, TaskReport
from preheat.jobs import JobState
from preheat.paths import UfsPath
from tests.unit.memory_cluster import Cluster, load

PATH = "s3://b/data/"
FIRST = f"{PATH}0000"
LOG_LINE = re.compile(r"^\d{4}-\d\d-\d\d [\d:]+ \[.*\n", re.MULTILINE)
"""The coordinator's, in the same process."""


@pytest.fixture
def cluster(cluster: Cluster) -> Cluster:
    cluster.fill(20)
    return cluster


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


async def test_replicas_are_made_and_freed(run, cluster: Cluster):
    await run("load", PATH)
    assert len(cluster.cached(FIRST)) == 1
    assert "SUCCEEDED: 20 files, 170 B replicated" in await run("fs", "setReplication", PATH, "--replicas", "2")
    assert len(cluster.cached(FIRST)) == 2
    assert "SUCCEEDED: 20 files, 170 B freed, 0 failed" in await run("fs", "free", PATH)
    assert cluster.cached(FIRST) == []
    assert (await cluster.origin.stat(UfsPath.parse(FIRST))).size == 8


async def test_files_are_copied_and_moved(run, cluster: Cluster):
    assert "SUCCEEDED: 20 files, 170 B copied" in await run("fs", "cp", PATH, "s3://b/copy/")
    assert "20 of them before" in await run("fs", "cp", PATH, "s3://b/copy/")
    assert "SUCCEEDED: 20 files, 170 B moved" in await run("fs", "mv", "s3://b/copy/", "s3://b/moved/")
    assert await cluster.content("s3://b/moved/0000") == b"object 0"
    assert "nothing below it" in await run("fs", "cp", "s3://b/copy/", "s3://b/moved/", code=1)
    listed = json.loads(await run("job", "ls", "--type", "move", "--json"))["jobs"]
    assert [(job["type"], job["destination"]) for job in listed] == [("move", "s3://b/moved/")]


async def test_a_command_takes_the_options_of_its_type_of_job(run):
    await run("load", PATH)
    freed = json.loads(await run("job", "free", PATH, "--file-filter-regx", ".*1", "--json"))
    assert (freed["type"], freed["state"], freed["listed"]["files"]) == ("free", "SUCCEEDED", 2)
    assert "--verify" in await run("fs", "free", PATH, "--verify", code=2)
    assert "--replicas" in await run("fs", "setReplication", PATH, code=2)


async def test_a_job_is_not_waited_for_on_request(run, cluster: Cluster):
    await cluster.pause_workers()
    submitted = await run("load", PATH, "--no-wait", "--priority", "low")
    job_id = submitted.removeprefix("Load submitted. JobId: ").strip()
    assert await run("load", PATH, "--no-wait") == f"Load is already running. JobId: {job_id}\n"
    changed = await run("job", "set", job_id, "--bandwidth", "2MiB", "--priority", "HIGH")
    assert "is 2.00 MiB/s now" in changed
    control, _ = await control_of(cluster, job_id)
    assert (control.bandwidth, control.priority) == (2 << 20, "high")
    await run("job", "set", job_id, "--bandwidth", "unlimited")
    control, _ = await control_of(cluster, job_id)
    assert control.bandwidth == 0
    assert "Give --bandwidth" in await run("job", "set", job_id, code=2)
    assert "it is STOPPED now" in await run("job", "cancel", job_id)
    assert "has ended" in await run("job", "set", job_id, "--priority", "low", code=1)


async def control_of(cluster: Cluster, job_id: str) -> Any:
    return cluster.coordinator.service._controls.get(job_id)


async def test_stat_has_a_task_for_each_worker_and_pass(run, url: str, cluster: Cluster):
    with Client(url) as client:
        job = await asyncio.to_thread(client.submit, load(PATH, verify=True, batch_size=5))
    assert await cluster.ended(job.id) is JobState.SUCCEEDED
    text = await run("job", "stat", "-v", job.id)
    lines = text.splitlines()
    assert lines[:4] == [f"ID: {job.id}", "Name: Load", f"Description: {PATH}", "Status: SUCCEEDED"]
    assert "Loaded: 20 files, 170 B" in lines
    first = lines.index("Task 0")
    assert lines[first + 1 : first + 4] == ["\tWorker: worker-0", "\tAction: fetch", "\tStatus: SUCCEEDED"]
    assert lines[first + 4].endswith("done, 0 open")
    tasks = json.loads(await run("job", "stat", "-v", job.id, "--json"))["tasks"]
    assert [(task["worker"], task["action"]) for task in tasks] == [
        ("worker-0", "fetch"), ("worker-1", "fetch"), ("worker-0", "verify"), ("worker-1", "verify"),
    ]  # fmt: skip
    assert sum(task["done"]["files"] for task in tasks) == 40
    assert "Task" not in await run("job", "stat", job.id)


async def opened(client: Client, job_id: str) -> tuple[TaskReport, ...]:
    """Wait until the workers have batches, and return the tasks."""
    async with asyncio.timeout(5):
        while not (tasks := await asyncio.to_thread(client.tasks, job_id)):
            await asyncio.sleep(0.01)
    return tasks


async def test_the_tasks_of_a_stopped_job_are_stopped(run, url: str, cluster: Cluster):
    await cluster.pause_workers()
    with Client(url) as client:
        job = await asyncio.to_thread(client.submit, load(PATH))
        tasks = await opened(client, job.id)
        assert {(task.status, task.open_batches, task.batches) for task in tasks} == {(JobState.RUNNING, 1, 0)}
        await asyncio.to_thread(client.stop, job.id)
        assert {task.status for task in await asyncio.to_thread(client.tasks, job.id)} == {JobState.STOPPED}


async def test_what_failed_is_in_the_task_of_its_worker(url: str, cluster: Cluster):
    await cluster.pause_workers()
    with Client(url) as client:
        job = await asyncio.to_thread(client.submit, load(PATH))
        await opened(client, job.id)
        cluster.origin.remove(FIRST)
        cluster.resume_workers()
        assert await cluster.ended(job.id) is JobState.FAILED
        tasks = await asyncio.to_thread(client.tasks, job.id)
    (failed,) = [task for task in tasks if task.status is JobState.FAILED]
    assert failed.failed == 1
    assert "does not exist" in failed.error
    assert sum(task.done.files for task in tasks) == 19


async def test_a_drained_worker_leaves_and_comes_back(run, cluster: Cluster):
    drained = json.loads(await run("drain", "worker-1", "--wait", "--json"))
    assert (drained["leaving"], drained["live"]) == (True, False)
    lines = (await run("report", "jobservice")).splitlines()
    assert "State" not in lines[0]
    assert lines[1].startswith("Worker: worker-1")
    assert lines[1].endswith("State: drained")
    assert await run("drain", "worker-1", "--wait") == "worker-1 is drained.\n"
    assert "takes part again" in await run("undrain", "worker-1")
    await cluster.live(2)
    assert "There is no worker 'worker-9'" in await run("drain", "worker-9", code=1)


async def test_a_drain_is_waited_for_only_so_long(run, cluster: Cluster):
    await cluster.kill("worker-1")
    assert "worker-1 is" in await run("drain", "worker-1", "--wait", "--timeout", "0", code=1)
