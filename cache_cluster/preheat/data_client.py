"""A small synchronous client of a cluster's data: what the under store has, what is cached of it, and the bytes.

Listings and bytes come from the workers' data ports: each path is asked of the worker that owns it, or of another one
if that does not answer. What is cached where is asked of the coordinator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from typing import Self, TypeVar

import msgspec
import requests

from preheat.client import Client
from preheat.errors import CoordinatorUnreachable, NoLiveWorker, Unavailable
from preheat.paths import UfsPath
from preheat.placement import Member, PlacementMap

_PAGE_OBJECTS = 1000
_CHUNK = 1 << 20
T = TypeVar("T")


class ListedReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An object as ``GET /v1/list`` of a worker describes it."""

    key: str
    size: int
    etag: str
    last_modified: float


class HeldReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An object as ``GET /v1/cached`` of a coordinator describes it."""

    key: str
    size: int
    etag: str
    last_modified: datetime
    workers: tuple[str, ...] = ()
    outdated: tuple[str, ...] = ()


class _ListedPage(msgspec.Struct, frozen=True):
    objects: tuple[ListedReport, ...]
    next: str | None = None


class _HeldPage(msgspec.Struct, frozen=True):
    objects: tuple[HeldReport, ...]
    next: str | None = None


class _Cluster(Client):
    """What is asked of a coordinator."""

    def placement(self) -> PlacementMap:
        return msgspec.json.decode(self._request("GET", "/v1/placement").content, type=PlacementMap)

    def held(self, path: UfsPath, after: str) -> _HeldPage:
        params = {"path": str(path), "after": after, "limit": _PAGE_OBJECTS}
        return msgspec.json.decode(self._request("GET", "/v1/cached", params=params).content, type=_HeldPage)


class _DataPort(Client):
    """What is asked of a worker."""

    def list(self, path: UfsPath, after: str) -> _ListedPage:
        params = {"path": str(path), "after": after, "limit": _PAGE_OBJECTS}
        return msgspec.json.decode(self._request("GET", "/v1/list", params=params).content, type=_ListedPage)

    def read(self, path: UfsPath) -> requests.Response:
        return self._request("GET", f"/v1/data/{path.url_path}", stream=True)

    def delete(self, path: UfsPath) -> None:
        self._request("DELETE", f"/v1/data/{path.url_path}")


class DataClient:
    """Lists, reads and deletes objects. Use as a context manager.

    Args:
        coordinator: its URL; token and CA come from the environment, as for :meth:`Client.from_environment`.
    """

    def __init__(self, coordinator: str) -> None:
        self._open = ExitStack()
        self._cluster = self._open.enter_context(_Cluster.from_environment(coordinator))
        self._ports: dict[str, _DataPort] = {}
        self._placement: PlacementMap | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def list(self, path: UfsPath) -> Iterator[ListedReport]:
        """Yield the objects at and below a path by key, as the workers know the under store.

        Raises:
            NoLiveWorker: nobody answers. Otherwise as the data port.
        """
        after: str | None = ""
        while after is not None:
            page = self._page(path, after)
            yield from page.objects
            after = page.next

    def held(self, path: UfsPath) -> Iterator[HeldReport]:
        """Yield the objects at and below a path by key that the workers hold; raises as the coordinator does."""
        after: str | None = ""
        while after is not None:
            page = self._cluster.held(path, after)
            yield from page.objects
            after = page.next

    def owners(self, path: UfsPath) -> tuple[Member, ...]:
        """Return the workers, those that rank highest for a path first."""
        if self._placement is None:
            self._placement = self._cluster.placement()
        return self._placement.owners(str(path), len(self._placement.members))

    def read(self, path: UfsPath) -> Iterator[bytes]:
        """Yield an object's bytes; raises as :meth:`list` does, and Unavailable if they break off."""
        with self._ask(path, lambda port: port.read(path)) as response:
            try:
                yield from response.iter_content(_CHUNK)
            except requests.RequestException as error:
                raise Unavailable(f"path='{path}' broke off: {error}.", remedy="Read it again.") from error

    def delete(self, path: UfsPath) -> None:
        """Delete an object at the under store and in the cache.

        Raises:
            ObjectNotFound: there is none.
            Forbidden: nobody may write there. Otherwise as :meth:`list`.
        """
        self._ask(path, lambda port: port.delete(path))

    def _page(self, path: UfsPath, after: str) -> _ListedPage:
        return self._ask(path, lambda port: port.list(path, after))

    def _ask(self, path: UfsPath, ask: Callable[[_DataPort], T]) -> T:
        last: Exception | None = None
        for member in self.owners(path):
            try:
                return ask(self._port(member.url))
            except CoordinatorUnreachable as error:
                last = error
        raise NoLiveWorker(f"path='{path}': no worker answers.") from last

    def _port(self, url: str) -> _DataPort:
        if url not in self._ports:
            self._ports[url] = self._open.enter_context(_DataPort.from_environment(url))
        return self._ports[url]
