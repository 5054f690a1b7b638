"""The pages of ListObjectsV2 and ListObjects, out of an ordered listing of keys.

A prefix is any string: ``a/b`` lists ``a/bc`` and ``a/b/c``. With a delimiter, the keys that share what goes up to its
next occurrence are one group, of which the page tells the name: one key of it is read, and the rest is passed over by
going on behind the group, however many there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from preheat.versions import ObjectInfo
from preheat.worker.s3._errors import S3Error
from preheat.worker.s3._tokens import decode_token, encode_token

MAX_KEYS = 1000
_LAST = "\U0010ffff"
"""The character behind all others."""
_SURROGATES = range(0xD800, 0xE000)
_MAX_DIGITS = 9
_MAX_BYTES = 1024


class Source(Protocol):
    """Lists the objects of a bucket."""

    async def __call__(self, directory: str, *, after: str, limit: int) -> Sequence[ObjectInfo]:
        """Return up to ``limit`` objects in order, fewer only if there are no more.

        Args:
            directory: what their keys begin with: nothing, or something that ends with a slash.
            after: what their keys are greater than.
            limit: 1 or more.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ListQuery:
    """What a client wants to have listed."""

    version: int = 2
    """2 for ListObjectsV2, 1 for ListObjects."""
    prefix: str = ""
    delimiter: str = ""
    after: str = ""
    """Only what is greater than this, from ``start-after``, ``continuation-token`` or ``marker``."""
    max_keys: int = MAX_KEYS
    url_encoded: bool = False
    """Whether the answer's keys are to be percent-encoded."""
    fetch_owner: bool = False
    start_after: str = ""
    """As it was sent, to be shown in the answer; in version 1 the ``marker``."""
    token: str = ""
    """As it was sent."""

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> ListQuery:
        """Read the parameters of a request.

        Raises:
            S3Error: InvalidArgument; one of them cannot be used.
        """
        if fields.get("list-type", "2") != "2":
            raise S3Error("InvalidArgument", "list-type has to be 2.")
        if (fields.get("encoding-type") or "url") != "url":
            raise S3Error("InvalidArgument", "Invalid Encoding Method specified in Request. It has to be url.")
        version = 2 if "list-type" in fields else 1
        start_after = _bounded(fields, "start-after" if version == 2 else "marker")
        token = fields.get("continuation-token") if version == 2 else None
        return cls(
            version=version,
            prefix=_bounded(fields, "prefix"),
            delimiter=_bounded(fields, "delimiter"),
            after=start_after if token is None else decode_token(token),
            max_keys=_max_keys(fields.get("max-keys") or "1000"),
            url_encoded=fields.get("encoding-type") == "url",
            fetch_owner=version == 1 or fields.get("fetch-owner") == "true",
            start_after=start_after,
            token=token or "",
        )

    @property
    def asks_for_marker(self) -> bool:
        """Whether the prefix may be the key of a directory's marker that is to be listed."""
        return self.prefix.endswith("/") and self.after < self.prefix and self.max_keys > 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ListPage:
    """One page of a listing."""

    objects: tuple[ObjectInfo, ...] = ()
    groups: tuple[str, ...] = ()
    """The common prefixes."""
    next_after: str = ""
    """The last key or group of the page if there is more behind it; else empty."""

    @property
    def truncated(self) -> bool:
        """Whether there is more."""
        return bool(self.next_after)

    @property
    def next_token(self) -> str:
        """What the next request sends to go on from here."""
        return encode_token(self.next_after)


async def list_page(query: ListQuery, source: Source) -> ListPage:
    """Return the page that a query asks for; raises what the source does."""
    page = _Page(query)
    after = page.first_seek()
    while query.max_keys and not page.ended:
        limit = page.room + 1
        found = await source(page.directory, after=after, limit=limit)
        after = page.take(found)
        if len(found) < limit:
            break
    return page.finished()


class _Page:
    """A page as it fills."""

    def __init__(self, query: ListQuery) -> None:
        self._query = query
        self._objects: list[ObjectInfo] = []
        self._groups: list[str] = []
        self._last = query.after
        self._group = self._group_of(query.after) if query.after.startswith(query.prefix) else ""
        """The group that was told of last: its other keys are passed over."""
        self._more = False
        self.directory = query.prefix[: query.prefix.rfind("/") + 1]
        self.ended = False

    @property
    def room(self) -> int:
        """How many keys and groups may still come."""
        return self._query.max_keys - len(self._objects) - len(self._groups)

    def first_seek(self) -> str:
        """Return the key after which to begin."""
        behind = self._group + _LAST if self._group else self._query.after
        return max(behind, _before(self._query.prefix, self.directory))

    def take(self, found: Sequence[ObjectInfo]) -> str:
        """Take the keys that came next, and return the one after which to go on."""
        query, after = self._query, ""
        for item in found:
            after = item.key
            if not after.startswith(query.prefix):
                if after < query.prefix:
                    continue
                self.ended = True
                break
            if self._group and after.startswith(self._group):
                continue
            if not self.room:
                self._more = self.ended = True
                break
            self._add(item)
        inside = self._group and after.startswith(self._group)
        return self._group + _LAST if inside and after < self._group + _LAST else after

    def _add(self, item: ObjectInfo) -> None:
        self._group = self._group_of(item.key)
        if self._group:
            self._groups.append(self._group)
        else:
            self._objects.append(item)
        self._last = self._group or item.key

    def _group_of(self, key: str) -> str:
        delimiter, begin = self._query.delimiter, len(self._query.prefix)
        at = key.find(delimiter, begin) if delimiter else -1
        return key[: at + len(delimiter)] if at >= 0 else ""

    def finished(self) -> ListPage:
        """Return the page."""
        next_after = self._last if self._more else ""
        return ListPage(objects=tuple(self._objects), groups=tuple(self._groups), next_after=next_after)


def _before(prefix: str, directory: str) -> str:
    """Return a string that is smaller than all that begin with a prefix, and hardly smaller."""
    if prefix == directory:
        return ""
    last = ord(prefix[-1]) - 1
    return directory if last < 0 or last in _SURROGATES else prefix[:-1] + chr(last) + _LAST


def _bounded(fields: Mapping[str, str], name: str) -> str:
    value = fields.get(name, "")
    if len(value.encode()) > _MAX_BYTES:
        raise S3Error("KeyTooLongError", f"{name} has more than {_MAX_BYTES} bytes.")
    return value


def _max_keys(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise S3Error("InvalidArgument", f"max-keys={text[:40]!r} is not a number from 0 to {MAX_KEYS}.")
    return min(MAX_KEYS, int(text[:_MAX_DIGITS]))
