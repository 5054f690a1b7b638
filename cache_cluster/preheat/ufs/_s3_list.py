"""Listing an S3 path in the order of its keys, page by page; blocking, for a thread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice, pairwise
from typing import Any

from preheat.errors import OriginUnavailable
from preheat.paths import UfsPath
from preheat.ufs._s3_client import S3Connection
from preheat.ufs._s3_errors import botocore_errors
from preheat.ufs._s3_listing import Answer, ListingPage, answer_of, parse_page
from preheat.ufs._selection import Selection, is_marker
from preheat.ufs._walk import by_key, walk
from preheat.versions import ObjectInfo

_TREE_SERVERS = ("SeaweedFS",)
"""Servers that list like a file tree (``a/b`` before ``a-b``) and resume there, which skips keys."""


class S3Lister:
    """The objects at and below one path.

    Args:
        connection: where to ask.
        path: what to list.
        page_size: objects per request.
    """

    def __init__(self, connection: S3Connection, path: UfsPath, page_size: int) -> None:
        self._connection = connection
        self._path = path
        self._page_size = page_size
        self._is_tree = False

    def pages(self, after: str) -> Iterator[Sequence[ObjectInfo]]:
        """Yield the objects whose key is greater than ``after``, without directory markers.

        Raises:
            OriginUnavailable: among others, the server does not list in the order of the keys.
        """
        selection = Selection.of(self._path, after)
        if selection.exact is not None:
            first = self._ask(Prefix=selection.exact, MaxKeys=1).objects
            if first and first[0].key == selection.exact:
                yield first
        if selection.prefix is not None:
            yield from self._below(selection.prefix, selection.start_after)

    def check_bucket(self) -> None:
        """Raise BucketNotFound or AccessDenied if the bucket cannot be listed."""
        self._ask(Prefix=self._path.key, MaxKeys=1)

    def _below(self, prefix: str, start_after: str) -> Iterator[Sequence[ObjectInfo]]:
        last = ""
        for page in self._requests(Prefix=prefix, StartAfter=start_after):
            if self._is_tree:
                yield from self._walked(prefix, start_after)
                return
            last = self._check_order(last, page.objects)
            objects = [item for item in page.objects if not is_marker(item.key, item.size)]
            if objects:
                yield objects

    def _walked(self, prefix: str, after: str) -> Iterator[Sequence[ObjectInfo]]:
        objects = walk(prefix, after, lambda directory: by_key(self._children(directory)))
        while page := [*islice(objects, self._page_size)]:
            yield page

    def _children(self, prefix: str) -> Iterator[tuple[str, ObjectInfo | None]]:
        """Yield what is directly below a prefix, in the order of the names."""
        last = ""
        for page in self._requests(Prefix=prefix, Delimiter="/"):
            objects = ((item.key, item) for item in page.objects if not is_marker(item.key, item.size))
            directories = ((directory, None) for directory in page.prefixes)
            for child in sorted(chain(objects, directories), key=_name):
                if _name(child) < last:
                    raise self._disorder(last, child[0])
                last = _name(child)
                yield child

    def _requests(self, **query: str) -> Iterator[ListingPage]:
        """Yield page after page; from the second on, the next one is fetched while this one is parsed and used."""
        answer = self._fetch(**query, MaxKeys=self._page_size)
        yield self._parse(answer)
        if answer.token is None:
            return
        with ThreadPoolExecutor(max_workers=1) as ahead:
            answer = self._fetch(**query, MaxKeys=self._page_size, ContinuationToken=answer.token)
            while answer.token is not None:
                following = ahead.submit(self._fetch, **query, MaxKeys=self._page_size, ContinuationToken=answer.token)
                yield self._parse(answer)
                answer = following.result()
            yield self._parse(answer)

    def _ask(self, **query: Any) -> ListingPage:
        return self._parse(self._fetch(**query))

    def _fetch(self, **query: Any) -> Answer:
        with botocore_errors(self._path, self._connection.endpoint):
            answer = answer_of(self._connection.client.list_objects_v2(Bucket=self._path.bucket, **query))
        self._is_tree = answer.server.startswith(_TREE_SERVERS)
        return answer

    def _parse(self, answer: Answer) -> ListingPage:
        with botocore_errors(self._path, self._connection.endpoint):
            return parse_page(answer.body)

    def _check_order(self, last: str, objects: Sequence[ObjectInfo]) -> str:
        for before, key in pairwise(chain([last], (item.key for item in objects))):
            if key <= before and before:
                raise self._disorder(before, key)
            last = key
        return last

    def _disorder(self, before: str, key: str) -> OriginUnavailable:
        return OriginUnavailable(
            f"path='{self._path}': the S3 server lists {key!r} after {before!r}.",
            remedy="Use a store that lists in the order of the keys, as Amazon S3 does.",
        )


def _name(child: tuple[str, object]) -> str:
    return child[0].rstrip("/")
