"""``preheat fs cat`` and ``rm``: bytes through the workers, and deletions at the under store."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from typing import Annotated

import typer

from preheat.cli._errors import JsonFlag
from preheat.cli._fs_listing import parse_path
from preheat.cli._options import DEFAULT_COORDINATOR, Coordinator
from preheat.cli._output import print_json
from preheat.client import Count
from preheat.data_client import DataClient, ListedReport
from preheat.errors import InvalidRequest, ObjectNotFound
from preheat.paths import UfsPath
from preheat.units import human_size

_DELETIONS_AT_ONCE = 8
_WINDOW = 1000


def register(files: typer.Typer) -> None:
    """Add the commands."""
    files.command("cat")(cat)
    files.command("rm")(remove)


def cat(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Files, one after the other.")],
    *,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
) -> None:
    """Write files to standard output, read through the workers: what is not cached is cached then."""
    parsed = [parse_path(path) for path in paths]
    stdout = typer.get_binary_stream("stdout")
    with DataClient(coordinator) as client:
        for path in parsed:
            for chunk in client.read(path):
                stdout.write(chunk)
    stdout.flush()


def remove(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file; with -R all below it too.")],
    *,
    recursive: Annotated[bool, typer.Option("--recursive", "-R", help="Everything at and below the path.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
    as_json: JsonFlag = False,
) -> None:
    """Delete files at the under store, and what is cached of them. Only where the mount allows writing."""
    parsed = parse_path(path)
    with DataClient(coordinator) as client:
        deleted = _remove_all(client, parsed, ask=not yes) if recursive else _remove_one(client, parsed)
    if as_json:
        print_json({"path": str(parsed), "deleted": deleted})
    else:
        typer.echo(f"Deleted {_shown(deleted)}.")


def _remove_one(client: DataClient, path: UfsPath) -> Count:
    if not path.key or path.key.endswith("/"):
        raise InvalidRequest(f"path='{path}' is a directory.", remedy="Add -R to delete everything below it.")
    first = next(client.list(path), None)
    client.delete(path)
    return Count(files=1, bytes=first.size if first and first.key == path.key else 0)


def _remove_all(client: DataClient, path: UfsPath, *, ask: bool) -> Count:
    """Delete everything at and below a path; who is asked is told how much it is.

    Raises:
        ObjectNotFound: there is nothing.
        typer.Abort: the answer was no.
    """
    found = _added_up(client.list(path))
    if not found.files:
        raise ObjectNotFound(f"path='{path}': nothing is at or below it.")
    if ask:
        typer.confirm(f"Delete {_shown(found)}, at and below {path} at the under store?", abort=True, err=True)
    listed, deleted = client.list(path), Count()
    with ThreadPoolExecutor(_DELETIONS_AT_ONCE) as threads:
        while window := list(islice(listed, _WINDOW)):
            for _ in threads.map(lambda item: _delete(client, path.with_key(item.key)), window):
                pass
            deleted += _added_up(iter(window))
    return deleted


def _delete(client: DataClient, path: UfsPath) -> None:
    with suppress(ObjectNotFound):  # somebody else was first
        client.delete(path)


def _added_up(items: Iterator[ListedReport]) -> Count:
    return sum((Count(files=1, bytes=item.size) for item in items), Count())


def _shown(number: Count) -> str:
    return f"{number.files} {'file' if number.files == 1 else 'files'}, {human_size(number.bytes)}"
