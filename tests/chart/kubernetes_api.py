"""As much of Kubernetes' API as Helm's `lookup` asks: what is there, by GET."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from tests.chart.charts import NAMESPACE, Manifest


@contextmanager
def serving(objects: Sequence[Manifest], directory: Path) -> Iterator[Path]:
    """Serve these objects while the block runs; yield the kubeconfig."""
    answers = _answers(objects)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
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
    """Return what is at each path; a kind's name in it is the one that discovery tells."""
    kinds: dict[str, set[str]] = defaultdict(set)
    answers: dict[str, Any] = {"/version": {"major": "1", "minor": "33", "gitVersion": "v1.33.0"}}
    for item in objects:
        kinds[item["apiVersion"]].add(item["kind"])
        path = f"{_root(item['apiVersion'])}/namespaces/{NAMESPACE}/{item['kind'].lower()}/{item['metadata']['name']}"
        answers[path] = item
    for version, names in kinds.items():
        resources = [
            {"name": name.lower(), "kind": name, "namespaced": True, "verbs": ["get", "list"]} for name in names
        ]
        answers[_root(version)] = {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
    groups = [_group(version) for version in kinds if "/" in version]
    answers["/api"] = {"kind": "APIVersions", "versions": ["v1"]}
    answers["/apis"] = {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    return answers


def _root(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"


def _group(version: str) -> dict[str, Any]:
    group, _, number = version.partition("/")
    told = {"groupVersion": version, "version": number}
    return {"name": group, "versions": [told], "preferredVersion": told}


def _kubeconfig(file: Path, port: int) -> Path:
    cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    config = {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "contexts": [context]}
    file.write_text(json.dumps(config | {"current-context": "c", "users": [{"name": "u", "user": {}}]}))
    return file
