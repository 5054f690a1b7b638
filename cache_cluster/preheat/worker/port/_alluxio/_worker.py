"""The endpoints for Alluxio's Python clients, on a worker's data port.

Errors are as in the native API, but that what does not exist is status 500, as Alluxio has it: ``alluxiofs`` takes
nothing else for a missing file. What differs on purpose stands in docs/reference/alluxio-compatibility.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import unquote, urlsplit

import msgspec

from preheat.errors import InvalidPath, NotFound
from preheat.paths import UfsPath
from preheat.store import PageStore, PathIds
from preheat.worker._coordinators import ControlPlane
from preheat.worker._forward import Forward
from preheat.worker._reads import ReadService
from preheat.worker.port import _http as http
from preheat.worker.port._access import Authorizer
from preheat.worker.port._alluxio._changes import Changes
from preheat.worker.port._alluxio._contents import Contents
from preheat.worker.port._alluxio._jobs import Jobs
from preheat.worker.port._alluxio._loads import Loads
from preheat.worker.port._alluxio._paths import PathFinder, UnknownPathId
from preheat.worker.port._alluxio._routes import Route, route_of
from preheat.worker.port._alluxio._statuses import Statuses
from preheat.worker.port._answers import Stream
from preheat.worker.writes import WriteService

_MISSING = 500
_LEARNT_OF = ("files", "info", "load")
_COPIES = ("mv", "copy")

MayFetch = Callable[[UfsPath], None]
"""Raises AccessDenied for what must not be read on a reader's behalf."""


class AlluxioWorker:
    """Answers Alluxio's clients.

    Args:
        control: finds coordinators and other workers.
        reads: where objects come from.
        store: where they are kept.
        forward: reads what belongs to other workers.
        url: this worker's data port, named where the owner of a path is not known.
        ids: what paths ids stand for; by default nothing is known. It is closed with this.
        writes: writes objects; none if nothing is written here.
        authorizer: asked about paths that a request names by an id.
    """

    def __init__(
        self,
        control: ControlPlane,
        reads: ReadService,
        store: PageStore,
        *,
        forward: Forward,
        url: str,
        ids: PathIds | None = None,
        writes: WriteService | None = None,
        authorizer: Authorizer | None = None,
    ) -> None:
        self._control = control
        self._reads = reads
        self._url = url
        self._ids = ids or PathIds()
        self._authorizer = authorizer
        self._paths = PathFinder(self._ids, store, control, url=url)
        self._loads = Loads(control)
        self._statuses = Statuses(reads, forward)
        self._contents = Contents(forward)
        self._changes = Changes(reads, writes, Jobs(control))

    async def close(self) -> None:
        """Break off what goes on, and close the ids."""
        await self._paths.close()
        self._ids.close()

    def answers(self, target: str) -> bool:
        """Whether a target is one of these endpoints."""
        return route_of(target) is not None

    async def answer(self, request: http.Request, may_fetch: MayFetch) -> bytes | Stream:
        """Return the answer to a request of one of these endpoints.

        Raises:
            PreheatError: it cannot be answered.
        """
        route = route_of(request.target)
        if route is None:
            raise http.unknown_target(request.target)
        try:
            answer = await self._answer(request, route, may_fetch)
        except NotFound as error:
            answer = _missing(error)
        if isinstance(answer, http.Answer):
            return answer.encode(head_only=request.is_head, keep_alive=request.keep_alive)
        return answer

    async def _answer(self, request: http.Request, route: Route, may_fetch: MayFetch) -> http.Answer | bytes | Stream:
        if route.name == "node":
            return self._node(route.query)
        if route.name == "path":
            return await self._path(request, route)
        if route.name in _LEARNT_OF:
            return await self._about(request, route, may_fetch)
        return await self._by_id(request, route, may_fetch)

    def _node(self, query: str) -> http.Answer:
        """Name the worker that owns a path; the path is not form-encoded, so that ``+`` is a plus."""
        path = next((unquote(item[5:]) for item in query.split("&") if item.startswith("path=")), "")
        try:
            owner = self._control.owner_url(str(UfsPath.parse(path)))
        except InvalidPath:  # whoever is asked next says so
            owner = None
        url = urlsplit(owner or self._url)
        return http.json_answer({"Host": url.hostname, "HttpServerPort": url.port or 80})

    async def _path(self, request: http.Request, route: Route) -> http.Answer:
        """Tell another worker what an id stands for."""
        thorough = route.fields.get("thorough") == "true"
        found = await self._paths.find_here(route.check_id(), thorough=thorough)
        if found is None:
            raise UnknownPathId("The id is not known here.")
        self._check_paths(request, UfsPath.parse(found))
        return http.json_answer({"path": found})

    async def _about(self, request: http.Request, route: Route, may_fetch: MayFetch) -> http.Answer:
        """Answer a request that names its path."""
        if route.name == "load":
            if "path" in route.fields:
                await self._paths.learn([route.fields["path"]])
            return await self._loads.load(
                http.split_target(request.target)[1], authorization=request.headers.get("authorization")
            )
        fields = http.split_target(request.target)[1]
        path = http.path_parameter(fields)
        self._check_fetch(path, may_fetch)
        await self._paths.learn([fields["path"]])
        if route.name == "info":
            return http.json_answer([await self._statuses.status(path)])
        found = await self._statuses.children(path)
        await self._paths.learn([status["mUfsPath"] for status in found if status["mType"] == "file"])
        return http.json_answer(found)

    async def _by_id(self, request: http.Request, route: Route, may_fetch: MayFetch) -> http.Answer | bytes | Stream:
        """Answer a request that names its path by an id, and perhaps another one as it is."""
        has_target = route.name in _COPIES
        text, route = await self._paths.find(
            route,
            "srcPath" if has_target else "ufsFullPath",
            authorization=request.headers.get("authorization"),
        )
        path, target = UfsPath.parse(text), UfsPath.parse(route.decoded("dstPath")) if has_target else None
        self._check_paths(request, path, *([target] if target else []))
        if has_target or request.method != "POST":
            self._check_fetch(path, may_fetch)
        if request.method == "POST":
            return await self._changes.answer(request, route, path, target)
        return await self._contents.answer(request, route, path)

    def _check_paths(self, request: http.Request, *paths: UfsPath) -> None:
        if self._authorizer:
            self._authorizer.check_paths(request, paths)

    def _check_fetch(self, path: UfsPath, may_fetch: MayFetch) -> None:
        if self._reads.lookup(str(path)) is None:
            may_fetch(path)


def _missing(error: NotFound) -> http.Answer:
    answer = http.problem_answer(error)
    return replace(answer, status=_MISSING, body=msgspec.json.encode(error.problem() | {"status": _MISSING}))
