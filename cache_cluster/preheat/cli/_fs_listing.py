"""``preheat fs ls``, ``stat`` and ``du``: what is below a path, and how much of it is cached where."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Annotated

import msgspec
import typer

from preheat.cli._errors import JsonFlag, usage_errors
from preheat.cli._fs_view import Entry, File, added_up, as_cached, entries, join, shown_cached, shown_replicas
from preheat.cli._options import DEFAULT_COORDINATOR, Coordinator
from preheat.cli._output import print_json, print_pairs, print_table, shown_time
from preheat.data_client import DataClient
from preheat.errors import ObjectNotFound
from preheat.paths import UfsPath
from preheat.units import human_size

CachedOnly = Annotated[
    bool, typer.Option("--cached", help="Only what is cached, as it is there; the under store is not listed.")
]
Path = Annotated[str, typer.Argument(metavar="PATH", help="A file, or all below it: s3://bucket/prefix/.")]


_Columns = Mapping[str, Callable[[Entry], str]]
"""What a table shows of each entry, by the heads of its columns."""
_LS: _Columns = {
    "SIZE": lambda each: human_size(each.size),
    "MODIFIED": lambda each: shown_time(each.modified),
    "CACHED": shown_cached,
    "REPLICAS": shown_replicas,
    "PATH": lambda each: each.path,
}
_DU: _Columns = {
    "SIZE": lambda each: human_size(each.size),
    "CACHED": lambda each: human_size(each.cached_bytes),
    "SHARE": shown_cached,
    "FILES": lambda each: str(each.files),
    "PATH": lambda each: each.path,
}


class FileReport(msgspec.Struct, frozen=True, kw_only=True):
    """One file, and where it is."""

    entry: Entry
    workers: tuple[str, ...]
    """Who holds this version."""
    outdated: tuple[str, ...]
    """Who holds another one."""
    owners: tuple[str, ...]
    """Who would hold as many copies, by placement."""


def register(files: typer.Typer) -> None:
    """Add the commands."""
    files.command("ls")(list_files)
    files.command("stat")(stat)
    files.command("du")(disk_usage)


def list_files(
    path: Path,
    *,
    recursive: Annotated[bool, typer.Option("--recursive", "-R", help="Every file, in directories too.")] = False,
    cached: CachedOnly = False,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
    as_json: JsonFlag = False,
) -> None:
    """List files with what is cached of each, and on how many workers; the files of a directory are added up."""
    parsed = parse_path(path)
    with DataClient(coordinator) as client:
        found = list(entries(parsed, _files(client, parsed, cached=cached), recursive=recursive))
    _print_entries(found, _LS, as_json=as_json)


def stat(
    path: Path,
    *,
    cached: CachedOnly = False,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
    as_json: JsonFlag = False,
) -> None:
    """Show one file and which workers hold it; or a directory, added up."""
    parsed = parse_path(path)
    with DataClient(coordinator) as client:
        files = _files(client, parsed, cached=cached)
        first = next(files)
        if first.key != parsed.key:
            entry = added_up(parsed, chain([first], files))
            report = None
        else:
            entry = added_up(parsed, [first])
            report = _report(client, parsed, first, entry)
    if as_json:
        print_json(report or {"entry": entry})
    else:
        print_pairs(_described(entry, report))


def disk_usage(
    path: Path,
    *,
    summary: Annotated[bool, typer.Option("--summary", "-s", help="One line for all of it.")] = False,
    cached: CachedOnly = False,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
    as_json: JsonFlag = False,
) -> None:
    """Add up the files below a path, and what is cached of them."""
    parsed = parse_path(path)
    with DataClient(coordinator) as client:
        files = _files(client, parsed, cached=cached)
        found = [added_up(parsed, files)] if summary else list(entries(parsed, files))
    _print_entries(found, _DU, as_json=as_json)


def _print_entries(found: Sequence[Entry], columns: _Columns, *, as_json: bool) -> None:
    if as_json:
        print_json({"entries": found})
    else:
        print_table(tuple(columns), (tuple(shown(each) for shown in columns.values()) for each in found))


def parse_path(path: str) -> UfsPath:
    """Read a path of the command line."""
    with usage_errors():
        return UfsPath.parse(path)


def _files(client: DataClient, path: UfsPath, *, cached: bool) -> Iterator[File]:
    """Yield the files at and below a path, of which there is at least one; only the cached ones, if so asked.

    Raises:
        ObjectNotFound: there is none.
    """
    files = map(as_cached, client.held(path)) if cached else join(client.list(path), client.held(path))
    first = next(files, None)
    if first is None:
        raise ObjectNotFound(f"path='{path}': nothing is {'cached ' if cached else ''}at or below it.")
    return chain([first], files)


def _report(client: DataClient, path: UfsPath, file: File, entry: Entry) -> FileReport:
    owners = client.owners(path)[: max(1, len(file.workers))]
    return FileReport(
        entry=entry, workers=file.workers, outdated=file.outdated, owners=tuple(member.id for member in owners)
    )


def _described(entry: Entry, report: FileReport | None) -> list[tuple[str, str]]:
    pairs = [
        ("path", entry.path),
        ("type", entry.type),
        ("files", str(entry.files)),
        ("size", f"{human_size(entry.size)} ({entry.size} bytes)"),
        ("modified", shown_time(entry.modified)),
        ("cached", f"{shown_cached(entry)}, {human_size(entry.cached_bytes)}"),
        ("replicas", shown_replicas(entry)),
    ]
    if report is None:
        return pairs
    return [
        *(pair for pair in pairs if pair[0] != "files"),
        ("etag", entry.etag or "-"),
        ("workers", " ".join(report.workers) or "-"),
        ("outdated on", " ".join(report.outdated) or "-"),
        ("owned by", " ".join(report.owners)),
    ]
