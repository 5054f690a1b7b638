"""The hooks, operators and triggers in the dialects of an Alluxio.

With our own coordinator, which serves them too, and with answers that its public sources have.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from airflow_preheat import _client
from airflow_preheat.exceptions import PreheatJobFailedError, PreheatJobNotFoundError, PreheatUnavailableError
from airflow_preheat.hooks import PreheatHook
from airflow_preheat.jobs import JobSpec
from airflow_preheat.operators import PreloadOperator
from airflow_preheat.triggers import PreloadTrigger
from tests.integration.provider_coordinator import Received, running
from tests.unit.memory_cluster import Cluster
from tests.unit.served_cluster import serve

FIXTURES = Path(__file__).parents[1] / "contract" / "alluxio"
PATH = "s3://b/data/"
SPEC = JobSpec(type="load", paths=(PATH,), options={"replicas": 1, "skipIfExists": True, "verify": True})
PATIENCE = 30.0
DIALECTS = pytest.mark.parametrize("dialect", ["alluxio-3.3", "alluxio-3.6"])


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., PreheatHook]:
    monkeypatch.setattr(_client, "_RETRY_DELAYS", (0.0, 0.0))

    def connect(url: str, dialect: str = "auto") -> PreheatHook:
        connection = {"conn_type": "preheat", "extra": {"url": url, "dialect": dialect, "connect_timeout": 1}}
        monkeypatch.setenv("AIRFLOW_CONN_PREHEAT_DEFAULT", json.dumps(connection))
        return PreheatHook()

    return connect


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    running = Cluster()
    running.fill(3)
    await running.start_all()
    yield running
    await running.stop_all()


@pytest.fixture
async def url(cluster: Cluster) -> AsyncIterator[str]:
    async with serve(cluster) as url:
        yield url


def preload(**arguments: Any) -> PreloadOperator:
    settings = {"task_id": "warm", "path": PATH, "deferrable": False, "poll_interval": 0.05}
    return PreloadOperator(**(settings | arguments))


def context() -> dict[str, Any]:
    task_instance = SimpleNamespace(
        id="ti", try_number=1, dag_id="d", run_id="r", task_id="warm", map_index=-1, xcom_push=lambda **_: None
    )
    return {"ti": task_instance, "outlet_events": {}}


@DIALECTS
async def test_our_coordinator_is_driven_in_the_dialect(cluster, url, connect, dialect):
    hook = connect(url, dialect)

    result = await asyncio.to_thread(preload().execute, context())

    assert (result["files"], result["failed"], result["hot_fraction"]) == (3, 0, 1.0)
    assert len(cluster.cached("s3://b/data/0000")) == 1
    (known,) = cluster.coordinator.service.list()
    assert known.job.spec.options.verify
    assert result["job_id"] == (PATH if dialect == "alluxio-3.3" else known.job.id)
    assert await asyncio.to_thread(hook.test_connection) == (
        True,
        f"An Alluxio coordinator answers at {url} in the dialect {dialect}.",
    )


@DIALECTS
async def test_a_job_is_joined_stopped_and_unknown_ones_are_told(cluster, url, connect, dialect):
    hook = connect(url, dialect)
    await cluster.pause_workers()

    def story() -> tuple[str, bool, bool, str]:
        first, second = hook.submit(SPEC), hook.submit(SPEC)
        assert first["id"] == second["id"]
        stopped = hook.stop(first["id"])
        with pytest.raises(PreheatJobNotFoundError):
            hook.get_job("s3://b/unknown/")
        return first["state"], first["attached"], second["attached"], stopped["state"]

    assert await asyncio.to_thread(story) in [(s, False, True, "STOPPED") for s in ("WAITING", "RUNNING")]
    assert await asyncio.to_thread(lambda: hook.stop(hook.submit(SPEC)["id"])["state"]) == "STOPPED"


@DIALECTS
async def test_a_deferred_task_is_resumed_when_the_job_has_ended(cluster, url, connect, dialect):
    connect(url, dialect)
    await cluster.pause_workers()
    with pytest.raises(TaskDeferred) as deferred:
        await asyncio.to_thread(preload(deferrable=True).execute, context())
    trigger = deferred.value.trigger
    _, arguments = trigger.serialize()

    async with asyncio.timeout(PATIENCE):
        waiting = asyncio.create_task(anext(PreloadTrigger(**(arguments | {"not_before": 0.0})).run()))
        cluster.resume_workers()
        event = (await waiting).payload

    assert (event["status"], event["job"]["loaded"]) == ("succeeded", 3)


@dataclass
class RecordedAlluxio:
    """Answers each address with what was recorded, one after the other, the last one for ever."""

    url: str = ""
    answers: dict[tuple[str, str], list[tuple[int, bytes]]] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)

    def record(self, method: str, path: str, *bodies: object, status: int = 200) -> None:
        encoded = [body if isinstance(body, bytes) else json.dumps(body).encode() for body in bodies]
        self.answers.setdefault((method, path), []).extend((status, body) for body in encoded)

    def answer(self, request: Received) -> tuple[int, bytes]:
        self.received.append(request)
        answers = self.answers.get((request.method, request.path), [(404, b"<html>Not found</html>")])
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def sent(self, method: str, path: str) -> list[Received]:
        return [item for item in self.received if (item.method, item.path) == (method, path)]

    def close(self) -> None:
        """Nobody waits here."""


B, C = "/api/v1/master", "/api/v1/load"
JOB_ID = "54b88939-de49-46ef-acab-fe489f46d1a0"


@pytest.fixture
def alluxio() -> Iterator[RecordedAlluxio]:
    with running(RecordedAlluxio()) as alluxio:  # type: ignore[arg-type] - it has what is used of a Coordinator
        yield alluxio


def fixture(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


def test_a_3_3_that_says_true_and_reports_in_text(alluxio, connect):
    connect(alluxio.url)
    alluxio.record("GET", f"{B}/list_job", {"results": []})
    alluxio.record("POST", f"{B}/submit_job/load", True)
    progress = [fixture("progress_running.txt"), fixture("progress_documented.txt")]
    alluxio.record("GET", f"{B}/progress_job/load", *progress)

    result = preload().execute(context())

    assert (result["job_id"], result["files"], result["bytes"]) == (PATH, 1000, 125 << 20)
    assert alluxio.sent("POST", f"{B}/submit_job/load")[0].body["path"] == PATH
    assert alluxio.sent("GET", f"{B}/progress_job/load")[0].body["format"] == "JSON"


def test_a_3_3_whose_job_fails_says_why(alluxio, connect):
    connect(alluxio.url, "alluxio-3.3")
    alluxio.record("POST", f"{B}/submit_job/load", True)
    alluxio.record("GET", f"{B}/progress_job/load", fixture("progress_failed.txt"))

    with pytest.raises(PreheatJobFailedError, match="it's not healthy"):
        preload().execute(context())


def test_a_3_6_that_rejects_an_identical_job(alluxio, connect):
    connect(alluxio.url)
    finished = json.loads(fixture("rest_job.json")) | {"paths": [PATH]}
    waiting = {"id": JOB_ID, "paths": [PATH], "state": "WAITING"}
    alluxio.record("GET", C, {"results": []}, {"results": [waiting]}, waiting, finished)
    alluxio.record("POST", C, {"status": "An identical job is already scheduled; submission rejected"}, status=409)

    assert preload().execute(context())["job_id"] == JOB_ID

    assert len(alluxio.sent("POST", C)) == 1
    assert [read.query for read in alluxio.sent("GET", C)][2:] == [{"id": JOB_ID}] * 2


@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_submit_is_repeated_while_the_coordinator_is_unavailable(alluxio, connect, status):
    hook = connect(alluxio.url, "alluxio-3.3")
    alluxio.record("POST", f"{B}/submit_job/load", {"status": "Not now."}, b"", status=status)
    alluxio.record("POST", f"{B}/submit_job/load", True)
    alluxio.record("GET", f"{B}/progress_job/load", {"mJobState": "RUNNING"})

    assert hook.submit(SPEC)["state"] == "RUNNING"
    assert len(alluxio.sent("POST", f"{B}/submit_job/load")) == 3


def test_a_busy_alluxio_is_unavailable_and_not_asked_again_at_once(alluxio, connect):
    hook = connect(alluxio.url, "alluxio-3.3")
    busy = {"success": False, "message": "Too many jobs running, please submit later."}
    alluxio.record("POST", f"{B}/submit_job/load", busy)

    with pytest.raises(PreheatUnavailableError, match="submit later"):
        hook.submit(SPEC)
    assert len(alluxio.received) == 1


def test_what_is_neither_is_said_by_the_connection_test(alluxio, connect):
    passed, message = connect(alluxio.url).test_connection()

    assert not passed
    assert "neither a Preheat coordinator nor an Alluxio" in message


@pytest.mark.parametrize(("state", "stops"), [("deferred", 0), ("scheduled", 0), ("running", 0), ("failed", 1)])
async def test_without_fences_a_kill_stops_the_job_only_if_the_task_has_ended(
    alluxio, connect, monkeypatch, state, stops
):
    connect(alluxio.url, "alluxio-3.3")
    alluxio.record("GET", f"{B}/progress_job/load", {"mJobState": "RUNNING"})
    alluxio.record("POST", f"{B}/stop_job/load", True)
    states = lambda **_: {"r": {"warm": state}}  # noqa: E731
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(states))
    trigger = PreloadTrigger(
        job_id=PATH,
        waiter="d/r/warm/-1",
        preheat_conn_id="preheat_default",
        deadline=time.time() + 0.2,
        poll_interval=0.1,
        outage_tolerance=0.0,
        cancel_on_kill=True,
    )
    trigger.task_instance = context()["ti"]

    assert [event.payload["status"] async for event in trigger.run()] == ["deadline"]
    await trigger.on_kill()

    assert len(alluxio.sent("POST", f"{B}/stop_job/load")) == stops
