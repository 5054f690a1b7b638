"""As much of Kubernetes' API as Helm's `lookup` asks: what is there, by GET."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from tests.chart.charts import NAMESPACE, Manifest

_KINDS = {"v1": {"Secret": "secrets"}, "apps/v1": {"StatefulSet": "statefulsets"}}


@contextmanager
def serving(objects: Sequence[Manifest], directory: Path) -> Iterator[Path]:
    """Serve these objects while the block runs; yield the kubeconfig."""
    answers = _answers(objects)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 - named by http.server
            answer = answers.get(self.path.partition("?")[0])
            body = json.dumps(answer or {"kind": "Status", "apiVersion": "v1", "code": 404, "reason": "NotFound"})
            self.send_response(200 if answer else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - named by http.server
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield _kubeconfig(directory / "kubeconfig", server.server_port)
        finally:
            server.shutdown()
            thread.join()


def _answers(objects: Sequence[Manifest]) -> dict[str, Any]:
    answers: dict[str, Any] = {
        "/version": {"major": "1", "minor": "33", "gitVersion": "v1.33.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group("apps")]},
    }
    for version, kinds in _KINDS.items():
        resources = [
            {"name": name, "kind": kind, "namespaced": True, "verbs": ["get", "list"]} for kind, name in kinds.items()
        ]
        answers[_root(version)] = {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
    for item in objects:
        name = _KINDS.get(item["apiVersion"], {}).get(item["kind"])
        if name:
            path = f"{_root(item['apiVersion'])}/namespaces/{NAMESPACE}/{name}/{item['metadata']['name']}"
            answers[path] = item
    return answers


def _root(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"


def _group(name: str) -> dict[str, Any]:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _kubeconfig(file: Path, port: int) -> Path:
    cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    config = {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "contexts": [context]}
    file.write_text(json.dumps(config | {"current-context": "c", "users": [{"name": "u", "user": {}}]}))
    return file
