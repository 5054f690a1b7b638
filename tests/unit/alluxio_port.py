"""Asks the endpoints for Alluxio's clients as these do, without a socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import requests

from preheat.errors import AccessDenied, PreheatError
from preheat.paths import UfsPath
from preheat.worker.port._alluxio import AlluxioWorker
from preheat.worker.port._answers import Stream
from preheat.worker.port._http import Request, problem_answer


@dataclass(frozen=True, kw_only=True)
class Answered:
    status: int
    headers: str
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def ask(
    worker: AlluxioWorker, target: str, method: str = "GET", *, body: bytes | None = None, token: str = ""
) -> Answered:
    """Return the answer to a request; a body is sent in chunks."""
    request = Request(
        method=method,
        target=target,
        headers={"authorization": f"Bearer {token}"} if token else {},
        keep_alive=True,
        stream=None if body is None else _pieces(body),
    )
    try:
        answer = await worker.answer(request, only_cached_files)
    except PreheatError as error:
        answer = problem_answer(error).encode(head_only=False, keep_alive=True)
    if isinstance(answer, Stream):
        rest = [page async for page in answer.rest]
        answer = b"".join((answer.head, answer.first, *rest))
    head, _, content = answer.partition(b"\r\n\r\n")
    return Answered(status=int(head.split()[1]), headers=head.decode(), body=content)


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 100_000):
        yield body[start : start + 100_000]


def only_cached_files(path: UfsPath) -> None:
    if path.scheme == "file":
        raise AccessDenied("files")


def target(route: str, **params: str) -> str:
    """Return a target with parameters as the clients encode them where they do."""
    return _sent(requests.Request("GET", f"http://w{route}", params=params))


def raw_target(text: str) -> str:
    """Return what becomes of a target that a client did not encode."""
    return _sent(requests.Request("GET", f"http://w{text}"))


def _sent(request: requests.Request) -> str:
    url = request.prepare().url
    assert url is not None
    return url.removeprefix("http://w").partition("#")[0]
