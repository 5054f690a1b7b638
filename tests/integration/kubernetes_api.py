"""The part of a Kubernetes API server that serves custom objects: HTTP on loopback, with its status documents.

It runs in threads, so that tests can drive the synchronous and the asynchronous hook alike.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Thread
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

PATIENCE = 30.0
TOKEN = "kubernetes-token"
_REASONS = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "AlreadyExists", 503: "ServiceUnavailable"}

Key = tuple[str, ...]
"""Group, version, namespace, plural and, of one object, its name."""


@dataclass(kw_only=True)
class KubernetesApi:
    """Its state; tests read it and change it."""

    url: str = ""
    objects: dict[Key, dict[str, Any]] = field(default_factory=dict)
    kinds: frozenset[Key] = frozenset({("data.fluid.io", "v1alpha1", "dataloads")})
    """The custom resources that are defined: group, version and plural."""
    forbidden: frozenset[str] = frozenset()
    """Methods that the account may not use."""
    finalizing: bool = False
    """Whether what is deleted stays until :meth:`finalize`, as with a finalizer."""
    away: bool = False
    received: list[tuple[str, str]] = field(default_factory=list)
    changed: Condition = field(default_factory=Condition)

    def set_status(self, name: str, **status: Any) -> None:
        """Change the status of the only object of a name, as its controller would."""
        with self.changed:
            (found,) = (item for key, item in self.objects.items() if key[-1] == name)
            found["status"] = status
            self.changed.notify_all()

    def finalize(self) -> None:
        """Let go of what is being deleted."""
        with self.changed:
            kept = {key: item for key, item in self.objects.items() if "deletionTimestamp" not in item["metadata"]}
            self.objects = kept

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until a request has brought about a condition."""
        with self.changed:
            assert self.changed.wait_for(condition, timeout=PATIENCE), "Kubernetes waited in vain"

    def sent(self, method: str) -> list[str]:
        """Return the paths of the requests of one kind."""
        return [path for sent, path in self.received if sent == method]

    def answer(self, method: str, path: str, token: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Serve one request."""
        with self.changed:
            self.received.append((method, path))
            self.changed.notify_all()
            match path.strip("/").split("/"):
                case ["apis", group, version, "namespaces", namespace, plural, *name] if not self.away:
                    if token != f"Bearer {TOKEN}":
                        return _status(401, "Unauthorized")
                    if method in self.forbidden:
                        return _status(403, f"{plural}.{group} is forbidden: the account cannot do this")
                    if (group, version, plural) not in self.kinds:
                        return _status(404, "the server could not find the requested resource")
                    return self._serve(method, (group, version, namespace, plural, *name), body)
                case _:
                    return _status(503 if self.away else 404, path)

    def _serve(self, method: str, key: Key, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if method == "POST":
            return self._create((*key, body["metadata"]["name"]), body)
        if key not in self.objects:
            return _status(404, f'{key[3]}.{key[0]} "{key[-1]}" not found')
        if method == "DELETE":
            self.objects[key]["metadata"]["deletionTimestamp"] = datetime.now(tz=UTC).isoformat()
            if not self.finalizing:
                del self.objects[key]
            return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}
        return 200, self.objects[key]

    def _create(self, key: Key, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if key in self.objects:
            return _status(409, f'{key[3]}.{key[0]} "{key[-1]}" already exists')
        self.objects[key] = body
        body["metadata"]["uid"] = str(uuid4())
        return 201, body


def _status(code: int, message: str) -> tuple[int, dict[str, Any]]:
    return code, {"kind": "Status", "status": "Failure", "message": message, "reason": _REASONS[code], "code": code}


@contextmanager
def serving(api: KubernetesApi) -> Iterator[KubernetesApi]:
    """Serve it on a free port of the loopback interface."""

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            token = self.headers.get("Authorization", "")
            status, document = api.answer(
                self.command, urlsplit(self.path).path, token, json.loads(content or b"{}") or {}
            )
            body = json.dumps(document).encode()
            self.send_response(status, document.get("reason"))
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            with suppress(ConnectionError):  # who asked may be gone
                self.end_headers()
                self.wfile.write(body)

        do_DELETE = do_GET = do_POST = _serve  # noqa: N815 - the names that http.server looks for

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        api.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield api
        finally:
            server.shutdown()
            thread.join(PATIENCE)
