"""A coordinator as far as the provider sees one: HTTP on loopback, with jobs made from ``tests/contract/job.json``.

It runs in threads, so that tests can drive the synchronous and the asynchronous side of the provider alike.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Condition, Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

CONTRACT_JOB: dict[str, Any] = json.loads((Path(__file__).parents[1] / "contract" / "job.json").read_text())
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
PATIENCE = 30.0


@dataclass(frozen=True, kw_only=True)
class Received:
    """One request that the coordinator got."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass(kw_only=True)
class Coordinator:
    """Its state; tests read it and change it."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    made: int = 0
    """How many jobs there ever were: none gets the id of one that was lost."""
    fences: dict[tuple[str, str], str] = field(default_factory=dict)
    """The present fence of each waiter that has not left, by job and waiter."""
    leases: dict[tuple[str, str], float | None] = field(default_factory=dict)
    """For how long each of them was promised to wait; they run out by :meth:`let_leases_run_out` only."""
    leaving: set[tuple[str, str]] = field(default_factory=set)
    """Those whose cancel is within its grace time."""
    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What is known of them, by path: see :meth:`warm`."""
    drifts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The answers to ``GET /v1/drift``, by path: see :meth:`drift`."""
    refusals: deque[tuple[str, int, bytes]] = field(default_factory=deque)
    first_state: str = "RUNNING"
    first_facts: dict[str, Any] = field(default_factory=dict)
    """What else a job has when it is submitted."""
    streams: bool = False
    """Whether it serves ``/v1/events``; without, as behind a proxy that does not let it through."""
    opened: int = 0
    """How many streams have been opened."""
    told: list[bytes] = field(default_factory=list)
    """What the streams tell, in order; an empty event ends them all."""
    closing: bool = False
    changed: Condition = field(default_factory=Condition)

    def refuse(self, status: int, *, of: str = "", times: int = 1, body: bytes | None = None, **problem: str) -> None:
        """Answer the next requests with a problem document, or a body that is none; ``of`` is the end of their path."""
        self.refusals.extend([(of, status, json.dumps(problem).encode() if body is None else body)] * times)

    def update(self, job_id: str, **fields: Any) -> None:
        """Change a job, as the cluster would, and answer those who wait for it."""
        with self.changed:
            job = self.jobs[job_id]
            job.update(fields, revision=job["revision"] + 1)
            self.told.append(b"event: job\ndata: " + json.dumps(job).encode() + b"\n\n")
            self.changed.notify_all()

    def break_streams(self) -> None:
        """End the streams that are open, as a restart does."""
        with self.changed:
            self.told.append(b"")
            self.changed.notify_all()

    def stream(self, write: Callable[[bytes], object]) -> None:
        """Serve one stream until it breaks."""
        with self.changed:
            self.opened += 1
            position = len(self.told)
            self.changed.notify_all()
            write(b": preheat\n\n")
            while not self.closing:
                while position < len(self.told):
                    if not (event := self.told[position]):
                        return
                    write(event)
                    position += 1
                self.changed.wait(PATIENCE)

    def warm(self, path: str, number: int, *, hot: int = 100, pinned: bool = False) -> str:
        """Let a path have a dataset version, ``hot`` of whose 100 objects are hot; return it."""
        with self.changed:
            version = f"sha256:{number:064x}"
            self.datasets[path] = {
                "id": f"inventory-{number}",
                "path": path,
                "version": version,
                "listed": {"files": 100, "bytes": 1000},
                "listedAt": f"2026-11-21T02:{number:02}:00Z",
                "jobId": f"job-{number}",
                "pinned": pinned,
                "hot": hot,
            }
            self.changed.notify_all()
            return version

    def drift(self, path: str, number: int) -> str:
        """Let a path be at a dataset version at its origin, the first one being the one that was listed; return it."""
        with self.changed:
            first, version = f"sha256:{1:064x}", f"sha256:{number:064x}"
            counts = {"unchanged": {"files": 99, "bytes": 990}, "changed": number - 1, "added": 0, "deleted": 0}
            self.drifts[path] = {"path": path, "drift": number != 1, "pinned": False, "examples": [], **counts}
            self.drifts[path] |= {"version": first, "originVersion": version}
            self.changed.notify_all()
            return version

    def let_leases_run_out(self) -> None:
        """Let all leave that have a lease, as if nothing had been heard of them."""
        with self.changed:
            self.leaving |= {key for key in self.fences if self.leases[key] is not None}
        self.let_grace_pass()

    def let_grace_pass(self) -> None:
        """Let the cancels that no claim has revoked take effect."""
        with self.changed:
            for job_id, waiter in self.leaving:
                del self.fences[job_id, waiter]
                if all(job != job_id for job, _ in self.fences):
                    self.jobs[job_id]["abandoned"] = self.jobs[job_id]["state"] not in ENDED
                    self._stop(self.jobs[job_id], "Everyone who waited for it has left.")
            self.leaving.clear()

    def close(self) -> None:
        """Send those home who wait."""
        with self.changed:
            self.closing = True
            self.changed.notify_all()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until a request has brought about a condition."""
        with self.changed:
            assert self.changed.wait_for(condition, timeout=PATIENCE), "the coordinator waited in vain"

    def sent(self, method: str, suffix: str = "") -> list[Received]:
        """Return the requests of one kind."""
        return [item for item in self.received if item.method == method and item.path.endswith(suffix)]

    def answer(self, request: Received) -> tuple[int, bytes]:
        """Serve one request."""
        if request.path == "/v1/healthz":  # which dialect it speaks: no part of what a test is about
            return 200, b'{"status": "ok"}'
        if request.path == "/v1/events":
            return 404, b"{}"
        with self.changed:
            self.received.append(request)
            self.changed.notify_all()
            if self.refusals and request.path.endswith(self.refusals[0][0]):
                return self.refusals.popleft()[1:]
            status, document = self._route(request)
            if self.closing:
                status, document = 503, {"detail": "The coordinator shuts down."}
            return status, json.dumps(document).encode()

    def _route(self, request: Received) -> tuple[int, dict[str, Any]]:
        match [request.method, *request.path.strip("/").split("/")]:
            case ["POST", "v1", "jobs"]:
                return self._submit(request)
            case ["GET", "v1", "jobs"]:
                path = request.query.get("path")
                jobs = [job for job in self.jobs.values() if path is None or path in job["paths"]]
                listed = [{name: fact for name, fact in job.items() if name != "receipt"} for job in jobs[::-1]]
                return 200, {"jobs": listed, "next": None}
            case ["GET", "v1", "inventories" | "warmth" | "drift" as question]:
                return self._dataset(question, request.query)
            case ["GET" | "POST", "v1", "jobs", job_id, *action] if job_id in self.jobs:
                return 200, self._act(self.jobs[job_id], action, request)
            case ["GET", "v1", "workers"]:
                return 200, {"epoch": 1, "workers": [_worker("worker-0", live=True), _worker("worker-1", live=False)]}
        return 404, {"code": "job_not_found", "detail": f"There is no job at {request.path}.", "remedy": "List them."}

    def _dataset(self, question: str, query: dict[str, str]) -> tuple[int, dict[str, Any]]:
        if question != "drift":
            return self._warmth(**query) if query else (200, self._inventories())
        if query["path"] not in self.drifts:
            return 404, {"code": "object_not_found", "detail": "No load that is known has listed it."}
        return 200, self.drifts[query["path"]]

    def _inventories(self) -> dict[str, Any]:
        return {"inventories": list(self.datasets.values())}

    def _warmth(self, *, path: str, version: str = "") -> tuple[int, dict[str, Any]]:
        known = self.datasets.get(path)
        if known is None or version not in {"", known["version"]}:
            return 409, {"code": "conflict", "detail": f"No inventory of {path} is kept for it.", "remedy": "Load it."}
        return 200, {
            "path": path,
            "version": known["version"],
            "source": "version" if version else "inventory",
            "inventory": known["id"],
            "listedAt": known["listedAt"],
            "expected": known["listed"],
            "hot": {"files": known["hot"], "bytes": known["hot"] * 10},
            "hotFraction": known["hot"] / 100,
            "fewestCopies": int(known["hot"] == 100),
            "complete": True,
            "reason": "",
        }

    def _act(self, job: dict[str, Any], action: list[str], request: Received) -> dict[str, Any]:
        match action:
            case ["stop"]:
                return self._stop(job, "Somebody stopped it.")
            case ["claim"]:
                return self._claim(job, **request.body)
            case ["renew"]:
                return job
            case ["cancel"]:
                return self._cancel(job, **request.body)
        return self._wait(job, request.query)

    def _submit(self, request: Received) -> tuple[int, dict[str, Any]]:
        key = request.headers.get("idempotency-key")
        for job in self.jobs.values():
            is_repeated = key is not None and job["key"] == key
            if is_repeated or (job["state"] not in ENDED and job["source"] == _source(request.body)):
                self._claim_submitted(job, request.body)
                return 200, {**job, "attached": True}
        self.made += 1
        job_id = f"job-{self.made}"
        job = deepcopy(CONTRACT_JOB) | {
            "id": job_id,
            "type": request.body["type"],
            "paths": request.body.get("paths", []),
            "index": request.body.get("index"),
            "source": _source(request.body),
            "state": self.first_state,
            **self.first_facts,
            "url": f"{self.url}/jobs/{job_id}",
            "key": key,
        }
        self.jobs[job_id] = job
        self._claim_submitted(job, request.body)
        return 201, job

    def _claim_submitted(self, job: dict[str, Any], body: dict[str, Any]) -> None:
        if "waiter" in body:
            self._claim(job, waiter=body["waiter"], fence=body["fence"], lease=body.get("lease"))

    def _wait(self, job: dict[str, Any], query: dict[str, str]) -> dict[str, Any]:
        wait, after, first = float(query.get("wait", 0)), int(query.get("after", -1)), query.get("hotInOrder")

        def is_reached() -> bool:
            hot = first is not None and job["hotInOrder"] >= int(first)
            at_most = job["hotInOrderAtMost"]
            hot = hot or (first is not None and at_most is not None and at_most < int(first))
            return self.closing or job["state"] in ENDED or job["revision"] > after or hot

        self.changed.wait_for(is_reached, timeout=wait)
        return job

    def _stop(self, job: dict[str, Any], reason: str) -> dict[str, Any]:
        if job["state"] not in ENDED:
            job.update(state="STOPPED", reason=reason, revision=job["revision"] + 1)
            self.changed.notify_all()
        return job

    def _claim(self, job: dict[str, Any], *, waiter: str, fence: str, lease: float | None = None) -> dict[str, Any]:
        if job["state"] not in ENDED:
            self.fences[job["id"], waiter] = fence
            self.leases[job["id"], waiter] = lease
            self.leaving.discard((job["id"], waiter))
        return job

    def _cancel(self, job: dict[str, Any], *, waiter: str, fence: str) -> dict[str, Any]:
        if job["state"] not in ENDED and self.fences.get((job["id"], waiter)) == fence:
            self.leaving.add((job["id"], waiter))
        return job


