"""A cluster in one loop; and for tests of the command line a coordinator's stand-in, and a way to run commands."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
import structlog

from preheat.api import create_app
from preheat.cli import main
from preheat.logs import configure_logging
from preheat.settings import CoordinatorSettings
from tests.unit.memory_cluster import Cluster
from tests.unit.served_cluster import serve


@pytest.fixture(autouse=True)
def _logs_to_standard_error() -> Iterator[None]:
    """Whatever a test before imported: Airflow sends all of structlog to standard output."""
    before = structlog.get_config()
    configure_logging(json=False)
    yield
    structlog.configure(**before)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """A whole cluster in this loop, without objects."""
    running = Cluster()
    await running.start_all()
    yield running
    await running.stop_all()


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[httpx.AsyncClient]:
    """The cluster's API, without a socket."""
    transport = httpx.ASGITransport(create_app(cluster.coordinator, CoordinatorSettings()))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.fixture
async def url(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """The cluster's API on a port, which the command line finds."""
    async with serve(cluster) as url:
        monkeypatch.setenv("PREHEAT_COORDINATOR_URL", url)
        yield url


@dataclass
class StandIn:
    """Answers routes with fixed JSON, one answer after the other, the last one for ever; notes what was asked."""

    url: str
    answers: dict[tuple[str, str], list[tuple[int, Any]]] = field(default_factory=dict)
    asked: list[tuple[str, str, Any, dict[str, str]]] = field(default_factory=list)

    def reply(self, method: str, path: str, *bodies: Any, status: int = 200) -> None:
        self.answers[method, path] = [(status, body) for body in bodies]

    def answer(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        path = target.partition("?")[0]
        self.asked.append((method, target, json.loads(body) if body else None, headers))
        replies = self.answers[method, path]
        return replies.pop(0) if len(replies) > 1 else replies[0]


@pytest.fixture
def server(monkeypatch) -> Iterator[StandIn]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, answer = stand_in.answer(self.command, self.path, body, dict(self.headers))
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_DELETE = do_GET = do_PATCH = do_POST = respond  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        stand_in = StandIn(f"http://127.0.0.1:{http.server_port}")
        monkeypatch.setenv("PREHEAT_COORDINATOR_URL", stand_in.url)
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield stand_in
        http.shutdown()
        thread.join(10)


@dataclass
class Ended:
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys):
    def run(*arguments: str) -> Ended:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        printed = capsys.readouterr()
        return Ended(ended.value.code or 0, printed.out, printed.err)

    return run
