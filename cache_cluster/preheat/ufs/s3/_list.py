"""Listing S3 paths in the order of their keys, page by page."""

from __future__ import annotations

import asyncio
import time
from asyncio import Future
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, replace

from preheat.errors import OriginUnavailable
from preheat.paths import UfsPath
from preheat.ufs._selection import Selection, is_marker
from preheat.ufs._settings import UfsSettings
from preheat.ufs.s3._client import S3Connection
from preheat.ufs.s3._errors import botocore_errors
from preheat.ufs.s3._listing import Answer, ListingPage, parse_page
from preheat.ufs.s3._pages import LANES, Pages
from preheat.ufs.s3._requests import ListRequests, Query
from preheat.ufs.s3._tree import Level, Parts, in_pages
from preheat.versions import ObjectInfo

_TREE_SERVERS = ("SeaweedFS",)
"""Servers that list like a file tree (``a/b`` before ``a-b``) and resume there, which skips keys."""


class S3Lister:
    """Lists the paths of one endpoint.

    Args:
        connection: where to ask.
        settings: deadlines and sizes.
    """

    def __init__(self, connection: S3Connection, settings: UfsSettings) -> None:
        self._endpoint = connection.endpoint
        self._page_size = settings.page_size
        self._requests = ListRequests(connection, settings)
        self._threads = ThreadPoolExecutor(2 * LANES, "s3-listing")
        self._is_tree = False

    async def pages(self, path: UfsPath, after: str) -> Parts:
        """Yield the objects whose key is greater than ``after``, without directory markers.

        Raises:
            BucketNotFound, AccessDenied, OriginUnavailable: as named; the last one also of a server that lists in
                another order.
        """
        selection = Selection.of(path, after)
        if selection.exact is not None:
            first = await self._first(path, selection.exact)
            if first and first[0].key == selection.exact:
                yield first
        if selection.prefix is not None:
            async with aclosing(self._below(path, selection.prefix, selection.start_after)) as pages:
                async for page in pages:
                    yield page

    async def check_bucket(self, path: UfsPath) -> None:
        """Raise BucketNotFound or AccessDenied if the bucket cannot be listed."""
        await self._first(path, path.key)

    def close(self) -> None:
        """Release the connections; requests under way end by their deadlines."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._requests.close()

    async def _first(self, path: UfsPath, prefix: str) -> Sequence[ObjectInfo]:
        source = self._source(path, Query(prefix=prefix, limit=1))
        return source.parse(await source.ask()).objects

    async def _below(self, path: UfsPath, prefix: str, after: str) -> Parts:
        flat = Pages(self._source(path, Query(prefix=prefix, limit=self._page_size)), after)
        if not self._is_tree:
            await asyncio.wait([flat.start()])
        if self._is_tree:  # as the first answer of all said
            flat.close()
            pages = in_pages(self._tree(path, prefix, after), self._page_size)
        else:
            pages = self._flat(flat)
        async with aclosing(pages):
            async for objects in pages:
                yield objects

    async def _flat(self, pages: Pages) -> Parts:
        async with aclosing(pages.read()) as read:
            async for page in read:
                if objects := _without_markers(page.objects):
                    yield objects

    async def _tree(self, path: UfsPath, prefix: str, after: str) -> Parts:
        def open_pages(directory: str, name: str) -> Pages:
            return Pages(self._source(path, Query(prefix=directory, limit=self._page_size, delimiter="/")), name)

        async with aclosing(Level(open_pages, prefix, after).read()) as parts:
            async for part in parts:
                if objects := _without_markers(part):
                    yield objects

    def _source(self, path: UfsPath, query: Query) -> _PathSource:
        return _PathSource(path, self._endpoint, query, self._submit)

    def _submit(self, path: UfsPath, query: Query) -> Future[Answer]:
        return asyncio.get_running_loop().run_in_executor(self._threads, self._ask, path, query)

    def _ask(self, path: UfsPath, query: Query) -> Answer:
        started = time.perf_counter()
        answer = self._requests.ask(path, query)
        if answer.server.startswith(_TREE_SERVERS):
            self._is_tree = True
        return replace(answer, seconds=time.perf_counter() - started)


@dataclass(frozen=True, slots=True)
class _PathSource:
    """What is asked for a path; see :class:`~preheat.ufs.s3._pages.Source`."""

    path: UfsPath
    endpoint: str
    query: Query
    submit: Callable[[UfsPath, Query], Future[Answer]]

    def ask(self, *, after: str = "", token: str = "") -> Future[Answer]:
        return self.submit(self.path, replace(self.query, after=after, token=token))

    def parse(self, answer: Answer) -> ListingPage:
        with botocore_errors(self.path, self.endpoint):
            return parse_page(answer.body)

    def disorder(self, before: str, name: str) -> OriginUnavailable:
        return OriginUnavailable(
            f"path='{self.path}': the S3 server lists {name!r} after {before!r}.",
            remedy="Use a store that lists in the order of the keys, as Amazon S3 does.",
        )


def _without_markers(objects: Sequence[ObjectInfo]) -> Sequence[ObjectInfo]:
    return [item for item in objects if not is_marker(item.key, item.size)]