def _source(body: dict[str, Any]) -> list[str]:
    return body.get("paths") or [body["index"]]


def _worker(worker_id: str, *, live: bool) -> dict[str, Any]:
    use = {"capacity": 50 * 2**30, "used": 20 * 2**30, "objects": 1797, "activeBatches": 1}
    return {"id": worker_id, "live": live, "leaving": False, "zone": "", **use}


@contextmanager
def running(coordinator: Coordinator, port: int = 0) -> Iterator[Coordinator]:
    """Serve a coordinator on a free port of the loopback interface."""

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            url = urlsplit(self.path)
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = Received(
                method=self.command,
                path=url.path,
                query=dict(parse_qsl(url.query)),
                headers={name.lower(): value for name, value in self.headers.items()},
                body=json.loads(content or b"{}"),
            )
            if request.path == "/v1/events" and coordinator.streams:
                self.send_response(200)
                with suppress(ConnectionError):  # who listened may be gone
                    self.end_headers()
                    coordinator.stream(self.wfile.write)
                return
            status, body = coordinator.answer(request)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            with suppress(ConnectionError):  # who asked may be gone
                self.end_headers()
                self.wfile.write(body)

        do_DELETE = do_GET = do_POST = _serve  # noqa: N815 - the names that http.server looks for

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        coordinator.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield coordinator
        finally:
            coordinator.close()
            server.shutdown()
            thread.join(PATIENCE)
