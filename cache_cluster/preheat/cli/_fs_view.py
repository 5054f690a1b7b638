"""What is below a path, and how much of it is cached: two listings, joined and added up. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from heapq import merge
from itertools import groupby
from math import floor
from operator import attrgetter

import msgspec

from preheat.data_client import HeldReport, ListedReport
from preheat.paths import UfsPath

_EPOCH = datetime.fromtimestamp(0, tz=UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """One object of the under store, of the caches, or of both."""

    key: str
    size: int
    etag: str
    modified: datetime
    workers: tuple[str, ...] = ()
    """Who holds this version."""
    outdated: tuple[str, ...] = ()
    """Who holds another one."""
    only_cached: bool = False
    """The under store does not have it."""


class Replicas(msgspec.Struct, frozen=True, kw_only=True):
    """How many workers hold each file."""

    least: int
    most: int


class Entry(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A file, or all files of a directory."""

    path: str
    type: str
    """``file`` or ``directory``."""
    files: int
    size: int
    """Bytes, as ``cached_bytes``."""
    modified: datetime
    """When the last of them was."""
    etag: str | None
    cached_files: int
    cached_bytes: int
    cached_fraction: float
    """Of the bytes; of the files if there are no bytes."""
    replicas: Replicas
    outdated: int
    """Files of which workers hold another version."""
    only_cached: int
    """Files that the under store does not have."""


def join(listed: Iterable[ListedReport], held: Iterable[HeldReport]) -> Iterator[File]:
    """Yield what two listings, both by key, say together."""
    by_key = attrgetter("key")
    for _, found in groupby(merge(listed, held, key=by_key), key=by_key):
        items = list(found)
        copies = next((item for item in items if isinstance(item, HeldReport)), None)
        origin = next((item for item in items if isinstance(item, ListedReport)), None)
        if origin is not None:
            yield _listed(origin, copies)
        elif copies is not None:
            yield replace(as_cached(copies), only_cached=True)


def _listed(origin: ListedReport, copies: HeldReport | None) -> File:
    workers, outdated = (copies.workers, copies.outdated) if copies else ((), ())
    if copies and (copies.etag, copies.size) != (origin.etag, origin.size):
        workers, outdated = (), workers + outdated
    return File(
        key=origin.key,
        size=origin.size,
        etag=origin.etag,
        modified=datetime.fromtimestamp(origin.last_modified, tz=UTC),
        workers=workers,
        outdated=outdated,
    )


def as_cached(copies: HeldReport) -> File:
    """Return a file as the workers hold it."""
    return File(
        key=copies.key,
        size=copies.size,
        etag=copies.etag,
        modified=copies.last_modified,
        workers=copies.workers,
        outdated=copies.outdated,
    )


def entries(path: UfsPath, files: Iterable[File], *, recursive: bool = False) -> Iterator[Entry]:
    """Yield the files at and below a path, by name; those of a directory there as one unless ``recursive``."""
    prefix = path.key if not path.key or path.key.endswith("/") else f"{path.key}/"

    def name(file: File) -> str:
        return file.key if recursive else _child(prefix, file.key)

    for key, group in groupby(files, key=name):
        yield added_up(path.with_key(key), group)


def _child(prefix: str, key: str) -> str:
    if not key.startswith(prefix):  # the path itself
        return key
    first, slash, _ = key.removeprefix(prefix).partition("/")
    return prefix + first + slash


def added_up(path: UfsPath, files: Iterable[File]) -> Entry:
    """Return some files, at least one, as one entry: a file if it is just the path."""
    size = cached_bytes = number = cached_files = outdated = only_cached = most = 0
    least, modified, alone = 1 << 30, _EPOCH, None
    for file in files:
        number, size, modified = number + 1, size + file.size, max(modified, file.modified)
        cached_files += bool(file.workers)
        cached_bytes += file.size if file.workers else 0
        outdated += bool(file.outdated)
        only_cached += file.only_cached
        least, most = min(least, len(file.workers)), max(most, len(file.workers))
        alone = file if number == 1 and file.key == path.key else None
    return Entry(
        path=str(path),
        type="file" if alone else "directory",
        files=number,
        size=size,
        modified=modified,
        etag=alone.etag if alone else None,
        cached_files=cached_files,
        cached_bytes=cached_bytes,
        cached_fraction=cached_bytes / size if size else cached_files / number,
        replicas=Replicas(least=least, most=most),
        outdated=outdated,
        only_cached=only_cached,
    )


def shown_cached(entry: Entry) -> str:
    """Return how much is cached: 100% only if it is all, with a remark where versions differ."""
    remarks = [
        text if entry.type == "file" else f"{count} {text}"
        for count, text in ((entry.outdated, "outdated"), (entry.only_cached, "only cached"))
        if count
    ]
    percent = f"{floor(entry.cached_fraction * 1000) / 10:g}%"
    return f"{percent} ({', '.join(remarks)})" if remarks else percent


def shown_replicas(entry: Entry) -> str:
    """Return how many workers hold each file."""
    least, most = entry.replicas.least, entry.replicas.most
    return str(most) if least == most else f"{least}-{most}"
