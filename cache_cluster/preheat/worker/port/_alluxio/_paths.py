"""Which path a request means that names it by an id.

The client chooses the worker: by a hash ring of its own, or by chance. So any worker may be asked by id for what
another one listed or has cached. Who does not know an id asks the others what they know, then all look through their
stores: what was cached by a job that named a directory is found there alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import islice
from typing import Any

import msgspec

from preheat.errors import NotFound, Unavailable
from preheat.store import PageStore, PathIds, path_id
from preheat.worker._coordinators import ControlPlane
from preheat.worker.port._alluxio._routes import Route

_KNOWN_SECONDS = 3.0
"""To ask the others what they know."""
_SEARCH_SECONDS = 60.0
"""To have all stores searched: a million objects take about six, and somebody else's search may have to end first."""
_SLICE = 2000
"""Paths that are learnt in one transaction, which takes some ten milliseconds; nobody else learns meanwhile."""
_PAUSES = 4
"""A search is followed by a pause this many times as long: unknown ids must not keep a worker from its work."""


class UnknownPathId(NotFound):
    """An id stands for no path that is known."""

    code = "unknown_path_id"
    default_remedy = "List the directory or ask for the file's status first, or send ufsFullPath."


class PathFinder:
    """Finds paths by their ids.

    Args:
        ids: what was learnt.
        store: what is cached here.
        control: knows the other workers.
        url: this worker's data port.
    """

    def __init__(self, ids: PathIds, store: PageStore, control: ControlPlane, *, url: str) -> None:
        self._ids = ids
        self._store = store
        self._control = control
        self._url = url
        self._search: asyncio.Task[None] | None = None
        self._search_began = self._search_from = 0.0

    async def learn(self, paths: Sequence[str]) -> None:
        """Know paths by their ids from now on.

        Raises:
            StoreError: they cannot be kept.
        """
        if len(paths) == 1:
            if self._ids.find(path_id(paths[0])) is None:  # a look is cheaper than a write
                self._ids.learn(paths)
            return
        for start in range(0, len(paths), _SLICE):
            await asyncio.to_thread(self._ids.learn, paths[start : start + _SLICE])

    async def find(self, route: Route, parameter: str, *, authorization: str | None) -> tuple[str, Route]:
        """Return the path that a request means, and the request without it.

        Args:
            route: the request.
            parameter: of the query, where the path may be sent beside its id.
            authorization: by which others are asked.

        Raises:
            InvalidRequest: it has no id.
            UnknownPathId: nobody knows the id.
            Unavailable: it could not be found out in time.
        """
        wanted = route.check_id()
        for text, rest in route.readings(parameter):
            if path_id(text) == wanted:
                return text, rest
        found = await self._find(wanted, authorization)
        if found is None:
            stated = route.stated(parameter)
            detail = "" if stated is None else f", and {parameter}={stated[:200]!r} is not what it was made from"
            raise UnknownPathId(f"The id {wanted} stands for no path that is known{detail}.")
        await self.learn([found])
        return found, route

    async def find_here(self, wanted: str, *, thorough: bool) -> str | None:
        """Return a path that is known here; a thorough look goes through the store."""
        if thorough:
            await self._searched()
        return self._ids.find(wanted)

    async def close(self) -> None:
        """End a search under way."""
        if self._search is not None:
            self._search.cancel()
            await asyncio.wait((self._search,))

    async def _find(self, wanted: str, authorization: str | None) -> str | None:
        if found := self._ids.find(wanted):
            return found
        if found := await self._ask_others(wanted, authorization, thorough=False):
            return found
        try:
            async with asyncio.timeout(_SEARCH_SECONDS):
                here, there = await asyncio.gather(
                    self.find_here(wanted, thorough=True), self._ask_others(wanted, authorization, thorough=True)
                )
        except TimeoutError as error:
            raise Unavailable(
                f"The stores are still being searched for the id {wanted}.", remedy="Try again."
            ) from error
        return here or there

    async def _ask_others(self, wanted: str, authorization: str | None, *, thorough: bool) -> str | None:
        answer = await self._control.ask_other_workers(
            f"/v1/path/{wanted}",
            but=self._url,
            params={"thorough": str(thorough).lower()},
            authorization=authorization,
            seconds=_SEARCH_SECONDS if thorough else _KNOWN_SECONDS,
        )
        if answer is None:
            return None
        path = msgspec.json.decode(answer, type=dict[str, Any])["path"]
        return path if path_id(path) == wanted else None

    async def _searched(self) -> None:
        """Return when the paths of all objects that are cached now were learnt."""
        now = asyncio.get_running_loop().time()
        while self._search_began <= now:
            if self._search is None or self._search.done():
                self._search = asyncio.create_task(self._learn_all_cached())
            await asyncio.shield(self._search)  # it serves others too, and goes on for who asks again

    async def _learn_all_cached(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._search_from - loop.time())
        began, after = loop.time(), ""
        self._search_began = began
        while after := await asyncio.to_thread(self._learn_cached, after):
            pass
        self._search_from = loop.time() + _PAUSES * (loop.time() - began)

    def _learn_cached(self, after: str) -> str:
        """Learn the next paths of the store, and return the last of them; nothing if there is none."""
        paths = [item.path for item in islice(self._store.scan(after=after), _SLICE)]
        self._ids.learn(paths)
        return paths[-1] if paths else ""
