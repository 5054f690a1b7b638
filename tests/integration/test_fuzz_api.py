"""Schemathesis against the API of an in-memory cluster: what OpenAPI says holds, and no input is a server error."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.unit.memory_cluster import Cluster, load
from tests.unit.served_cluster import serve

SEED = 20261121
EXAMPLES = 20
"""Of each operation and mode."""
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
TAKEN = {"/v1/datasets/{name}": 201, "/v1/mounts/{name}": 201, "/v1/pins": 409, "/v1/quotas": 200, "/v1/ttls": 200}
"""How an example is answered."""
ENDLESS = {"/v1/events"}
"""Streams, which have tests of their own."""
SETTINGS = settings(
    max_examples=EXAMPLES,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def api() -> Iterator[tuple[str, str]]:
    """Serve a cluster from a thread; yield its URL and the id of a job that ended."""
    ready: Future[tuple[str, str]] = Future()
    done = threading.Event()

    async def run() -> None:
        cluster = Cluster()
        cluster.fill(3)
        await cluster.start_all()
        async with serve(cluster) as url:
            job = (await cluster.coordinator.service.submit(load())).job
            await cluster.ended(job.id)
            ready.set_result((url, job.id))
            await asyncio.to_thread(done.wait)
        await cluster.stop_all()

    with ThreadPoolExecutor(1) as thread:
        served = thread.submit(asyncio.run, run())
        served.add_done_callback(lambda ended: ready.done() or ready.set_exception(ended.exception()))
        try:
            yield ready.result(timeout=20)
        finally:
            done.set()
    served.result()


def operations(url: str) -> Iterator[Any]:
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path not in ENDLESS:
            yield operation


def answerable(case: Any) -> Any:
    """Ask for no more live workers than there may be: 503 is the right answer to that."""
    if str((case.query or {}).get("workers", "")).isdigit():
        case.query["workers"] = 0
    return case


def real(case: Any, job_id: str) -> Any:
    """Let a case name a job and objects that are there: else most of them end at the first check."""
    if "job_id" in (case.path_parameters or {}):
        case.path_parameters["job_id"] = job_id
    if "path" in (case.query or {}):
        case.query["path"] = "s3://b/data/"
    if isinstance(case.body, dict):
        real_paths = {"path": "s3://b/data/", "paths": ["s3://b/data/"], "index": "s3://b/data/0001"}
        case.body |= {name: value for name, value in real_paths.items() if name in case.body}
    return answerable(case)


def fuzz(operation: Any, mode: GenerationMode, job_id: str, session: requests.Session) -> None:
    @seed(SEED)
    @SETTINGS
    @given(case=operation.as_strategy(generation_mode=mode), exists=st.booleans())
    def check(case: Any, exists: bool) -> None:
        (real(case, job_id) if exists else answerable(case)).call_and_validate(checks=CHECKS, session=session)

    check()


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_no_input_breaks_what_openapi_says(api: tuple[str, str], mode: GenerationMode):
    url, job_id = api
    fuzzed = 0
    with requests.Session() as session:
        session.trust_env = False
        for operation in operations(url):
            if mode.is_positive or operation.body or operation.query:  # any text is a path parameter
                fuzz(operation, mode, job_id, session)
                fuzzed += 1
    assert fuzzed >= 12


def test_every_body_has_an_example_that_is_taken(api: tuple[str, str]):
    url, _ = api
    schema = requests.get(f"{url}/openapi.json", timeout=10).json()
    bodies = 0
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            if path.startswith("/v1/") and "requestBody" in operation:
                reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
                (example, *_) = schema["components"]["schemas"][reference.rpartition("/")[2]]["examples"]
                target = url + path.replace("{job_id}", "none").replace("{name}", "none")
                answer = requests.request(method, target, json=example, timeout=10)
                taken = TAKEN.get(path, 404)  # it is read; what it names is not there
                assert answer.status_code == taken, (path, answer.text)
                bodies += 1
    assert bodies >= 5
